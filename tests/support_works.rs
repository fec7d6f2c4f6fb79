//! The test kit itself: what it starts answers, what it stops is silent, and its decoder reads what servers say.

use std::time::Duration;

use crate::support::{Flavor, Mode, Reply, Server, Shards, Weft, decode, eventually};

#[test]
fn a_server_can_be_paused_killed_and_started_again() {
    for flavor in Flavor::ALL {
        let mut server = Server::start(flavor, &["--databases", "4"]);
        let mut client = server.client();
        client.must_ok("SET k v");
        client.must_err("SELECT 4", "ERR DB index is out of range");

        server.process().pause();
        client.send("GET k");
        client.must_stay_silent(Duration::from_millis(50));
        server.process().resume();
        assert_eq!(client.receive(), Reply::from("v"));

        server.process().kill();
        client.must_be_closed();
        server.restart();
        server.must_answer();
        server.client().must_nil("GET k");
    }
}

#[test]
fn a_cluster_redirects_to_the_node_that_has_the_key() {
    for flavor in Flavor::ALL {
        let shards = Shards::cluster(flavor, 3);
        for (index, server) in shards.servers().iter().enumerate() {
            let key = shards.key_on(index, "k");
            assert_eq!(shards.shard_of(&key), index);
            server.client().must_ok(&format!("SET {key} v"));
            shards.servers()[(index + 1) % 3].client().must_err(&format!("GET {key}"), "MOVED");
        }
        assert!(shards.internal_keys().is_empty());
    }
}

#[test]
fn a_proxy_answers_is_paused_and_ends_when_asked_to() {
    for mode in Mode::ALL {
        let shards = Shards::start(mode, Flavor::Redis, 2);
        let mut weft = Weft::setup(&shards).set("limits.clients_max", 100).set("isolation", "relaxed").start();
        for index in 0..2 {
            let key = shards.key_on(index, "k");
            weft.client().must_ok(&format!("SET {key} v"));
            weft.client_resp3().must_bulk(&format!("GET {key}"), "v");
            shards.servers()[index].client().must_bulk(&format!("GET {key}"), "v");
        }

        let mut client = weft.client();
        weft.process().pause();
        client.send("PING");
        client.must_stay_silent(Duration::from_millis(50));
        weft.process().resume();
        client.must_receive("+PONG\r\n");
        assert_eq!(weft.terminate().code(), Some(0), "{mode:?}");
    }
}

#[test]
fn a_client_compares_exact_bytes_and_decodes_resp3() {
    let server = Server::start(Flavor::Redis, &[]);
    let mut client = server.client();
    client.send_raw("MULTI\r\nINCR n\r\n*2\r\n$3\r\nGET\r\n$1\r\nx\r\nEXEC\r\n");
    client.must_receive("+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:1\r\n$-1\r\n");
    client.must_int(&["HSET", "h", "a field", "1"], 1);
    assert!(matches!(client.call("HELLO 3"), Reply::Map(_)));
    client.must_reply("HGETALL h", Reply::Map(vec![("a field".into(), "1".into())]));
    client.must_nil("GET x");
    client.finish_sending();
    client.must_be_closed();
}

#[test]
fn an_incomplete_reply_is_not_a_reply() {
    let whole = b"*3\r\n:1\r\n$2\r\nab\r\n%1\r\n+k\r\n,1.5\r\n";
    for length in 0..whole.len() {
        assert!(decode(&whole[..length]).is_none(), "{length} bytes");
    }
    let (reply, length) = decode(whole).expect("complete");
    assert_eq!(length, whole.len());
    let map = Reply::Map(vec![(Reply::Simple("k".into()), Reply::Double("1.5".into()))]);
    assert_eq!(reply, Reply::Array(vec![1.into(), "ab".into(), map]));
}

#[test]
fn eventually_sees_what_comes_true_later() {
    let mut polls = 0;
    eventually(Duration::from_secs(5), "three polls", || {
        polls += 1;
        polls == 3
    });
}
