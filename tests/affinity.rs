//! Scripts that make up names of keys, before several shards: what they may use, where it is, and who waits for whom.

mod cluster;
mod functions;
mod isolation;
mod refusal;

use weft::affinity::Affinity;

use crate::support::{Client, Flavor, Mode, Reply, Shards, Weft};

const RULES: &str = "['app:{user}:*']";

/// The bulk strings of `words`, for scripts with blanks.
fn eval(client: &mut Client, script: &str, keys: &[&str], args: &[&str]) -> Reply {
    let count = keys.len().to_string();
    client.call([&["EVAL", script, &count], keys, args].concat().as_slice())
}

#[track_caller]
fn must_refuse(reply: &Reply, beginning: &str) -> String {
    match reply {
        Reply::Error(text) if text.starts_with(beginning) => text.clone(),
        other => panic!("{other:?} instead of {beginning}"),
    }
}

/// A key that lives on another shard than `key` does by `affinity`.
fn elsewhere(shards: &Shards, affinity: &Affinity, key: &str) -> String {
    let home = shards.shard_of(home(affinity, key));
    shards.key_on((home + 1) % shards.servers().len(), "elsewhere")
}

/// A name that lives where `key` lives.
fn home<'a>(affinity: &Affinity, key: &'a str) -> &'a str {
    affinity.group(key.as_bytes()).map_or(key, |group| std::str::from_utf8(group).unwrap())
}

fn rules() -> Affinity {
    Affinity::new(vec!["app:{user}:*".parse().unwrap()])
}

#[test]
fn a_script_uses_keys_of_its_groups_that_it_does_not_declare() {
    let shards = Shards::fixed(Flavor::Redis, 3);
    let wefts = [0, 1].map(|_| Weft::setup(&shards).set("affinity", RULES).start());
    let [mut one, mut other] = wefts.each_ref().map(Weft::client);
    for user in 0..12 {
        let declared = format!("app:{user}:base");
        let script = "redis.call('HSET', 'app:' .. ARGV[1] .. ':hash', 'f', ARGV[1]) return redis.call('INCR', KEYS[1] .. ':count')";
        assert_eq!(eval(&mut one, script, &[&declared], &[&user.to_string()]), Reply::Integer(1));
        other.must_bulk(&format!("HGET app:{user}:hash f"), &user.to_string());
        other.must_bulk(&format!("GET {declared}:count"), "1");
        let home = shards.servers()[shards.shard_of(&format!("app:{user}"))].client().call(&format!("EXISTS app:{user}:hash"));
        assert_eq!(home, Reply::Integer(1), "app:{user}");
        let tagged = "return redis.call('APPEND', '{' .. ARGV[1] .. '}:log', 'x')";
        assert_eq!(eval(&mut other, tagged, &[&format!("{{{user}}}:base")], &[&user.to_string()]), Reply::Integer(1));
        one.must_bulk(&format!("GET {{{user}}}:log"), "x");
        one.must_int(&format!("DEL app:{user}:hash {declared}:count"), 2);
        one.must_int(&format!("DEL {{{user}}}:log"), 1);
    }
    assert!(shards.internal_keys().is_empty());
    shards.servers().iter().for_each(|server| server.client().must_int("DBSIZE", 0));
}

/// Such a script would answer as if it had written what it was kept from writing.
#[test]
fn a_script_that_would_go_on_without_what_it_is_refused_is_run_again_with_it() {
    Mode::ALL.into_iter().for_each(must_run_again);
}

fn must_run_again(mode: Mode) {
    let shards = Shards::start(mode, Flavor::Redis, 3);
    let weft = Weft::start(&shards);
    let mut client = weft.client();
    let script = "local read = redis.pcall('GET', ARGV[1]) redis.pcall('APPEND', KEYS[1], 'once') return read";
    for number in 0..6 {
        let (declared, found) = (format!("declared{number}"), format!("found{number}"));
        client.must_ok(&format!("SET {found} there"));
        assert_eq!(eval(&mut client, script, &[&declared], &[&found]), "there".into());
        client.must_bulk(&format!("GET {declared}"), "once");
    }
}

/// As a script does that forgets all that an application has, which knows its keys by their beginning alone.
#[test]
fn a_script_lists_the_keys_of_a_group_wherever_they_are() {
    let shards = Shards::fixed(Flavor::Redis, 3);
    let weft = Weft::setup(&shards).set("affinity", RULES).start();
    let mut client = weft.client();
    let script = "local keys = redis.call('KEYS', ARGV[1]) return redis.call('DEL', unpack(keys))";
    for user in 0..12 {
        for (one, other, pattern) in [("app:{}:a", "app:{}:b", "app:{}:*"), ("{{}}a", "{{}}b", "{{}}*")] {
            let [one, other, pattern] = [one, other, pattern].map(|text| text.replace("{}", &user.to_string()));
            client.must_ok(&format!("MSET {one} 1 {other} 2"));
            assert_eq!(eval(&mut client, script, &[], &[&pattern]), Reply::Integer(2), "{pattern}");
            client.must_ok(&format!("MSET {one} 1 {other} 2"));
            assert_eq!(eval(&mut client, script, &[&one], &[&pattern]), Reply::Integer(2), "{pattern}");
        }
    }
    // Of keys that are elsewhere it finds none rather than some; of any keys, those that are where it is.
    let other = elsewhere(&shards, &rules(), "app:7:a");
    let list = "return redis.call('KEYS', ARGV[1])";
    must_refuse(&eval(&mut client, list, &[&other], &["app:7:*"]), "CROSSSLOT");
    client.must_ok(&format!("SET {other} 1"));
    assert_eq!(eval(&mut client, list, &[&other], &["app:*:*"]), Reply::Array(vec![]));
    assert_eq!(eval(&mut client, list, &[&other], &["else*"]), Reply::array([other.as_str()]));
    client.must_int(&format!("DEL {other}"), 1);
    shards.servers().iter().for_each(|server| server.client().must_int("DBSIZE", 0));
}

#[test]
fn keys_of_a_group_are_found_whatever_asks_for_them() {
    let shards = Shards::fixed(Flavor::Redis, 3);
    let weft = Weft::setup(&shards).set("affinity", RULES).start();
    let mut client = weft.client();
    let keys: Vec<String> = (0..9).map(|number| format!("app:{}:{number}", number / 3)).collect();
    let pairs: Vec<String> = keys.iter().flat_map(|key| [key.clone(), "v".to_owned()]).collect();
    client.must_ok([vec!["MSET".to_owned()], pairs].concat().as_slice());
    let mut scanned =
        client.call("SCAN 0 COUNT 1000").items().unwrap()[1].items().unwrap().iter().filter_map(Reply::text).collect::<Vec<_>>();
    let mut cursor = client.call("SCAN 0 COUNT 1000").items().unwrap()[0].text().unwrap();
    while cursor != "0" {
        let page = client.call(&format!("SCAN {cursor} COUNT 1000"));
        scanned.extend(page.items().unwrap()[1].items().unwrap().iter().filter_map(Reply::text));
        cursor = page.items().unwrap()[0].text().unwrap();
    }
    scanned.sort();
    scanned.dedup();
    assert_eq!(scanned, keys);
    client.must_int([&["EXISTS".to_owned()], &keys[..]].concat().as_slice(), 9);
    client.must_ok("WATCH app:0:0 app:1:3");
    weft.client().must_ok("SET app:0:0 theirs");
    client.must_ok("MULTI");
    client.must_queue("SET app:1:3 mine");
    client.must_reply("EXEC", Reply::NilArray);
    client.must_int("MSETNX app:3:x 1 app:4:x 1", 1);
    client.must_int("MSETNX app:3:x 1 app:5:x 1", 0);
    client.must_nil("GET app:5:x");
    client.must_int("MSETNX app:3:y 1 app:3:z 1", 1);
    client.must_int("MSETNX app:3:z 1 app:3:w 1", 0);
    client.must_int("RPUSH app:1:list 3 1 2", 3);
    client.must_reply("SORT app:1:list BY app:2:w_*", Reply::array(["1", "2", "3"].map(Reply::from)));
    client.must_int("SORT app:1:list STORE app:1:sorted", 3);
    let mut waiting = weft.client();
    waiting.send("BLPOP app:7:queue 20");
    client.must_int("RPUSH app:7:queue job", 1);
    assert_eq!(waiting.receive(), Reply::array(["app:7:queue", "job"].map(Reply::from)));
}

#[test]
fn what_is_of_no_group_is_refused_before_it_is_touched() {
    let shards = Shards::fixed(Flavor::Redis, 3);
    let weft = Weft::setup(&shards).set("affinity", RULES).set("transactions.undeclared_keys_max", 0).start();
    let mut client = weft.client();
    let key = "app:7:base";
    let other = elsewhere(&shards, &rules(), key);
    let refusal =
        format!("CROSSSLOT a script cannot use '{other}', which it does not declare and which may be on another shard; declare it, or");
    for way in [
        format!("redis.call('SET', '{other}', 1)"),
        format!("redis.call('MSET', 'app:7:x', 1, '{other}', 1)"),
        format!("_G.redis.call('SET', '{other}', 1)"),
        format!("loadstring('redis.call(\"SET\", \"{other}\", 1)')()"),
        format!("return redis.pcall('SET', '{other}', 1)"),
        format!("return redis.call('GET', '{other}')"),
        format!("redis.call('SORT', 'app:7:list', 'STORE', '{other}')"),
        format!("local other = rawget(_G, 'server') or redis; other.call('SET', '{other}', 1)"),
    ] {
        for before in ["", "redis.call('SET', KEYS[1], 1);"] {
            must_refuse(&eval(&mut client, &format!("{before}{way}"), &[key], &[]), &refusal);
            // What was written before stays, as with any error.
            client.must_int(&format!("DEL {key}"), i64::from(!before.is_empty()));
            shards.servers().iter().for_each(|server| server.client().must_int("DBSIZE", 0));
        }
    }
    // The rule that is proposed is one, and the line is the client's.
    let text = must_refuse(&eval(&mut client, "\n\nreturn redis.call('GET', 'bull:mail:wait')", &["bull:mail:"], &[]), "CROSSSLOT");
    assert!(text.contains("for instance 'bull:mail:*'") && text.contains("on @user_script:3"), "{text}");
    let digest = sha1_smol::Sha1::from("\n\nreturn redis.call('GET', 'bull:mail:wait')").digest().to_string();
    assert!(text.contains(&digest), "{text}");
    for command in ["'FLUSHALL'", "'MOVE', KEYS[1], 1", "'SWAPDB', 0, 1"] {
        must_refuse(&eval(&mut client, &format!("return redis.call({command})"), &[key], &[]), "CROSSSLOT a script cannot call '");
    }
    must_refuse(&eval(&mut client, "return redis.call('GET', '__weft:x:{7}')", &["{7}"], &[]), "CROSSSLOT");
    must_refuse(
        &eval(&mut client, "return redis.call('SORT', KEYS[1], 'BY', 'w_*')", &[key], &[]),
        "CROSSSLOT a script cannot call 'sort'",
    );
    assert_eq!(eval(&mut client, "return redis.call('SORT', KEYS[1], 'BY', 'app:7:w_*')", &[key], &[]), Reply::Array(vec![]));
    // In a transaction the refusal is the script's reply.
    client.must_ok("MULTI");
    client.must_queue("SET app:7:n 1");
    client.must_queue(&["EVAL", &format!("return redis.call('GET', '{other}')"), "1", key]);
    client.must_queue(&["EVAL", "return redis.call('GET', KEYS[1] .. ':x')", "1", key]);
    let Reply::Array(replies) = client.call("EXEC") else { panic!("no array") };
    must_refuse(&replies[1], &refusal);
    assert_eq!((&replies[0], &replies[2]), (&Reply::ok(), &Reply::Nil));
}

#[test]
fn the_groups_that_a_script_is_held_to_are_those_that_keys_are_placed_by() {
    let rules = ["app:{user}:*", "cart.{id}", "dramatiq", "dramatiq:*", "{tenant}::end", "a-b%c+{x}[d]*"];
    let affinity = Affinity::new(rules.iter().map(|rule| rule.parse().unwrap()).collect());
    let shards = Shards::fixed(Flavor::Redis, 2);
    let texts: Vec<String> = rules.iter().filter(|rule| **rule != "dramatiq").map(|rule| format!("'{rule}'")).collect();
    let setup = Weft::setup(&shards).set("affinity", format!("[{}, dramatiq]", texts.join(", ")));
    let weft = setup.set("transactions.undeclared_keys_max", 0).start();
    let mut client = weft.client();
    let keys = [
        "app:1:x",
        "app:1:",
        "app:1",
        "app::x",
        "app:{t}:x",
        "{t}",
        "x{t}y",
        "{t",
        "{}t",
        "cart.5",
        "cart.5.6",
        "cart.",
        "dramatiq",
        "dramatiq:q",
        "dramatiqx",
        "acme::end",
        "acme::end2",
        "a-b%c+1[d]2",
        "a-b%c+1[d",
        "a-b%c+[d]",
        "plain",
        "app:1:x{t}",
        "}{",
    ];
    for declared in keys {
        for used in keys {
            let group = |key: &'static str| affinity.group(key.as_bytes());
            let allowed = declared == used || (group(declared).is_some() && group(declared) == group(used));
            let reply = eval(&mut client, "return redis.pcall('EXISTS', ARGV[1])", &[declared], &[used]);
            assert_eq!(reply == Reply::Integer(0), allowed, "{used} by a script that declares {declared}: {reply:?}");
        }
    }
}

#[test]
fn a_script_that_has_written_nothing_is_run_again_with_what_it_lacks() {
    Mode::ALL.into_iter().for_each(must_find_what_it_lacks);
}

fn must_find_what_it_lacks(mode: Mode) {
    let shards = Shards::start(mode, Flavor::Redis, 3);
    let weft = Weft::start(&shards);
    let mut client = weft.client();
    let [x, y, z] = [0, 1, 2].map(|shard| shards.key_on(shard, "k"));
    for key in [&x, &y, &z] {
        // It names none, and all are wherever they are.
        assert_eq!(eval(&mut client, "return redis.call('INCR', ARGV[1])", &[], &[key]), Reply::Integer(1));
        assert_eq!(eval(&mut client, "return {#KEYS, redis.call('GET', ARGV[1])}", &[], &[key]), Reply::Array(vec![0.into(), "1".into()]));
    }
    let sum = "local n = 0; for i = 1, #ARGV do n = n + redis.call('GET', ARGV[i]) end; return {n, #KEYS, #ARGV}";
    assert_eq!(eval(&mut client, sum, &[], &[&x, &y, &z]), Reply::array([3, 0, 3]));
    let sha = client.call(&["SCRIPT", "LOAD", sum]).text().unwrap();
    client.must_reply(&format!("EVALSHA {sha} 1 {y} {x} {y} {z}"), Reply::array([3, 1, 3]));
    client.must_reply(&["EVAL_RO", sum, "0", &x, &z], Reply::array([2, 0, 2]));
    let transfer = "redis.call('DECR', ARGV[1]) return redis.call('INCR', ARGV[2])";
    assert_eq!(eval(&mut client, transfer, &[], &[&x, &y]), Reply::Integer(2));
    client.must_reply(&format!("MGET {x} {y} {z}"), Reply::array(["0", "2", "1"].map(Reply::from)));
    // What has written where its keys are cannot begin again.
    let late = "redis.call('INCR', KEYS[1]) return redis.call('INCR', ARGV[1])";
    must_refuse(&eval(&mut client, late, &[&x], &[&y]), "CROSSSLOT a script cannot use");
    client.must_reply(&format!("MGET {x} {y}"), Reply::array(["1", "2"].map(Reply::from)));
    // Nor does one that takes the refusal for an answer.
    let caught = "local seen = redis.pcall('GET', ARGV[1]).err ~= nil; redis.call('INCR', KEYS[1]); return tostring(seen)";
    assert_eq!(eval(&mut client, caught, &[&x], &[&y]), Reply::from("false"));
    client.must_bulk(&format!("GET {x}"), "2");
    // Over several shards what it writes can be dropped.
    let over = "redis.call('INCR', KEYS[1]) redis.call('INCR', KEYS[2]) return redis.call('INCR', ARGV[1])";
    assert_eq!(eval(&mut client, over, &[&x, &y], &[&z]), Reply::Integer(2));
    client.must_reply(&format!("MGET {x} {y} {z}"), Reply::array(["3", "3", "2"].map(Reply::from)));
    let many: Vec<String> = (0..33).map(|number| format!("many{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let set = "for i = 1, #ARGV do redis.call('SET', ARGV[i], i) end return #ARGV";
    must_refuse(&eval(&mut client, set, &[], &many), "CROSSSLOT a script ");
    client.must_int([&["EXISTS"], &many[..]].concat().as_slice(), 0);
    assert_eq!(eval(&mut client, set, &[], &many[..32]), Reply::Integer(32));
    assert!(shards.internal_keys().iter().all(|(_, name)| !name.starts_with("__weft:c:")));
    // Keys of a group that a script comes upon are used where they are.
    let tagged = "redis.call('INCR', ARGV[1] .. 'a') return redis.call('INCR', ARGV[1] .. 'b')";
    assert_eq!(eval(&mut client, tagged, &[], &["{tag}"]), Reply::Integer(1));
}

#[test]
fn clients_know_a_script_by_their_own_digest() {
    Mode::ALL.into_iter().for_each(must_know_by_digest);
}

fn must_know_by_digest(mode: Mode) {
    let shards = Shards::start(mode, Flavor::Redis, 3);
    let wefts = [Weft::start(&shards), Weft::start(&shards)];
    let [mut one, mut other] = wefts.each_ref().map(Weft::client);
    let script = "local key = KEYS[1]; return redis.call('INCR', key)";
    let sha = sha1_smol::Sha1::from(script).digest().to_string();
    one.must_err(&format!("EVALSHA {sha} 1 k"), "NOSCRIPT No matching script.");
    assert_eq!(one.call(&["SCRIPT", "LOAD", script]), Reply::from(sha.as_str()));
    one.must_reply(&format!("SCRIPT EXISTS {sha}"), Reply::array([1]));
    for (number, key) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
        one.must_int(&format!("EVALSHA {sha} 1 {key}"), 1);
        one.must_int(&format!("EVALSHA {} 1 {key}", sha.to_uppercase()), 2);
        assert_eq!(eval(&mut one, script, &[key], &[]), Reply::Integer(3), "{number}");
    }
    // Shards that forget it are given it again.
    shards.servers().iter().for_each(|server| server.client().must_ok("SCRIPT FLUSH"));
    one.must_int(&format!("EVALSHA {sha} 1 a"), 4);
    one.must_ok("MULTI");
    one.must_queue(&format!("EVALSHA {sha} 1 a"));
    one.must_queue(&format!("EVALSHA {sha} 1 b"));
    one.must_queue(&["EVAL", script, "1", "c"]);
    one.must_queue(&format!("EVALSHA {} 1 c", "0".repeat(40)));
    let Reply::Array(replies) = one.call("EXEC") else { panic!("no array") };
    assert_eq!(replies[..3], [5, 4, 4].map(Reply::Integer));
    must_refuse(&replies[3], "NOSCRIPT");
    // Another weft needs the text: shards tell no one what a script says.
    other.must_reply(&format!("SCRIPT EXISTS {sha}"), Reply::array([0]));
    other.must_err(&format!("EVALSHA {sha} 1 a"), "NOSCRIPT No matching script.");
    assert_eq!(eval(&mut other, script, &["a"], &[]), Reply::Integer(6));
    other.must_int(&format!("EVALSHA {sha} 1 a"), 7);
    // One that fails is known all the same, one that is none is not.
    let (fails, none) = ("local k = KEYS[1]; return redis.call('LPUSH', k, 1)", "return )");
    must_refuse(&eval(&mut one, fails, &["a"], &[]), "WRONGTYPE");
    one.must_err(&format!("EVALSHA {} 1 a", sha1_smol::Sha1::from(fails).digest()), "WRONGTYPE");
    must_refuse(&eval(&mut one, none, &["a"], &[]), "ERR Error compiling script");
    one.must_err(&format!("EVALSHA {} 1 a", sha1_smol::Sha1::from(none).digest()), "NOSCRIPT");
    one.must_ok("SCRIPT FLUSH");
    one.must_err(&format!("EVALSHA {sha} 1 a"), "NOSCRIPT No matching script.");
}

#[test]
fn one_server_decides_by_itself() {
    let single = Shards::fixed(Flavor::Redis, 1);
    let weft = Weft::setup(&single).set("affinity", RULES).start();
    let script = "redis.call('SET', 'a', 1) redis.call('SET', 'b', 2) return type(redis.call)";
    assert_eq!(eval(&mut weft.client(), script, &["c"], &[]), Reply::from("function"));
}
