//! Commands that are about the server: behind weft there are several, and what a client sees is one.

use std::process::{Command, Output};

use crate::support::{Client, Flavor, Mode, PATIENCE, Reply, Server, Shards, Weft, eventually};

const GET: &str = "return redis.call('get', KEYS[1])";

fn digest(client: &mut Client) -> String {
    client.call(&["SCRIPT", "LOAD", GET]).text().expect("a digest")
}

#[test]
fn a_script_is_loaded_on_every_shard() {
    for mode in Mode::ALL {
        let shards = Shards::start(mode, Flavor::Redis, 3);
        let weft = Weft::start(&shards);
        let mut client = weft.client();
        let digest = digest(&mut client);
        client.must_reply(&format!("SCRIPT EXISTS {digest} nonsense"), Reply::Array(vec![1.into(), 0.into()]));
        for index in 0..3 {
            let key = shards.key_on(index, "k");
            client.must_ok(&format!("SET {key} {index}"));
            client.must_bulk(&format!("EVALSHA {digest} 1 {key}"), &index.to_string());
        }
        client.must_ok("SCRIPT FLUSH");
        client.must_reply(&format!("SCRIPT EXISTS {digest}"), Reply::Array(vec![0.into()]));
        client.must_err(&format!("EVALSHA {digest} 1 k"), "NOSCRIPT");
        // weft's own scripts were flushed too, and come back.
        client.must_ok("SET k v");
        client.must_ok("SCRIPT FLUSH SYNC");
        client.must_ok("MULTI");
        (0..3).for_each(|index| client.must_queue(&format!("SET {} w", shards.key_on(index, "k"))));
        client.must_reply("EXEC", Reply::array([Reply::ok(), Reply::ok(), Reply::ok()]));
        client.must_err("SCRIPT KILL", "NOTBUSY");
        client.must_err("SCRIPT FLUSH NONSENSE", "ERR SCRIPT FLUSH only support SYNC|ASYNC option");
    }
}

#[test]
fn a_script_that_a_shard_forgot_is_given_back_to_it() {
    for flavor in Flavor::ALL {
        let mut shards = Shards::fixed(flavor, 2);
        let weft = Weft::start(&shards);
        let mut client = weft.client();
        let key = shards.key_on(1, "k");
        let digest = digest(&mut client);
        client.must_nil(&format!("EVALSHA {digest} 1 {key}"));
        shards.server(1).restart();
        eventually(PATIENCE, "the shard is back", || {
            client.call(&format!("GET {key}")) == Reply::Nil && client.call(&format!("EVALSHA {digest} 1 {key}")) == Reply::Nil
        });

        // A script that was only ever run by its text, on the other shard.
        let (other, body) = (shards.key_on(0, "k"), "return 'from ' .. KEYS[1]");
        client.must_bulk(&["EVAL", body, "1", &other], &format!("from {other}"));
        let digest = client.call(&["SCRIPT", "LOAD", body]).text().expect("a digest");
        shards.servers().iter().for_each(|server| server.client().must_ok("SCRIPT FLUSH"));
        client.must_bulk(&format!("EVALSHA {} 1 {key}", digest.to_uppercase()), &format!("from {key}"));
    }
}

#[test]
fn a_script_that_says_noscript_itself_is_not_run_twice() {
    let shards = Shards::fixed(Flavor::Redis, 2);
    let weft = Weft::start(&shards);
    let mut client = weft.client();
    let body = "redis.call('incr', KEYS[1]) return redis.error_reply('NOSCRIPT no')";
    let digest = client.call(&["SCRIPT", "LOAD", body]).text().expect("a digest");
    client.must_err(&format!("EVALSHA {digest} 1 n"), "NOSCRIPT no");
    client.must_bulk("GET n", "1");
}

#[test]
fn functions_are_the_same_on_every_shard() {
    for mode in Mode::ALL {
        let shards = Shards::start(mode, Flavor::Redis, 3);
        let weft = Weft::start(&shards);
        let mut client = weft.client();
        let library = "#!lua name=lib\nredis.register_function('twice', function(keys, args) return args[1] * 2 end)";
        client.must_bulk(&["FUNCTION", "LOAD", library], "lib");
        client.must_err(&["FUNCTION", "LOAD", library], "ERR Library 'lib' already exists");
        client.must_bulk(&["FUNCTION", "LOAD", "REPLACE", library], "lib");
        let twice_everywhere = |client: &mut Client| {
            for index in 0..3 {
                client.must_int(&format!("FCALL twice 1 {} 21", shards.key_on(index, "k")), 42);
            }
        };
        twice_everywhere(&mut client);
        assert_eq!(client.call("FUNCTION LIST").items().map(<[_]>::len), Some(1));
        let Reply::Bulk(dump) = client.call("FUNCTION DUMP") else { panic!("a dump") };
        client.must_ok("FUNCTION DELETE lib");
        client.must_err("FCALL twice 1 k 21", "ERR Function not found");
        client.must_ok(&[&b"FUNCTION"[..], b"RESTORE", &dump]);
        twice_everywhere(&mut client);
        client.must_ok("FUNCTION FLUSH");
        client.must_reply("FUNCTION LIST", Reply::Array(vec![]));
        assert!(matches!(client.call("FUNCTION STATS"), Reply::Array(_)));
        client.must_err("FUNCTION KILL", "NOTBUSY");
    }
}

#[test]
fn weft_answers_like_a_single_server() {
    let shards = Shards::cluster(Flavor::Redis, 3);
    let weft = Weft::setup(&shards).set("limits.clients_max", 77).start();
    let mut client = weft.client();
    for command in ["CLUSTER INFO", "CLUSTER SLOTS", "CLUSTER SHARDS", "CLUSTER NODES", "CLUSTER KEYSLOT k", "READONLY", "ASKING"] {
        client.must_reply(command, Reply::Error("ERR This instance has cluster support disabled".into()));
    }
    client.must_err("CLUSTER NONSENSE", "ERR unknown subcommand 'NONSENSE'. Try CLUSTER HELP.");
    client.must_reply("ROLE", Reply::Array(vec!["master".into(), 0.into(), Reply::Array(vec![])]));
    client.must_bulk("ACL WHOAMI", "default");
    client.must_reply("ACL USERS", Reply::Array(vec!["default".into()]));
    client.must_reply("ACL LIST", Reply::Array(vec!["user default on nopass sanitize-payload ~* &* +@all".into()]));
    let user = |flags: &[&str]| {
        let value = |text: &str| Reply::from(text);
        let flags = Reply::array(flags.iter().copied());
        let all = [("commands", "+@all"), ("keys", "~*"), ("channels", "&*")].into_iter().flat_map(|(name, all)| [value(name), value(all)]);
        let head = [value("flags"), flags, value("passwords"), Reply::Array(vec![])];
        Reply::Array(head.into_iter().chain(all).chain([value("selectors"), Reply::Array(vec![])]).collect())
    };
    client.must_reply("ACL GETUSER default", user(&["on", "nopass"]));
    client.must_nil("ACL GETUSER nobody");
    client.must_ok("ACL DRYRUN default GET k");
    client.must_err("ACL DRYRUN default GET", "ERR wrong number of arguments for 'get' command");
    client.must_err("ACL DRYRUN default NONSENSE", "ERR Command 'NONSENSE' not found");
    client.must_err("ACL DRYRUN nobody GET k", "ERR User 'nobody' not found");
    client.must_reply("ACL LOG", Reply::Array(vec![]));
    client.must_ok("ACL LOG RESET");
    client.must_err("ACL LOG x", "ERR value is not an integer or out of range");
    client.must_int("ACL DELUSER nobody", 0);
    client.must_err("ACL DELUSER nobody default", "ERR The 'default' user cannot be removed");
    client.must_err("ACL SAVE", "ERR This Redis instance is not configured to use an ACL file.");
    client.must_err("ACL SETUSER bob on", "ERR 'acl|setuser' is refused by weft: there is one user");
    assert!(client.call("ACL CAT").items().expect("categories").contains(&"keyspace".into()));
    client.must_reply("MODULE LIST", Reply::Array(vec![]));
    client.must_err("MODULE LOAD x", "ERR MODULE command not allowed.");
    client.must_err("DEBUG SLEEP 0", "ERR DEBUG command not allowed.");

    client.must_reply("CONFIG GET maxclients", Reply::Array(vec!["maxclients".into(), "77".into()]));
    client.must_reply("CONFIG GET databases", Reply::Array(vec!["databases".into(), "1".into()]));
    client.must_reply("CONFIG GET appendonly", Reply::Array(vec!["appendonly".into(), "no".into()]));
    client.must_reply("CONFIG GET port", Reply::Array(vec!["port".into(), weft.address().port().to_string().as_str().into()]));
    client.must_reply("CONFIG GET requirepass masterauth dir logfile nonsense", Reply::Array(vec![]));
    client.must_ok("CONFIG RESETSTAT");
    let mut resp3 = weft.client_resp3();
    resp3.must_reply("CONFIG GET save", Reply::Map(vec![("save".into(), "".into())]));
}

#[test]
fn what_was_called_is_told_of_all_shards_together() {
    let shards = Shards::fixed(Flavor::Redis, 2);
    let weft = Weft::start(&shards);
    let mut client = weft.client();
    let [a, b] = [0, 1].map(|index| shards.key_on(index, "k"));
    client.must_ok("CONFIG RESETSTAT");
    client.must_ok(&format!("SET {a} 1"));
    client.must_ok(&format!("SET {b} 1"));
    client.must_nil(&["EVAL", "redis.call('set', KEYS[1], 2)", "1", &a]);
    client.must_err(&format!("LPUSH {b} x"), "WRONGTYPE");
    client.must_ok("MULTI");
    client.must_queue(&format!("SET {a} 3"));
    client.must_reply("EXEC", Reply::Array(vec![Reply::ok()]));
    let told = |client: &mut Client, section: &str| client.call(&format!("INFO {section}")).text().expect("text");
    let commands = told(&mut client, "commandstats");
    for (command, calls, failed) in [("set", 4, 0), ("eval", 1, 0), ("multi", 1, 0), ("exec", 1, 0), ("lpush", 1, 1)] {
        let line = commands.lines().find(|line| line.starts_with(&format!("cmdstat_{command}:calls={calls},")));
        assert!(line.is_some_and(|line| line.ends_with(&format!(",rejected_calls=0,failed_calls={failed}"))), "{command} in {commands}");
    }
    assert!(told(&mut client, "errorstats").contains("errorstat_WRONGTYPE:count=1\r\n"));
    assert!(!told(&mut client, "").contains("cmdstat_"));
    client.must_int(&format!("RPUSH l{a} x y"), 2);
    client.call(&format!("BRPOP l{a} 0"));
    client.must_bulk(&format!("RPOP l{a}"), "x");
    let commands = told(&mut client, "commandstats");
    assert!(commands.contains("cmdstat_brpop:calls=1,") && commands.contains("cmdstat_rpop:calls=1,"), "{commands}");
    client.must_ok("CONFIG RESETSTAT");
    client.must_int(&format!("RPUSH l{a} x"), 1);
    client.call(&format!("BRPOP l{a} 0"));
    let commands = told(&mut client, "commandstats");
    assert!(commands.contains("cmdstat_brpop:calls=1,") && !commands.contains("cmdstat_rpop:"), "{commands}");
    client.must_ok("CONFIG RESETSTAT");
    assert!(!told(&mut client, "everything").contains("cmdstat_set"));
    assert!(told(&mut client, "stats").contains("total_error_replies:0\r\n"));
}

#[test]
fn every_shard_saves_what_it_has() {
    for mode in Mode::ALL {
        let mut shards = Shards::start(mode, Flavor::Redis, 2);
        let weft = Weft::start(&shards);
        let mut client = weft.client();
        let keys = [0, 1].map(|index| shards.key_on(index, "k"));
        keys.iter().for_each(|key| client.must_ok(&format!("SET {key} saved")));
        client.must_ok("SAVE");
        keys.iter().for_each(|key| client.must_ok(&format!("SET {key} lost")));
        let saves: Vec<Reply> = shards.servers().iter().map(|server| server.client().call("LASTSAVE")).collect();
        assert!(saves.contains(&client.call("LASTSAVE")), "{saves:?}");
        assert!(client.call("INFO persistence").text().expect("text").contains("rdb_last_bgsave_status:ok\r\n"));
        (0..2).for_each(|index| shards.server(index).restart());
        for key in keys {
            eventually(PATIENCE, "the shard is back", || client.call(&format!("GET {key}")) == "saved".into());
        }
        client.must_reply("BGSAVE", Reply::Simple("Background saving started".into()));
        eventually(PATIENCE, "they have saved", || {
            client.call("INFO persistence").text().expect("text").contains("rdb_bgsave_in_progress:0\r\n")
        });
    }
}

#[test]
fn memory_is_that_of_all_shards() {
    let shards = Shards::fixed(Flavor::Redis, 2);
    let weft = Weft::start(&shards);
    let mut client = weft.client();
    let value = "v".repeat(1 << 20);
    (0..2).for_each(|index| client.must_ok(&["SET", &shards.key_on(index, "k"), &value]));
    client.must_ok("CONFIG SET maxmemory 1gb");
    let told = client.call("INFO memory").text().expect("text");
    let field = |name: &str| told.lines().find_map(|line| line.strip_prefix(&format!("{name}:"))).map(str::to_owned);
    let used: u64 = field("used_memory").and_then(|used| used.parse().ok()).expect("a number");
    assert!(used > 2 << 20, "{told}");
    assert_eq!(field("maxmemory"), Some((2u64 << 30).to_string()), "{told}");
    assert_eq!(field("maxmemory_human").as_deref(), Some("2.00G"));
    let of_shard = shards.servers()[0].client().call("INFO memory").text().expect("text");
    let allocator = field("mem_allocator").expect("an allocator");
    assert!(of_shard.contains(&format!("\r\nmem_allocator:{allocator}\r\n")));
    assert!(client.call("INFO weft").text().expect("text").contains("\r\nprocess_memory:"));
}

#[test]
fn waiting_counts_the_replicas_of_the_shard_that_has_the_fewest() {
    for mode in Mode::ALL {
        let shards = Shards::start(mode, Flavor::Redis, 2);
        let weft = Weft::start(&shards);
        let mut client = weft.client();
        client.must_int("WAIT 1 50", 0);
        client.must_err("WAIT x 1", "ERR value is not an integer or out of range");
        client.must_err("WAIT 1 -1", "ERR timeout is negative");
        client.must_ok("MULTI");
        client.must_err("WAIT 1 1", "ERR Command not allowed inside a transaction");
        client.must_ok("DISCARD");
        if mode == Mode::Cluster {
            continue;
        }
        let replica = |index: usize| {
            let port = shards.servers()[index].address().port().to_string();
            Server::start(Flavor::Redis, &["--replicaof", "127.0.0.1", &port, "--repl-diskless-sync-delay", "0"])
        };
        let (mut first, _second) = (replica(0), replica(1));
        eventually(PATIENCE, "both shards have a replica", || client.call("WAIT 1 500") == Reply::from(1));
        client.must_int("WAIT 2 1000", 1);
        first.process().pause();
        client.must_ok(&format!("SET {} v", shards.key_on(0, "k")));
        client.must_int("WAIT 1 100", 0);
        first.process().resume();
        client.must_int("WAIT 1 4000", 1);
        assert!(shards.internal_keys().is_empty());
    }
}

#[test]
fn the_slow_logs_of_all_shards_are_one() {
    let shards = Shards::fixed(Flavor::Redis, 2);
    let weft = Weft::start(&shards);
    let mut client = weft.client();
    for server in shards.servers() {
        server.client().must_ok("CONFIG SET slowlog-log-slower-than 0");
        server.client().must_reply("PING", Reply::Simple("PONG".into()));
        server.client().must_ok("CONFIG SET slowlog-log-slower-than 1000000");
    }
    let Reply::Integer(length) = client.call("SLOWLOG LEN") else { panic!("a number") };
    assert!(length >= 4, "two on each shard: {length}");
    assert_eq!(client.call("SLOWLOG GET -1").items().map(<[_]>::len), Some(length as usize));
    client.must_ok("SLOWLOG RESET");
    client.must_int("SLOWLOG LEN", 0);
    client.must_int("LATENCY RESET", 0);
}

#[test]
fn tools_run_without_a_word() {
    let shards = Shards::fixed(Flavor::Redis, 3);
    let weft = Weft::start(&shards);
    let port = weft.address().port().to_string();
    let run = |program: &str, args: &[&str]| -> String {
        let Output { status, stdout, stderr } = Command::new(program).args(["-p", &port]).args(args).output().expect(program);
        let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert!(status.success() && stderr.is_empty(), "{program} {args:?}: {stdout}{stderr}");
        stdout.into_owned()
    };
    let figures = run("redis-benchmark", &["-q", "-n", "200", "-c", "5", "-t", "ping,set,get,incr,lpush,rpop,sadd,hset,mset", "-r", "100"]);
    assert!(!figures.to_lowercase().contains("error") && !figures.contains("WARNING"), "{figures}");
    assert_eq!(figures.matches("requests per second").count(), 10, "{figures}");
    assert!(run("redis-cli", &["--scan", "--pattern", "key:*"]).lines().count() > 50);
    assert!(run("redis-cli", &["--bigkeys"]).contains("Sampled"));
    assert_eq!(run("redis-cli", &["dbsize"]).trim(), run("redis-cli", &["--scan"]).lines().count().to_string());
}

#[test]
fn info_counts_transactions_as_they_ended() {
    let shards = Shards::fixed(Flavor::Redis, 2);
    let weft = Weft::start(&shards);
    let (mut client, mut other) = (weft.client(), weft.client());
    let (x, y) = (shards.key_on(0, "k"), shards.key_on(1, "k"));
    let mut exec = |watched: &str, between: &str, keys: &[&String]| {
        if !watched.is_empty() {
            client.must_ok(&format!("WATCH {watched}"));
        }
        if !between.is_empty() {
            other.must_ok(between);
        }
        client.must_ok("MULTI");
        keys.iter().for_each(|key| client.must_queue(&format!("SET {key} v")));
        client.call("EXEC")
    };
    let done = |count| Reply::array(vec![Reply::ok(); count]);
    assert_eq!(exec("", "", &[&x]), done(1));
    assert_eq!(exec("", "", &[&x, &y]), done(2));
    assert_eq!(exec(&y, "", &[&x, &y]), done(2));
    assert_eq!(exec(&y, &format!("SET {y} w"), &[&x, &y]), Reply::NilArray);
    let info = client.call("INFO weft").text().expect("a text");
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(&format!("{name}:"))).map(str::to_owned);
    for (name, count) in
        [("txn_one_phase_committed", "1"), ("txn_two_phase_committed", "2"), ("txn_two_phase_aborted", "1"), ("watch_aborts", "1")]
    {
        assert_eq!(field(name).as_deref(), Some(count), "{name} in {info}");
    }
    let opened: u32 = field("upstream_connections_opened").and_then(|count| count.parse().ok()).expect("a number");
    assert!(opened >= 2, "{info}");
}
