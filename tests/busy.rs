//! A script that does not end, as the clients of the same proxy see it.

use crate::support::{Client, Flavor, PATIENCE, Reply, Shards, Weft, eventually};

const ENDLESS: [&str; 2] = ["EVAL", "while true do end"];

/// Runs `test` with a proxy before two shards on one of which an endless script runs, which names `key` if there is one.
fn with_endless_script(key: Option<usize>, test: impl FnOnce(&Shards, &mut Client)) {
    let shards = Shards::fixed(Flavor::Redis, 2);
    let weft = Weft::start(&shards);
    let (mut stuck, mut client) = (weft.client(), weft.client());
    client.must_ok("CONFIG SET busy-reply-threshold 10");
    match key {
        Some(index) => stuck.send(&[ENDLESS[0], ENDLESS[1], "1", &shards.key_on(index, "k")]),
        None => stuck.send(&[ENDLESS[0], ENDLESS[1], "0"]),
    }
    eventually(PATIENCE, "PING tells", || matches!(client.call("PING"), Reply::Error(error) if error.starts_with("BUSY")));
    test(&shards, &mut client);
    client.must_ok("SCRIPT KILL");
    assert!(matches!(stuck.receive(), Reply::Error(error) if error.contains("Script killed by user")));
    client.must_reply("PING", Reply::Simple("PONG".into()));
}

#[test]
fn other_shards_work_on() {
    with_endless_script(Some(1), |shards, client| {
        let (free, taken) = (shards.key_on(0, "k"), shards.key_on(1, "k"));
        client.must_ok(&format!("SET {free} 1"));
        client.must_err(&format!("SET {taken} 1"), "BUSY");
        client.must_ok("MULTI");
        client.must_queue(&format!("INCR {free}"));
        client.must_reply("EXEC", Reply::Array(vec![2.into()]));
    });
}

#[test]
fn what_it_may_touch_is_neither_queued_nor_carried_out() {
    for key in [Some(1), None] {
        with_endless_script(key, |shards, client| {
            let taken = shards.key_on(1, "k");
            client.must_ok("MULTI");
            client.must_err(&format!("INCR {taken}"), "BUSY");
            client.must_err("EXEC", "EXECABORT Transaction discarded because of");
            client.must_err("EXEC", "ERR EXEC without MULTI");
        });
    }
}

#[test]
fn one_over_several_shards_stops_the_one_that_it_runs_on_and_can_be_killed() {
    let shards = Shards::fixed(Flavor::Redis, 2);
    let weft = Weft::start(&shards);
    let (mut stuck, mut client) = (weft.client(), weft.client());
    client.must_ok("CONFIG SET busy-reply-threshold 10");
    let keys = [0, 1].map(|shard| shards.key_on(shard, "k"));
    stuck.send(&[ENDLESS[0], ENDLESS[1], "2", &keys[0], &keys[1]]);
    eventually(PATIENCE, "PING tells", || matches!(client.call("PING"), Reply::Error(error) if error.starts_with("BUSY")));
    let is_busy = |key: &String| matches!(weft.client().call(&format!("SET {key} 1")), Reply::Error(error) if error.starts_with("BUSY"));
    assert_eq!(keys.iter().filter(|key| is_busy(key)).count(), 1);
    client.must_ok("SCRIPT KILL");
    let reply = stuck.receive();
    assert!(matches!(&reply, Reply::Error(error) if error.contains("Script killed by user")), "{reply:?}");
    client.must_reply("PING", Reply::Simple("PONG".into()));
    client.must_ok(&format!("MSET {} 2 {} 2", keys[0], keys[1]));
    assert!(!shards.internal_keys().iter().any(|(_, name)| name.contains("c:")));
}
