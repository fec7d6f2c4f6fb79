//! Functions before several shards: they are held to their keys like scripts, and what is loaded stays what the client has loaded.

use super::{Reply, must_refuse};
use crate::support::{Client, Flavor, Mode, PATIENCE, Shards, Weft, eventually};

const LIBRARY: &str = "#!lua name=keys
local function get(key) return redis.call('GET', key) end
redis.register_function('put', function(keys, args) redis.call('SET', args[1], args[2]) return {#keys, #args, get(args[1])} end)
redis.register_function('caught', function(keys, args)
  local read = redis.pcall('GET', args[1])
  redis.call('APPEND', keys[1], 'once')
  return read
end)
redis.register_function('late', function(keys, args)
  redis.call('APPEND', keys[1], 'once')
  return redis.call('SET', args[1], 1)
end)
redis.register_function{function_name='look', callback=function(keys, args) return get(args[1]) end, flags={'no-writes'}}";

fn load(client: &mut Client, library: &str) {
    client.must_bulk(&["FUNCTION", "LOAD", "REPLACE", library], "keys");
}

#[test]
fn a_function_finds_the_keys_that_it_makes_up_wherever_they_are() {
    Mode::ALL.into_iter().for_each(must_find_keys_of_functions);
}

fn must_find_keys_of_functions(mode: Mode) {
    let shards = Shards::start(mode, Flavor::Redis, 2);
    let weft = Weft::start(&shards);
    let mut client = weft.client();
    load(&mut client, LIBRARY);
    let [one, other] = [0, 1].map(|shard| shards.key_on(shard, "k"));
    for (key, home) in [(&one, 0), (&other, 1)] {
        let put = Reply::Array(vec![0.into(), 2.into(), "v".into()]);
        client.must_reply(&format!("FCALL put 0 {key} v"), put);
        client.must_bulk(&format!("FCALL_RO LOOK 0 {key}"), "v");
        shards.servers()[home].client().must_bulk(&format!("GET {key}"), "v");
        shards.servers()[1 - home].client().must_reply(&format!("KEYS {key}"), Reply::Array(vec![]));
        client.must_int(&format!("DEL {key}"), 1);
    }
    // What it has written where its keys are it does not write again; what it was kept from it does not answer as done.
    client.must_ok(&format!("SET {other} there"));
    client.must_bulk(&format!("FCALL caught 1 {one} {other}"), "there");
    client.must_bulk(&format!("GETDEL {one}"), "once");
    let refusal = client.call(&format!("FCALL late 1 {one} {other}"));
    let text = must_refuse(&refusal, &format!("CROSSSLOT a script cannot use '{other}', which it does not declare"));
    assert!(text.ends_with("script: late, on @user_function:11."), "{text}");
    client.must_bulk(&format!("GETDEL {one}"), "once");
    client.must_bulk(&format!("GET {other}"), "there");
    shards.servers()[0].client().must_reply("KEYS k*", Reply::Array(vec![]));
    // In a transaction the refusal is its reply.
    client.must_ok("MULTI");
    client.must_queue(&format!("FCALL late 1 {one} {other}"));
    client.must_queue(&format!("FCALL late 1 {one} {one}"));
    client.must_queue("FCALL nothing 0");
    let Reply::Array(replies) = client.call("EXEC") else { panic!("no array") };
    must_refuse(&replies[0], "CROSSSLOT a script cannot use");
    assert_eq!(replies[1..], [Reply::ok(), Reply::Error("ERR Function not found".into())]);
    client.must_bulk(&format!("GETDEL {one}"), "1");
}

#[test]
fn a_function_is_what_its_library_is_now() {
    let shards = Shards::fixed(Flavor::Redis, 2);
    let wefts = [Weft::start(&shards), Weft::start(&shards)];
    let [mut one, mut other] = wefts.each_ref().map(Weft::client);
    let version = |number: usize| format!("#!lua name=keys\nredis.register_function('version', function() return {number} end)");
    let keys = [0, 1].map(|shard| shards.key_on(shard, "k"));
    for number in 0..3 {
        load(&mut one, &version(number));
        for key in &keys {
            other.must_int(&format!("FCALL version 1 {key}"), number as i64);
        }
    }
    // It moves to another library, and away.
    one.must_ok("FUNCTION DELETE keys");
    one.must_bulk(&["FUNCTION", "LOAD", &version(7).replace("name=keys", "name=moved")], "moved");
    other.must_int("FCALL version 0", 7);
    let Reply::Array(libraries) = other.call("FUNCTION LIST WITHCODE") else { panic!("no list") };
    assert!(format!("{libraries:?}").contains(&format!("{:?}", Reply::from(version(7).replace("name=keys", "name=moved").as_str()))));
    one.must_ok("FUNCTION FLUSH");
    other.must_err("FCALL version 0", "ERR Function not found");
    other.must_err("FCALL version x", "ERR Function not found");
}

#[test]
fn a_function_without_an_end_is_killed_as_one() {
    Mode::ALL.into_iter().for_each(must_kill_functions);
}

fn must_kill_functions(mode: Mode) {
    let shards = Shards::start(mode, Flavor::Redis, 2);
    let weft = Weft::start(&shards);
    let (mut stuck, mut client) = (weft.client(), weft.client());
    client.must_ok("CONFIG SET busy-reply-threshold 10");
    load(&mut client, "#!lua name=keys\nredis.register_function('endless', function() while true do end end)");
    for keys in [vec![0], vec![0, 1]] {
        let keys: Vec<String> = keys.iter().map(|shard| shards.key_on(*shard, "k")).collect();
        stuck.send(&format!("FCALL endless {} {}", keys.len(), keys.join(" ")));
        eventually(PATIENCE, "PING tells", || matches!(client.call("PING"), Reply::Error(error) if error.starts_with("BUSY")));
        let stats = client.call("FUNCTION STATS").items().expect("stats").to_vec();
        assert_eq!(stats[1].items().expect("a running function")[1], "endless".into());
        client.must_err("SCRIPT KILL", "BUSY Redis is busy running a script. You can only call FUNCTION KILL");
        client.must_ok("FUNCTION KILL");
        must_refuse(&stuck.receive(), "ERR Script killed by user with FUNCTION KILL");
        client.must_reply("PING", Reply::Simple("PONG".into()));
    }
    client.must_err("FUNCTION KILL", "NOTBUSY");
}
