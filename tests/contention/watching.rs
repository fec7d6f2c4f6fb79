//! Clients that watch, read and write the same keys: they go one after another instead of breaking each other, and whoever does not
//! get on with it is overtaken.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use super::{PATIENT, exec, increments, must_have_no_locks, number, waits};
use crate::support::{Client, Flavor, Mode, PATIENCE, Reply, Shards, Weft, eventually};

/// Watches `keys`, reads them and writes each one more than it was, until nothing has come in between; how often something had.
fn increment_watching(client: &mut Client, keys: &[String]) -> usize {
    for broken in 0.. {
        client.must_ok(&format!("WATCH {}", keys.join(" ")));
        let writes: Vec<String> = keys
            .iter()
            .map(|key| {
                let value = client.call(&format!("GET {key}")).text().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
                format!("SET {key} {}", value + 1)
            })
            .collect();
        match exec(client, &writes) {
            Reply::NilArray => {}
            reply => {
                assert_eq!(reply, Reply::Array(vec![Reply::ok(); keys.len()]));
                return broken;
            }
        }
    }
    unreachable!("the loop has no other end")
}

/// Each of so many clients increments `keys` so often; how often they were broken altogether.
fn increment_together(wefts: &[Weft], keys: &[String], clients: usize, rounds: usize) -> usize {
    let (start, broken) = (Instant::now(), AtomicUsize::new(0));
    thread::scope(|scope| {
        for weft in wefts.iter().cycle().take(clients) {
            let broken = &broken;
            scope.spawn(move || {
                let mut client = weft.client();
                for _ in 0..rounds {
                    broken.fetch_add(increment_watching(&mut client, keys), Ordering::Relaxed);
                }
            });
        }
    });
    let broken = broken.into_inner();
    println!("{} increments in {:?}, {broken} were broken", clients * rounds, start.elapsed());
    let mut client = wefts[0].client();
    keys.iter().for_each(|key| client.must_bulk(&format!("GET {key}"), &(clients * rounds).to_string()));
    broken
}

#[test]
fn watching_loops_of_32_clients_on_two_proxies_lose_nothing_and_everybody_gets_through() {
    const CLIENTS: usize = 32;
    const ROUNDS: usize = 10;
    for mode in Mode::ALL {
        let shards = Shards::start(mode, Flavor::Redis, 2);
        let wefts = [Weft::start(&shards), Weft::start(&shards)];
        let keys = [0, 1].map(|shard| shards.key_on(shard, "hot"));
        let broken = increment_together(&wefts, &keys, CLIENTS, ROUNDS);
        // Two compete at a time; without lines nearly everybody breaks nearly everybody else, dozens of times for each success.
        assert!(broken < 5 * CLIENTS * ROUNDS, "{broken} were broken");
        must_have_no_locks(&shards);
    }
}

#[test]
fn watching_loops_of_one_proxy_go_one_at_a_time_whether_over_one_shard_or_several() {
    const CLIENTS: usize = 16;
    const ROUNDS: usize = 10;
    let shards = Shards::start(Mode::Static, Flavor::Redis, 2);
    let wefts = [Weft::setup(&shards).set("transactions.watch_turn_ms", 10_000).start()];
    for keys in [vec![shards.key_on(0, "alone")], [0, 1].map(|shard| shards.key_on(shard, "both")).to_vec()] {
        let broken = increment_together(&wefts, &keys, CLIENTS, ROUNDS);
        // The first round teaches who meets whom.
        assert!(broken <= 3 * CLIENTS, "{broken} were broken");
    }
}

#[test]
fn computing_commands_of_16_clients_on_two_proxies_lose_nothing_and_all_get_through() {
    const CLIENTS: usize = 16;
    const ROUNDS: usize = 4;
    let shards = Shards::start(Mode::Static, Flavor::Redis, 2);
    let wefts = [Weft::start(&shards), Weft::start(&shards)];
    let all = shards.key_on(0, "all");
    let sizes: Vec<Reply> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|index| {
                let (weft, all, own) = (&wefts[index % 2], &all, shards.key_on(1, &format!("own{index}:")));
                scope.spawn(move || {
                    let mut client = weft.client();
                    let mut add = |round: usize| {
                        client.must_int(&format!("SADD {own} {index}:{round}"), 1);
                        client.call(&format!("SUNIONSTORE {all} {all} {own}"))
                    };
                    (0..ROUNDS).map(&mut add).collect::<Vec<_>>()
                })
            })
            .collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    let expected: BTreeSet<i64> = (1..=(CLIENTS * ROUNDS) as i64).collect();
    assert_eq!(sizes.iter().map(number).collect::<BTreeSet<_>>(), expected, "each adds one element to what the one before has left");
    must_have_no_locks(&shards);
}

/// Shards and a weft whose clients wait for each other for as long as a test lasts.
fn patient() -> (Shards, Weft) {
    let shards = Shards::start(Mode::Static, Flavor::Redis, 2);
    let setup = PATIENT.iter().fold(Weft::setup(&shards), |setup, (key, value)| setup.set(key, value));
    let weft = setup.set("transactions.watch_turn_ms", 60_000).start();
    (shards, weft)
}

/// A client that was broken over `key`, and has its turn to watch it.
#[track_caller]
fn must_have_its_turn(weft: &Weft, key: &str) -> Client {
    let mut client = weft.client();
    client.must_ok(&format!("WATCH {key}"));
    weft.client().call(&format!("INCR {key}"));
    assert_eq!(exec(&mut client, &[format!("INCR {key}")]), Reply::NilArray);
    client.must_ok(&format!("WATCH {key}"));
    client
}

/// A client that waits for its turn to watch `keys`.
#[track_caller]
fn must_wait(weft: &Weft, keys: &str) -> Client {
    let mut looker = weft.client();
    let before = waits(&mut looker);
    let mut client = weft.client();
    client.send(&format!("WATCH {keys}"));
    eventually(PATIENCE, "the client waits", || waits(&mut looker) > before);
    client
}

#[track_caller]
fn must_get_on(client: &mut Client, key: &str) {
    assert_eq!(client.receive(), Reply::ok());
    assert_eq!(exec(client, &[format!("SET {key} x")]), Reply::Array(vec![Reply::ok()]));
}

#[test]
fn a_turn_ends_with_the_watch() {
    let (shards, weft) = patient();
    let key = shards.key_on(0, "k");
    let ends: &[(&str, &[&str])] = &[
        ("UNWATCH", &["UNWATCH"]),
        ("DISCARD", &["MULTI", "DISCARD"]),
        ("EXEC", &["MULTI", "EXEC"]),
        ("a refused EXEC", &["MULTI", "NOSUCH", "EXEC"]),
        ("RESET", &["RESET"]),
        ("QUIT", &["QUIT"]),
        ("a disconnect", &[]),
    ];
    for (what, commands) in ends {
        println!("{what}");
        weft.client().call(&format!("SET {key} 0"));
        let mut holder = must_have_its_turn(&weft, &key);
        let mut waiter = must_wait(&weft, &key);
        commands.iter().for_each(|command| drop(holder.call(*command)));
        // All but the last leave the connection as it was.
        let _kept = (!commands.is_empty()).then_some(holder);
        must_get_on(&mut waiter, &key);
    }
}

#[test]
fn a_turn_ends_when_its_client_is_killed() {
    let (shards, weft) = patient();
    let key = shards.key_on(0, "k");
    let holder = must_have_its_turn(&weft, &key);
    let mut waiter = must_wait(&weft, &key);
    weft.client().must_int(&format!("CLIENT KILL ADDR {}", holder.local_address()), 1);
    must_get_on(&mut waiter, &key);
}

#[test]
fn who_disconnects_in_line_is_passed_over() {
    let (shards, weft) = patient();
    let key = shards.key_on(0, "k");
    let mut holder = must_have_its_turn(&weft, &key);
    drop([must_wait(&weft, &key), must_wait(&weft, &key)]);
    let mut stays = must_wait(&weft, &key);
    holder.must_ok("UNWATCH");
    must_get_on(&mut stays, &key);
    // Nobody is left in the line: whoever comes finds none.
    let before = waits(&mut weft.client());
    eventually(PATIENCE, "the line is gone", || {
        let mut late = weft.client();
        late.must_ok(&format!("WATCH {key}"));
        exec(&mut late, &[format!("SET {key} y")]) != Reply::NilArray
    });
    assert_eq!(waits(&mut weft.client()), before);
}

#[test]
fn who_sleeps_on_a_watch_delays_nobody_for_longer_than_a_turn_and_still_watches() {
    let shards = Shards::start(Mode::Static, Flavor::Redis, 2);
    let weft = Weft::start(&shards);
    let keys = [0, 1].map(|shard| shards.key_on(shard, "k"));
    let mut sleepers = keys.each_ref().map(|key| must_have_its_turn(&weft, key));
    let mut other = weft.client();
    other.must_ok(&format!("WATCH {}", keys.join(" ")));
    let written = exec(&mut other, &keys.each_ref().map(|key| format!("SET {key} 5")));
    assert_eq!(written, Reply::Array(vec![Reply::ok(); 2]));
    for (sleeper, key) in sleepers.iter_mut().zip(&keys) {
        assert_eq!(exec(sleeper, &increments(&[key])), Reply::NilArray, "its key has changed while it slept");
        sleeper.must_bulk(&format!("GET {key}"), "5");
    }
}

#[test]
fn who_has_its_turn_does_not_wait_for_another() {
    let (shards, weft) = patient();
    let [a, b] = [0, 1].map(|shard| shards.key_on(shard, "k"));
    let (mut one, mut other) = (must_have_its_turn(&weft, &a), must_have_its_turn(&weft, &b));
    one.must_ok(&format!("WATCH {b}"));
    other.must_ok(&format!("WATCH {a}"));
    assert_eq!(exec(&mut one, &increments(&[&a, &b])), Reply::array([2, 2]));
    assert_eq!(exec(&mut other, &increments(&[&a, &b])), Reply::NilArray);
}

#[test]
fn who_only_reads_what_it_watches_does_not_wait_for_others_who_do() {
    let (shards, weft) = patient();
    let [config, own] = [0, 1].map(|shard| shards.key_on(shard, "k"));
    let mut admin = must_have_its_turn(&weft, &config);
    // They came before weft knew that they do not write it.
    let mut readers = [must_wait(&weft, &config), must_wait(&weft, &config)];
    admin.must_ok("UNWATCH");
    readers.iter_mut().for_each(|reader| assert_eq!(reader.receive(), Reply::ok()));
    for reader in &mut readers {
        assert_eq!(exec(reader, &[format!("INCR {own}")]).items().map(<[_]>::len), Some(1));
    }
}

#[test]
fn without_turns_nobody_waits() {
    let shards = Shards::start(Mode::Static, Flavor::Redis, 2);
    let weft = Weft::setup(&shards).set("transactions.watch_turn_ms", 0).start();
    let key = shards.key_on(0, "k");
    let (_one, _other) = (must_have_its_turn(&weft, &key), must_have_its_turn(&weft, &key));
    assert_eq!(waits(&mut weft.client()), 0);
}
