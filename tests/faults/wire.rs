//! Requests and replies that are lost between weft and a shard, and shards that die while they are under way: what the client is told is
//! what happened.

use weft::txn::Script;

use super::*;
use crate::support::{Fault, FaultProxy, PATIENCE, Server, Way, eventually};

/// Two shards, the second behind a proxy, and a weft that reaches it so.
pub(super) struct Wire {
    pub(super) weft: Weft,
    pub(super) proxy: FaultProxy,
    pub(super) shards: Shards,
    pub(super) keys: Vec<String>,
    /// Before the other nodes of a cluster: they can only be told to name proxies, not to whom.
    _others: Vec<FaultProxy>,
}

impl Wire {
    pub(super) fn start(mode: Mode) -> Self {
        Self::with(mode, |setup| setup)
    }

    pub(super) fn with(mode: Mode, change: impl FnOnce(Setup) -> Setup) -> Self {
        let count = if mode == Mode::Cluster { 3 } else { 2 };
        Self::before(Shards::start(mode, Flavor::Redis, count), change)
    }

    pub(super) fn before(mut shards: Shards, change: impl FnOnce(Setup) -> Setup) -> Self {
        let mut proxies: Vec<FaultProxy> = shards.servers().iter().map(|server| FaultProxy::start(server.address())).collect();
        let setup = match shards.mode() {
            Mode::Cluster => {
                shards.announce(&proxies);
                setup(&shards)
            }
            Mode::Static => setup(&shards).through(&proxies[1], &shards.servers()[1]),
        };
        let weft = change(setup).start();
        let (proxy, keys) = (proxies.remove(1), keys(&shards, 2, "k"));
        let wire = Self { weft, proxy, shards, keys, _others: proxies };
        // Every worker's connections are made, so that the faults befall what they are meant for.
        for _ in 0..8 {
            let mut client = wire.weft.client();
            wire.keys.iter().for_each(|key| client.must_nil(&format!("GET {key}")));
        }
        wire
    }

    /// The values of the keys, as the shards have them.
    pub(super) fn on_shards(&self) -> Vec<Reply> {
        let pairs = self.shards.servers().iter().zip(&self.keys);
        pairs.map(|(server, key)| server.client().call(&format!("GET {key}"))).collect()
    }
}

/// The call of `script`, as it goes over the wire.
pub(super) fn call_of(script: Script) -> String {
    format!("EVALSHA\r\n$40\r\n{}", script.sha1())
}

/// Where a step's request or reply is lost: both ways, in both modes.
const LOSSES: [(Mode, Way); 4] =
    [(Mode::Static, Way::Requests), (Mode::Static, Way::Replies), (Mode::Cluster, Way::Requests), (Mode::Cluster, Way::Replies)];

fn pattern(way: Way, script: Script, answer: &str) -> String {
    match way {
        Way::Requests => call_of(script),
        Way::Replies => format!("{answer}\r\n"),
    }
}

#[test]
fn a_lost_prepare_is_settled_by_a_fence_and_the_client_is_told_what_is_on_the_shards() {
    for (mode, way) in LOSSES {
        let wire = Wire::start(mode);
        let mut client = wire.weft.client();
        wire.proxy.set(way, pattern(way, Script::Prepare, "prepared"), Fault::Cut);
        send_transaction(&mut client, increments(&wire.keys));
        // Whether the prepare had arrived or the fence came first and another attempt was made: it is applied once.
        assert_eq!(client.receive(), integers([1, 1]), "{mode:?} {way:?}");
        assert!(wire.proxy.has_sprung());
        assert_eq!(wire.on_shards(), ["1".into(), "1".into()], "{mode:?} {way:?}");
        must_have_no_locks(&wire.shards);
    }
}

#[test]
fn a_commit_whose_reply_is_lost_still_gives_the_replies() {
    for (mode, way) in LOSSES {
        let wire = Wire::start(mode);
        let mut client = wire.weft.client();
        wire.proxy.set(way, pattern(way, Script::Commit, "committed"), Fault::Cut);
        send_transaction(&mut client, increments(&wire.keys));
        assert_eq!(client.receive(), integers([1, 1]), "{mode:?} {way:?}");
        assert!(wire.proxy.has_sprung());
        assert_eq!(wire.on_shards(), ["1".into(), "1".into()], "{mode:?} {way:?}");
        must_have_no_locks(&wire.shards);
    }
}

#[test]
fn a_lost_prepare_on_a_watching_connection_is_settled_too() {
    for (mode, way) in LOSSES {
        let wire = Wire::start(mode);
        let mut client = wire.weft.client();
        client.must_ok(&format!("WATCH {}", wire.keys[1]));
        wire.proxy.set(way, pattern(way, Script::Prepare, "prepared"), Fault::Cut);
        send_transaction(&mut client, increments(&wire.keys));
        // The fence tells whether it had arrived. If not, the watch is gone with its connection, and nil is always allowed.
        let (reply, value) = match way {
            Way::Requests => (Reply::NilArray, Reply::Nil),
            Way::Replies => (integers([1, 1]), "1".into()),
        };
        assert_eq!(client.receive(), reply, "{mode:?} {way:?}");
        assert!(wire.proxy.has_sprung());
        assert_eq!(wire.on_shards(), [value.clone(), value], "{mode:?} {way:?}");
        must_have_no_locks(&wire.shards);
    }
}

#[test]
fn an_abort_or_a_fence_that_is_lost_is_sent_again() {
    let steps = [(Script::Abort, "gone"), (Script::Fence, "aborted")];
    for ((mode, way), (script, answer)) in LOSSES.into_iter().flat_map(|loss| steps.map(|step| (loss, step))) {
        let wire = Wire::start(mode);
        // A lock at the first shard aborts the second; a prepare that is cut off fences it.
        let mut first = wire.shards.servers()[0].client();
        let lock = wire.shards.lock_of(&wire.keys[0]);
        match script {
            Script::Abort => first.must_ok(&["SET", &lock, "1-1-1-1 9999999999999"]),
            _ => wire.proxy.set(Way::Requests, call_of(Script::Prepare), Fault::Cut),
        }
        wire.proxy.set(way, pattern(way, script, answer), Fault::Cut);
        let mut client = wire.weft.client();
        send_transaction(&mut client, increments(&wire.keys));
        wire.proxy.must_spring();
        first.call(&format!("DEL {lock}"));
        assert_eq!(client.receive(), integers([1, 1]), "{mode:?} {way:?} {script:?}");
        assert_eq!(wire.on_shards(), ["1".into(), "1".into()]);
        must_have_no_locks(&wire.shards);
    }
}

#[test]
fn a_prepare_that_arrives_late_meets_the_fence() {
    Mode::ALL.into_iter().for_each(a_prepare_arrives_late);
}

fn a_prepare_arrives_late(mode: Mode) {
    let wire = Wire::with(mode, |setup| setup.env("WEFT_FAILPOINT", "after-prepare"));
    wire.proxy.set(Way::Requests, call_of(Script::Prepare), Fault::Hold);
    let mut client = wire.weft.client();
    send_transaction(&mut client, increments(&wire.keys));
    client.must_be_closed();
    assert_eq!(left(&wire.shards, &[]), [(0, 't'), (0, 'x')]);
    let survivor = setup(&wire.shards).start();
    survivor.client().must_nil(&format!("GET {}", wire.keys[0]));
    wire.proxy.release();
    // The tombstone of the fence keeps it out, now and for as long as it stays.
    let mut second = wire.shards.servers()[1].client();
    eventually(PATIENCE, "the prepare arrives", || {
        let stats = second.call("INFO commandstats").text().unwrap();
        stats.lines().any(|line| line.starts_with("cmdstat_evalsha:calls=2,"))
    });
    assert_eq!(left(&wire.shards, &[]), [(1, 't')]);
    assert_eq!(wire.on_shards(), [Reply::Nil, Reply::Nil]);
}

#[test]
fn a_commit_that_reached_one_shard_only_is_finished_by_another_proxy() {
    Mode::ALL.into_iter().for_each(a_commit_reaches_one_shard);
}

fn a_commit_reaches_one_shard(mode: Mode) {
    let wire = Wire::with(mode, |setup| setup.env("WEFT_FAILPOINT", "after-commit"));
    wire.proxy.set(Way::Requests, call_of(Script::Commit), Fault::Hold);
    let mut client = wire.weft.client();
    send_transaction(&mut client, increments(&wire.keys));
    client.must_be_closed();
    assert_eq!(wire.on_shards(), ["1".into(), Reply::Nil]);
    assert_eq!(left(&wire.shards, &[]), [(0, 't'), (1, 't'), (1, 'x')]);
    let survivor = setup(&wire.shards).start();
    survivor.client().must_bulk(&format!("GET {}", wire.keys[1]), "1");
    // The late commit changes nothing.
    wire.proxy.release();
    survivor.client().must_int(&format!("INCR {}", wire.keys[1]), 2);
    assert_eq!(left(&wire.shards, &[]), [(0, 't'), (1, 't')]);
}

#[test]
fn a_plain_write_whose_reply_is_lost_is_never_sent_again() {
    for (mode, way) in LOSSES {
        let wire = Wire::start(mode);
        let (trap, applied) = match way {
            Way::Requests => (call_of(Script::Guarded), 0),
            Way::Replies => ("*1\r\n:1\r\n".to_owned(), 1),
        };
        wire.proxy.set(way, trap, Fault::Cut);
        let mut client = wire.weft.client();
        client.must_err(&format!("INCR {}", wire.keys[1]), "UNKNOWN");
        assert_eq!(wire.on_shards()[1], if applied == 1 { "1".into() } else { Reply::Nil });
        // The connection is made anew, and what was lost is not sent again on it.
        client.must_int(&format!("INCR {}", wire.keys[1]), applied + 1);
    }
}

#[test]
fn a_native_write_whose_reply_is_lost_is_never_sent_again() {
    let wire = Wire::start(Mode::Static);
    let mut client = wire.weft.client();
    client.must_int(&format!("DEL {}", wire.keys[1]), 0);
    client.must_int(&format!("RPUSH {} a b c d", wire.keys[1]), 4);
    wire.proxy.set(Way::Replies, "$1\r\na\r\n", Fault::Cut);
    client.must_err(&format!("LPOP {} 1", wire.keys[1]), "UNKNOWN");
    client.must_int(&format!("LLEN {}", wire.keys[1]), 3);
}

#[test]
fn a_read_whose_connection_is_lost_is_sent_again() {
    for (mode, way) in LOSSES {
        let wire = Wire::start(mode);
        let mut client = wire.weft.client();
        client.must_ok(&format!("SET {} value", wire.keys[1]));
        for (read, name) in
            [(format!("GET {}", wire.keys[1]), "$3\r\nGET"), (format!("MGET {} {}", wire.keys[0], wire.keys[1]), "$4\r\nMGET")]
        {
            wire.proxy.set(way, if way == Way::Requests { name } else { "$5\r\nvalue" }, Fault::Cut);
            let reply = client.call(&read);
            let single = Reply::from("value");
            assert!(reply == single || reply == Reply::Array(vec![Reply::Nil, single]), "{mode:?} {way:?} {read}: {reply:?}");
            assert!(wire.proxy.has_sprung());
        }
    }
}

/// Two static shards that keep what they acknowledged over a SIGKILL.
pub(super) fn durable_shards() -> Shards {
    Shards::fixed_with(Flavor::Redis, 2, &["--appendonly", "yes", "--appendfsync", "always"])
}

#[test]
fn a_shard_that_is_killed_in_the_middle_of_a_step_comes_back_to_the_end_of_the_transaction() {
    for script in [Script::Prepare, Script::Commit] {
        for (way, answer) in [(Way::Requests, ""), (Way::Replies, if script == Script::Prepare { "prepared" } else { "committed" })] {
            let mut wire = Wire::before(durable_shards(), |setup| setup);
            let mut client = wire.weft.client();
            wire.proxy.set(way, pattern(way, script, answer), Fault::Hold);
            send_transaction(&mut client, increments(&wire.keys));
            wire.proxy.must_spring();
            wire.shards.server(1).process().kill();
            wire.proxy.cut_all();
            wire.shards.server(1).restart();
            assert_eq!(client.receive(), integers([1, 1]), "{script:?} {way:?}");
            assert_eq!(wire.on_shards(), ["1".into(), "1".into()]);
            must_have_no_locks(&wire.shards);
        }
    }
}

#[test]
fn a_shard_that_stops_answering_is_given_up_and_the_transaction_ends_when_it_is_back() {
    let mut wire = Wire::with(Mode::Static, |setup| setup.set("upstream.reply_timeout_ms", 300));
    let mut client = wire.weft.client();
    wire.proxy.set(Way::Replies, "prepared", Fault::Hold);
    send_transaction(&mut client, increments(&wire.keys));
    wire.proxy.must_spring();
    wire.shards.server(1).process().pause();
    wire.proxy.cut_all();
    client.must_stay_silent(Duration::from_millis(700));
    wire.shards.server(1).process().resume();
    assert_eq!(client.receive(), integers([1, 1]));
    must_have_no_locks(&wire.shards);
}

/// A server's address in the proxy's place would be a test of nothing.
#[test]
fn the_proxy_stands_between() {
    let server = Server::start(Flavor::Redis, &[]);
    let proxy = FaultProxy::start(server.address());
    let mut client = Client::connect(proxy.address());
    client.must_ok("SET k v");
    proxy.set(Way::Replies, "$1\r\nv", Fault::Hold);
    client.send("GET k");
    proxy.must_spring();
    client.must_stay_silent(Duration::from_millis(50));
    proxy.release();
    assert_eq!(client.receive(), Reply::from("v"));
    proxy.set_after(1, Way::Requests, "INCR", Fault::Cut);
    client.must_int("INCR n", 1);
    client.send("INCR n");
    client.must_be_closed();
    server.client().must_bulk("GET n", "1");
}
