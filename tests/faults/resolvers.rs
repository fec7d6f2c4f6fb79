//! Several who finish the same transaction, some of them late, and some who must not: whatever they do in whatever order, it ends once.

use weft::txn::{Participant, Script, TxnId, internal_keys};

use super::wire::{Wire, call_of};
use super::*;
use crate::support::{Fault, FaultProxy, PATIENCE, Way, eventually};

/// A transaction that increments a key on each of two shards, whose coordinator is dead: prepared at both, or, if `half`, at the first
/// alone.
fn abandoned(mode: Mode, half: bool) -> (Shards, Vec<String>) {
    let shards = Shards::start(mode, Flavor::Redis, 3);
    let keys = keys(&shards, 2, "k");
    if half {
        // Nobody is there to prepare for the second key: its shard is busy.
        let mut second = shards.servers()[1].client();
        second.must_ok("CLIENT PAUSE 60000 WRITE");
        let mut doomed = setup(&shards).env("WEFT_FAILPOINT", "after-prepare:1").start();
        send_transaction(&mut doomed.client(), increments(&keys));
        doomed.process().must_exit();
        second.must_ok("CLIENT UNPAUSE");
        // What was under way when its sender died is carried out now, or was dropped with its connection.
        eventually(PATIENCE, "the dead proxy's connections are closed", || {
            !second.call("CLIENT LIST").text().unwrap().contains("name=weft")
        });
    } else {
        let mut doomed = setup(&shards).env("WEFT_FAILPOINT", "before-commit").start();
        send_transaction(&mut doomed.client(), increments(&keys));
        doomed.process().must_exit();
    }
    (shards, keys)
}

#[test]
fn many_resolvers_at_once_come_to_the_same_end() {
    for (mode, half) in Mode::ALL.into_iter().flat_map(|mode| [(mode, false), (mode, true)]) {
        let (shards, keys) = abandoned(mode, half);
        let survivors = [setup(&shards).start(), setup(&shards).start()];
        // Of each proxy several clients, so that both its workers meet the locks.
        let mut clients: Vec<Client> = (0..16).map(|index| survivors[index % 2].client()).collect();
        clients.iter_mut().enumerate().for_each(|(index, client)| client.send(&format!("INCR {}", keys[index / 2 % 2])));
        let mut counts: Vec<Vec<i64>> = vec![Vec::new(), Vec::new()];
        for (index, client) in clients.iter_mut().enumerate() {
            let Reply::Integer(count) = client.receive() else { panic!("no integer") };
            counts[index / 2 % 2].push(count);
        }
        counts.iter_mut().for_each(|counts| counts.sort_unstable());
        let first = counts[0][0];
        assert!((1..=2).contains(&first), "{mode:?} {half}: {counts:?}");
        let expected: Vec<i64> = (first..first + 8).collect();
        assert_eq!(counts, [expected.clone(), expected], "{mode:?} {half}");
        must_have_no_locks(&shards);
    }
}

#[test]
fn a_resolver_that_comes_late_changes_nothing() {
    for script in [Script::Commit, Script::Abort] {
        let shards = static_shards(2);
        let keys = keys(&shards, 2, "k");
        let abort = script == Script::Abort;
        let mut second = shards.servers()[1].client();
        // To be aborted, it is prepared at the second shard alone.
        let doomed_at_first = FaultProxy::start(shards.servers()[0].address());
        if abort {
            doomed_at_first.set(Way::Requests, call_of(Script::Prepare), Fault::Hold);
        }
        let failpoint = if abort { "after-prepare" } else { "before-commit" };
        let mut doomed = setup(&shards).through(&doomed_at_first, &shards.servers()[0]).env("WEFT_FAILPOINT", failpoint).start();
        send_transaction(&mut doomed.client(), increments(&keys));
        doomed.process().must_exit();
        doomed_at_first.cut_all();

        let proxy = FaultProxy::start(shards.servers()[1].address());
        let late = setup(&shards).through(&proxy, &shards.servers()[1]).start();
        let quick = setup(&shards).start();
        proxy.set(Way::Requests, call_of(script), Fault::Hold);
        let mut waiting = late.client();
        waiting.send(&format!("GET {}", keys[1]));
        proxy.must_spring();

        // The other is faster, and goes on: the key is changed, and locked by somebody else.
        let applied = i64::from(!abort);
        quick.client().must_int(&format!("INCRBY {} 10", keys[1]), applied + 10);
        let lock = shards.lock_of(&keys[1]);
        second.must_ok(&["SET", &lock, "1-1-1-1 9999999999999"]);
        proxy.release();
        waiting.must_stay_silent(Duration::from_millis(100));
        second.must_bulk(&format!("GET {lock}"), "1-1-1-1 9999999999999");
        second.must_int(&format!("DEL {lock}"), 1);
        assert_eq!(waiting.receive(), Reply::from((applied + 10).to_string().as_str()), "{script:?}");
        late.client().must_reply(&format!("GET {}", keys[0]), if abort { Reply::Nil } else { "1".into() });
        must_have_no_locks(&shards);
    }
}

#[test]
fn a_client_that_is_gone_at_exec_leaves_a_transaction_that_ends_all_the_same() {
    for (mode, script) in Mode::ALL.into_iter().flat_map(|mode| [(mode, Script::Prepare), (mode, Script::Commit)]) {
        let wire = Wire::start(mode);
        wire.proxy.set(Way::Requests, call_of(script), Fault::Hold);
        let mut client = wire.weft.client();
        send_transaction(&mut client, increments(&wire.keys));
        wire.proxy.must_spring();
        drop(client);
        let mut other = wire.weft.client();
        eventually(PATIENCE, "the session is over", || !other.call("CLIENT LIST").text().unwrap().contains("cmd=exec"));
        wire.proxy.release();
        eventually(PATIENCE, "it is applied", || wire.on_shards() == ["1".into(), "1".into()]);
        // By its coordinator: nobody has met the locks.
        eventually(PATIENCE, "its locks are gone", || wire.shards.internal_keys().iter().all(|(_, name)| kind(name) == 't'));
    }
}

#[test]
fn a_prepare_that_was_given_up_and_arrives_after_its_successor_is_refused() {
    for mode in Mode::ALL {
        let wire = Wire::with(mode, |setup| setup.set("upstream.reply_timeout_ms", 300));
        wire.proxy.set(Way::Requests, call_of(Script::Prepare), Fault::Hold);
        let mut client = wire.weft.client();
        send_transaction(&mut client, increments(&wire.keys));
        // The fence and the next attempt go over another connection.
        assert_eq!(client.receive(), integers([1, 1]), "{mode:?}");
        let calls = |wire: &Wire| {
            let stats = wire.shards.servers()[1].client().call("INFO commandstats").text().unwrap();
            let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls=")).unwrap().to_owned();
            line.split(',').next().unwrap().parse::<u32>().unwrap()
        };
        let before = calls(&wire);
        wire.proxy.release();
        eventually(PATIENCE, "the prepare arrives", || calls(&wire) > before);
        assert_eq!(wire.on_shards(), ["1".into(), "1".into()], "{mode:?}");
        must_have_no_locks(&wire.shards);
    }
}

#[test]
fn a_record_of_another_version_is_left_alone_with_its_locks() {
    for mode in Mode::ALL {
        let shards = Shards::start(mode, Flavor::Redis, 3);
        let keys = keys(&shards, 2, "k");
        let tid = TxnId { proxy: 7, incarnation: 1, sequence: 1, start_ms: 1 };
        let participant = |key: &str| match mode {
            Mode::Static => Participant::Shard { name: format!("s{}", shards.shard_of(key)).into(), db: 0 },
            Mode::Cluster => Participant::Slot(weft::slot::Slot::of(key.as_bytes())),
        };
        // Prepared at the first shard, as far as anybody can tell; a fence at the second would abort it.
        let record = internal_keys::record(&participant(&keys[0]), tid);
        let mut first = shards.servers()[0].client();
        let fields = ["state", "prepared", "format", "2", "time", "1", "who", "knows"].map(str::as_bytes);
        let words: Vec<&[u8]> = [b"HSET".as_slice(), &record].into_iter().chain(fields).collect();
        first.must_int(&words[..], 4);
        first.must_ok(&["SET", &shards.lock_of(&keys[0]), &format!("{tid} 1")]);
        let before = shards.internal_keys();

        let setup = Weft::setup(&shards).set("transactions.lock_wait_timeout_ms", 700);
        let setup = setup.set("sweep.interval_ms", 100).set("sweep.prepared_age_ms", 100).set("sweep.committed_age_ms", 100);
        let mut weft = setup.set("sweep.aborted_age_ms", 100).start();
        let mut client = weft.client();
        client.must_err(&format!("GET {}", keys[0]), "LOCKWAIT");
        client.must_err(&format!("INCR {}", keys[0]), "LOCKWAIT");
        send_transaction(&mut client, increments(&keys));
        assert!(matches!(client.receive(), Reply::Error(text) if text.starts_with("LOCKWAIT")));
        client.must_int(&format!("INCR {}", keys[1]), 1);
        assert_eq!(shards.internal_keys(), before, "{mode:?}");
        let log = weft.process().log();
        assert!(log.contains("of a format that this version does not know"), "{log}");
        assert!(log.matches("of a format").count() < 50, "it is said now and then, not all the time");
    }
}
