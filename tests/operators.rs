//! What operators can see and do: WEFT TXN, and the counters that tell what happened.

use std::time::{Duration, Instant};

use crate::support::{Client, Flavor, Mode, PATIENCE, Reply, Setup, Shards, Weft, eventually};

/// A lease that no test outlives, so that nobody resolves anything by itself.
fn setup(shards: &Shards) -> Setup {
    Weft::setup(shards).set("transactions.lease_ms", 60_000).set("transactions.lock_wait_timeout_ms", 2_000)
}

/// Two shards, a key on each, and what a weft that died at `failpoint` left of a transaction that wrote the first and read the second.
fn left_at(mode: Mode, failpoint: &str) -> (Shards, Weft, [String; 2]) {
    let shards = Shards::start(mode, Flavor::Redis, 2);
    let keys = [shards.key_on(0, "k"), shards.key_on(1, "k")];
    leave(&shards, &keys, failpoint);
    let weft = setup(&shards).start();
    (shards, weft, keys)
}

fn leave(shards: &Shards, keys: &[String; 2], failpoint: &str) {
    let mut doomed = setup(shards).env("WEFT_FAILPOINT", failpoint).start();
    let mut client = doomed.client();
    client.must_ok("MULTI");
    client.must_queue(&format!("APPEND {} secret", keys[0]));
    client.must_queue(&format!("GET {}", keys[1]));
    client.send("EXEC");
    doomed.process().must_exit();
}

/// The value of `name` in a map, which RESP2 flattens.
#[track_caller]
fn field(reply: &Reply, name: &str) -> Reply {
    let found = match reply {
        Reply::Map(pairs) => pairs.iter().find(|(key, _)| key.text().as_deref() == Some(name)).map(|(_, value)| value.clone()),
        Reply::Array(flat) => flat.chunks(2).find(|pair| pair[0].text().as_deref() == Some(name)).map(|pair| pair[1].clone()),
        _ => None,
    };
    found.unwrap_or_else(|| panic!("no {name} in {reply:?}"))
}

/// The values of a map whatever their names, in their order.
fn values(reply: &Reply) -> Vec<String> {
    match reply {
        Reply::Map(pairs) => pairs.iter().filter_map(|(_, value)| value.text()).collect(),
        other => other.items().unwrap().chunks(2).filter_map(|pair| pair[1].text()).collect(),
    }
}

#[track_caller]
fn transactions(client: &mut Client, options: &str) -> Vec<Reply> {
    field(&client.call(&format!("WEFT TXN LIST {options}")), "transactions").items().unwrap().to_vec()
}

/// The one transaction that is there.
#[track_caller]
fn the_tid(client: &mut Client) -> String {
    let listed = transactions(client, "");
    assert_eq!(listed.len(), 1, "{listed:?}");
    field(&listed[0], "tid").text().unwrap()
}

fn info(client: &mut Client, name: &str) -> u64 {
    let text = client.call("INFO weft").text().unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or_else(|| panic!("no {name} in {text}"));
    value.trim().parse().unwrap()
}

#[test]
fn what_a_dead_proxy_left_is_listed_shown_and_resolved() {
    for mode in Mode::ALL {
        let (shards, weft, keys) = left_at(mode, "before-commit");
        for mut client in [weft.client(), weft.client_resp3()] {
            let overview = client.call("WEFT TXN LIST");
            assert_eq!(field(&overview, "complete"), Reply::Integer(1));
            let listed = field(&overview, "transactions").items().unwrap()[0].clone();
            assert_eq!(values(&field(&listed, "participants")), ["prepared", "prepared"]);
            assert_eq!(field(&listed, "decision").text().unwrap(), "committed");
            assert!(matches!(field(&listed, "lease-left-ms"), Reply::Integer(1..=60_000)), "{listed:?}");
            let tid = field(&listed, "tid").text().unwrap();
            assert!(tid.starts_with(&format!("{}-", field(&listed, "proxy").text().unwrap())));

            let shown = client.call(&format!("WEFT TXN SHOW {tid}"));
            let standings = field(&shown, "participants").items().unwrap().to_vec();
            let of = |key: &String| {
                let held = |standing: &&Reply| field(standing, "keys").items().unwrap()[0].items().unwrap()[0].text().as_ref() == Some(key);
                standings.iter().find(held).unwrap().clone()
            };
            for (key, mode, command, server) in [(&keys[0], "exclusive", "APPEND", 0), (&keys[1], "shared", "GET", 1)] {
                let standing = of(key);
                assert_eq!(field(&standing, "keys"), Reply::Array(vec![Reply::array([Reply::from(key.as_str()), Reply::from(mode)])]));
                assert_eq!(field(&standing, "commands"), Reply::Array(vec![Reply::from(command)]));
                assert_eq!(field(&standing, "state"), Reply::from("prepared"));
                assert_eq!(field(&standing, "address").text().unwrap(), shards.servers()[server].address().to_string());
                let run_id = shards.servers()[server].client().call("INFO server").text().unwrap();
                assert!(run_id.contains(&field(&standing, "run-id").text().unwrap()));
            }
            assert!(!format!("{shown:?}").contains("secret"));
        }
        let mut client = weft.client();
        let tid = the_tid(&mut client);
        client.must_reply(&format!("WEFT TXN RESOLVE {tid}"), Reply::Simple("committed".to_owned()));
        client.must_bulk(&format!("GET {}", keys[0]), "secret");
        let shown = client.call(&format!("WEFT TXN SHOW {tid}"));
        let states: Vec<_> = field(&shown, "participants").items().unwrap().iter().map(|at| field(at, "state").text().unwrap()).collect();
        assert_eq!(states, ["committed", "committed"]);
        assert_eq!(info(&mut client, "txn_recovered_committed"), 1);
        assert_eq!(info(&mut client, "txn_in_doubt"), 0);
    }
}

#[test]
fn what_was_prepared_at_one_participant_only_is_aborted() {
    for mode in Mode::ALL {
        let (shards, weft, keys) = left_at(mode, "after-prepare:2");
        // As if the other prepare had never come.
        let records = shards.internal_keys().into_iter().filter(|(shard, name)| *shard == 1 && !name.contains("x:"));
        records.for_each(|(_, name)| shards.servers()[1].client().must_int(&["DEL", &name], 1));
        let mut client = weft.client();
        let listed = transactions(&mut client, "COUNT 5 MINAGE 1");
        assert_eq!(field(&listed[0], "decision"), Reply::from("open"));
        assert!(values(&field(&listed[0], "participants")).contains(&"gone".to_owned()), "{listed:?}");
        let tid = the_tid(&mut client);
        client.must_reply(&format!("WEFT TXN RESOLVE {tid}"), Reply::Simple("aborted".to_owned()));
        client.must_nil(&format!("GET {}", keys[0]));
        assert_eq!(info(&mut client, "txn_recovered_aborted"), 1);
        // The fence left a tombstone.
        client.must_reply(&format!("WEFT TXN RESOLVE {tid}"), Reply::Simple("aborted".to_owned()));
        let shown = client.call(&format!("WEFT TXN SHOW {tid}"));
        assert_eq!(field(&shown, "decision"), Reply::from("aborted"));
    }
}

#[test]
fn a_shard_that_is_away_is_told_as_such() {
    let (mut shards, weft, _) = left_at(Mode::Static, "before-commit");
    let mut client = weft.client();
    let tid = the_tid(&mut client);
    shards.server(1).process().kill();
    let overview = client.call("WEFT TXN LIST");
    assert_eq!(field(&overview, "complete"), Reply::Integer(0));
    let listed = &field(&overview, "transactions").items().unwrap()[0].clone();
    assert_eq!(values(&field(listed, "participants")), ["prepared", "unreachable"]);
    assert_eq!(field(listed, "decision"), Reply::from("open"));
    client.must_reply(&format!("WEFT TXN RESOLVE {tid}"), Reply::Simple("unresolved".to_owned()));
}

#[test]
fn a_list_is_bounded_and_begins_with_the_oldest() {
    let shards = Shards::start(Mode::Static, Flavor::Redis, 2);
    for turn in 0..3 {
        leave(&shards, &[shards.key_on(0, &format!("{turn}-")), shards.key_on(1, &format!("{turn}-"))], "before-commit");
    }
    let weft = setup(&shards).start();
    let mut client = weft.client();
    let tids = |client: &mut Client, options| -> Vec<String> {
        transactions(client, options).iter().map(|listed| field(listed, "tid").text().unwrap()).collect()
    };
    let all = tids(&mut client, "");
    assert_eq!(all.len(), 3);
    let start = |tid: &String| u64::from_str_radix(tid.rsplit('-').next().unwrap(), 16).unwrap();
    assert!(all.is_sorted_by_key(start));
    assert_eq!(tids(&mut client, "count 2"), all[..2]);
    assert_eq!(field(&client.call("WEFT TXN LIST COUNT 2"), "complete"), Reply::Integer(0));
    assert_eq!(tids(&mut client, "MINAGE 3600000"), [""; 0]);
}

#[test]
fn help_and_errors_are_in_the_words_of_redis() {
    let shards = Shards::start(Mode::Static, Flavor::Redis, 2);
    let weft = Weft::start(&shards);
    let mut client = weft.client();
    for (command, first) in [("WEFT HELP", "WEFT <subcommand> "), ("weft txn help", "WEFT TXN <subcommand> ")] {
        let lines = client.call(command);
        assert!(matches!(&lines.items().unwrap()[0], Reply::Simple(line) if line.starts_with(first)), "{lines:?}");
    }
    for (command, error) in [
        ("WEFT", "ERR wrong number of arguments for 'weft' command"),
        ("WEFT NONSENSE", "ERR unknown subcommand 'NONSENSE'. Try WEFT HELP."),
        ("WEFT TXN", "ERR wrong number of arguments for 'weft|txn' command"),
        ("WEFT TXN NONSENSE", "ERR unknown subcommand 'NONSENSE'. Try WEFT TXN HELP."),
        ("WEFT TXN SHOW", "ERR wrong number of arguments for 'weft|txn|show' command"),
        ("WEFT TXN RESOLVE 1-2-3-4 5", "ERR wrong number of arguments for 'weft|txn|resolve' command"),
        ("WEFT TXN SHOW x", "ERR Invalid transaction ID"),
        ("WEFT TXN LIST COUNT", "ERR syntax error"),
        ("WEFT TXN LIST NONSENSE 1", "ERR syntax error"),
        ("WEFT TXN LIST COUNT x", "ERR value is not an integer or out of range"),
        ("WEFT TXN LIST COUNT 0", "ERR COUNT must be between 1 and 10000"),
    ] {
        client.must_reply(command, Reply::Error(error.to_owned()));
    }
    client.must_nil("WEFT TXN SHOW 1-2-3-4");
    client.must_reply("WEFT TXN RESOLVE 1-2-3-4", Reply::Simple("unknown".to_owned()));
    client.must_ok("MULTI");
    client.must_err("WEFT TXN LIST", "ERR Command not allowed inside a transaction");
    client.must_err("EXEC", "EXECABORT");
}

#[test]
fn errors_are_counted_by_their_codes() {
    let shards = Shards::start(Mode::Static, Flavor::Redis, 2);
    let weft = Weft::start(&shards);
    let mut client = weft.client();
    client.must_int("LPUSH list x", 1);
    client.must_err("GET list", "WRONGTYPE");
    client.must_err("INCR list", "WRONGTYPE");
    client.must_err("NONSENSE", "ERR");
    client.must_err("SET", "ERR");
    client.must_err("EXEC", "ERR");
    let text = client.call("INFO errorstats").text().unwrap();
    assert!(text.contains("errorstat_ERR:count=3\r\n") && text.contains("errorstat_WRONGTYPE:count=2\r\n"), "{text}");
    eventually(PATIENCE, "the sum is there", || client.call("INFO stats").text().unwrap().contains("total_error_replies:5\r\n"));
}

#[test]
fn a_lock_without_a_record_is_taken_away_by_who_meets_it() {
    for mode in Mode::ALL {
        let (shards, _idle, keys) = left_at(mode, "before-commit");
        lose_record(&shards, 0);
        let weft = Weft::setup(&shards).set("transactions.lock_wait_timeout_ms", 10_000).start();
        let mut client = weft.client();
        expire_lock(&shards, &keys[0]);
        // What stood behind the lock is lost, so the write comes first.
        client.must_int(&format!("APPEND {} plain", keys[0]), 5);
        assert_eq!(info(&mut client, "locks_orphaned"), 1);
        // The other participant has nothing to say: it finds a tombstone here, and gives up its part.
        let tid = the_tid(&mut client);
        client.must_reply(&format!("WEFT TXN RESOLVE {tid}"), Reply::Simple("aborted".to_owned()));
        client.must_bulk(&format!("GET {}", keys[0]), "plain");
        client.must_ok(&format!("SET {} x", keys[1]));
    }
}

#[test]
fn a_part_that_was_committed_stays_when_the_record_of_another_is_lost() {
    for mode in Mode::ALL {
        let shards = Shards::start(mode, Flavor::Redis, 2);
        let keys = leave_appends(&shards, 2);
        commit_by_hand(&shards, 1, &keys[1]);
        lose_record(&shards, 0);
        expire_lock(&shards, &keys[0]);
        let weft = Weft::start(&shards);
        let mut client = weft.client();
        client.must_int(&format!("APPEND {} plain", keys[0]), 5);
        assert_eq!(info(&mut client, "locks_orphaned"), 1);
        let tid = the_tid(&mut client);
        client.must_reply(&format!("WEFT TXN RESOLVE {tid}"), Reply::Simple("committed".to_owned()));
        client.must_bulk(&format!("GET {}", keys[0]), "plain");
        client.must_bulk(&format!("GET {}", keys[1]), "txn");
    }
}

#[test]
fn a_lock_without_a_record_that_nobody_meets_is_swept() {
    for mode in Mode::ALL {
        let (shards, _idle, keys) = left_at(mode, "before-commit");
        lose_record(&shards, 0);
        lose_record(&shards, 1);
        assert_eq!(shards.internal_keys().len(), 4, "an x-lock and an s-lock, and what closes the gates of both shards");
        let sweeping = Weft::setup(&shards).set("sweep.interval_ms", 100).set("sweep.prepared_age_ms", 300);
        let weft = sweeping.set("sweep.committed_age_ms", 300).set("sweep.aborted_age_ms", 300).start();
        eventually(PATIENCE, "the shards are clean", || shards.internal_keys().is_empty());
        let mut client = weft.client();
        eventually(PATIENCE, "both are counted", || info(&mut client, "locks_orphaned") == 2);
        weft.client().must_nil(&format!("GET {}", keys[0]));
    }
}

/// The name of the one record on the shard at `index`.
#[track_caller]
fn record_on(shards: &Shards, index: usize) -> String {
    let is_record = |name: &str| name.contains(":t:") || name.contains("}t:");
    let found = shards.internal_keys().into_iter().find(|(shard, name)| *shard == index && is_record(name));
    found.expect("a record").1
}

/// Deletes the record on the shard at `index`, by hand.
#[track_caller]
fn lose_record(shards: &Shards, index: usize) {
    shards.servers()[index].client().must_int(&["DEL", &record_on(shards, index)], 1);
}

/// Lets the lease of the lock on `key` be over.
#[track_caller]
fn expire_lock(shards: &Shards, key: &str) {
    let (mut client, lock) = (shards.servers()[shards.shard_of(key)].client(), shards.lock_of(key));
    let held = client.call(&["GET", &lock]).text().expect("the lock is held");
    client.must_ok(&["SET", &lock, &format!("{} 1", held.split(' ').next().unwrap())]);
}

/// A transaction that appends to a key on each of the first `count` shards, prepared and left.
fn leave_appends(shards: &Shards, count: usize) -> Vec<String> {
    let keys: Vec<String> = (0..count).map(|index| shards.key_on(index, "k")).collect();
    let mut doomed = setup(shards).env("WEFT_FAILPOINT", "before-commit").start();
    let mut client = doomed.client();
    client.must_ok("MULTI");
    keys.iter().for_each(|key| client.must_queue(&format!("APPEND {key} txn")));
    client.send("EXEC");
    doomed.process().must_exit();
    keys
}

/// What commit does on the shard at `index`, as if it had been the only one to arrive.
#[track_caller]
fn commit_by_hand(shards: &Shards, index: usize, key: &str) {
    let mut shard = shards.servers()[index].client();
    shard.must_int(&["HSET", &record_on(shards, index), "state", "committed"], 0);
    shard.must_int(&["DEL", &shards.lock_of(key)], 1);
    shard.must_int(&["APPEND", key, "txn"], 3);
}

#[test]
fn a_dead_shard_does_not_delay_the_release_of_locks_where_the_decision_is_known() {
    let mut shards = Shards::start(Mode::Static, Flavor::Redis, 3);
    let keys = leave_appends(&shards, 3);
    commit_by_hand(&shards, 1, &keys[1]);
    expire_lock(&shards, &keys[0]);
    let weft = Weft::setup(&shards).set("transactions.lock_wait_timeout_ms", 20_000).start();
    shards.server(2).process().pause();
    let mut client = weft.client();
    let start = Instant::now();
    client.must_bulk(&format!("GET {}", keys[0]), "txn");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    shards.server(2).process().resume();
    eventually(PATIENCE, "the third commits too", || shards.internal_keys().iter().all(|(_, name)| *name != shards.lock_of(&keys[2])));
    client.must_bulk(&format!("GET {}", keys[2]), "txn");
}
