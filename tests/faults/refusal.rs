//! Shards that refuse: a decided transaction is tried again until it is applied, an undecided one is given up with nothing applied.

use weft::txn::Script;

use super::wire::Wire;
use super::*;
use crate::support::{Fault, FaultProxy, PATIENCE, Way, encode, eventually};

/// A way for the second shard to refuse: its error's code, the modes in which there is such a thing, how it begins.
struct Refusal {
    code: &'static str,
    modes: &'static [Mode],
    /// Whether the shard still answers reads.
    reads: bool,
    begin: fn(&Shards) -> Relent,
}

/// How the refusal is ended.
type Relent = Box<dyn FnOnce(&Shards)>;

static REFUSALS: &[Refusal] = &[
    Refusal {
        code: "READONLY",
        modes: &[Mode::Static],
        reads: true,
        begin: |shards| between(shards, "REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),
    },
    Refusal {
        code: "NOREPLICAS",
        modes: &Mode::ALL,
        reads: true,
        begin: |shards| between(shards, "CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0"),
    },
    Refusal {
        code: "NOPERM",
        modes: &Mode::ALL,
        reads: true,
        begin: |shards| between(shards, "ACL SETUSER default -evalsha", "ACL SETUSER default +evalsha"),
    },
    Refusal { code: "MISCONF", modes: &Mode::ALL, reads: true, begin: cannot_save },
    Refusal { code: "BUSY", modes: &Mode::ALL, reads: false, begin: is_busy },
    Refusal { code: "CLUSTERDOWN", modes: &[Mode::Cluster], reads: false, begin: is_down },
];

/// What prepare meets, and no later step does.
static FULL: Refusal = Refusal {
    code: "OOM",
    modes: &Mode::ALL,
    reads: true,
    begin: |shards| between(shards, "CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"),
};

/// Every refusal that there is in `mode`.
fn refusals(mode: Mode) -> impl Iterator<Item = &'static Refusal> {
    REFUSALS.iter().filter(move |refusal| refusal.modes.contains(&mode))
}

/// From one command to the other.
fn between(shards: &Shards, begin: &'static str, end: &'static str) -> Relent {
    second(shards).must_ok(begin);
    Box::new(move |shards| second(shards).must_ok(end))
}

/// A snapshot fails, because a folder has the name of its file.
fn cannot_save(shards: &Shards) -> Relent {
    let mut shard = second(shards);
    let reply = shard.call("CONFIG GET dir");
    let folder = reply.items().unwrap()[1].text().unwrap();
    std::fs::create_dir(std::path::Path::new(&folder).join("dump.rdb")).unwrap();
    shard.must_ok(&["CONFIG", "SET", "save", "3600 1"]);
    shard.call("BGSAVE");
    eventually(PATIENCE, "the snapshot has failed", || {
        shard.call("INFO persistence").text().unwrap().contains("rdb_last_bgsave_status:err")
    });
    Box::new(|shards| second(shards).must_ok("CONFIG SET stop-writes-on-bgsave-error no"))
}

/// A script runs for ever, until it is killed.
fn is_busy(shards: &Shards) -> Relent {
    let (mut endless, mut other) = (second(shards), second(shards));
    other.must_ok("CONFIG SET busy-reply-threshold 10");
    endless.send(&["EVAL", "while true do end", "0"]);
    eventually(PATIENCE, "the script is slow", || matches!(other.call("PING"), Reply::Error(text) if text.starts_with("BUSY")));
    Box::new(move |shards| {
        second(shards).must_ok("SCRIPT KILL");
        endless.receive();
    })
}

/// The cluster does not cover all slots.
fn is_down(shards: &Shards) -> Relent {
    let slot = shards.slots(1).end - 1;
    let mut shard = second(shards);
    shard.must_ok(&format!("CLUSTER DELSLOTS {slot}"));
    must_become(&mut shard, "cluster_state:fail");
    Box::new(move |shards| {
        let mut shard = second(shards);
        shard.must_ok(&format!("CLUSTER ADDSLOTS {slot}"));
        must_become(&mut shard, "cluster_state:ok");
    })
}

fn must_become(shard: &mut Client, state: &str) {
    eventually(PATIENCE, state, || shard.call("CLUSTER INFO").text().unwrap().contains(state));
}

fn second(shards: &Shards) -> Client {
    shards.servers()[1].client()
}

/// A transaction over two shards that waits at the second for `script`.
fn held_at(mode: Mode, script: Script, change: impl FnOnce(Setup) -> Setup) -> (Wire, Client) {
    let wire = Wire::with(mode, change);
    let mut client = wire.weft.client();
    wire.proxy.set(Way::Requests, script.sha1(), Fault::Hold);
    send_transaction(&mut client, increments(&wire.keys));
    wire.proxy.must_spring();
    (wire, client)
}

#[test]
fn a_commit_that_is_refused_is_sent_again_until_it_is_applied() {
    refused_at_commit(Mode::Static);
}

#[test]
fn a_commit_that_is_refused_in_a_cluster_is_sent_again_until_it_is_applied() {
    refused_at_commit(Mode::Cluster);
}

fn refused_at_commit(mode: Mode) {
    for Refusal { code, reads, begin, .. } in refusals(mode) {
        let (wire, mut client) = held_at(mode, Script::Commit, |setup| setup);
        let relent = begin(&wire.shards);
        wire.proxy.release();
        // The first shard has it already; whoever asks the second waits until it has it too.
        client.must_stay_silent(Duration::from_millis(100));
        let mut reader = wire.weft.client();
        reader.must_bulk(&format!("GET {}", wire.keys[0]), "1");
        if *reads {
            reader.send(&format!("GET {}", wire.keys[1]));
            reader.must_stay_silent(Duration::from_millis(100));
        }
        relent(&wire.shards);
        assert_eq!(client.receive(), integers([1, 1]), "{code}");
        if *reads {
            assert_eq!(reader.receive(), Reply::from("1"), "{code}");
        }
        reader.must_int(&format!("INCR {}", wire.keys[1]), 2);
        must_have_no_locks(&wire.shards);
    }
}

#[test]
fn a_commit_that_is_refused_for_longer_than_the_clients_patience_is_pending_and_applied_once() {
    for Refusal { code, begin, .. } in refusals(Mode::Static) {
        let (wire, mut client) = held_at(Mode::Static, Script::Commit, |setup| setup.set("transactions.patience_ms", 300));
        let relent = begin(&wire.shards);
        wire.proxy.release();
        assert!(matches!(client.receive(), Reply::Error(text) if text.starts_with("TXNPENDING committed")), "{code}");
        relent(&wire.shards);
        client.must_int(&format!("INCR {}", wire.keys[1]), 2);
        client.must_int(&format!("INCR {}", wire.keys[0]), 2);
        must_have_no_locks(&wire.shards);
    }
}

#[test]
fn a_shard_that_loads_its_data_gets_the_commit_when_it_has() {
    let slow = ["--key-load-delay", "150", "--loading-process-events-interval-bytes", "1024"];
    let options = [&["--appendonly", "yes", "--appendfsync", "always"][..], &slow].concat();
    let mut wire = Wire::before(Shards::fixed_with(Flavor::Redis, 2, &options), |setup| setup);
    let mut shard = second(&wire.shards);
    let filler: Vec<u8> = (0..5000).flat_map(|number| encode(&format!("SET filler:{number} x"))).collect();
    shard.send_raw(filler);
    (0..5000).for_each(|_| assert_eq!(shard.receive(), Reply::ok()));
    let mut client = wire.weft.client();
    wire.proxy.set(Way::Requests, Script::Commit.sha1(), Fault::Cut);
    wire.proxy.set(Way::Requests, Script::Commit.sha1(), Fault::Hold);
    send_transaction(&mut client, increments(&wire.keys));
    wire.proxy.must_spring();
    wire.shards.server(1).process().kill();
    wire.proxy.cut_all();
    wire.shards.server(1).restart();
    assert_eq!(client.receive(), integers([1, 1]));
    let stats = second(&wire.shards).call("INFO errorstats").text().unwrap();
    assert!(stats.contains("errorstat_LOADING"), "{stats}");
    assert_eq!(wire.on_shards(), ["1".into(), "1".into()]);
    must_have_no_locks(&wire.shards);
}

#[test]
fn a_prepare_that_is_refused_has_applied_nothing() {
    refused_at_prepare(Mode::Static);
}

#[test]
fn a_prepare_that_is_refused_in_a_cluster_has_applied_nothing() {
    refused_at_prepare(Mode::Cluster);
}

fn refused_at_prepare(mode: Mode) {
    for Refusal { code, begin, .. } in refusals(mode).chain([&FULL]) {
        let (wire, mut client) = held_at(mode, Script::Prepare, |setup| setup);
        let relent = begin(&wire.shards);
        wire.proxy.release();
        let aborted = format!("EXECABORT Transaction discarded because of: {code}");
        let reply = client.receive();
        assert!(matches!(&reply, Reply::Error(text) if text.starts_with(&aborted)), "{code}: {reply:?}");
        relent(&wire.shards);
        wire.keys.iter().for_each(|key| client.must_nil(&format!("GET {key}")));
        must_have_no_locks(&wire.shards);
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
    for mode in Mode::ALL {
        let (wire, mut client) = held_at(mode, Script::Commit, |setup| setup);
        second(&wire.shards).must_ok("CONFIG SET maxmemory 1");
        wire.proxy.release();
        assert_eq!(client.receive(), integers([1, 1]));
        must_have_no_locks(&wire.shards);
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
    reader.must_bulk(&format!("GET {}", keys[1]), "1");
    eventually(PATIENCE, "no lock is left", || shards.internal_keys().iter().all(|(_, name)| kind(name) == 't'));
}
