//! Plain commands that meet a lock: they wait for a live owner, settle a dead one, and in both cases keep their order.

use weft::txn::Script;

use super::*;
use crate::support::{Fault, FaultProxy, Server, Way};

/// Two keys on different shards, both locked by a transaction that increments them and that waits for its second commit.
struct Held {
    keys: Vec<String>,
    proxies: Vec<FaultProxy>,
    owner: Client,
    other: Weft,
    _first: Weft,
    shards: Shards,
}

impl Held {
    /// The owner lives, and its lease is long.
    fn start(change: impl FnOnce(Setup) -> Setup) -> Self {
        let shards = static_shards(2);
        let keys = keys(&shards, 2, "k");
        let proxies: Vec<FaultProxy> = shards.servers().iter().map(|server| FaultProxy::start(server.address())).collect();
        let through = |setup: Setup, (server, proxy): (&Server, &FaultProxy)| setup.through(proxy, server);
        let first = shards.servers().iter().zip(&proxies).fold(Weft::setup(&shards).set("transactions.lease_ms", 60_000), through).start();
        let other = change(Weft::setup(&shards)).start();
        let mut owner = first.client();
        proxies.iter().for_each(|proxy| proxy.set(Way::Requests, Script::Commit.sha1(), Fault::Hold));
        send_transaction(&mut owner, increments(&keys));
        proxies.iter().for_each(FaultProxy::must_spring);
        Self { keys, proxies, owner, other, _first: first, shards }
    }

    fn release(&mut self) {
        self.proxies.iter().for_each(FaultProxy::release);
        assert_eq!(self.owner.receive(), integers([1, 1]));
    }
}

/// What each command answers when it comes right after the transaction, which made `{a}` and `{b}` 1.
const COMMANDS: &[(&str, &str)] = &[
    ("GET {a}", "$1\r\n1\r\n"),
    ("SET {a} x", "+OK\r\n"),
    ("INCR {b}", ":2\r\n"),
    ("STRLEN {b}", ":1\r\n"),
    ("GETDEL {a}", "$1\r\n1\r\n"),
    ("MGET {a} {b}", "*2\r\n$1\r\n1\r\n$1\r\n1\r\n"),
    ("MGET {a} {a}", "*2\r\n$1\r\n1\r\n$1\r\n1\r\n"),
    ("EXISTS {a} {b}", ":2\r\n"),
    ("MSET {a} x {b} y", "+OK\r\n"),
    ("MSETNX {a} x {b} y", ":0\r\n"),
    ("DEL {a} {b}", ":2\r\n"),
    ("WATCH {a} {b}", "+OK\r\n"),
    ("LPOP {a} 1", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
    ("OBJECT ENCODING {a}", "$3\r\nint\r\n"),
];

#[test]
fn every_command_waits_for_a_live_owner_and_comes_after_it() {
    for (command, reply) in COMMANDS {
        let mut held = Held::start(|setup| setup);
        let command = command.replace("{a}", &held.keys[0]).replace("{b}", &held.keys[1]);
        let mut client = held.other.client();
        client.send(&command);
        client.must_stay_silent(Duration::from_millis(60));
        held.release();
        client.must_receive(reply);
        must_have_no_locks(&held.shards);
    }
}

#[test]
fn every_command_settles_a_dead_owner_and_comes_after_it() {
    for mode in Mode::ALL {
        let shards = Shards::start(mode, Flavor::Redis, 2);
        let other = setup(&shards).start();
        let left: Vec<_> = (0..COMMANDS.len())
            .map(|index| {
                let keys = keys(&shards, 2, &format!("{index}-"));
                let mut doomed = setup(&shards).env("WEFT_FAILPOINT", "before-commit").start();
                send_transaction(&mut doomed.client(), increments(&keys));
                doomed.process().must_exit();
                keys
            })
            .collect();
        for ((command, reply), keys) in COMMANDS.iter().zip(left) {
            let command = command.replace("{a}", &keys[0]).replace("{b}", &keys[1]);
            let mut client = other.client();
            client.send(&command);
            client.must_receive(reply);
        }
    }
}

#[test]
fn a_pipeline_that_meets_a_lock_keeps_its_order() {
    let mut held = Held::start(|setup| setup);
    let free = held.shards.key_on(0, "free");
    let (a, b) = (held.keys[0].clone(), held.keys[1].clone());
    let mut client = held.other.client();
    client.send_raw(format!(
        "SET {free} 1\r\nINCR {a}\r\nGET {a}\r\nINCR {free}\r\nGET {free}\r\nMGET {a} {b}\r\nINCR {b}\r\nINCR {a}\r\nGET {b}\r\nDEL {a} {b}\r\nGET {a}\r\nPING\r\n"
    ));
    client.must_receive("+OK\r\n");
    client.must_stay_silent(Duration::from_millis(60));
    held.release();
    client.must_receive(":2\r\n$1\r\n2\r\n:2\r\n$1\r\n2\r\n*2\r\n$1\r\n2\r\n$1\r\n1\r\n:2\r\n:3\r\n$1\r\n2\r\n:2\r\n$-1\r\n+PONG\r\n");
}

#[test]
fn a_transaction_that_meets_a_lock_waits_and_is_applied_once() {
    let mut held = Held::start(|setup| setup);
    let mut client = held.other.client();
    send_transaction(&mut client, increments(&held.keys));
    client.must_stay_silent(Duration::from_millis(60));
    held.release();
    assert_eq!(client.receive(), integers([2, 2]));
    must_have_no_locks(&held.shards);
}

#[test]
fn a_lock_that_is_held_for_too_long_is_an_error_that_applied_nothing() {
    let held = Held::start(|setup| setup.set("transactions.lock_wait_timeout_ms", 150));
    let (a, b) = (&held.keys[0], &held.keys[1]);
    let before = held.shards.internal_keys();
    let mut client = held.other.client();
    for command in ["GET {a}", "SET {a} x", "MGET {a} {b}", "DEL {a} {b}", "LPOP {a} 1", "MSET {a} x {b} y"] {
        client.must_err(&command.replace("{a}", a).replace("{b}", b), "LOCKWAIT");
    }
    send_transaction(&mut client, increments(&held.keys));
    assert!(matches!(client.receive(), Reply::Error(text) if text.starts_with("LOCKWAIT")));
    client.must_reply("PING", Reply::Simple("PONG".to_owned()));
    assert_eq!(held.shards.internal_keys(), before);
    let mut held = held;
    held.release();
    for key in &held.keys {
        held.other.client().must_bulk(&format!("GET {key}"), "1");
    }
}

#[test]
fn a_lock_that_cannot_be_resolved_is_an_error_in_time() {
    let mut shards = static_shards(2);
    let keys = keys(&shards, 2, "k");
    let mut doomed = setup(&shards).env("WEFT_FAILPOINT", "before-commit").start();
    send_transaction(&mut doomed.client(), increments(&keys));
    doomed.process().must_exit();
    let other = Weft::setup(&shards).set("transactions.lock_wait_timeout_ms", 1000).start();
    let mut client = other.client();
    shards.server(1).process().pause();
    let start = std::time::Instant::now();
    client.must_err(&format!("GET {}", keys[0]), "LOCKWAIT");
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    // Whoever comes when the shard is back finds the transaction, and finishes it.
    shards.server(1).process().resume();
    client.must_bulk(&format!("GET {}", keys[0]), "1");
    client.must_bulk(&format!("GET {}", keys[1]), "1");
    must_have_no_locks(&shards);
}

#[test]
fn readers_pass_a_shared_lock_and_writers_do_not() {
    let shards = static_shards(2);
    let keys = keys(&shards, 2, "k");
    let mut doomed = Weft::setup(&shards).set("transactions.lease_ms", 2_000).env("WEFT_FAILPOINT", "before-commit").start();
    send_transaction(&mut doomed.client(), [format!("GET {}", keys[0]), format!("INCR {}", keys[1])]);
    doomed.process().must_exit();
    assert_eq!(left(&shards, &[]), [(0, 's'), (0, 't'), (1, 't'), (1, 'x')]);
    let other = Weft::start(&shards);
    let mut client = other.client();
    client.must_nil(&format!("GET {}", keys[0]));
    assert_eq!(left(&shards, &[]), [(0, 's'), (0, 't'), (1, 't'), (1, 'x')], "the reader did not wait");
    client.must_ok(&format!("SET {} x", keys[0]));
    client.must_bulk(&format!("GET {}", keys[1]), "1");
    must_have_no_locks(&shards);
}
