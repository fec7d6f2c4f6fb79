//! Users' scripts whose keys are on several shards: the same replies as from one server, the same data, and nothing anywhere else.

use weft::command;
use weft::resp::Request;

use super::compute::all_or_nothing_of;
use crate::support::{Flavor, Mode, PATIENCE, Reply, Shards, Stage, Weft, on_each};

/// EVAL, or its kin `verb`, of `script` with `keys` and `args`, each divided by spaces.
fn call(verb: &str, script: &str, keys: &str, args: &str) -> Vec<Vec<u8>> {
    let keys: Vec<&str> = keys.split_whitespace().collect();
    let count = keys.len().to_string();
    let words = [verb, script, &count].into_iter().chain(keys.iter().copied()).chain(args.split_whitespace());
    words.map(|word| word.as_bytes().to_vec()).collect()
}

fn eval(script: &str, keys: &str, args: &str) -> Vec<Vec<u8>> {
    call("EVAL", script, keys, args)
}

fn words(line: &str) -> Vec<Vec<u8>> {
    line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

/// Moves an amount from one hash to another if there is enough, and tells both.
const TRANSFER: &str = "\
local from = tonumber(redis.call('HGET', KEYS[1], 'balance') or '0')
local amount = tonumber(ARGV[1])
if from < amount then
  return redis.error_reply('POOR only ' .. from)
end
redis.call('HINCRBY', KEYS[1], 'balance', -amount)
redis.call('HINCRBY', KEYS[2], 'balance', amount)
return { redis.call('HGET', KEYS[1], 'balance'), redis.call('HGET', KEYS[2], 'balance'), ARGV[1] }";

/// Counts in windows of several lengths, and refuses when one of them is full.
const LIMIT: &str = "\
for i, key in ipairs(KEYS) do
  if tonumber(redis.call('GET', key) or 0) >= tonumber(ARGV[i]) then return { 0, i } end
end
for _, key in ipairs(KEYS) do
  if redis.call('INCR', key) == 1 then redis.call('PEXPIREAT', key, 99999999999999) end
end
return 1";

/// Moves what is due from a sorted set to a list.
const ENQUEUE: &str = "\
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1])
for _, job in ipairs(due) do
  redis.call('LPUSH', KEYS[2], job)
  redis.call('ZREM', KEYS[1], job)
  redis.call('HSET', KEYS[3], job, 'waiting')
end
return due";

#[test]
fn what_programs_do_with_scripts_works_over_shards() {
    on_each(|stage| {
        stage.must_agree_on(&[
            words("HSET X balance 100 owner me"),
            eval(TRANSFER, "X Y", "30"),
            eval(TRANSFER, "Y X", "31"),
            eval(TRANSFER, "Y X", "30"),
            words("HGETALL X"),
            words("HGETALL Y"),
            words("DEL X Y"),
            eval(LIMIT, "X Y Z", "2 3 9"),
            eval(LIMIT, "X Y Z", "2 3 9"),
            eval(LIMIT, "X Y Z", "2 3 9"),
            words("MGET X Y Z"),
            words("PEXPIRETIME Y"),
            words("DEL X Y Z"),
            words("ZADD X 1 a 2 b 3 c"),
            eval(ENQUEUE, "X Y Z", "2"),
            words("LRANGE Y 0 -1"),
            words("ZRANGE X 0 -1"),
            words("HGETALL Z"),
        ]);
    });
}

#[test]
fn a_script_finds_its_keys_wherever_a_command_names_them() {
    on_each(|stage| {
        stage.must_agree_on(&[
            eval("return {KEYS, ARGV, #KEYS, #ARGV}", "X Y X", "1 two"),
            eval("return redis.call('MSET', KEYS[1], KEYS[2], KEYS[2], KEYS[1])", "X Y", ""),
            eval("return redis.call('mget', KEYS[1], KEYS[2], KEYS[3])", "X Y Z", ""),
            eval("return redis.call('BITOP', 'AND', KEYS[3], KEYS[1], KEYS[2])", "X Y Z", ""),
            eval("return redis.call('RENAME', KEYS[3], KEYS[1])", "X Y Z", ""),
            eval("return redis.call('COPY', KEYS[1], KEYS[2], 'REPLACE')", "X Y", ""),
            eval("return redis.call('del', unpack(KEYS))", "X Y Z", ""),
            eval("redis.call('SADD', KEYS[1], 1, 2); return redis.call('HSET', KEYS[2], 'f', string.rep('x', 100))", "X Y", ""),
            eval("return {redis.call('OBJECT', 'ENCODING', KEYS[1]), redis.call('OBJECT', 'ENCODING', KEYS[2])}", "X Y", ""),
            words("OBJECT ENCODING X"),
            words("OBJECT ENCODING Y"),
            words("DEL X Y"),
            eval("redis.call('RPUSH', KEYS[2], 3, 1, 2); return redis.call('LMPOP', 2, KEYS[1], KEYS[2], 'LEFT')", "X Y", ""),
            eval("return redis.call('SORT', KEYS[1], 'BY', 'nosort', 'STORE', 'a', 'STORE', KEYS[2])", "Y Z", ""),
            words("LRANGE Z 0 -1"),
            words("DEL X Y Z"),
            eval(
                "redis.call('ZADD', KEYS[1], 1, 'a', 2, 'b'); return redis.call('ZUNIONSTORE', KEYS[2], 2, KEYS[1], KEYS[3])",
                "X Y Z",
                "",
            ),
            eval("return redis.call('ZMPOP', 2, KEYS[2], KEYS[1], 'MAX')", "X Z", ""),
            eval("return redis.call('ZUNIONSTORE', KEYS[2], 3, KEYS[1], KEYS[3])", "X Y Z", ""),
            words("ZRANGE Y 0 -1 WITHSCORES"),
            words("DEL X Y Z"),
            eval("return redis.call('GEOADD', KEYS[1], 13, 38, 'P', 15, 37, 'C')", "X Y", ""),
            eval("return redis.call('GEORADIUS', KEYS[1], 15, 37, 200, 'km', 'COUNT', 3, 'STORE', KEYS[2])", "X Y", ""),
            words("ZRANGE Y 0 -1"),
            words("DEL X Y"),
            eval("return redis.call('XADD', KEYS[1], '1-1', 'f', KEYS[1])", "X Y", ""),
            eval("return redis.call('XGROUP', 'CREATE', KEYS[1], 'g', 0)", "X Y", ""),
            eval("return redis.call('XREADGROUP', 'GROUP', 'g', 'c', 'STREAMS', KEYS[1], '>')", "X Y", ""),
            eval("return redis.call('XREAD', 'COUNT', 2, 'STREAMS', KEYS[2], KEYS[1], 0, 0)", "X Y", ""),
            eval("redis.setresp(3); return redis.call('XREAD', 'STREAMS', KEYS[2], KEYS[1], 0, 0)", "X Y", ""),
            eval("return redis.call('XREADGROUP', 'GROUP', 'g', 'c', 'STREAMS', KEYS[2], '>')", "X Y", ""),
            eval("return redis.pcall('XREADGROUP', 'GROUP', 'g', 'c', 'STREAMS', KEYS[2], '>').err", "X Y", ""),
            words("XPENDING X g"),
            words("XINFO GROUPS X"),
        ]);
    });
}

#[test]
fn lua_is_as_it_is_on_one_server() {
    on_each(|stage| {
        stage.must_agree_on(&[
            eval("return {1, 'two', false, {3, {err='FOUR four'}}, 3.99}", "X Y", ""),
            eval("return redis.status_reply('FINE')", "X Y", ""),
            eval("redis.setresp(3); redis.call('HSET', KEYS[1], 'f', 1); return redis.call('HGETALL', KEYS[1])", "X Y", ""),
            eval("return cjson.encode({redis.sha1hex('a'), cjson.decode('[1]'), bit.band(7, 3)})", "X Y", ""),
            eval("redis.replicate_commands(); redis.log(redis.LOG_DEBUG, 'x'); return redis.REPL_ALL", "X Y", ""),
            eval("return {pairs(redis) ~= nil, type(redis.pcall), _G.KEYS[1], redis.nothing == nil}", "X Y", ""),
            eval("return redis.call('TIME')[1] ~= nil and redis.call('ECHO', 'x')", "X Y", ""),
            eval("local c = coroutine.wrap(function() coroutine.yield(redis.call('SET', KEYS[1], 1)) end); return c()", "X Y", ""),
            eval("local get = redis.call; pcall(get, 'LPUSH', KEYS[1], 1); return get('GET', KEYS[1])", "X Y", ""),
            eval("return loadstring('return {..., redis.call(\"GET\", KEYS[1])}')('a')", "X Y", ""),
            eval("local t = {'return', ' 1'}; return load(function() return table.remove(t, 1) end)()", "X Y", ""),
            eval("x = 1", "X Y", ""),
            eval("return x", "X Y", ""),
            eval("_G.x = 1", "X Y", ""),
            eval("redis.x = 1", "X Y", ""),
            eval("local t = {}; for i = 1, 7000 do t[i] = i end; return redis.call('RPUSH', KEYS[2], unpack(t))", "X Y", ""),
            call("EVAL_RO", "return redis.call('MGET', KEYS[1], KEYS[2])", "X Z", ""),
            call("EVAL_RO", "return redis.call('SET', KEYS[1], 2)", "X Z", ""),
            eval("#!lua flags=no-writes\nreturn redis.call('MGET', KEYS[1], KEYS[2])", "X Z", ""),
            eval("#!lua flags=no-writes\n\nreturn redis.call('SET', KEYS[1], 2)", "X Z", ""),
            eval("#!lua flags=nonsense\nreturn 1", "X Z", ""),
            eval("#!lua", "X Z", ""),
            eval("#!nonsense\nreturn 1", "X Z", ""),
            words("MGET X Z"),
        ]);
    });
}

#[test]
fn errors_name_the_lines_of_the_script_and_leave_what_was_written_before() {
    on_each(|stage| {
        stage.must_agree_on(&[
            eval("redis.call('SET', KEYS[1], 1)\n\nredis.call('LPUSH', KEYS[1], 2)\nredis.call('SET', KEYS[2], 3)", "X Y", ""),
            words("MGET X Y"),
            eval(
                "redis.call('INCR', KEYS[1])\nlocal bad = redis.pcall('LPUSH', KEYS[1], 2)\nredis.call('SET', KEYS[2], 3)\nreturn bad",
                "X Y",
                "",
            ),
            words("MGET X Y"),
            eval("redis.call('INCR', KEYS[1])\nerror('enough')", "X Y", ""),
            eval("redis.call('INCR', KEYS[1])\nerror({err = 'MY own'})", "X Y", ""),
            eval("redis.call('INCR', KEYS[1])\nreturn {err = 'MOVED 1 10.0.0.66:6379'}", "X Y", ""),
            eval("#!lua\nredis.call('INCR', KEYS[2])\nreturn nothing.at.all", "X Y", ""),
            words("MGET X Y"),
            eval("return 1 +", "X Y", ""),
            eval("\n\nreturn return", "X Y", ""),
            eval("return redis.call('NONSENSE', KEYS[1])", "X Y", ""),
            eval("return redis.call('OBJECT')", "X Y", ""),
            eval("return redis.call('GET')", "X Y", ""),
            eval("return redis.call()", "X Y", ""),
            eval("return redis.call('GET', {})", "X Y", ""),
            eval("return redis.call('MULTI')", "X Y", ""),
            eval("return redis.call('EVAL', 'return 1', 0)", "X Y", ""),
            eval("return redis.call('SUBSCRIBE', KEYS[1])", "X Y", ""),
            words("EVAL return 3 X Y"),
        ]);
    });
}

#[test]
fn evalsha_and_transactions_run_scripts_over_shards() {
    let sha = |script: &str| sha1_smol::Sha1::from(script).digest().to_string();
    let swap = "local a, b = redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2])\n\
                redis.call('MSET', KEYS[1], b, KEYS[2], a)\nreturn {b, a}";
    let both = "return redis.call('MGET', KEYS[1], KEYS[2])";
    on_each(|stage| {
        stage.must_agree_on(&[
            words("MSET X 1 Y 2"),
            words("EVALSHA ffffffffffffffffffffffffffffffffffffffff 2 X Y"),
            words("EVALSHA_RO ffffffffffffffffffffffffffffffffffffffff 2 X Y"),
            eval(swap, "X Y", ""),
            call("EVALSHA", &sha(swap), "X Y", ""),
            call("EVALSHA", &sha(swap).to_uppercase(), "X Y", ""),
            call("EVALSHA", &sha(swap), "X Z", ""),
            [b"SCRIPT".to_vec(), b"LOAD".to_vec(), both.as_bytes().to_vec()].to_vec(),
            call("EVALSHA_RO", &sha(both), "X Y", ""),
            call("EVALSHA_RO", &sha(swap), "X Y", ""),
            words("MULTI"),
            words("SET Z 5"),
            call("EVALSHA", &sha(swap), "X Y", ""),
            eval("return redis.call('INCR', KEYS[1])", "X", ""),
            eval("redis.call('INCR', KEYS[1])\nreturn redis.call('LPUSH', KEYS[2], 1)", "Z Y", ""),
            words("EVALSHA ffffffffffffffffffffffffffffffffffffffff 2 X Y"),
            eval("return 'no key'", "", ""),
            words("MGET X Y Z"),
            words("EXEC"),
            words("WATCH X"),
            words("MULTI"),
            call("EVALSHA", &sha(swap), "X Y", ""),
            words("EXEC"),
            words("MGET X Y Z"),
        ]);
    });
}

#[test]
fn a_watched_key_that_has_changed_keeps_a_script_from_running() {
    on_each(|stage| {
        let [x, y, z] = stage.keys();
        let mut client = stage.client();
        client.must_ok(&format!("WATCH {z}"));
        stage.client().must_ok(&format!("SET {z} theirs"));
        client.must_ok("MULTI");
        client.must_queue(&["EVAL", "return redis.call('MSET', KEYS[1], 1, KEYS[2], 2)", "2", &x, &y]);
        client.must_reply("EXEC", Reply::NilArray);
        client.must_int(&format!("EXISTS {x} {y}"), 0);
    });
}

#[test]
fn what_is_not_declared_is_refused_and_nothing_is_applied() {
    on_each(|stage| {
        let [x, y, z] = stage.keys();
        let weft = Weft::setup(stage.shards()).set("transactions.undeclared_keys_max", 0).start();
        let mut client = weft.client();
        let ways = [
            format!("redis.call('SET', '{z}', 1)"),
            format!("redis.call('MSET', KEYS[1], 1, '{z}', 1)"),
            format!("_G.redis.call('SET', '{z}', 1)"),
            format!("loadstring('redis.call(\"SET\", \"{z}\", 1)')()"),
            format!("load(function() return nil end); loadstring('return _G')().redis.call('SET', '{z}', 1)"),
            format!("return redis.pcall('SET', '{z}', 1)"),
            format!("redis.call('SORT', KEYS[2], 'STORE', '{z}')"),
            format!("redis.call('ZUNIONSTORE', KEYS[2], 1, '{z}')"),
            format!("local other = rawget(_G, 'server') or redis; other.call('SET', '{z}', 1)"),
            format!("getmetatable(redis.call).__call(nil, 'SET', '{z}', 1)"),
        ];
        for way in &ways {
            let script = format!("redis.call('SET', KEYS[1], 1)\n{way}");
            let reply = client.call(&["EVAL", script.as_str(), "2", &x, &y]);
            let Reply::Error(error) = &reply else { panic!("{way}: {reply:?}") };
            let named = format!("CROSSSLOT a script over several shards cannot use '{z}', which is not among the keys that it declares");
            // What cannot even be reached is an error of Lua's, which leaves what was written before.
            if way.starts_with("getmetatable") {
                client.must_int(&format!("DEL {x}"), 1);
            } else {
                assert!(error.starts_with(&named), "{way}: {error}");
            }
            client.must_int(&format!("EXISTS {x} {y} {z}"), 0);
        }
        for command in ["'PUBLISH', 'c', 'm'", "'SCAN', 0", "'FLUSHALL'", "'KEYS', '*'", "'SELECT', 1", "'MOVE', KEYS[1], 1"] {
            let script = format!("redis.call('SET', KEYS[1], 1)\nredis.call({command})");
            client.must_err(&["EVAL", script.as_str(), "2", &x, &y], "CROSSSLOT a script over several shards cannot call '");
            client.must_int(&format!("EXISTS {x} {y} {z}"), 0);
        }
        let pattern = "redis.call('RPUSH', KEYS[1], 1)\nreturn redis.call('SORT', KEYS[1], 'BY', 'w_*')";
        client.must_err(&["EVAL", pattern, "2", &x, &y], "CROSSSLOT a script over several shards cannot call 'sort'");
        must_have_no_copies(stage);

        // Nor does a script go on that takes it for an answer.
        let caught = format!("redis.call('SET', KEYS[1], 1); return redis.pcall('GET', '{z}').err ~= nil and redis.call('INCR', KEYS[2])");
        client.must_err(&["EVAL", caught.as_str(), "2", &x, &y], "CROSSSLOT a script over several shards cannot use");
        client.must_int(&format!("EXISTS {x} {y}"), 0);

        // In a transaction it ends the transaction.
        client.must_ok("MULTI");
        client.must_queue(&format!("SET {z} 1"));
        client.must_queue(&["EVAL", "return redis.call('DEL', KEYS[1], 'other')", "2", &x, &y]);
        client.must_err("EXEC", "CROSSSLOT a script over several shards cannot use 'other'");
        client.must_int(&format!("EXISTS {x} {y} {z}"), 0);
    });
}

#[test]
fn the_keys_that_a_script_is_held_to_are_those_that_weft_finds() {
    const LINES: &str = "GET X; SET X v GET; MSET X 1 Y 2; DEL X Y; BITOP AND Z X Y; OBJECT ENCODING X; RENAME X Y; TOUCH X Y Z; LCS X Y; \
         ZUNIONSTORE Z 2 X Y WEIGHTS 1 2; ZUNION 2 X Y; SINTERCARD 2 X Y LIMIT 1; XREAD COUNT 2 STREAMS X Y 0 0; XREAD STREAMS X Y Z 0 0 0; \
         XREADGROUP COUNT 1 GROUP STREAMS c STREAMS X >; GEORADIUS X 0 0 1 m COUNT 3 STORE Z; GEORADIUS X 0 0 1 m; \
         GEORADIUSBYMEMBER X STORE 1 m STOREDIST Z; SORT X STORE a STORE Z; SORT X LIMIT STORE 1 STORE Z; SORT_RO X BY NOSORT GET #; \
         COPY X Y REPLACE; BITFIELD X GET u8 0; BITFIELD X SET u8 0 1; MEMORY USAGE X; XGROUP CREATE X g 0; XINFO STREAM X; LMPOP 2 X Y LEFT; \
         ZMPOP 1 X MIN; SMOVE X Y m; GEOSEARCHSTORE Z X FROMLONLAT 0 0 BYRADIUS 1 m; ZRANGESTORE Z X 0 1; PFMERGE Z X Y; PFCOUNT X Y; \
         SDIFFSTORE Z X Y; LMOVE X Y LEFT RIGHT; MSETNX X 1 Z 2; XAUTOCLAIM X g c 0 0; DUMP X; EXPIRE X 9";
    on_each(|stage| {
        let (keys, [one, other, _]) = (stage.keys(), stage.keys());
        let weft = Weft::setup(stage.shards()).set("transactions.undeclared_keys_max", 0).start();
        let mut client = weft.client();
        for line in LINES.split(';').map(str::trim) {
            let named = |word: &str| ["X", "Y", "Z"].iter().position(|key| *key == word).map_or(word, |at| &keys[at]).to_owned();
            let words: Vec<String> = line.split(' ').map(named).collect();
            let (request, mut found) = (Request::new(&words), command::Keys::new());
            let all = command::keys(command::lookup(&request).unwrap(), &request, &mut found);
            // GET # of SORT makes up no key, and a cluster's server refuses it all the same.
            assert!(matches!(all, Ok(()) | Err(command::KeyError::Get)), "{line}: {all:?}");
            let found: Vec<&str> = found.iter().map(|key| words[key.index as usize].as_str()).collect();
            for missing in std::iter::once(None).chain(found.iter().map(Some)) {
                let declared = found.iter().filter(|key| Some(*key) != missing).copied().chain([one.as_str(), &other]);
                let declared: Vec<&str> = declared.collect();
                let count = declared.len().to_string();
                let start = ["EVAL", "return redis.pcall(unpack(ARGV))", &count];
                let call: Vec<&str> = start.into_iter().chain(declared).chain(words.iter().map(String::as_str)).collect();
                let refused = matches!(client.call(call.as_slice()), Reply::Error(error) if error.starts_with("CROSSSLOT"));
                assert_eq!(refused, missing.is_some(), "{line}, without {missing:?}");
            }
        }
    });
}

#[test]
fn functions_work_over_shards() {
    let library = "#!lua name=lib\n\
        local function get(key) return redis.call('GET', key) end\n\
        redis.register_function('swap', function(keys, args)\n\
          local a, b = get(keys[1]), get(keys[2])\n\
          redis.call('MSET', keys[1], b or args[1], keys[2], a or args[1])\n\
          return {a, b, #keys, #args}\n\
        end)\n\
        redis.register_function{function_name='both', callback=function(keys) return {get(keys[1]), get(keys[2])} end, flags={'no-writes'}}\n\
        redis.register_function('fails', function(keys)\n\
          redis.call('SET', keys[1], 1)\n\
          return redis.call('LPUSH', keys[1], 1)\n\
        end) -- that's all";
    // A library has another `redis` while it loads than its functions have.
    let keeps = "#!lua name=keeps\n\
        local lib = redis\n\
        lib.register_function('late', function(keys)\n\
          lib.register_function('later', tostring)\n\
        end)\n\
        lib.register_function('none', function(keys) return redis.register_function == nil end)\n\
        lib.register_function('ping', function(keys) return redis.call('PING') end)\n\
        lib.register_function('assign', function(keys)\n\
          lib.redis = redis\n\
        end)";
    on_each(|stage| {
        stage.must_agree_on(&[
            ["FUNCTION", "LOAD", library].map(|word| word.as_bytes().to_vec()).to_vec(),
            words("SET X 1"),
            words("FCALL swap 2 X Y none"),
            words("FCALL swap 2 X Y none"),
            words("fcall_ro both 2 X Y"),
            words("FCALL_RO swap 2 X Y none"),
            words("FCALL both 2 X Y"),
            words("FCALL fails 2 Z X"),
            words("MGET X Y Z"),
            words("FCALL nothing 2 X Y"),
            words("FCALL swap 3 X Y"),
            words("MULTI"),
            words("FCALL fails 1 Z"),
            words("FCALL_RO both 2 X Y"),
            words("RENAME X Y"),
            words("FCALL nothing 1 X"),
            words("EXEC"),
            words("MGET X Y Z"),
            words("FCALL fails 1 Z"),
            words("FCALL both 2 Y Y"),
            words("FUNCTION DUMP"),
            ["FUNCTION", "LOAD", keeps].map(|word| word.as_bytes().to_vec()).to_vec(),
            words("FCALL late 2 X Y"),
            words("FCALL late 0"),
            words("FCALL none 2 X Y"),
            words("FCALL ping 2 X Y"),
            words("FCALL assign 2 X Y"),
            words("FCALL assign 0"),
            words("FUNCTION FLUSH"),
        ]);
    });
}

#[test]
fn what_is_too_large_or_forbidden_is_refused() {
    on_each(|stage| {
        let [x, y, _] = stage.keys();
        let small = Weft::setup(stage.shards()).set("transactions.compute_bytes_max", 1024).start();
        let mut client = small.client();
        // What a script makes counts as what it is given.
        let script = "redis.call('SET', KEYS[1], 1); redis.call('SET', KEYS[2], string.rep(redis.sha1hex('a'), 9) .. ARGV[1]); return 1";
        let long: String = (1..400_u32).map(|n| format!("{:08x}", n.wrapping_mul(2_654_435_761))).collect();
        client.must_int(&["EVAL", script, "2", &x, &y, "short"], 1);
        client.must_err(&["EVAL", script, "2", &x, &y, &long], "ERR the keys lie on several shards and hold too many bytes");
        client.must_int(&format!("STRLEN {y}"), 365);
        let reject = Weft::setup(stage.shards()).set("transactions.multi_key", "reject").start();
        reject.client().must_err(&["EVAL", script, "2", &x, &y, "short"], "CROSSSLOT Keys in request");
    });
}

#[test]
fn two_counters_that_all_scripts_raise_are_never_apart() {
    const CLIENTS: usize = 16;
    const TURNS: usize = 20;
    let raise = "return {redis.call('INCR', KEYS[1]), redis.call('INCR', KEYS[2])}";
    for mode in Mode::ALL {
        let shards = Shards::start(mode, Flavor::Redis, 2);
        let wefts = [0, 1].map(|_| Weft::setup(&shards).set("transactions.lock_wait_timeout_ms", 60_000).start());
        let [x, y] = [0, 1].map(|shard| shards.key_on(shard, "counter"));
        std::thread::scope(|scope| {
            let raising: Vec<_> = (0..CLIENTS)
                .map(|number| {
                    let (mut client, keys) = (wefts[number % 2].client(), [&x, &y]);
                    client.set_patience(PATIENCE * 4);
                    scope.spawn(move || {
                        let counts = (0..TURNS).map(|_| apart(&client.call(&["EVAL", raise, "2", keys[0], keys[1]])));
                        counts.collect::<Vec<i64>>()
                    })
                })
                .collect();
            let mut client = wefts[0].client();
            client.set_patience(PATIENCE * 4);
            while !raising.iter().all(std::thread::ScopedJoinHandle::is_finished) {
                apart(&client.call(&format!("MGET {x} {y}")));
            }
            let mut counts: Vec<i64> = raising.into_iter().flat_map(|raised| raised.join().unwrap()).collect();
            counts.sort_unstable();
            assert_eq!(counts, (1..=(CLIENTS * TURNS) as i64).collect::<Vec<_>>());
        });
    }
}

/// The number that stands twice in `reply`; 0 for two that are missing.
#[track_caller]
fn apart(reply: &Reply) -> i64 {
    let items = reply.items().unwrap_or_else(|| panic!("{reply:?}"));
    let numbers: Vec<i64> = items
        .iter()
        .map(|item| match item {
            Reply::Integer(number) => *number,
            other => other.text().map_or(0, |text| text.parse().unwrap()),
        })
        .collect();
    assert!(matches!(&numbers[..], [one, other] if one == other), "{reply:?}");
    numbers[0]
}

#[test]
fn a_weft_that_dies_while_a_script_moves_money_leaves_all_of_it_or_none() {
    all_or_nothing_of(
        |from| format!("HSET {from} balance 100"),
        |from, to| ["EVAL", TRANSFER, "2", from, to, "30"].map(str::to_owned).to_vec(),
        |key| format!("HGET {key} balance"),
        [["100".into(), Reply::Nil], ["70".into(), "30".into()]],
    );
}

#[track_caller]
fn must_have_no_copies(stage: &Stage<'_>) {
    let copies: Vec<_> = stage.shards().internal_keys().into_iter().filter(|(_, name)| name.contains("c:k")).collect();
    assert!(copies.is_empty(), "{copies:?}");
}
