//! Scripts that catch weft's refusal of a key, or make one up: nothing that was refused is answered as done, and nothing is done twice.

use super::{Reply, eval, must_refuse};
use crate::support::{Client, Flavor, Mode, Shards, Weft};

/// What a script can catch the refusal by of what it does with the key in ARGV[1], before it writes to KEYS[1].
const CATCHES: [&str; 12] = [
    "read = redis.pcall('GET', ARGV[1])",
    "_, read = pcall(redis.call, 'GET', ARGV[1])",
    "_, read = pcall(redis.pcall, 'GET', ARGV[1])",
    "_, read = pcall(pcall, redis.call, 'GET', ARGV[1]) read = redis.call('GET', ARGV[1])",
    "_, read = xpcall(function() return redis.call('GET', ARGV[1]) end, function() return 'handled' end)",
    "_, read = _G.pcall(_G.redis.call, 'GET', ARGV[1])",
    "_, read = coroutine.resume(coroutine.create(function(...) return redis.call(...) end), 'GET', ARGV[1])",
    "_, read = pcall(coroutine.wrap(function(key) return redis.call('GET', key) end), ARGV[1])",
    "_, read = _G.coroutine.resume(coroutine.create(function(key) return redis.call('GET', key) end), ARGV[1])",
    "_, read = loadstring('return pcall(redis.call, ...)')('GET', ARGV[1])",
    "_, read = loadstring('return coroutine.resume(coroutine.create(function(...) return redis.call(...) end), ...)')('GET', ARGV[1])",
    "load(function() read = read or redis.call('GET', ARGV[1]) end)",
];

/// The keys that `weft` is asked for hold what `script` writes and nothing else.
fn must_be(client: &mut Client, key: &str, expected: Option<&str>) {
    match expected {
        Some(text) => client.must_bulk(&format!("GET {key}"), text),
        None => client.must_nil(&format!("GET {key}")),
    }
}

#[test]
fn whatever_catches_a_refusal_lets_it_through() {
    Mode::ALL.into_iter().for_each(must_let_refusals_through);
}

fn must_let_refusals_through(mode: Mode) {
    let shards = Shards::start(mode, Flavor::Redis, 2);
    let lenient = Weft::start(&shards);
    let strict = Weft::setup(&shards).set("transactions.undeclared_keys_max", 0).start();
    let [mut client, mut refused] = [&lenient, &strict].map(Weft::client);
    let [one, other] = [0, 1].map(|shard| shards.key_on(shard, "declared"));
    // At one place it runs where its keys are, over two on copies.
    for declared in [vec![one.as_str()], vec![&one, &other]] {
        for (number, catch) in CATCHES.iter().enumerate() {
            let found = format!("found{number}");
            client.must_ok(&format!("SET {found} there"));
            let script = format!("local read, _ {catch} redis.call('APPEND', KEYS[1], 'once') return read");
            // With the key it has never been refused anything.
            assert_eq!(eval(&mut client, &script, &declared, &[&found]), "there".into(), "{catch}");
            must_be(&mut client, &one, Some("once"));
            client.must_int(&format!("DEL {one}"), 1);
            must_refuse(&eval(&mut refused, &script, &declared, &[&found]), "CROSSSLOT a script ");
            must_be(&mut client, &one, None);
            // What it has written by then stays where it was written, as with any error, and is not written again.
            let late = format!("redis.call('APPEND', KEYS[1], 'before') {script}");
            let (reply, kept) = match declared.len() {
                1 => (must_refuse(&eval(&mut client, &late, &declared, &[&found]), "CROSSSLOT a script "), Some("before")),
                _ => (eval(&mut client, &late, &declared, &[&found]).text().unwrap(), Some("beforeonce")),
            };
            assert!(reply.contains(&found) || reply == "there", "{reply}");
            must_be(&mut client, &one, kept);
            client.must_int(&format!("DEL {one} {found}"), 2);
        }
    }
}

#[test]
fn what_reaches_beyond_keys_ends_a_script_too() {
    Mode::ALL.into_iter().for_each(must_end_what_reaches_beyond);
}

fn must_end_what_reaches_beyond(mode: Mode) {
    let shards = Shards::start(mode, Flavor::Redis, 2);
    let weft = Weft::start(&shards);
    let mut client = weft.client();
    let [one, other] = [0, 1].map(|shard| shards.key_on(shard, "declared"));
    for declared in [vec![one.as_str()], vec![&one, &other]] {
        let script = "local reply = redis.pcall('FLUSHALL') redis.call('INCR', KEYS[1]) return 'flushed'";
        must_refuse(&eval(&mut client, script, &declared, &[]), "CROSSSLOT a script ");
        must_be(&mut client, &one, None);
    }
}

#[test]
fn other_errors_are_caught_as_ever() {
    let shards = Shards::fixed(Flavor::Redis, 2);
    let weft = Weft::start(&shards);
    let mut client = weft.client();
    client.must_ok("SET text text");
    for catch in [
        "redis.pcall('LPUSH', key, 1).err",
        "select(2, pcall(redis.call, 'LPUSH', key, 1))",
        "select(2, xpcall(function() return redis.call('LPUSH', key, 1) end, function(e) return e.err end))",
        "select(2, coroutine.resume(coroutine.create(function() return redis.call('LPUSH', key, 1) end))).err",
        "select(2, pcall(error, {err = 'WRONGTYPE'}))",
    ] {
        let script = format!("local key = KEYS[1] local text = {catch} return {{redis.call('GET', key), string.sub(text, 1, 9)}}");
        assert_eq!(eval(&mut client, &script, &["text"], &[]), Reply::array(["text", "WRONGTYPE"].map(Reply::from)), "{catch}");
    }
    let all = "local c = coroutine.create(function(a) local b = coroutine.yield(a + 1) return b * 2 end)
        local key = KEYS[1]
        local _, one = coroutine.resume(c, 1) local _, two = coroutine.resume(c, 4)
        return {one, two, coroutine.status(c), select('#', pcall(function() return nil, nil end)), (pcall(error)) and 1 or 0}";
    assert_eq!(eval(&mut client, all, &["text"], &[]), Reply::Array(vec![2.into(), 8.into(), "dead".into(), 3.into(), 0.into()]));
}

/// What weft's errors look like can be read in its source; which token they bear in a call cannot.
#[test]
fn a_script_that_speaks_like_weft_is_run_once() {
    Mode::ALL.into_iter().for_each(must_run_once);
}

fn must_run_once(mode: Mode) {
    let shards = Shards::start(mode, Flavor::Redis, 2);
    let weft = Weft::start(&shards);
    let mut client = weft.client();
    let [one, other] = [0, 1].map(|shard| shards.key_on(shard, "declared"));
    for (number, text) in ["WEFTUNDECLARED 6b x", "WEFTREFUSED 6b x", "WEFTREFUSED 0000000000000000 6b x"].iter().enumerate() {
        for ending in ["return redis.error_reply", "error", "local _ = redis.pcall('GET', 'other') return redis.error_reply"] {
            for declared in [vec![one.as_str()], vec![&one, &other]] {
                let script = format!("local key = KEYS[1] redis.call('APPEND', key, '{number}') {ending}('{text}')");
                let Reply::Error(error) = eval(&mut client, &script, &declared, &["other"]) else { panic!("no error") };
                let refused = ending.contains("GET") && declared.len() == 1;
                assert!(error.contains(text) != refused, "{error}");
                client.must_bulk(&format!("GET {one}"), &number.to_string());
                client.must_ok("MULTI");
                client.must_queue([&["EVAL", &script, &declared.len().to_string()], &declared[..], &["other"]].concat().as_slice());
                let Reply::Array(replies) = client.call("EXEC") else { continue };
                assert!(matches!(&replies[0], Reply::Error(error) if error.contains(text) != refused), "{replies:?}");
                client.must_int(&format!("DEL {one}"), 1);
            }
        }
    }
}

#[test]
fn no_script_reaches_another_database_past_its_locks() {
    let shards = Shards::start(Mode::Static, Flavor::Redis, 2);
    let weft = Weft::start(&shards);
    let mut client = weft.client();
    let key = shards.key_on(0, "declared");
    client.must_ok(&format!("SET {key} here"));
    for call in ["'SELECT', 1", "'COPY', KEYS[1], KEYS[1], 'DB', 1"] {
        let script = format!("redis.call({call}) return redis.call('SET', KEYS[1], 'there')");
        must_refuse(&eval(&mut client, &script, &[&key], &[]), "CROSSSLOT a script cannot call ");
    }
    client.must_bulk(&format!("GET {key}"), "here");
    client.must_ok("SELECT 1");
    client.must_nil(&format!("GET {key}"));
}
