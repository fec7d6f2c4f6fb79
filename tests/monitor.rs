//! MONITOR: a client that is shown what all clients do.

use std::time::Duration;

use crate::support::{Client, Flavor, Mode, PATIENCE, Reply, Shards, Weft, eventually};

/// A line without its time, and who it is about: `[0] "GET" "k"` for the client that is asked for, `[0 lua] …` for scripts.
fn shown(monitor: &mut Client, client: &Client) -> String {
    let Reply::Simple(line) = monitor.receive() else { panic!("a line") };
    let (time, rest) = line.split_once(' ').expect("a time");
    let (seconds, micros) = time.split_once('.').expect("a fraction");
    assert!(seconds.parse::<u64>().is_ok() && micros.len() == 6 && micros.parse::<u32>().is_ok(), "{line}");
    rest.replace(&format!(" {}]", client.local_address()), "]")
}

fn watch(weft: &Weft) -> Client {
    let mut monitor = weft.client();
    monitor.must_ok("MONITOR");
    monitor
}

#[test]
fn commands_of_all_clients_are_shown_as_redis_shows_them() {
    for mode in Mode::ALL {
        let shards = Shards::start(mode, Flavor::Redis, 2);
        let weft = Weft::start(&shards);
        // Whichever workers they are served by.
        for _ in 0..4 {
            let (mut monitor, mut client) = (watch(&weft), weft.client());
            client.must_ok(&format!("set {} \"\"", shards.key_on(1, "k")));
            client.must_ok(&[&b"SET"[..], b"k", b"a \"b\" \\ \n\x00\xff"]);
            client.must_err("Auth secret", "ERR AUTH");
            client.must_err("HELLO 2 AUTH user secret", "WRONGPASS");
            client.call("CONFIG GET port");
            client.must_err("NONSENSE", "ERR unknown command");
            client.must_err("GET", "ERR wrong number");
            client.must_err("LPUSH k x", "WRONGTYPE");
            client.must_reply("PING", Reply::Simple("PONG".into()));
            for line in [
                &format!("[0] \"set\" \"{}\" \"\\\"\\\"\"", shards.key_on(1, "k"))[..],
                r#"[0] "SET" "k" "a \"b\" \\ \n\x00\xff""#,
                r#"[0] "Auth" "(redacted)""#,
                r#"[0] "HELLO" "2" "AUTH" "(redacted)" "(redacted)""#,
                r#"[0] "LPUSH" "k" "x""#,
                r#"[0] "PING""#,
            ] {
                assert_eq!(shown(&mut monitor, &client), line);
            }
        }
    }
}

#[test]
fn a_transaction_is_shown_when_it_is_carried_out() {
    let shards = Shards::fixed(Flavor::Redis, 2);
    let weft = Weft::start(&shards);
    let (mut monitor, mut client, mut other) = (watch(&weft), weft.client(), weft.client());
    let (a, b) = (shards.key_on(0, "a"), shards.key_on(1, "b"));
    let mut must_show = |client: &Client, lines: &[&str]| {
        lines.iter().for_each(|line| assert_eq!(shown(&mut monitor, client), *line));
    };
    client.must_ok("SELECT 3");
    must_show(&client, &[r#"[3] "SELECT" "3""#]);
    client.must_ok("MULTI");
    client.must_queue(&format!("MSET {a} 1 {b} 2"));
    client.must_queue("SELECT 2");
    client.must_queue("PING");
    client.must_queue("MONITOR");
    client.must_queue(&format!("INCR {a}"));
    must_show(&client, &[r#"[3] "MULTI""#]);
    let Reply::Array(replies) = client.call("EXEC") else { panic!("replies") };
    assert_eq!(replies[3], Reply::Error("ERR MONITOR isn't allowed for DENY BLOCKING client".into()));
    let mset = format!(r#"[3] "MSET" "{a}" "1" "{b}" "2""#);
    let incr = format!(r#"[2] "INCR" "{a}""#);
    must_show(&client, &[&mset, r#"[2] "SELECT" "2""#, r#"[2] "PING""#, &incr, r#"[2] "EXEC""#]);

    // Nothing of it is carried out: nothing of it is shown.
    client.must_ok("MULTI");
    client.must_err("NONSENSE", "ERR unknown command");
    client.must_queue("PING");
    client.must_err("EXEC", "EXECABORT");
    client.must_ok("MULTI");
    client.must_queue("PING");
    client.must_ok("DISCARD");
    client.must_ok(&format!("WATCH {a}"));
    must_show(&client, &[r#"[2] "MULTI""#, r#"[2] "EXEC""#, r#"[2] "MULTI""#, r#"[2] "DISCARD""#, &format!(r#"[2] "WATCH" "{a}""#)]);
    other.must_ok("SELECT 2");
    other.must_ok(&format!("SET {a} x"));
    must_show(&other, &[r#"[2] "SELECT" "2""#, &format!(r#"[2] "SET" "{a}" "x""#)]);
    client.must_ok("MULTI");
    client.must_queue("PING");
    client.must_reply("EXEC", Reply::NilArray);
    must_show(&client, &[r#"[2] "MULTI""#, r#"[2] "EXEC""#]);
}

#[test]
fn what_scripts_call_is_shown_and_nothing_of_wefts_own() {
    for mode in Mode::ALL {
        let shards = Shards::start(mode, Flavor::Redis, 2);
        let weft = Weft::start(&shards);
        let mut client = weft.client();
        let library = "#!lua name=lib\nredis.register_function('put', function(keys, args) return redis.call('set', keys[1], args[1]) end)";
        client.must_bulk(&["FUNCTION", "LOAD", library], "lib");
        let mut monitor = watch(&weft);
        // In turn on both shards: a line from a shard comes a moment later than what its client sends next.
        for key in [0, 1, 0].map(|index| shards.key_on(index, "k")) {
            client.must_nil(&["EVAL", "redis.call('set', KEYS[1], ARGV[1])", "1", &key, "bar"]);
            assert_eq!(shown(&mut monitor, &client), format!(r#"[0] "EVAL" "redis.call('set', KEYS[1], ARGV[1])" "1" "{key}" "bar""#));
            assert_eq!(shown(&mut monitor, &client), format!(r#"[0 lua] "set" "{key}" "bar""#));
            client.must_ok(&format!("SET {key} w"));
            assert_eq!(shown(&mut monitor, &client), format!(r#"[0] "SET" "{key}" "w""#));
            client.must_ok(&format!("FCALL put 1 {key} x"));
            assert_eq!(shown(&mut monitor, &client), format!(r#"[0] "FCALL" "put" "1" "{key}" "x""#));
            assert_eq!(shown(&mut monitor, &client), format!(r#"[0 lua] "set" "{key}" "x""#));
        }
    }
}

#[test]
fn whoever_watches_may_stop_and_the_shards_are_left_alone() {
    let shards = Shards::fixed(Flavor::Redis, 2);
    let weft = Weft::start(&shards);
    let watched = || shards.servers().iter().filter(|server| lists(&mut server.client(), " flags=O ")).count();
    let (mut monitor, mut second, mut client) = (watch(&weft), watch(&weft), weft.client());
    assert_eq!(watched(), 2);
    assert!(lists(&mut client, " flags=O "));
    // A second time there is no reply, and lines are shown once.
    monitor.send("MONITOR");
    client.must_reply("PING", Reply::Simple("PONG".into()));
    assert_eq!(shown(&mut monitor, &client), r#"[0] "PING""#);
    monitor.must_reply("RESET", Reply::Simple("RESET".into()));
    client.must_reply("PING", Reply::Simple("PONG".into()));
    monitor.must_reply("ECHO hello", "hello");
    assert_eq!(shown(&mut second, &client), r#"[0] "PING""#);
    drop(second);
    eventually(PATIENCE, "nobody watches the shards", || watched() == 0);
    eventually(PATIENCE, "nobody watches", || !lists(&mut client, " flags=O "));
    monitor.must_stay_silent(Duration::from_millis(50));
}

#[test]
fn who_does_not_read_what_it_is_shown_is_sent_away() {
    let shards = Shards::fixed(Flavor::Redis, 1);
    let weft = Weft::setup(&shards).set("limits.client_output_bytes_max", 1 << 20).start();
    let (monitor, mut client) = (watch(&weft), weft.client());
    let value = "v".repeat(1 << 18);
    let address = format!(" addr={} ", monitor.local_address());
    eventually(PATIENCE, "the monitor is gone", || {
        client.must_ok(&["SET", "k", &value]);
        !lists(&mut client, &address)
    });
}

fn lists(client: &mut Client, what: &str) -> bool {
    client.call("CLIENT LIST").text().expect("a list").contains(what)
}
