//! Shards that refuse: a decided transaction is tried again until it is applied, an undecided one is given up with nothing applied.

use weft::txn::Script;

use super::*;
use crate::support::{Fault, FaultProxy, Way};

/// How a shard is made to refuse, and to stop refusing.
const REFUSALS: &[(&str, &str, &str)] = &[
    ("READONLY", "REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),
    ("NOREPLICAS", "CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0"),
    ("NOPERM", "ACL SETUSER default -evalsha", "ACL SETUSER default +evalsha"),
];

/// Two static shards, the second behind a proxy, with a transaction that waits there at `script`.
fn held_at(script: Script) -> (Shards, FaultProxy, Weft, Client, Vec<String>) {
    let shards = static_shards(2);
    let keys = keys(&shards, 2, "k");
    let proxy = FaultProxy::start(shards.servers()[1].address());
    let weft = setup(&shards).through(&proxy, &shards.servers()[1]).start();
    let mut client = weft.client();
    proxy.set(Way::Requests, script.sha1(), Fault::Hold);
    send_transaction(&mut client, increments(&keys));
    proxy.must_spring();
    (shards, proxy, weft, client, keys)
}

#[test]
fn a_commit_that_is_refused_is_sent_again_until_it_is_applied() {
    for (code, refuse, relent) in REFUSALS {
        let (shards, proxy, weft, mut client, keys) = held_at(Script::Commit);
        let mut shard = shards.servers()[1].client();
        shard.must_ok(*refuse);
        proxy.release();
        // The first shard has it already, the second must not be read before it has it too.
        client.must_stay_silent(Duration::from_millis(100));
        let mut reader = weft.client();
        reader.must_bulk(&format!("GET {}", keys[0]), "1");
        reader.send(&format!("GET {}", keys[1]));
        reader.must_stay_silent(Duration::from_millis(100));
        shard.must_ok(*relent);
        assert_eq!(client.receive(), integers([1, 1]), "{code}");
        assert_eq!(reader.receive(), Reply::from("1"), "{code}");
        must_have_no_locks(&shards);
    }
}

#[test]
fn a_prepare_that_is_refused_has_applied_nothing() {
    let full = ("OOM", "CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0");
    for (code, refuse, relent) in REFUSALS.iter().chain([&full]) {
        let (shards, proxy, _weft, mut client, keys) = held_at(Script::Prepare);
        let mut shard = shards.servers()[1].client();
        shard.must_ok(*refuse);
        proxy.release();
        let aborted = format!("EXECABORT Transaction discarded because of: {code}");
        assert!(matches!(client.receive(), Reply::Error(text) if text.starts_with(&aborted)), "{code}");
        shard.must_ok(*relent);
        keys.iter().for_each(|key| client.must_nil(&format!("GET {key}")));
        must_have_no_locks(&shards);
    }
}

#[test]
fn shards_that_may_evict_records_get_no_transaction_with_others() {
    let shards = static_shards(2);
    let keys = keys(&shards, 2, "k");
    shards.servers()[1].client().must_ok("CONFIG SET maxmemory-policy allkeys-lru");
    let weft = setup(&shards).start();
    let mut client = weft.client();
    send_transaction(&mut client, increments(&keys));
    assert!(matches!(client.receive(), Reply::Error(text) if text.contains("allkeys-lru") && text.contains("allow_eviction")));
    // One shard alone leaves no record.
    send_transaction(&mut client, increments(&keys[1..]));
    assert_eq!(client.receive(), integers([1]));
    let daring = setup(&shards).set("transactions.allow_eviction", true).start();
    let mut client = daring.client();
    send_transaction(&mut client, increments(&keys));
    assert_eq!(client.receive(), integers([1, 2]));
}

#[test]
fn a_commit_runs_although_the_memory_is_full() {
    let (shards, proxy, _weft, mut client, _keys) = held_at(Script::Commit);
    shards.servers()[1].client().must_ok("CONFIG SET maxmemory 1");
    proxy.release();
    assert_eq!(client.receive(), integers([1, 1]));
    must_have_no_locks(&shards);
}

#[test]
fn scripts_that_a_shard_has_forgotten_are_loaded_again_at_any_step() {
    for script in [Script::Prepare, Script::Commit] {
        let (shards, proxy, _weft, mut client, keys) = held_at(script);
        shards.servers().iter().for_each(|server| server.client().must_ok("SCRIPT FLUSH"));
        proxy.release();
        assert_eq!(client.receive(), integers([1, 1]), "{script:?}");
        shards.servers().iter().for_each(|server| server.client().must_ok("SCRIPT FLUSH"));
        client.must_int(&format!("INCR {}", keys[1]), 2);
        must_have_no_locks(&shards);
    }
}

#[test]
fn a_decided_transaction_whose_shard_stays_away_is_pending_and_applied_when_it_is_back() {
    let shards = static_shards(2);
    let keys = keys(&shards, 2, "k");
    let proxy = FaultProxy::start(shards.servers()[1].address());
    let weft = setup(&shards).through(&proxy, &shards.servers()[1]).set("transactions.patience_ms", 400).start();
    let mut client = weft.client();
    proxy.set(Way::Requests, Script::Commit.sha1(), Fault::Hold);
    send_transaction(&mut client, increments(&keys));
    assert!(matches!(client.receive(), Reply::Error(text) if text.starts_with("TXNPENDING committed")));
    proxy.release();
    client.must_bulk(&format!("GET {}", keys[1]), "1");
    client.must_bulk(&format!("GET {}", keys[0]), "1");
    must_have_no_locks(&shards);
}

#[test]
fn an_undecided_transaction_whose_shard_stays_away_is_unknown_and_settled_when_it_is_back() {
    let shards = static_shards(2);
    let keys = keys(&shards, 2, "k");
    let proxy = FaultProxy::start(shards.servers()[1].address());
    let weft = setup(&shards).through(&proxy, &shards.servers()[1]).set("transactions.patience_ms", 400).start();
    let mut client = weft.client();
    proxy.set(Way::Requests, Script::Prepare.sha1(), Fault::Hold);
    send_transaction(&mut client, increments(&keys));
    assert!(matches!(client.receive(), Reply::Error(text) if text.starts_with("TXNUNKNOWN")));
    proxy.release();
    // It was prepared everywhere in the end, hence committed.
    let values: Vec<Reply> = keys.iter().map(|key| client.call(&format!("GET {key}"))).collect();
    assert!(values == [Reply::Nil, Reply::Nil] || values == ["1".into(), "1".into()], "{values:?}");
    must_have_no_locks(&shards);
}

#[test]
fn a_slot_that_moves_key_by_key_holds_a_commit_back_until_it_has_moved() {
    use crate::support::eventually;

    let shards = Shards::start(Mode::Cluster, Flavor::Redis, 3);
    let keys = keys(&shards, 2, "k");
    // Prepared and left; nobody has committed it yet.
    let mut doomed = setup(&shards).env("WEFT_FAILPOINT", "before-commit").start();
    send_transaction(&mut doomed.client(), increments(&keys));
    doomed.process().must_exit();

    let moving = moves::Move::begin(&shards, &keys[1], 1, 2);

    let survivor = setup(&shards).start();
    let mut reader = survivor.client();
    // What is decided holds nobody up where it can be carried out.
    reader.must_bulk(&format!("GET {}", keys[0]), "1");
    reader.send(&format!("GET {}", keys[1]));
    reader.must_stay_silent(LEASE + Duration::from_millis(300));

    // The slot moves, records and locks with it.
    moving.move_keys();
    moving.finish();
    assert_eq!(reader.receive(), Reply::from("1"));
    eventually(crate::support::PATIENCE, "no lock is left", || shards.internal_keys().iter().all(|(_, name)| kind(name) == 't'));
}
