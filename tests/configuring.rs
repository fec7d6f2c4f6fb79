//! CONFIG GET and SET: what is the shards' is set on all of them or on none, what is weft's own is told and stays.

use crate::support::{Client, Flavor, Reply, Shards, Weft};

fn failed(parameter: &str, reason: &str) -> String {
    format!("ERR CONFIG SET failed (possibly related to argument '{parameter}') - {reason}")
}

fn told(client: &mut Client, parameter: &str) -> Option<String> {
    let reply = client.call(&format!("CONFIG GET {parameter}"));
    let items = reply.items().expect("an array");
    assert!(items.len() <= 2, "{reply:?}");
    items.get(1).and_then(Reply::text)
}

#[track_caller]
fn must_be_everywhere(shards: &Shards, parameter: &str, value: &str) {
    for server in shards.servers() {
        assert_eq!(told(&mut server.client(), parameter).as_deref(), Some(value), "{parameter}");
    }
}

#[test]
fn a_parameter_about_data_is_set_on_every_shard_and_no_other_is() {
    let shards = Shards::fixed(Flavor::Redis, 2);
    let weft = Weft::setup(&shards).set("limits.clients_max", 77).start();
    let mut client = weft.client();
    client.must_ok(&["CONFIG", "SET", "hash-max-listpack-entries", "7", "maxclients", "77", "LFU-decay-time", "3", "save", "3000 5"]);
    must_be_everywhere(&shards, "hash-max-listpack-entries", "7");
    must_be_everywhere(&shards, "lfu-decay-time", "3");
    must_be_everywhere(&shards, "save", "3000 5");
    assert_eq!(told(&mut client, "hash-max-listpack-entries").as_deref(), Some("7"));

    for (wanted, parameter, reason) in [
        ("maxclients 78", "maxclients", "can't set immutable config: it is limits.clients_max"),
        ("maxclients x", "maxclients", "argument couldn't be parsed into an integer"),
        ("port 1", "port", "Unable to listen on this port: that is listen.address"),
        ("timeout 1", "timeout", "weft closes no idle client"),
        ("requirepass x", "requirepass", "can't set immutable config"),
        ("daemonize yes", "daemonize", "can't set immutable config"),
        ("databases 16", "databases", "can't set immutable config"),
        ("maxmemory x", "maxmemory", "argument must be a memory value"),
        ("maxmemory-clients 200%", "maxmemory-clients", "percentage argument must be less or equal to 100"),
        ("Hash-max-listpack-entries 9", "Hash-max-listpack-entries", "duplicate parameter"),
        ("timeout 0 Timeout 0", "Timeout", "duplicate parameter"),
        ("maxmemory-policy allkeys-lru", "maxmemory-policy", "it could evict the records"),
    ] {
        client.must_err(&format!("CONFIG SET hash-max-listpack-entries 8 {wanted}"), &failed(parameter, reason));
    }
    client.must_err("CONFIG SET Nonsense 1", "ERR Unknown option or number of arguments for CONFIG SET - 'Nonsense'");
    client.must_err("CONFIG SET max* 1", "ERR Unknown option or number of arguments for CONFIG SET - 'max*'");
    client.must_err("CONFIG SET maxmemory 1 save", "ERR syntax error");
    must_be_everywhere(&shards, "hash-max-listpack-entries", "7");
    must_be_everywhere(&shards, "maxmemory", "0");
    must_be_everywhere(&shards, "maxmemory-policy", "noeviction");
}

#[test]
fn what_one_shard_refuses_is_taken_back_on_the_others() {
    let shards = Shards::fixed(Flavor::Redis, 3);
    for (server, entries) in shards.servers().iter().zip(["5", "6", "7"]) {
        server.client().must_ok(&["CONFIG", "SET", "list-max-listpack-size", entries]);
    }
    let weft = Weft::start(&shards);
    let mut client = weft.client();
    shards.servers()[2].client().must_ok("ACL SETUSER default -config|set");
    client.must_err("CONFIG SET list-max-listpack-size 9 maxmemory 100mb", "NOPERM");
    for (server, entries) in shards.servers().iter().zip(["5", "6", "7"]) {
        assert_eq!(told(&mut server.client(), "list-max-listpack-size").as_deref(), Some(entries));
    }
    must_be_everywhere(&shards, "maxmemory", "0");
    shards.servers()[2].client().must_ok("ACL SETUSER default +config|set");
    client.must_ok("CONFIG SET list-max-listpack-size 9 maxmemory 100mb");
    must_be_everywhere(&shards, "list-max-listpack-size", "9");
    must_be_everywhere(&shards, "maxmemory", "104857600");
}

#[test]
fn nothing_is_set_while_a_shard_is_away() {
    let mut shards = Shards::fixed(Flavor::Redis, 2);
    let weft = Weft::start(&shards);
    let mut client = weft.client();
    shards.server(1).process().kill();
    client.must_err("CONFIG SET maxmemory 100mb", "UNAVAILABLE the shard cannot be reached; nothing was applied");
    assert_eq!(told(&mut shards.servers()[0].client(), "maxmemory").as_deref(), Some("0"));
}

#[test]
fn whoever_allows_eviction_may_have_it() {
    let shards = Shards::fixed(Flavor::Redis, 2);
    let weft = Weft::setup(&shards).set("transactions.allow_eviction", true).start();
    weft.client().must_ok("CONFIG SET maxmemory-policy allkeys-lru");
    must_be_everywhere(&shards, "maxmemory-policy", "allkeys-lru");
}

#[test]
fn several_patterns_are_answered_together_and_each_parameter_once() {
    let shards = Shards::fixed(Flavor::Redis, 2);
    let weft = Weft::start(&shards);
    let mut resp3 = weft.client_resp3();
    let Reply::Map(pairs) = resp3.call("CONFIG GET maxmemory MAXMEMORY* bind *of key-load-delay") else { panic!("a map") };
    let mut names: Vec<String> = pairs.iter().filter_map(|(name, _)| name.text()).collect();
    for name in ["maxmemory", "maxmemory-samples", "maxmemory-clients", "bind", "slaveof", "replicaof", "key-load-delay"] {
        assert!(names.iter().any(|told| told == name), "{name} in {names:?}");
    }
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);

    let mut client = weft.client();
    let all = client.call("CONFIG GET *");
    let parameters: Vec<String> = all.items().expect("an array").iter().filter_map(Reply::text).collect();
    assert!(!parameters.contains(&"key-load-delay".to_owned()) && parameters.contains(&"appendonly".to_owned()));
    for hidden in ["requirepass", "masterauth", "dir", "unixsocket", "logfile", "pidfile"] {
        assert!(!parameters.contains(&hidden.to_owned()), "{hidden}");
        assert_eq!(told(&mut client, hidden), None);
    }
    // What a server tells can be set again.
    let immutable = ["cluster-enabled", "databases", "replicaof", "slaveof"];
    for pair in parameters.chunks_exact(2).filter(|pair| !immutable.contains(&&pair[0][..])) {
        client.must_ok(&["CONFIG", "SET", &pair[0], &pair[1]]);
    }
    assert_eq!(client.call("CONFIG GET *"), all);
}
