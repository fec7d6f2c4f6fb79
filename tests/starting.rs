//! What a proxy does that is started before its shards are there, or before shards that it cannot use.

use std::net::{Ipv4Addr, TcpListener};

use crate::support::{Fault, FaultProxy, Flavor, Mode, Shards, Way, Weft};

#[test]
fn a_cluster_that_does_not_answer_yet_is_waited_for() {
    let shards = Shards::start(Mode::Cluster, Flavor::Redis, 3);
    let seed = FaultProxy::start(shards.servers()[0].address());
    for _ in 0..2 {
        seed.set(Way::Requests, "INFO", Fault::Cut);
    }
    let weft = Weft::setup(&shards).through(&seed, &shards.servers()[0]).start();
    assert!(seed.has_sprung(), "it has asked before");
    let mut client = weft.client();
    client.must_ok("MSET a 1 b 2 c 3");
    client.must_int("DBSIZE", 3);
}

#[test]
fn a_proxy_that_waits_for_its_cluster_ends_when_asked_to() {
    let shards = Shards::start(Mode::Cluster, Flavor::Redis, 3);
    // It takes connections and says nothing.
    let seed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut weft = Weft::setup(&shards).seeded_by(seed.local_addr().unwrap()).begin();
    let _asked = seed.accept().unwrap();
    assert_eq!(weft.terminate().code(), Some(0));
}

#[test]
fn shards_that_refuse_the_proxy_are_named_with_the_reason() {
    for mode in Mode::ALL {
        let shards = Shards::start(mode, Flavor::Redis, 3);
        let mut clients: Vec<_> = shards.servers().iter().map(|server| server.client()).collect();
        clients.iter_mut().for_each(|client| client.must_ok("CONFIG SET requirepass secret"));
        let setup = Weft::setup(&shards);
        for (setup, reason) in
            [(setup.clone(), "NOAUTH"), (setup.clone().set("upstream.password", "wrong"), "Password authentication failed")]
        {
            let mut weft = setup.begin();
            assert_eq!(weft.process().must_exit().code(), Some(1), "{mode:?}");
            let (log, shard) = (weft.process().log(), shards.servers()[0].address());
            let last = log.lines().last().unwrap();
            assert!(
                last.starts_with("weft: cannot use the shards: ") && last.contains(&format!("{shard}: ")) && last.contains(reason),
                "{log}"
            );
        }
        let weft = setup.set("upstream.password", "secret").start();
        weft.client().must_ok("MSET a 1 b 2 c 3");
    }
}
