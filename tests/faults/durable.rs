//! Transactions that wait for replicas, and for files on disk: what is answered when these have it, and when they have not.

use super::*;
use crate::support::{PATIENCE, Process, Server, eventually};

/// Static shards with a replica each.
struct Replicated {
    shards: Shards,
    replicas: Vec<Server>,
}

impl Replicated {
    fn start(flavor: Flavor, options: &[&str]) -> Self {
        let shards = Shards::fixed_with(flavor, 2, &[options, &["--repl-diskless-sync-delay", "0"]].concat());
        let replica = |primary: &Server| {
            let port = primary.address().port().to_string();
            Server::start(flavor, &[options, &["--replicaof", "127.0.0.1", &port]].concat())
        };
        let replicas: Vec<Server> = shards.servers().iter().map(replica).collect();
        shards.servers().iter().for_each(must_have_a_replica);
        Self { shards, replicas }
    }

    fn setup(&self) -> Setup {
        setup(&self.shards).set("transactions.wait_replicas", 1)
    }

    fn replica(&mut self, index: usize) -> &mut Process {
        self.replicas[index].process()
    }

    /// The values of `keys` at their primaries, whatever weft thinks.
    fn values(&self, keys: &[String]) -> Vec<Reply> {
        keys.iter().map(|key| self.shards.servers()[self.shards.shard_of(key)].client().call(&format!("GET {key}"))).collect()
    }
}

/// Waits until `primary` counts on a replica.
#[track_caller]
pub(super) fn must_have_a_replica(primary: &Server) {
    eventually(PATIENCE, "the primary has a replica", || {
        primary.client().call("INFO replication").text().is_some_and(|text| text.contains("state=online"))
    });
}

fn exec(client: &mut Client, commands: impl IntoIterator<Item = String>) -> Reply {
    send_transaction(client, commands);
    client.receive()
}

fn text(reply: Reply) -> String {
    match reply {
        Reply::Error(text) => text,
        other => panic!("{other:?} instead of an error"),
    }
}

/// What `client` is told by INFO.
fn counted(client: &mut Client, name: &str) -> u64 {
    let info = client.call("INFO weft").text().unwrap();
    info.lines().find_map(|line| line.strip_prefix(&format!("{name}:"))).unwrap().parse().unwrap()
}

#[test]
fn exec_is_answered_when_replicas_have_it_and_not_before() {
    let mut servers = Replicated::start(Flavor::Redis, &[]);
    let weft = servers.setup().set("transactions.wait_timeout_ms", 4900).start();
    let (keys, mut client) = (keys(&servers.shards, 2, "k"), weft.client());
    assert_eq!(exec(&mut client, increments(&keys)), integers([1, 1]));
    for (count, commands) in [(2, &keys[..]), (1, &keys[1..])] {
        servers.replica(1).pause();
        send_transaction(&mut client, increments(commands));
        client.must_stay_silent(Duration::from_millis(300));
        // Several are prepared, and none of them is applied anywhere; a single one is applied.
        let expected = if count == 2 { ["1", "1"] } else { ["2", "3"] };
        assert_eq!(servers.values(&keys), expected.map(Reply::from));
        servers.replica(1).resume();
        assert_eq!(client.receive(), if count == 2 { integers([2, 2]) } else { integers([3]) });
        // The replica has what the client was told, or the record that leads there.
        let mut replica = servers.replicas[1].client();
        let names = replica.call("KEYS *").items().unwrap().iter().filter_map(Reply::text).any(|name| name.starts_with("__weft:"));
        assert!(names || replica.call(&format!("GET {}", keys[1])) == Reply::from("3"));
    }
    must_have_no_locks(&servers.shards);
}

#[test]
fn with_too_few_replicas_the_error_says_committed_and_the_next_are_refused() {
    let mut servers = Replicated::start(Flavor::Redis, &[]);
    let weft = servers.setup().set("transactions.wait_timeout_ms", 200).start();
    let keys = keys(&servers.shards, 2, "k");
    let (mut client, mut watcher) = (weft.client(), weft.client());
    let mut expected = 0;
    // Over both shards, on the one whose replica is away, and there with WATCH.
    for (count, watch) in [(2, false), (1, false), (1, true), (2, true)] {
        let keys = &keys[2 - count..];
        let mut run = || {
            if watch {
                watcher.must_ok(&format!("WATCH {}", keys[0]));
                exec(&mut watcher, increments(keys))
            } else {
                exec(&mut client, increments(keys))
            }
        };
        eventually(PATIENCE, "the replicas confirm again", || matches!(run(), Reply::Array(_)));
        servers.replica(1).pause();
        assert_eq!(text(run()), "TXNUNCONFIRMED committed, but too few replicas have confirmed it in time", "{count} {watch}");
        let before = servers.values(keys);
        let refused = text(run());
        assert!(refused.starts_with("NOREPLICAS shard 's1' does not confirm in time"), "{refused}");
        assert_eq!(servers.values(keys), before, "{count} {watch}");
        expected += 2;
        servers.replica(1).resume();
    }
    let both = servers.values(&keys);
    assert_eq!(both, ["4", "8"].map(Reply::from));
    servers.replica(1).pause();
    // What touches the other shard alone goes on, and so do plain commands, and transactions that only read.
    assert_eq!(exec(&mut client, increments(&keys[..1])), integers([5]));
    client.must_int(&format!("INCR {}", keys[1]), 9);
    assert_eq!(exec(&mut client, [format!("GET {}", keys[1])]), Reply::Array(vec!["9".into()]));
    servers.replica(1).resume();
    assert!(counted(&mut client, "replica_wait_timeouts") >= expected);
    must_have_no_locks(&servers.shards);
}

#[test]
fn without_any_replica_nothing_is_applied() {
    for mode in Mode::ALL {
        let shards = Shards::start(mode, Flavor::Redis, 2);
        let weft = setup(&shards).set("transactions.wait_replicas", 1).set("transactions.wait_timeout_ms", 100).start();
        let (keys, mut client) = (keys(&shards, 2, "k"), weft.client());
        for commands in [&keys[..], &keys[1..]] {
            let refused = text(exec(&mut client, increments(commands)));
            assert!(refused.starts_with("NOREPLICAS"), "{refused}");
        }
        client.must_err(&format!("MSET {} a {} b", keys[0], keys[1]), "NOREPLICAS");
        keys.iter().for_each(|key| client.must_nil(&format!("GET {key}")));
        assert!(shards.internal_keys().is_empty());
    }
}

#[test]
fn replicas_are_counted_although_the_memory_is_full() {
    let servers = Replicated::start(Flavor::Redis, &[]);
    let weft = servers.setup().start();
    let (keys, mut client) = (keys(&servers.shards, 2, "k"), weft.client());
    servers.shards.servers()[1].client().must_ok("CONFIG SET maxmemory 1");
    client.must_int("WAIT 1 4000", 1);
    // Refused for want of memory, not of replicas.
    assert!(text(exec(&mut client, increments(&keys))).contains("OOM"));
    assert_eq!(counted(&mut client, "replica_wait_timeouts"), 0);
}

#[test]
fn a_file_on_disk_is_waited_for() {
    let servers = Replicated::start(Flavor::Valkey, &["--appendonly", "yes", "--appendfsync", "everysec"]);
    let keys = keys(&servers.shards, 2, "k");
    let mut value = 0;
    for (replicas, fsync) in [(0, "primary"), (1, "primary"), (1, "all")] {
        let weft = setup(&servers.shards)
            .set("transactions.wait_replicas", replicas)
            .set("transactions.wait_fsync", fsync)
            .set("transactions.wait_timeout_ms", 4000)
            .start();
        let mut client = weft.client();
        for commands in [&keys[..], &keys[1..], &keys[..1]] {
            value += i64::from(commands.len() > 1);
            let reply = exec(&mut client, commands.iter().map(|key| format!("HINCRBY h{{{key}}} f 1")).chain([]));
            assert!(matches!(reply, Reply::Array(_)), "{replicas} {fsync}: {reply:?}");
        }
        assert!(counted(&mut client, "replica_waits") > 0 && counted(&mut client, "replica_wait_timeouts") == 0);
    }
    assert_eq!(value, 3);
    // What a primary told is there when it comes again from its file.
    let mut shards = servers.shards;
    shards.server(0).restart();
    shards.servers()[0].client().must_bulk(&format!("HGET h{{{}}} f", keys[0]), "6");
}

#[test]
fn servers_without_a_file_refuse_who_waits_for_it() {
    for flavor in Flavor::ALL {
        let shards = Shards::fixed(flavor, 2);
        let mut weft = setup(&shards).set("transactions.wait_fsync", "primary").start();
        let (keys, mut client) = (keys(&shards, 2, "k"), weft.client());
        let refused = text(exec(&mut client, increments(&keys)));
        assert!(refused.starts_with("NOREPLICAS"), "{refused}");
        keys.iter().for_each(|key| client.must_nil(&format!("GET {key}")));
        let reason = if flavor == Flavor::Redis { "unknown command 'WAITAOF'" } else { "appendonly is disabled" };
        assert!(weft.process().log().contains(reason));
    }
}

#[test]
fn one_wait_serves_many_transactions() {
    let mut servers = Replicated::start(Flavor::Redis, &[]);
    let weft = servers.setup().set("transactions.wait_timeout_ms", 4900).start();
    let mut clients: Vec<Client> = (0..32).map(|_| weft.client()).collect();
    let all = |clients: &mut Vec<Client>, servers: &Replicated| {
        for (index, client) in clients.iter_mut().enumerate() {
            send_transaction(client, increments(&keys(&servers.shards, 2, &format!("k{index}-"))));
        }
    };
    all(&mut clients, &servers);
    clients.iter_mut().for_each(|client| assert_eq!(client.receive(), integers([1, 1])));
    [0, 1].into_iter().for_each(|index| servers.replica(index).pause());
    let before = counted(&mut clients[0], "replica_waits");
    all(&mut clients, &servers);
    eventually(PATIENCE, "all are prepared", || left(&servers.shards, &[]).iter().filter(|(_, kind)| *kind == 'x').count() == 64);
    [0, 1].into_iter().for_each(|index| servers.replica(index).resume());
    clients.iter_mut().for_each(|client| assert_eq!(client.receive(), integers([2, 2])));
    // For each of two workers and two shards the wait that was under way, and the next; a few more for the forgetting.
    let waits = counted(&mut clients[0], "replica_waits") - before;
    assert!((4..=16).contains(&waits), "{waits} waits for 32 transactions, each on 2 shards");
}

#[test]
fn records_are_forgotten_only_when_replicas_have_the_commits() {
    let mut servers = Replicated::start(Flavor::Redis, &[]);
    let weft = servers.setup().set("transactions.wait_timeout_ms", 200).start();
    let (keys, mut client) = (keys(&servers.shards, 2, "k"), weft.client());
    eventually(PATIENCE, "the replicas confirm", || matches!(exec(&mut client, increments(&keys)), Reply::Array(_)));
    servers.replica(0).pause();
    assert!(text(exec(&mut client, increments(&keys))).starts_with("TXNUNCONFIRMED"));
    // Two waits of the forgetting have failed meanwhile.
    let before = counted(&mut client, "replica_wait_timeouts");
    eventually(PATIENCE, "the forgetting waits in vain", || counted(&mut client, "replica_wait_timeouts") >= before + 2);
    let records = servers.shards.internal_keys();
    assert!(records.len() >= 2 && records.iter().all(|(_, name)| kind(name) == 't'), "{records:?}");
    servers.replica(0).resume();
    eventually(PATIENCE, "everything is forgotten", || servers.shards.internal_keys().is_empty());
}
