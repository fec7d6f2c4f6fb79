//! Records that vanish between prepare and commit: what is decided is applied again, once; what nobody has applied is told as lost.

use weft::txn::Script;

use super::wire::{Wire, call_of};
use super::*;
use crate::support::{Fault, FaultProxy, PATIENCE, Way, eventually};

/// Two static shards behind proxies, and a transaction of `commands` that waits at both for its commits.
fn held_at_commit(commands: impl FnOnce(&mut Client, &[String])) -> (Shards, Vec<FaultProxy>, Weft, Client, Vec<String>) {
    let shards = static_shards(2);
    let keys = keys(&shards, 2, "k");
    let proxies: Vec<FaultProxy> = shards.servers().iter().map(|server| FaultProxy::start(server.address())).collect();
    let weft = shards.servers().iter().zip(&proxies).fold(setup(&shards), |setup, (server, proxy)| setup.through(proxy, server)).start();
    let mut client = weft.client();
    // The coordinator does not know yet that all are prepared.
    proxies.iter().for_each(|proxy| proxy.set(Way::Replies, "prepared", Fault::Hold));
    client.must_ok("MULTI");
    commands(&mut client, &keys);
    client.send("EXEC");
    proxies.iter().for_each(FaultProxy::must_spring);
    (shards, proxies, weft, client, keys)
}

fn queue_increments(client: &mut Client, keys: &[String]) {
    increments(keys).for_each(|command| client.must_queue(&command));
}

#[test]
fn a_shard_that_is_flushed_between_prepare_and_commit_gets_its_part_again() {
    let (shards, proxies, _weft, mut client, keys) = held_at_commit(queue_increments);
    shards.servers()[1].client().must_ok("FLUSHALL");
    proxies.iter().for_each(FaultProxy::release);
    assert_eq!(client.receive(), integers([1, 1]));
    keys.iter().for_each(|key| client.must_bulk(&format!("GET {key}"), "1"));
    must_have_no_locks(&shards);
}

#[test]
fn a_users_script_is_applied_again_too() {
    let (shards, proxies, _weft, mut client, keys) = held_at_commit(|client, keys| {
        client.must_queue(&format!("INCR {}", keys[0]));
        client.must_queue(&["EVAL", "return redis.call('APPEND', KEYS[1], 'x')", "1", &keys[1]]);
    });
    shards.servers()[1].client().must_ok("FLUSHALL");
    proxies.iter().for_each(FaultProxy::release);
    assert_eq!(client.receive(), integers([1, 1]));
    client.must_bulk(&format!("GET {}", keys[1]), "x");
    must_have_no_locks(&shards);
}

#[test]
fn a_part_is_applied_again_only_after_a_lock_that_was_taken_meanwhile() {
    let (shards, proxies, _weft, mut client, keys) = held_at_commit(queue_increments);
    let mut shard = shards.servers()[1].client();
    shard.must_ok("FLUSHALL");
    let lock = format!("__weft:x:{}", keys[1]);
    shard.must_ok(&["SET", &lock, "1-1-1-1 9999999999999"]);
    proxies.iter().for_each(FaultProxy::release);
    // Longer than an attempt waits that holds locks itself.
    client.must_stay_silent(LEASE);
    shard.must_nil(&format!("GET {}", keys[1]));
    shard.must_int(&format!("DEL {lock}"), 1);
    assert_eq!(client.receive(), integers([1, 1]));
    must_have_no_locks(&shards);
}

#[test]
fn a_transaction_that_all_shards_have_lost_is_applied_nowhere() {
    let (shards, proxies, _weft, mut client, keys) = held_at_commit(queue_increments);
    shards.servers().iter().for_each(|server| server.client().must_ok("FLUSHALL"));
    proxies.iter().for_each(FaultProxy::release);
    assert!(matches!(client.receive(), Reply::Error(text) if text.starts_with("TXNLOST")));
    keys.iter().for_each(|key| client.must_nil(&format!("GET {key}")));
    must_have_no_locks(&shards);
}

/// Two static shards behind proxies, and a transaction whose commit to the second one was sent and will not be answered.
fn unanswered_commit() -> (Shards, Vec<FaultProxy>, Weft, Client, Vec<String>) {
    let (shards, proxies, weft, client, keys) = held_at_commit(queue_increments);
    proxies[1].set(Way::Requests, Script::Commit.sha1(), Fault::Hold);
    proxies.iter().for_each(FaultProxy::release);
    proxies[1].must_spring();
    (shards, proxies, weft, client, keys)
}

#[test]
fn a_shard_that_restarts_empty_in_the_middle_of_commit_gets_its_part_again() {
    let (mut shards, proxies, _weft, mut client, keys) = unanswered_commit();
    shards.server(1).restart();
    assert_eq!(client.receive(), integers([1, 1]));
    keys.iter().for_each(|key| client.must_bulk(&format!("GET {key}"), "1"));
    must_have_no_locks(&shards);
    drop(proxies);
}

#[test]
fn a_part_that_may_be_there_is_not_applied_again_when_its_record_is_lost_otherwise() {
    let (shards, proxies, _weft, mut client, keys) = unanswered_commit();
    // The next commit waits, too, while the record is lost.
    proxies[1].set(Way::Requests, Script::Commit.sha1(), Fault::Hold);
    proxies[1].cut_all();
    proxies[1].must_spring();
    let mut shard = shards.servers()[1].client();
    let names = shard.call("KEYS __weft:t:*").items().unwrap()[0].text().unwrap();
    shard.must_int(&["DEL", &names], 1);
    proxies[1].release();
    assert!(matches!(client.receive(), Reply::Error(text) if text.starts_with("TXNUNKNOWN")));
    client.must_bulk(&format!("GET {}", keys[0]), "1");
    let counters = client.call("INFO weft").text().unwrap();
    assert!(counters.contains("txn_reapplied:0\r\n") && counters.contains("txn_torn:1\r\n"), "{counters}");
    // The lock that is left is taken away when its lease is over.
    client.must_ok(&format!("SET {} x", keys[1]));
    must_have_no_locks(&shards);
}

#[test]
fn a_record_that_somebody_deletes_is_written_again_under_the_locks_that_are_still_there() {
    let (shards, proxies, _weft, mut client, keys) = held_at_commit(queue_increments);
    let (_, record) = shards.internal_keys().into_iter().find(|(shard, name)| *shard == 1 && kind(name) == 't').unwrap();
    shards.servers()[1].client().must_int(&format!("DEL {record}"), 1);
    proxies.iter().for_each(FaultProxy::release);
    assert_eq!(client.receive(), integers([1, 1]));
    keys.iter().for_each(|key| client.must_int(&format!("INCR {key}"), 2));
    must_have_no_locks(&shards);
}

#[test]
fn a_shard_that_is_flushed_while_others_have_yet_to_prepare_gets_its_part_again() {
    let wire = Wire::start(Mode::Static);
    let mut client = wire.weft.client();
    wire.proxy.set(Way::Requests, call_of(Script::Prepare), Fault::Hold);
    send_transaction(&mut client, increments(&wire.keys));
    wire.proxy.must_spring();
    eventually(PATIENCE, "the first shard has prepared", || left(&wire.shards, &[]) == [(0, 't'), (0, 'x')]);
    wire.shards.servers()[0].client().must_ok("FLUSHALL");
    wire.proxy.release();
    assert_eq!(client.receive(), integers([1, 1]));
    assert_eq!(wire.on_shards(), ["1".into(), "1".into()]);
    must_have_no_locks(&wire.shards);
}
