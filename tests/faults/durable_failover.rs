//! Primaries that die, and replicas that take their place, while transactions wait for these replicas: what a client was told stays, and
//! nothing is there in part.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::durable::must_have_a_replica;
use super::*;
use crate::support::{PATIENCE, Server, eventually, eventually_some};

/// A cluster of `count` shards with a replica each.
struct Replicated {
    shards: Shards,
    replicas: Vec<Server>,
}

impl Replicated {
    fn start(count: usize) -> Self {
        let shards = Shards::start(Mode::Cluster, Flavor::Redis, count);
        let replicas = (0..count).map(|index| shards.replica_of(index, Flavor::Redis)).collect();
        shards.servers().iter().for_each(must_have_a_replica);
        Self { shards, replicas }
    }

    fn setup(&self) -> Setup {
        setup(&self.shards).set("transactions.wait_replicas", 1)
    }

    /// The two servers of a shard; the first is the primary.
    fn pair(&mut self, index: usize) -> [&mut Server; 2] {
        let pair = [self.shards.server(index), &mut self.replicas[index]];
        if is_primary(pair[0]) {
            pair
        } else {
            let [a, b] = pair;
            [b, a]
        }
    }

    /// Starts the dead server of a shard again and waits until it follows the other.
    fn rejoin(&mut self, index: usize, dead: u16) {
        let server = [self.shards.server(index), &mut self.replicas[index]].into_iter().find(|server| server.address().port() == dead);
        let server = server.unwrap();
        server.restart();
        eventually(PATIENCE, "the dead primary comes back as a replica", || !is_primary(server));
        must_have_a_replica(self.pair(index)[0]);
        // A weft that starts now asks any of them.
        for node in self.shards.servers().iter().chain(&self.replicas) {
            let primaries = || node.client().call("CLUSTER NODES").text().unwrap().lines().filter(|line| line.contains("master")).count();
            eventually(PATIENCE, "every node knows it", || primaries() == self.shards.servers().len());
        }
    }
}

fn is_primary(server: &Server) -> bool {
    server.client().call("INFO replication").text().is_some_and(|text| text.contains("role:master"))
}

/// The value of `key` once weft can tell.
fn value(client: &mut Client, key: &str) -> Reply {
    eventually_some(PATIENCE, "the key can be read", || {
        Some(client.call(&format!("GET {key}"))).filter(|reply| !matches!(reply, Reply::Error(_)))
    })
}

#[test]
fn a_coordinator_and_a_primary_that_die_together_leave_all_or_nothing() {
    let mut servers = Replicated::start(3);
    let survivor = servers.setup().start();
    let mut client = survivor.client();
    for (failpoint, applied) in [
        ("after-prepare:1", None),
        // Counted from the two waits that find out whether there are replicas at all.
        ("before-wait:3", None),
        ("before-wait:4", None),
        ("after-wait:3", None),
        ("after-wait:4", Some(true)),
        ("before-commit:1", Some(true)),
        ("before-commit:2", Some(true)),
        ("after-commit:1", Some(true)),
        ("after-commit:2", Some(true)),
    ] {
        let keys = keys(&servers.shards, 2, failpoint);
        let mut doomed = servers.setup().env("WEFT_FAILPOINT", failpoint).start();
        send_transaction(&mut doomed.client(), increments(&keys));
        doomed.process().must_exit();
        let [primary, replica] = servers.pair(1);
        let dead = primary.address().port();
        primary.process().kill();
        replica.client().must_ok("CLUSTER FAILOVER TAKEOVER");
        let values: Vec<Reply> = keys.iter().rev().map(|key| value(&mut client, key)).collect();
        let one = Reply::from("1");
        assert!(values[0] == values[1] && (values[0] == one || values[0] == Reply::Nil), "{failpoint}: {values:?}");
        assert!(applied.is_none_or(|applied| applied == (values[0] == one)), "{failpoint}: {values:?}");
        servers.rejoin(1, dead);
    }
}

#[test]
fn what_replicas_have_not_got_when_the_primary_dies_is_applied_nowhere() {
    let mut servers = Replicated::start(3);
    let weft = servers.setup().set("transactions.wait_timeout_ms", 4900).set("transactions.patience_ms", 60_000).start();
    let (keys, mut client) = (keys(&servers.shards, 2, "k"), weft.client());
    send_transaction(&mut client, increments(&keys));
    assert_eq!(client.receive(), integers([1, 1]));
    // Prepared on both, and on neither confirmed.
    // Stopped alone, they would find it in their sockets when they go on.
    [0, 1].into_iter().for_each(|index| servers.replicas[index].process().pause());
    servers.shards.servers()[1].client().must_int("CLIENT KILL TYPE replica", 1);
    send_transaction(&mut client, increments(&keys));
    eventually(PATIENCE, "both are prepared", || left(&servers.shards, &[]).iter().filter(|(_, kind)| *kind == 'x').count() == 2);
    servers.shards.server(1).process().kill();
    [0, 1].into_iter().for_each(|index| servers.replicas[index].process().resume());
    servers.replicas[1].client().must_ok("CLUSTER FAILOVER TAKEOVER");
    // Tried again, it would have to wait for a replica of the new primary, which has none; or it does not find that one in time.
    let reply = client.receive();
    let nothing_applied = |text: &String| text.starts_with("NOREPLICAS ") || text.starts_with("UNAVAILABLE ");
    assert!(matches!(&reply, Reply::Error(text) if nothing_applied(text)), "{reply:?}");
    keys.iter().for_each(|key| assert_eq!(value(&mut client, key), Reply::from("1")));
}

#[test]
fn a_clients_own_wait_counts_no_replica_of_a_primary_that_may_have_missed_its_writes() {
    let shards = Shards::start(Mode::Cluster, Flavor::Redis, 3);
    let replicas = [0, 1].map(|_| shards.replica_of(1, Flavor::Redis));
    let (weft, mut shards) = (setup(&shards).start(), shards);
    let (mut client, mut other) = (weft.client(), weft.client());
    let key = shards.key_on(1, "k");
    // One shard has two replicas, the others none: what counts is only seen where all have some.
    let others = [0, 2].map(|index| shards.replica_of(index, Flavor::Redis));
    eventually(PATIENCE, "every shard has a replica", || client.call("WAIT 1 500") == Reply::Integer(1));
    client.must_ok(&format!("SET {key} v"));
    client.must_int("WAIT 1 4000", 1);
    client.must_ok(&format!("SET {key} w"));
    shards.server(1).process().kill();
    replicas[0].client().must_ok("CLUSTER FAILOVER TAKEOVER");
    // Whoever has not written before is told what the new primary knows.
    eventually(PATIENCE, "the other replica follows the new primary", || other.call("WAIT 1 500") == Reply::Integer(1));
    client.must_int("WAIT 1 500", 0);
    client.must_int("WAIT 1 500", 0);
    eventually(PATIENCE, "the key can be written", || client.call(&format!("SET {key} x")) == Reply::ok());
    client.must_int("WAIT 1 4000", 1);
    // Once the cluster knows that it is dead, the old one keeps no command for every shard from working.
    eventually(PATIENCE, "every shard answers", || client.call("DBSIZE") == Reply::Integer(1));
    drop(others);
}

/// What a client of the load knows of its transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Committed,
    Nothing,
    NotApplied,
}

fn told(reply: &Reply) -> Told {
    match reply {
        Reply::Array(_) => Told::Committed,
        Reply::Error(text) if text.starts_with("TXNPENDING") => Told::Committed,
        Reply::Error(text) if ["TXNUNCONFIRMED", "TXNUNKNOWN", "UNKNOWN"].iter().any(|code| text.starts_with(code)) => Told::Nothing,
        Reply::Error(_) => Told::NotApplied,
        other => panic!("{other:?}"),
    }
}

/// Appends to a list on each of two shards in one transaction, again and again, until `stop`; what was told of each. `keys` are on three
/// shards.
fn load(weft: &Weft, keys: &[String], number: usize, stop: &AtomicBool, arrays: &AtomicUsize) -> Vec<(String, [String; 2], Told)> {
    let mut client = weft.client();
    let mut all = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let id = format!("{number}-{}", all.len());
        let keys = [[0, 1], [1, 2], [2, 0]][all.len() % 3].map(|shard: usize| keys[shard].clone());
        send_transaction(&mut client, keys.iter().map(|key| format!("RPUSH {key} {id}")));
        let reply = client.receive();
        arrays.fetch_add(usize::from(matches!(reply, Reply::Array(_))), Ordering::Relaxed);
        all.push((id, keys, told(&reply)));
    }
    all
}

#[test]
fn a_failover_under_load_loses_nothing_that_was_told_and_tears_nothing() {
    let mut servers = Replicated::start(3);
    let nodes = |servers: &Replicated| servers.shards.servers().iter().chain(&servers.replicas).map(Server::address).collect::<Vec<_>>();
    nodes(&servers).into_iter().for_each(|node| Client::connect(node).must_ok("CONFIG SET cluster-node-timeout 1500"));
    let wefts = [(); 2].map(|()| servers.setup().set("transactions.wait_timeout_ms", 400).start());
    let (stop, arrays) = (AtomicBool::new(false), AtomicUsize::new(0));
    let lists: Vec<_> = (0..6).map(|number| keys(&servers.shards, 3, &format!("list{number}-"))).collect();
    let (all, new_primary) = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..6)
            .map(|number| {
                let (weft, lists, stop, arrays) = (&wefts[number % 2], &lists[number], &stop, &arrays);
                scope.spawn(move || load(weft, lists, number, stop, arrays))
            })
            .collect();
        let more = |count: usize| {
            let goal = arrays.load(Ordering::Relaxed) + count;
            eventually(PATIENCE, "transactions go on", || arrays.load(Ordering::Relaxed) >= goal);
        };
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            more(200);
            let [primary, replica] = servers.pair(1);
            let dead = primary.address().port();
            primary.process().kill();
            eventually(PATIENCE, "the replica is elected", || is_primary(replica));
            let address = replica.address();
            // Shards that have their replicas go on; the others when theirs is back.
            more(20);
            servers.rejoin(1, dead);
            more(200);
            address
        }));
        stop.store(true, Ordering::Relaxed);
        let all: Vec<_> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        (all, ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });

    let mut reader = wefts[0].client();
    let mut found: HashMap<String, HashMap<String, usize>> = HashMap::new();
    for key in all.iter().flat_map(|(_, keys, _)| keys) {
        if !found.contains_key(key) {
            let items =
                eventually_some(PATIENCE, "the list can be read", || reader.call(&format!("LRANGE {key} 0 -1")).items().map(<[_]>::to_vec));
            let counts = found.entry(key.clone()).or_default();
            items.iter().filter_map(Reply::text).for_each(|id| *counts.entry(id).or_default() += 1);
        }
    }
    let mut tally: HashMap<String, usize> = HashMap::new();
    for (id, keys, told) in &all {
        let counts = keys.each_ref().map(|key| found[key].get(id).copied().unwrap_or_default());
        let expected: &[[usize; 2]] = match told {
            Told::Committed => &[[1, 1]],
            Told::Nothing => &[[0, 0], [1, 1]],
            Told::NotApplied => &[[0, 0]],
        };
        assert!(expected.contains(&counts), "{id} on {keys:?} was told {told:?} and is there {counts:?} times");
        *tally.entry(format!("{told:?}")).or_default() += 1;
    }
    eprintln!("{tally:?}");
    assert!(Client::connect(new_primary).call("DBSIZE") != Reply::Integer(0));
    let internal: Vec<_> =
        nodes(&servers).into_iter().flat_map(|node| Client::connect(node).call("KEYS __weft:*").items().unwrap().to_vec()).collect();
    assert!(internal.iter().filter_map(Reply::text).all(|name| kind(&name) == 't'), "{internal:?}");
}
