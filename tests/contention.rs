//! What is promised when many want the same keys: everybody gets through, in one proxy in the order of coming, and nothing is lost.

mod lanes;
mod watching;

use std::collections::BTreeSet;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use weft::txn::Script;

use crate::support::{Client, Fault, FaultProxy, Flavor, Mode, PATIENCE, Reply, Shards, Way, Weft, eventually, eventually_some};

/// A transaction of `commands`, and what EXEC answers.
#[track_caller]
fn exec(client: &mut Client, commands: &[String]) -> Reply {
    send_exec(client, commands);
    client.receive()
}

#[track_caller]
fn send_exec(client: &mut Client, commands: &[String]) {
    client.must_ok("MULTI");
    commands.iter().for_each(|command| client.must_queue(command));
    client.send("EXEC");
}

fn increments(keys: &[&String]) -> Vec<String> {
    keys.iter().map(|key| format!("INCR {key}")).collect()
}

#[track_caller]
fn number(reply: &Reply) -> i64 {
    match reply {
        Reply::Integer(number) => *number,
        other => panic!("{other:?} instead of a number"),
    }
}

/// How often somebody of this proxy has had to wait for a key.
fn waits(client: &mut Client) -> usize {
    counted(client, "lock_waits")
}

/// What INFO of this proxy counts as `name`.
#[track_caller]
fn counted(client: &mut Client, name: &str) -> usize {
    let info = client.call("INFO weft").text().expect("INFO answers text");
    let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.and_then(|count| count.trim().parse().ok()).expect("INFO counts it")
}

fn is_record(name: &str) -> bool {
    name.starts_with("__weft:t:") || name.contains("}t:")
}

#[track_caller]
fn must_have_no_locks(shards: &Shards) {
    // A transaction is told as aborted before its last lock is gone.
    eventually(PATIENCE, "the locks are gone", || shards.internal_keys().iter().all(|(_, name)| is_record(name)));
}

#[test]
fn nobody_of_32_clients_on_two_proxies_starves() {
    const CLIENTS: usize = 32;
    const TRANSACTIONS: usize = 12;
    for mode in Mode::ALL {
        let shards = Shards::start(mode, Flavor::Redis, 2);
        let wefts = [Weft::start(&shards), Weft::start(&shards)];
        let [a, b] = [0, 1].map(|shard| shards.key_on(shard, "hot"));
        let seen: Vec<i64> = thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|index| {
                    let (weft, keys) = (&wefts[index % 2], if index % 4 < 2 { [&a, &b] } else { [&b, &a] });
                    scope.spawn(move || {
                        let mut client = weft.client();
                        let mut one = || {
                            let reply = exec(&mut client, &increments(&keys));
                            let Some([first, second]) = reply.items() else { panic!("{reply:?}") };
                            assert_eq!(first, second, "the keys are written together");
                            number(first)
                        };
                        (0..TRANSACTIONS).map(|_| one()).collect::<Vec<_>>()
                    })
                })
                .collect();
            clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
        });
        let total = (CLIENTS * TRANSACTIONS) as i64;
        assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), (1..=total).collect(), "each transaction counts once");
        for key in [&a, &b] {
            wefts[0].client().must_bulk(&format!("GET {key}"), &total.to_string());
        }
        must_have_no_locks(&shards);
    }
}

/// Increments of three keys that everybody wants, by all ways there are.
#[test]
fn whatever_clients_do_with_hot_keys_each_of_them_gets_through() {
    const ROUNDS: usize = 8;
    let shards = Shards::start(Mode::Static, Flavor::Redis, 3);
    let wefts = [Weft::start(&shards), Weft::start(&shards)];
    let keys = [0, 1, 2].map(|shard| shards.key_on(shard, "hot"));
    keys.iter().for_each(|key| wefts[0].client().must_ok(&format!("SET {key} 0")));
    let [a, b, c] = &keys;
    thread::scope(|scope| {
        for weft in &wefts {
            for pair in [[a, b], [b, c], [c, a], [b, a], [c, b], [a, c]] {
                scope.spawn(move || {
                    let mut client = weft.client();
                    for _ in 0..ROUNDS {
                        assert_eq!(exec(&mut client, &increments(&pair)).items().map(<[_]>::len), Some(2));
                    }
                });
            }
            for key in [a, b, c] {
                scope.spawn(move || {
                    let mut client = weft.client();
                    for _ in 0..ROUNDS {
                        number(&client.call(&format!("INCR {key}")));
                        assert_eq!(exec(&mut client, &increments(&[key, key])).items().map(<[_]>::len), Some(2));
                    }
                });
            }
            scope.spawn(move || {
                let mut client = weft.client();
                for _ in 0..ROUNDS {
                    assert_eq!(client.call(&format!("MGET {a} {b} {c}")).items().map(<[_]>::len), Some(3));
                    let reads = [a, b, c].map(|key| format!("GET {key}"));
                    assert_eq!(exec(&mut client, &reads).items().map(<[_]>::len), Some(3));
                    assert!(client.call(&format!("GET {a}")).text().is_some());
                }
            });
            scope.spawn(move || {
                let mut client = weft.client();
                for _ in 0..ROUNDS {
                    eventually_some(PATIENCE, "a watching loop gets through", || {
                        client.must_ok(&format!("WATCH {a} {b}"));
                        let values = [a, b].map(|key| client.call(&format!("GET {key}")).text()?.parse::<i64>().ok());
                        let [Some(a_value), Some(b_value)] = values else { panic!("{values:?}") };
                        let reply = exec(&mut client, &[format!("SET {a} {}", a_value + 1), format!("SET {b} {}", b_value + 1)]);
                        (reply != Reply::NilArray).then(|| assert_eq!(reply, Reply::Array(vec![Reply::ok(), Reply::ok()])))
                    });
                }
            });
        }
    });
    // For each proxy and round: four pairs, three increments of its own, and what watches writes two of the keys.
    let total = |watched: usize| (2 * ROUNDS * (4 + 3 + watched)).to_string();
    for (key, watched) in [(a, 1), (b, 1), (c, 0)] {
        wefts[1].client().must_bulk(&format!("GET {key}"), &total(watched));
    }
    must_have_no_locks(&shards);
}

/// A transaction that has incremented two keys of two shards, as far as it can tell: its commits do not reach them.
struct Held {
    keys: [String; 2],
    proxies: Vec<FaultProxy>,
    owner: Client,
    weft: Weft,
    shards: Rc<Shards>,
}

impl Held {
    fn start(settings: &[(&str, u64)]) -> Self {
        Self::over(&Rc::new(Shards::start(Mode::Static, Flavor::Redis, 2)), "k", settings)
    }

    /// Before `shards`, on keys that begin with `prefix`.
    fn over(shards: &Rc<Shards>, prefix: &str, settings: &[(&str, u64)]) -> Self {
        let keys = [0, 1].map(|shard| shards.key_on(shard, prefix));
        let proxies: Vec<FaultProxy> = shards.servers().iter().map(|server| FaultProxy::start(server.address())).collect();
        let mut setup = Weft::setup(shards);
        for (server, proxy) in shards.servers().iter().zip(&proxies) {
            setup = setup.through(proxy, server);
        }
        let weft = settings.iter().fold(setup, |setup, (key, value)| setup.set(key, value)).start();
        let mut owner = weft.client();
        proxies.iter().for_each(|proxy| proxy.set(Way::Requests, Script::Commit.sha1(), Fault::Hold));
        send_exec(&mut owner, &increments(&[&keys[0], &keys[1]]));
        proxies.iter().for_each(FaultProxy::must_spring);
        Self { keys, proxies, owner, weft, shards: Rc::clone(shards) }
    }

    /// A client whose transaction of `commands` waits for its turn.
    fn waiter(&self, commands: &[String]) -> Client {
        let mut looker = self.weft.client();
        let before = waits(&mut looker);
        let mut client = self.weft.client();
        send_exec(&mut client, commands);
        eventually(PATIENCE, "the transaction waits", || waits(&mut looker) > before);
        client
    }

    fn increments(&self) -> Vec<String> {
        increments(&[&self.keys[0], &self.keys[1]])
    }

    fn release(&mut self) {
        self.proxies.iter().for_each(FaultProxy::release);
        assert_eq!(self.owner.receive(), Reply::array([1, 1]));
    }
}

/// Nobody gives up the keys because it takes long.
const PATIENT: &[(&str, u64)] = &[("transactions.lease_ms", 60_000), ("transactions.lock_wait_timeout_ms", 30_000)];

#[test]
fn who_waits_in_one_proxy_is_served_in_the_order_of_coming() {
    let mut held = Held::start(PATIENT);
    let list = held.shards.key_on(0, "list");
    // Too large for company, so each goes by itself.
    let large = "x".repeat(8 * 1024);
    let waiters: Vec<Client> = (0..8)
        .map(|index| {
            let mut commands = held.increments();
            commands.extend([format!("RPUSH {list} {index}"), format!("SET {} {large}", held.shards.key_on(1, "own"))]);
            held.waiter(&commands)
        })
        .collect();
    held.release();
    for (mut waiter, turn) in waiters.into_iter().zip(2..) {
        assert_eq!(waiter.receive(), Reply::Array(vec![turn.into(), turn.into(), (turn - 1).into(), Reply::ok()]));
    }
    let order: Vec<String> = (0..8).map(|index| index.to_string()).collect();
    held.weft.client().must_reply(&format!("LRANGE {list} 0 -1"), Reply::array(order.iter().map(String::as_str)));
    must_have_no_locks(&held.shards);
}

#[test]
fn those_who_wait_for_the_same_key_go_together_and_get_their_own_replies() {
    let mut held = Held::start(PATIENT);
    let mut commands = held.increments();
    // What fails, fails for itself.
    commands.push(format!("LPUSH {} x", held.keys[1]));
    commands.push(format!("GET {}", held.keys[0]));
    let own: Vec<String> = (0..8).map(|index| held.shards.key_on(index % 2, &format!("own{index}:"))).collect();
    let all = own.iter().map(|own| [&commands[..], &[format!("SET {own} x")]].concat());
    let mut waiters: Vec<Client> = all.map(|commands| held.waiter(&commands)).collect();
    held.release();
    let mut turns = BTreeSet::new();
    for waiter in &mut waiters {
        let reply = waiter.receive();
        let Some([first, second, Reply::Error(wrong), value, Reply::Simple(_)]) = reply.items() else { panic!("{reply:?}") };
        assert!(wrong.starts_with("WRONGTYPE"), "{wrong}");
        assert_eq!(first, second);
        assert_eq!(value.text(), Some(number(first).to_string()), "nobody comes between the commands of one");
        turns.insert(number(first));
    }
    assert_eq!(turns, (2..10).collect());
    // The owner's, and one for each of the two workers.
    let records = held.shards.internal_keys().into_iter().filter(|(shard, name)| *shard == 0 && is_record(name)).count();
    assert!(records <= 3, "{records} transactions");
    must_have_no_locks(&held.shards);
}

#[test]
fn a_waiter_that_disconnects_holds_nobody_up_and_what_it_sent_is_done() {
    let mut held = Held::start(PATIENT);
    let alone = |index: usize| {
        let mut commands = held.increments();
        commands.push(format!("SET {} x", held.shards.key_on(1, &format!("own{index}"))));
        commands
    };
    let gone = [held.waiter(&alone(0)), held.waiter(&held.increments()), held.waiter(&held.increments())];
    let mut stays = [held.waiter(&alone(1)), held.waiter(&held.increments())];
    drop(gone);
    held.release();
    for waiter in &mut stays {
        let reply = waiter.receive();
        let Some([first, second, ..]) = reply.items() else { panic!("{reply:?}") };
        assert_eq!(first, second);
    }
    // As Redis does with an EXEC that it has received.
    let mut client = held.weft.client();
    for key in &held.keys {
        eventually(PATIENCE, "all six are done", || client.call(&format!("GET {key}")) == "6".into());
    }
    must_have_no_locks(&held.shards);
}

#[test]
fn who_has_waited_too_long_leaves_with_nothing_applied() {
    let mut held = Held::start(&[("transactions.lease_ms", 60_000), ("transactions.lock_wait_timeout_ms", 300)]);
    let mut watching = held.increments();
    watching.push(format!("SET {} x", held.shards.key_on(1, "own")));
    let mut waiters = [held.waiter(&held.increments()), held.waiter(&held.increments()), held.waiter(&watching)];
    for waiter in &mut waiters {
        let reply = waiter.receive();
        assert!(matches!(&reply, Reply::Error(text) if text.starts_with("LOCKWAIT")), "{reply:?}");
    }
    held.release();
    assert_eq!(exec(&mut held.weft.client(), &held.increments()), Reply::array([2, 2]), "the owner's and this");
    must_have_no_locks(&held.shards);
}

#[test]
fn who_hangs_blocks_nobody_of_its_proxy_beyond_its_lease() {
    let mut held = Held::start(&[("transactions.lease_ms", 300), ("transactions.lock_wait_timeout_ms", 10_000)]);
    // The connections of one worker are stopped; clients of the other get through.
    let mut waiters: Vec<Client> = (0..16).map(|_| held.weft.client()).collect();
    waiters.iter_mut().for_each(|waiter| send_exec(waiter, &held.increments()));
    let first = eventually_some(PATIENCE, "somebody gets through while the owner hangs", || {
        waiters.iter_mut().find_map(|waiter| {
            waiter.set_patience(Duration::from_millis(10));
            waiter.try_receive().ok()
        })
    });
    assert!(first.items().is_some_and(|items| items.iter().all(|item| number(item) >= 2)), "{first:?}");
    held.proxies.iter().for_each(FaultProxy::release);
    assert_eq!(held.owner.receive(), Reply::array([1, 1]), "the owner learns what became of it");
}
