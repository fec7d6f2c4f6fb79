//! The whole keyspace through weft: every key of every shard, and none of weft's own.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::support::{Client, Flavor, Mode, PATIENCE, Reply, Shards, Weft, eventually};

fn names(reply: &Reply) -> Vec<String> {
    reply.items().expect("an array of names").iter().map(|name| name.text().expect("a name")).collect()
}

/// Every page of a SCAN with these options.
fn scan(client: &mut Client, options: &str) -> Vec<String> {
    let (mut found, mut cursor) = (Vec::new(), "0".to_owned());
    loop {
        let page = client.call(&format!("SCAN {cursor} {options}"));
        let [next, page] = page.items().expect("a cursor and names") else { panic!("{page:?}") };
        found.extend(names(page));
        cursor = next.text().expect("a cursor");
        assert!(cursor.bytes().all(|byte| byte.is_ascii_digit()), "{cursor}");
        if cursor == "0" {
            return found;
        }
    }
}

fn set(names: impl IntoIterator<Item = String>) -> BTreeSet<String> {
    names.into_iter().collect()
}

#[test]
fn a_scan_returns_every_key_that_stays_while_others_come_and_go() {
    for mode in Mode::ALL {
        let shards = Shards::start(mode, Flavor::Redis, 3);
        let weft = Weft::start(&shards);
        let mut client = weft.client();
        let staying = set((0..500).map(|number| format!("stays{number}")));
        for name in &staying {
            client.must_ok(&format!("SET {name} v"));
        }
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut other = weft.client();
                for number in (0..1_000).cycle().take_while(|_| !done.load(Ordering::Relaxed)) {
                    other.must_ok(&format!("SET comes{number} v"));
                    other.call(&format!("DEL comes{}", (number + 500) % 1_000));
                }
            });
            for _ in 0..5 {
                let found = set(scan(&mut client, "COUNT 7 MATCH stays*"));
                assert_eq!(found, staying);
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}

#[test]
fn a_scan_takes_the_options_of_redis_and_refuses_what_redis_refuses() {
    let shards = Shards::fixed(Flavor::Redis, 3);
    let weft = Weft::start(&shards);
    let mut client = weft.client();
    for number in 0..20 {
        client.must_ok(&format!("SET s{number} v"));
        client.must_int(&format!("RPUSH l{number} v"), 1);
    }
    assert_eq!(set(scan(&mut client, "TYPE list")), set((0..20).map(|number| format!("l{number}"))));
    assert_eq!(set(scan(&mut client, "MATCH s1*")), set([1].into_iter().chain(10..20).map(|number| format!("s{number}"))));
    client.must_err("SCAN x", "ERR invalid cursor");
    client.must_err("SCAN 0 COUNT 0", "ERR syntax error");
    client.must_err("SCAN 0 NONSENSE", "ERR syntax error");
    client.must_reply("SCAN 16383", Reply::Array(vec!["0".into(), Reply::Array(vec![])]));
}

#[test]
fn counting_naming_and_choosing_see_all_shards_and_one_database() {
    for mode in Mode::ALL {
        let shards = Shards::start(mode, Flavor::Valkey, 3);
        let weft = Weft::start(&shards);
        for mut client in [weft.client(), weft.client_resp3()] {
            client.must_int("DBSIZE", 0);
            client.must_nil("RANDOMKEY");
            client.must_reply("KEYS *", Reply::Array(vec![]));
            let keys: BTreeSet<String> = set((0..3).map(|index| shards.key_on(index, "k")));
            for key in &keys {
                client.must_ok(&format!("SET {key} v"));
            }
            client.must_int("DBSIZE", 3);
            assert_eq!(set(names(&client.call("KEYS k*"))), keys);
            let mut chosen = BTreeSet::new();
            eventually(PATIENCE, "RANDOMKEY has named each key", || {
                chosen.insert(client.call("RANDOMKEY").text().expect("a name"));
                chosen == keys
            });
            if mode == Mode::Static {
                client.must_ok("SELECT 1");
                client.must_int("DBSIZE", 0);
                client.must_ok("SET other v");
                client.must_ok("SELECT 0");
                client.must_int("DBSIZE", 3);
                client.must_ok("FLUSHDB");
                client.must_ok("SELECT 1");
                client.must_int("DBSIZE", 1);
            }
            client.must_ok("FLUSHALL ASYNC");
            client.must_int("DBSIZE", 0);
            client.must_ok("FLUSHALL SYNC");
            client.must_err("FLUSHALL NONSENSE", "ERR syntax error");
        }
    }
}

#[test]
fn what_a_dead_proxy_left_behind_is_never_shown() {
    for mode in Mode::ALL {
        let shards = Shards::start(mode, Flavor::Redis, 2);
        let (here, there) = (shards.key_on(0, "k"), shards.key_on(1, "k"));
        let mut dying = Weft::setup(&shards).env("WEFT_FAILPOINT", "after-prepare").start();
        let mut client = dying.client();
        client.must_ok("MULTI");
        client.must_queue(&format!("SET {here} v"));
        client.must_queue(&format!("SET {there} v"));
        client.send("EXEC");
        client.must_be_closed();
        dying.process().must_exit();
        assert!(!shards.internal_keys().is_empty(), "it died holding locks");

        let weft = Weft::start(&shards);
        let mut client = weft.client();
        client.must_ok("SET mine v");
        client.must_int("DBSIZE", 1);
        assert_eq!(names(&client.call("KEYS *")), ["mine"]);
        assert_eq!(scan(&mut client, "COUNT 1000"), ["mine"]);
        for _ in 0..20 {
            client.must_bulk("RANDOMKEY", "mine");
        }
        assert!(!shards.internal_keys().is_empty(), "they were there all the time");
        client.must_err("GET __weft:x:k", "ERR keys that begin with '__weft:'");
    }
}

#[test]
fn a_large_database_is_counted_with_all_shards() {
    let shards = Shards::fixed(Flavor::Redis, 2);
    for server in shards.servers() {
        server.client().must_ok("DEBUG POPULATE 30000");
    }
    let weft = Weft::start(&shards);
    weft.client().must_int("DBSIZE", 60_000);
}

#[test]
fn a_transaction_may_ask_about_all_keys_but_not_drop_them() {
    let shards = Shards::fixed(Flavor::Redis, 2);
    let weft = Weft::start(&shards);
    let mut client = weft.client();
    let key = shards.key_on(1, "k");
    client.must_ok("MULTI");
    client.must_queue(&format!("SET {key} v"));
    client.must_queue("DBSIZE");
    client.must_queue("SCRIPT EXISTS x");
    client.must_reply("EXEC", Reply::Array(vec![Reply::ok(), 1.into(), Reply::Array(vec![0.into()])]));
    client.must_ok("MULTI");
    client.must_queue(&format!("SET {key} w"));
    client.must_err("FLUSHALL", "ERR 'flushall' inside a transaction is refused by weft");
    client.must_err("EXEC", "EXECABORT");
    client.must_bulk(&format!("GET {key}"), "v");
    client.must_err("SWAPDB 0 1", "ERR 'swapdb' is refused by weft");
    let cluster = Shards::start(Mode::Cluster, Flavor::Redis, 3);
    Weft::start(&cluster).client().must_err("SWAPDB 0 1", "ERR SWAPDB is not allowed in cluster mode");
}

#[test]
fn databases_of_a_single_shard_change_places_when_nothing_is_prepared_in_any() {
    let shards = Shards::fixed(Flavor::Redis, 1);
    let weft = Weft::setup(&shards).set("transactions.lock_wait_timeout_ms", 200).set("transactions.lease_ms", 60_000).start();
    let (mut client, mut other) = (weft.client(), weft.client());
    client.must_ok("SET k zero");
    other.must_ok("SELECT 1");
    other.must_ok("SET k one");
    other.must_ok("WATCH k");
    client.must_ok("SWAPDB 0 1");
    client.must_bulk("GET k", "one");
    other.must_bulk("GET k", "zero");
    other.must_ok("MULTI");
    other.must_queue("SET k two");
    other.must_reply("EXEC", Reply::NilArray);
    client.must_err("SWAPDB 0 x", "ERR invalid second DB index");
    client.must_err("SWAPDB 0 16", "ERR DB index is out of range");
    client.must_err("SWAPDB 0 -1", "ERR DB index is out of range");
    client.must_ok("MULTI");
    client.must_err("SWAPDB 0 1", "ERR 'swapdb' inside a transaction is refused by weft");
    client.must_err("EXEC", "EXECABORT");
    // In a database that stays where it is.
    let mut shard = shards.servers()[0].client();
    shard.must_ok("SELECT 5");
    shard.must_int("SADD __weft:g 1-1-1-1", 1);
    client.must_err("SWAPDB 0 1", "LOCKWAIT");
    client.must_bulk("GET k", "one");
    shard.must_int("DEL __weft:g", 1);
    client.must_ok("SWAPDB 1 0");
    client.must_bulk("GET k", "zero");
    // Plain writes go on under the watches that were set before.
    client.must_ok("SET k three");
    other.must_bulk("GET k", "one");
}

#[test]
fn a_shard_that_is_gone_is_an_error_and_not_a_smaller_keyspace() {
    let mut shards = Shards::fixed(Flavor::Redis, 2);
    let weft = Weft::start(&shards);
    let mut client = weft.client();
    client.must_int("DBSIZE", 0);
    shards.server(1).process().kill();
    for command in ["DBSIZE", "KEYS *", "RANDOMKEY", "SCAN 1"] {
        client.must_err(command, "UNAVAILABLE");
    }
    client.must_err("FLUSHALL", "UNAVAILABLE a shard cannot be reached; other shards may have carried the command out");
    client.must_err("SCRIPT LOAD return", "UNAVAILABLE");
}
