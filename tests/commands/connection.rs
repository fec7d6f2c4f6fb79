//! Commands about the connection, what they change, and the commands that are refused.

use crate::support::{Reply, Weft, on_each};

#[test]
fn hello_switches_the_protocol_back_and_forth() {
    on_each(|stage| {
        let [x, y, _] = stage.keys();
        let mut client = stage.client();
        client.must_int(&format!("HSET {x} f v"), 1);
        let flat = Reply::array(["f", "v"]);
        let map = Reply::Map(vec![("f".into(), "v".into())]);
        for _ in 0..2 {
            client.must_reply(&format!("HGETALL {x}"), flat.clone());
            assert!(matches!(client.call("HELLO 3"), Reply::Map(_)));
            client.must_reply(&format!("HGETALL {x}"), map.clone());
            client.send_raw(format!("GET {y}\r\n"));
            client.must_receive("_\r\n");
            assert!(matches!(client.call("HELLO 2"), Reply::Array(_)));
            client.send_raw(format!("GET {y}\r\n"));
            client.must_receive("$-1\r\n");
        }
        client.send_raw(format!("HGETALL {x}\r\nHELLO 3\r\nHGETALL {x}\r\n"));
        assert_eq!(client.receive(), flat);
        assert!(matches!(client.receive(), Reply::Map(_)));
        assert_eq!(client.receive(), map);
    });
}

#[test]
fn hello_refuses_what_it_does_not_know() {
    on_each(|stage| {
        stage.must_agree("HELLO 4; HELLO x; HELLO 3 NONSENSE; HELLO 2 SETNAME; HELLO 3 AUTH a b; PING");
    });
}

#[test]
fn hello_names_who_answers() {
    on_each(|stage| {
        let Reply::Map(fields) = stage.client().call("HELLO 3") else { panic!("HELLO 3 answers a map") };
        let names: Vec<_> = fields.iter().filter_map(|(name, _)| name.text()).collect();
        assert_eq!(names, ["server", "version", "proto", "id", "mode", "role", "modules"]);
        assert_eq!(fields[0].1, "redis".into());
        assert_eq!(fields[2].1, 3.into());
    });
}

#[test]
fn reset_forgets_everything_about_the_connection() {
    on_each(|stage| {
        let [x, y, _] = stage.keys();
        let mut client = stage.client_resp3();
        client.must_ok("CLIENT SETNAME me");
        client.must_ok(&format!("WATCH {x} {y}"));
        client.must_ok(&format!("SET {x} 1"));
        client.must_ok("MULTI");
        client.must_queue(&format!("SET {y} 1"));
        client.must_reply("RESET", Reply::Simple("RESET".into()));
        client.must_err("EXEC", "ERR EXEC without MULTI");
        client.send_raw(format!("GET {y}\r\n"));
        client.must_receive("$-1\r\n");
        client.must_nil("CLIENT GETNAME");
        client.must_ok("MULTI");
        client.must_queue(&format!("SET {y} 2"));
        client.must_reply("EXEC", Reply::Array(vec![Reply::ok()]));
    });
}

#[test]
fn client_reply_off_and_skip_mute_exactly_what_redis_mutes() {
    on_each(|stage| {
        let [x, y, z] = stage.keys();
        let mut client = stage.client();
        client.send_raw(format!("CLIENT REPLY SKIP\r\nINCR {x}\r\nINCR {x}\r\n"));
        client.must_receive(":2\r\n");
        client.send_raw(format!(
            "CLIENT REPLY OFF\r\nINCR {x}\r\nGET {x}\r\nMGET {x} {y}\r\nNOSUCH\r\nGET\r\nPING\r\nCLIENT REPLY ON\r\nINCR {x}\r\n"
        ));
        client.must_receive("+OK\r\n:4\r\n");
        client.send_raw("CLIENT REPLY SKIP\r\nPING\r\nPING one\r\nCLIENT REPLY SKIP\r\nNOSUCH\r\nPING two\r\n");
        client.must_receive("$3\r\none\r\n$3\r\ntwo\r\n");
        client.send_raw(format!("CLIENT REPLY OFF\r\nMULTI\r\nINCR {x}\r\nINCR {y}\r\nEXEC\r\nWATCH {z}\r\nSET {z} 1\r\n"));
        client.send_raw(format!("MULTI\r\nINCR {y}\r\nEXEC\r\nCLIENT REPLY ON\r\nMGET {x} {y}\r\n"));
        client.must_receive("+OK\r\n*2\r\n$1\r\n5\r\n$1\r\n1\r\n");
    });
}

#[test]
fn databases_are_apart_where_the_shards_have_several() {
    on_each(|stage| {
        let [x, y, z] = stage.keys();
        let mut client = stage.client();
        if !stage.is_static() {
            client.must_ok("SELECT 0");
            client.must_err("SELECT 1", "ERR SELECT is not allowed in cluster mode");
            return;
        }
        let mut other = stage.client();
        other.must_ok("SELECT 3");
        client.must_ok(&format!("MSET {x} 0 {y} 0"));
        other.must_reply(&format!("MGET {x} {y}"), Reply::Array(vec![Reply::Nil, Reply::Nil]));
        other.must_ok(&format!("MSET {x} 3 {y} 3 {z} 3"));
        client.must_reply(&format!("MGET {x} {y} {z}"), Reply::Array(vec!["0".into(), "0".into(), Reply::Nil]));
        other.must_ok("MULTI");
        other.must_queue(&format!("INCR {x}"));
        other.must_queue(&format!("DEL {y} {z}"));
        other.must_reply("EXEC", Reply::array([4, 2]));
        client.must_reply(&format!("MGET {x} {y} {z}"), Reply::Array(vec!["0".into(), "0".into(), Reply::Nil]));
        // In one write: each command goes to the database selected before it.
        client.send_raw(format!("GET {x}\r\nSELECT 3\r\nGET {x}\r\nSELECT 0\r\nGET {x}\r\nSELECT 16\r\nSELECT x\r\nGET {x}\r\n"));
        let out_of_range = "-ERR DB index is out of range\r\n-ERR value is not an integer or out of range\r\n";
        client.must_receive(format!("$1\r\n0\r\n+OK\r\n$1\r\n4\r\n+OK\r\n$1\r\n0\r\n{out_of_range}$1\r\n0\r\n"));
    });
}

#[test]
fn unknown_commands_and_wrong_numbers_of_arguments_are_answered_as_by_redis() {
    on_each(|stage| {
        stage.must_agree(
            "nosuch; NoSuch a b c; GET; GET a b; SET a; CLIENT; CLIENT nosuch; CLIENT ID x; CLIENT REPLY; OBJECT; \
             OBJECT nosuch X; XGROUP nosuch; CLIENT REPLY sometimes; CLIENT SETNAME; ECHO; SELECT; CLIENT LIST nonsense; \
             TIME x; COMMAND nosuch",
        );
    });
}

#[test]
fn a_command_that_is_refused_says_so_and_the_connection_goes_on() {
    let refused = [
        ("SHUTDOWN", "ERR 'shutdown' is refused by weft: "),
        ("CONFIG REWRITE", "ERR 'config|rewrite' is refused by weft: "),
        ("REPLICAOF NO ONE", "ERR 'replicaof' is refused by weft: "),
        ("SET __weft:x:mine 1", "ERR keys that begin with '__weft:' are reserved for weft"),
        ("MGET mine __weft:x:mine", "ERR keys that begin with '__weft:' are reserved for weft"),
        ("WATCH __weft:x:mine", "ERR keys that begin with '__weft:' are reserved for weft"),
    ];
    on_each(|stage| {
        let [x, ..] = stage.keys();
        let mut client = stage.client();
        for (command, expected) in refused {
            client.must_err(command, expected);
        }
        client.must_ok(&format!("SET {x} 1"));
    });
}

#[test]
fn with_relaxed_isolation_transactions_and_plain_commands_work_alike() {
    on_each(|stage| {
        let [x, y, z] = stage.keys();
        let relaxed = Weft::setup(stage.shards()).set("isolation", "relaxed").start();
        let mut client = relaxed.client();
        client.must_ok(&format!("MSET {x} 1 {y} 2"));
        client.must_ok(&format!("WATCH {x} {y}"));
        client.must_ok("MULTI");
        client.must_queue(&format!("INCR {x}"));
        client.must_queue(&format!("INCR {y}"));
        client.must_queue(&format!("LPUSH {x} a"));
        let Reply::Array(replies) = client.call("EXEC") else { panic!("EXEC answers an array") };
        assert_eq!(replies[..2], [2.into(), 3.into()]);
        assert!(matches!(&replies[2], Reply::Error(text) if text.starts_with("WRONGTYPE")));
        client.must_reply(&format!("MGET {x} {y} {z}"), Reply::Array(vec!["2".into(), "3".into(), Reply::Nil]));
        client.must_int(&format!("DEL {x} {y}"), 2);
    });
}
