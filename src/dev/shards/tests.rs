//! With real servers; they need `redis-server` in PATH.

#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::config::UpstreamConfig;
use crate::topology::{ShardId, Topology, UnfitShards};

async fn must_start(count: u16, mode: Mode) -> Shards {
    Shards::start(&ShardOptions::new(count, mode)).await.unwrap()
}

async fn must_be_gone(port: u16) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while connect(port).await.is_ok() {
        assert!(Instant::now() < deadline, "port {port} still answers");
        sleep(POLL).await;
    }
}

async fn started(shards: &Shards) -> Result<Topology, UnfitShards> {
    Topology::start(&shards.topology(), &UpstreamConfig::default()).await
}

#[tokio::test]
async fn static_shards_start_are_killed_restart_and_stop() {
    let mut shards = must_start(2, Mode::Static).await;
    let ports = shards.ports();
    shards.kill(0).unwrap();
    assert!(shards.connect(0).await.is_err());
    shards.restart(0).await.unwrap();
    let pong: String = redis::cmd("PING").query_async(&mut shards.connect(0).await.unwrap()).await.unwrap();
    assert_eq!(pong, "PONG");
    let folder = shards.folder.path().to_path_buf();
    shards.pause(1).unwrap();
    drop(shards);
    for port in ports {
        must_be_gone(port).await;
    }
    assert!(!folder.exists());
}

#[tokio::test]
async fn a_server_dies_with_the_pipe_even_when_nobody_waits_for_its_shell() {
    let shards = must_start(1, Mode::Static).await;
    let port = shards.ports()[0];
    // As when this process is killed: the pipe closes and no destructor waits.
    let mut shards = std::mem::ManuallyDrop::new(shards);
    shards.shards[0].process.as_mut().unwrap().close_pipe();
    must_be_gone(port).await;
    drop(std::mem::ManuallyDrop::into_inner(shards));
}

#[tokio::test]
async fn static_shards_are_a_topology_with_facts() {
    let shards = must_start(3, Mode::Static).await;
    let topology = started(&shards).await.unwrap();
    let map = topology.current();
    assert_eq!((map.mode(), map.covered(), map.epoch()), (Mode::Static, 16384, 1));
    for address in shards.addresses() {
        let facts = topology.facts()[&address].clone();
        assert!(!facts.may_evict_records() && facts.primary && facts.run_id.len() == 40);
    }
}

#[tokio::test]
async fn a_static_shard_that_does_not_answer_is_no_obstacle() {
    let mut shards = must_start(2, Mode::Static).await;
    shards.kill(1).unwrap();
    let topology = started(&shards).await.unwrap();
    assert_eq!((topology.current().shards().len(), topology.facts().len()), (2, 1));
}

#[tokio::test]
async fn a_cluster_forms_and_its_moved_slots_are_learnt() {
    let shards = must_start(3, Mode::Cluster).await;
    let topology = started(&shards).await.unwrap();
    let map = topology.current();
    assert_eq!((map.mode(), map.covered(), map.shards().len()), (Mode::Cluster, 16384, 3));
    assert_eq!(map.ranges(ShardId::new(0)), [0..=5460]);
    let addresses: Vec<NodeAddr> = map.shards().iter().map(|shard| shard.address.clone()).collect();
    assert_eq!(addresses, shards.addresses().collect::<Vec<_>>());
    assert_eq!(topology.facts().len(), 3);

    // Slot 0 moves to the second node, told to both and then to everybody by gossip.
    let heir = map.shards()[1].name.clone();
    for node in [1, 0, 2] {
        let mut node = shards.connect(node).await.unwrap();
        let () = cluster("SETSLOT").arg(0).arg("NODE").arg(&heir).query_async(&mut node).await.unwrap();
    }
    topology.request_refresh();
    let moved = tokio::time::timeout(Duration::from_secs(5), topology.changed_since(map.epoch())).await.unwrap();
    assert_eq!(moved.owner(crate::slot::Slot::new(0).unwrap()), moved.shard_named(&heir));
    assert!(moved.epoch() > map.epoch());
}

#[tokio::test]
async fn servers_of_the_other_kind_are_refused_with_a_remedy() {
    let shards = must_start(1, Mode::Cluster).await;
    let address = shards.addresses().next().unwrap();
    let shard = StaticShard { name: "a".into(), address: address.clone(), slots: vec![] };
    let topology = TopologyConfig::Static(StaticConfig { databases: 16, shards: vec![shard], affinity: vec![] });
    let error = Topology::start(&topology, &UpstreamConfig::default()).await.err().unwrap().to_string();
    let expected = format!("unfit shards: {address}: it is a node of a Redis Cluster; name it under `topology.cluster.seeds`");
    assert_eq!(error, expected);

    let shards = must_start(1, Mode::Static).await;
    let seed = shards.addresses().next().unwrap();
    let topology = TopologyConfig::Cluster(ClusterConfig { seeds: vec![seed.clone()], refresh_interval: ClusterConfig::REFRESH_INTERVAL });
    let error = Topology::start(&topology, &UpstreamConfig::default()).await.err().unwrap().to_string();
    let expected = format!("unfit shards: {seed}: it is not a node of a Redis Cluster; name it under `topology.static.shards`");
    assert_eq!(error, expected);
}

#[tokio::test]
async fn a_cluster_with_an_unreachable_seed_is_learnt_from_the_others() {
    let mut shards = must_start(3, Mode::Cluster).await;
    shards.kill(0).unwrap();
    let topology = started(&shards).await.unwrap();
    assert_eq!(topology.current().covered(), 16384);
}
