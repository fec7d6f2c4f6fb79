//! Users' scripts: EVAL and EVALSHA with their keys on one participant.

use crate::support::{Reply, Weft, on_each};

/// EVAL of `script` with one key.
fn eval(script: &str, key: &str, args: &[&str]) -> Vec<Vec<u8>> {
    let words = ["EVAL", script, "1", key];
    words.iter().chain(args).map(|word| word.as_bytes().to_vec()).collect()
}

#[test]
fn a_script_replies_as_it_does_on_one_server() {
    let none = |script: &str| ["EVAL", script, "0"].map(|word| word.as_bytes().to_vec()).to_vec();
    let words = |line: &str| line.split(' ').map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>();
    on_each(|stage| {
        stage.must_agree_on(&[
            eval("return redis.call('set', KEYS[1], ARGV[1])", "X", &["1"]),
            eval("return redis.call('get', KEYS[1])", "X", &[]),
            eval("return {1, 'two', false, {3, {err='FOUR four'}}, 3.99}", "Y", &[]),
            eval("return redis.error_reply('MY own error')", "Y", &[]),
            eval("return {err='MOVED 1 10.0.0.66:6379'}", "Y", &[]),
            eval("return redis.status_reply('FINE')", "Y", &[]),
            eval("redis.setresp(3); return redis.call('hgetall', KEYS[1])", "Z", &[]),
            eval("return redis.call('incr', KEYS[1])", "X", &[]),
            eval("return redis.pcall('lpush', KEYS[1], 1)", "X", &[]),
            eval("return", "X", &[]),
            none("return 1"),
            none("return {KEYS, ARGV}"),
            words("EVALSHA ffffffffffffffffffffffffffffffffffffffff 1 X"),
            words("EVALSHA ffffffffffffffffffffffffffffffffffffffff 0"),
            words("EVAL return 5 X"),
            words("EVAL return x X"),
            words("EVAL return -1 X"),
            words("MULTI"),
            eval("return redis.call('incr', KEYS[1])", "X", &[]),
            words("INCR Y"),
            eval("return redis.call('nonsense', KEYS[1])", "Y", &[]).into_iter().take(2).chain(words("0")).collect(),
            none("return 'no key'"),
            words("EVALSHA ffffffffffffffffffffffffffffffffffffffff 1 Z"),
            words("EXEC"),
            words("MGET X Y Z"),
        ]);
    });
}

#[test]
fn evalsha_finds_what_eval_has_left_at_any_shard() {
    on_each(|stage| {
        let [x, y, _] = stage.keys();
        let mut client = stage.client();
        let script = format!("return redis.call('incrby', KEYS[1], {})", x.len());
        let sha = {
            let shard = &stage.shards().servers()[0];
            shard.client().call(&["SCRIPT", "LOAD", script.as_str()]).text().unwrap()
        };
        // weft needs the text, which it has not seen.
        client.must_err(&format!("EVALSHA {sha} 1 {x}"), "NOSCRIPT No matching script.");
        client.must_err(&format!("EVALSHA {sha} 1 {y}"), "NOSCRIPT No matching script.");
        client.must_int(&["EVAL", script.as_str(), "1", y.as_str()], x.len() as i64);
        client.must_int(&format!("EVALSHA {sha} 1 {y}"), 2 * x.len() as i64);
        client.must_int(&format!("EVALSHA {sha} 1 {x}"), x.len() as i64);
        client.must_ok("MULTI");
        client.must_queue(&format!("EVALSHA {sha} 1 {x}"));
        client.must_queue(&format!("EVALSHA {sha} 1 {y}"));
        client.must_reply("EXEC", Reply::array([2 * x.len() as i64, 3 * x.len() as i64]));
    });
}

#[test]
fn a_transaction_finds_what_eval_has_left_at_another_shard() {
    on_each(|stage| {
        let [x, y, z] = stage.keys();
        let mut client = stage.client();
        let scripts = ["SET", "APPEND"].map(|command| format!("return redis.call('{command}', KEYS[1], '{x}')"));
        let [set, append] = scripts.each_ref().map(|script| sha1_smol::Sha1::from(script).digest().to_string());
        client.must_ok(&["EVAL", &scripts[0], "1", &x]);
        client.must_ok("MULTI");
        client.must_queue(&format!("EVALSHA {set} 1 {y}"));
        client.must_queue(&["EVAL", &scripts[1], "1", &x]);
        client.must_reply("EXEC", Reply::Array(vec![Reply::ok(), (2 * x.len() as i64).into()]));
        client.must_ok("MULTI");
        client.must_queue(&format!("EVALSHA {append} 1 {y}"));
        client.must_queue(&format!("EVALSHA {append} 1 {z}"));
        client.must_queue(&format!("EVALSHA {} 1 {z}", "0".repeat(40)));
        client.must_queue(&format!("STRLEN {z}"));
        let Reply::Array(replies) = client.call("EXEC") else { panic!("no array") };
        let length = x.len() as i64;
        assert_eq!([&replies[0], &replies[1], &replies[3]], [&(2 * length).into(), &length.into(), &length.into()]);
        assert!(matches!(&replies[2], Reply::Error(text) if text.starts_with("NOSCRIPT ")), "{replies:?}");
    });
}

#[test]
fn a_watched_key_that_a_script_changes_breaks_the_watch() {
    on_each(|stage| {
        let [x, y, _] = stage.keys();
        let mut client = stage.client();
        client.must_ok(&format!("WATCH {x} {y}"));
        stage.client().must_ok(&["EVAL", "return redis.call('set', KEYS[1], 'theirs')", "1", x.as_str()]);
        client.must_ok("MULTI");
        client.must_queue(&format!("SET {y} mine"));
        client.must_reply("EXEC", Reply::NilArray);
        client.must_ok(&format!("WATCH {x} {y}"));
        client.must_ok("MULTI");
        client.must_reply(&["EVAL", "return redis.call('get', KEYS[1])", "1", x.as_str()], Reply::Simple("QUEUED".into()));
        client.must_queue(&format!("SET {y} mine"));
        client.must_reply("EXEC", Reply::Array(vec!["theirs".into(), Reply::ok()]));
    });
}

#[test]
fn an_error_that_a_script_makes_up_is_no_redirect() {
    const FORGED: &str = "redis.call('INCR', KEYS[1]) return {err = 'MOVED 1 127.0.0.1:1'}";
    const FORGED_RO: &str = "return {err = 'MOVED 1 127.0.0.1:1'}";
    on_each(|stage| {
        for isolation in ["strict", "relaxed"] {
            let weft = Weft::setup(stage.shards()).set("isolation", isolation).start();
            let mut client = weft.client();
            let [key, other, _] = stage.keys();
            client.must_err(&["EVAL", FORGED, "1", &key], "MOVED 1 127.0.0.1:1");
            client.must_bulk(&format!("GET {key}"), "1");
            client.must_err(&["EVAL_RO", FORGED_RO, "1", &key], "MOVED 1 127.0.0.1:1");
            client.must_err(&["EVAL_RO", FORGED_RO, "0"], "MOVED 1 127.0.0.1:1");
            client.must_err(&["EVAL", FORGED_RO, "0"], "MOVED 1 127.0.0.1:1");
            // Over several shards too it is a reply, and the transaction is carried out once.
            client.must_ok("MULTI");
            client.must_queue(&["EVAL", FORGED, "1", &key]);
            client.must_queue(&format!("INCR {other}"));
            let Reply::Array(replies) = client.call("EXEC") else { panic!("no array") };
            assert!(matches!(&replies[0], Reply::Error(text) if text.starts_with("MOVED 1 ")), "{replies:?}");
            assert_eq!(replies[1], Reply::Integer(1));
            client.must_bulk(&format!("GET {key}"), "2");
        }
    });
}
