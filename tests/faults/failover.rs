//! A replica that takes its primary's place while a transaction is prepared: records and locks are replicated like data, so the transaction
//! ends there.

use weft::txn::Script;

use super::*;
use crate::support::{Fault, FaultProxy, PATIENCE, Server, Way, eventually};

/// A cluster with a replica of the second of three primaries, a transaction that was prepared on two of them and left, and a weft that
/// knows the topology of before.
fn left_prepared() -> (Shards, Server, Weft, Vec<String>) {
    let shards = Shards::start(Mode::Cluster, Flavor::Redis, 3);
    let keys = keys(&shards, 2, "k");
    let replica = shards.replica_of(1, Flavor::Redis);
    let survivor = setup(&shards).start();
    let mut doomed = setup(&shards).env("WEFT_FAILPOINT", "before-commit").start();
    send_transaction(&mut doomed.client(), increments(&keys));
    doomed.process().must_exit();
    let mut client = replica.client();
    eventually(PATIENCE, "the record is replicated", || client.call("DBSIZE") == Reply::Integer(3));
    (shards, replica, survivor, keys)
}

#[track_caller]
fn must_be_committed(survivor: &Weft, replica: &Server, keys: &[String]) {
    let mut client = survivor.client();
    for key in keys.iter().rev() {
        eventually(PATIENCE, "the transaction is committed", || client.call(&format!("GET {key}")) == Reply::from("1"));
    }
    client.must_int(&format!("INCR {}", keys[1]), 2);
    let names = replica.client().call("KEYS *");
    let kinds: Vec<String> = names.items().unwrap().iter().filter_map(Reply::text).filter(|name| name.starts_with("__weft:")).collect();
    assert!(kinds.len() == 1 && kind(&kinds[0]) == 't', "{kinds:?}");
}

#[test]
fn a_prepared_transaction_survives_a_failover() {
    let (_shards, replica, survivor, keys) = left_prepared();
    replica.client().must_ok("CLUSTER FAILOVER");
    must_be_committed(&survivor, &replica, &keys);
}

#[test]
fn a_prepared_transaction_survives_the_death_of_a_primary() {
    let (mut shards, replica, survivor, keys) = left_prepared();
    shards.server(1).process().kill();
    replica.client().must_ok("CLUSTER FAILOVER TAKEOVER");
    must_be_committed(&survivor, &replica, &keys);
}

/// The replica has nothing of the transaction, and nobody knows whether the primary that died had committed it: it was sent the commit and
/// did not answer. That a failover came between tells that it left no trace.
#[test]
fn a_part_that_a_failover_lost_in_the_middle_of_commit_is_applied_again() {
    let mut shards = Shards::start(Mode::Cluster, Flavor::Redis, 3);
    let keys = keys(&shards, 2, "k");
    let proxies: Vec<FaultProxy> = shards.servers().iter().map(|server| FaultProxy::start(server.address())).collect();
    shards.announce(&proxies);
    let replica = shards.replica_of(1, Flavor::Redis);
    let follows = replica.client().call("INFO replication").text().unwrap();
    assert!(follows.contains(&format!("master_port:{}\r\n", proxies[1].address().port())), "{follows}");
    // A replica counts as one when it has something.
    let mut primary = shards.servers()[1].client();
    primary.must_ok(&format!("SET {} x", shards.key_on(1, "before")));
    eventually(PATIENCE, "what is written is sent on at once", || primary.call("WAIT 1 500") == Reply::Integer(1));
    let online = |server: &Server| {
        let mut client = server.client();
        client.send("CLUSTER SHARDS");
        String::from_utf8_lossy(&client.receive_frame()).matches("\r\nonline\r\n").count()
    };
    eventually(PATIENCE, "all know of the replica", || shards.servers().iter().all(|server| online(server) == 4));
    let weft = setup(&shards).start();
    let mut client = weft.client();
    // What is replicated, then the commit.
    proxies[1].set(Way::Replies, "$5\r\nstate\r\n$8\r\nprepared", Fault::Hold);
    proxies[1].set(Way::Requests, Script::Commit.sha1(), Fault::Hold);
    send_transaction(&mut client, increments(&keys));
    proxies[1].must_spring();
    shards.server(1).process().kill();
    assert_eq!(replica.client().call("KEYS __weft:*"), Reply::Array(Vec::new()));
    replica.client().must_ok("CLUSTER FAILOVER TAKEOVER");
    assert_eq!(client.receive(), integers([1, 1]));
    must_be_committed(&weft, &replica, &keys);
    let counters = client.call("INFO weft").text().unwrap();
    assert!(counters.contains("txn_reapplied:1\r\n") && counters.contains("txn_torn:0\r\n"), "{counters}");
}
