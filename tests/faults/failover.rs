//! A replica that takes its primary's place while a transaction is prepared: records and locks are replicated like data, so the transaction
//! ends there.

use super::*;
use crate::support::{PATIENCE, Server, eventually};

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
