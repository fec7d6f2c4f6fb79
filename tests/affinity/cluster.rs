//! What scripts may use in a cluster: keys of their hash tags where they run, any other key by being run again.

use super::*;

/// Two keys in one slot whose names say nothing of it.
fn neighbours() -> [String; 2] {
    let slot = |key: &str| weft::slot::Slot::of(key.as_bytes());
    let one = "neighbour".to_owned();
    let other = (0..).map(|number| format!("n{number}")).find(|key| slot(key) == slot(&one)).expect("some key is there");
    [one, other]
}

#[test]
fn a_script_is_held_to_the_hash_tags_of_its_keys() {
    let shards = Shards::start(Mode::Cluster, Flavor::Redis, 2);
    let weft = Weft::setup(&shards).set("transactions.undeclared_keys_max", 0).start();
    let mut client = weft.client();
    let (by_tags, [one, other]) = (Affinity::default(), neighbours());
    let same_node = shards.key_on(shards.shard_of(&one), "k");
    for declared in ["{t}", "x{t}y", "{t", "{}t", "{u}", "}{", &one, &same_node] {
        for used in ["{t}", "x{t}y", "{t}z", "{t", "{}t", "{u}1", "t", "}{", &one, &other, &same_node] {
            let group = by_tags.group(declared.as_bytes());
            let allowed = declared == used || (group.is_some() && group == by_tags.group(used.as_bytes()));
            let reply = eval(&mut client, "return redis.pcall('EXISTS', ARGV[1])", &[declared], &[used]);
            assert_eq!(reply == Reply::Integer(0), allowed, "{used} by a script that declares {declared}: {reply:?}");
            if !allowed {
                must_refuse(&reply, &format!("CROSSSLOT a script cannot use '{used}', which it does not declare"));
            }
        }
    }
}

#[test]
fn a_refusal_names_the_key_and_the_hash_tag_that_would_help() {
    let shards = Shards::start(Mode::Cluster, Flavor::Redis, 2);
    let weft = Weft::start(&shards);
    let mut client = weft.client();
    for (declared, used, tag) in [
        ("{mail}:count", "mail:wait", "for instance '{mail}'"),
        ("bull:mail:", "bull:mail:wait", "for instance '{bull:mail}'"),
        ("bull:mail:count", "bull:mail:wait", "for instance '{bull:mail}'"),
        ("one", "two", "by a hash tag in both names script:"),
        ("::a", "::b", "by a hash tag in both names script:"),
    ] {
        for verb in ["GET", "DEL"] {
            let script = format!("\nredis.call('INCR', KEYS[1])\nreturn redis.call('{verb}', ARGV[1])");
            let text = must_refuse(&eval(&mut client, &script, &[declared], &[used]), "CROSSSLOT");
            let refusal = format!("CROSSSLOT a script cannot use '{used}', which it does not declare and which may be on another shard; ");
            assert!(text.starts_with(&refusal) && text.contains(tag), "{text}");
            assert!(text.contains("on @user_script:3") && !text.contains("affinity"), "{text}");
            client.must_bulk(&format!("GETDEL {declared}"), "1");
        }
    }
}

#[test]
fn a_script_uses_keys_of_its_hash_tag_where_they_are_and_finds_others() {
    let shards = Shards::start(Mode::Cluster, Flavor::Redis, 3);
    let wefts = [Weft::start(&shards), Weft::start(&shards)];
    let [mut one, mut other] = wefts.each_ref().map(Weft::client);
    let [first, second] = neighbours();
    let same_node = shards.key_on(shards.shard_of(&first), "k");
    for number in 0..6 {
        let (base, log) = (format!("{{{number}}}:base"), format!("{{{number}}}:log"));
        // It writes first, and so could not begin again.
        let script = "redis.call('INCR', KEYS[1]) return redis.call('APPEND', '{' .. ARGV[1] .. '}:log', 'x')";
        assert_eq!(eval(&mut one, script, &[&base], &[&number.to_string()]), Reply::Integer(1));
        other.must_bulk(&format!("GETDEL {log}"), "x");
        // Whether it is in the same slot, on the same node, or on another.
        for found in [&second, &same_node, &format!("{{{}}}:log", number + 1)] {
            let script = "local old = redis.call('GET', ARGV[1]) redis.call('SET', ARGV[1], 'new') redis.call('INCR', KEYS[1]) return old";
            other.must_ok(&format!("SET {found} old"));
            assert_eq!(eval(&mut one, script, &[&first], &[found]), "old".into(), "{found}");
            other.must_bulk(&format!("GETDEL {found}"), "new");
        }
        other.must_int(&format!("DEL {base} {first}"), 2);
    }
    assert_eq!(one.call("DBSIZE"), Reply::Integer(0));
}

/// Whatever could come from elsewhere than KEYS would have it run with a shim before it, under another digest.
#[test]
fn a_script_that_uses_nothing_but_its_keys_runs_as_it_is() {
    let shards = Shards::start(Mode::Cluster, Flavor::Redis, 2);
    let weft = Weft::start(&shards);
    let mut client = weft.client();
    let key = shards.key_on(0, "k");
    for (script, as_it_is) in [("return redis.call('INCR', KEYS[1])", 1), ("return redis.call('INCR', KEYS[1] .. '')", 0)] {
        must_be_integer(&eval(&mut client, script, &[&key], &[]));
        let digest = sha1_smol::Sha1::from(script).digest();
        shards.servers()[0].client().must_reply(&format!("SCRIPT EXISTS {digest}"), Reply::array([as_it_is]));
    }
}

#[track_caller]
fn must_be_integer(reply: &Reply) {
    assert!(matches!(reply, Reply::Integer(_)), "{reply:?}");
}

/// A cluster's node would have used the key, which is in another slot of its own or in the script's.
#[test]
fn a_script_waits_for_who_holds_a_key_that_it_does_not_declare() {
    let shards = Shards::start(Mode::Cluster, Flavor::Redis, 2);
    let [one, other] = neighbours();
    let home = shards.shard_of(&one);
    let (same_node, far) = (shards.key_on(home, "k"), shards.key_on(1 - home, "far"));
    let weft = Weft::setup(&shards).set("transactions.lease_ms", 500).start();
    for used in [&other, &same_node] {
        let mut doomed = Weft::setup(&shards).set("transactions.lease_ms", 500).env("WEFT_FAILPOINT", "before-commit").start();
        let mut owner = doomed.client();
        owner.must_ok("MULTI");
        owner.must_queue(&format!("SET {used} committed"));
        owner.must_queue(&format!("SET {far} committed"));
        owner.send("EXEC");
        doomed.process().must_exit();
        // Prepared everywhere, it is committed by whoever meets its locks.
        let reply = eval(&mut weft.client(), "return redis.call('GET', ARGV[1])", &[&one], &[used]);
        assert_eq!(reply, "committed".into(), "{used}");
        weft.client().must_bulk(&format!("GET {far}"), "committed");
    }
}
