//! The protocol itself: inline commands, input that is no request, and what happens to the connection then.

use crate::support::{Client, Flavor, Mode, Reply, Server, Shards, Weft, on_each};

#[test]
fn inline_commands_are_commands() {
    on_each(|stage| {
        let [x, y, _] = stage.keys();
        let mut client = stage.client();
        client.send_raw(format!("SET {x} \"a b\\x41\\r\\n\"\r\nget {x}\n\r\n  \r\nSET {y} 'it\\'s'\r\nGET {y}\r\nPING\r\n"));
        client.must_receive("+OK\r\n$6\r\na bA\r\n\r\n+OK\r\n$4\r\nit's\r\n+PONG\r\n");
        client.send_raw(format!("MULTI\r\nDEL {x}\r\n*2\r\n$3\r\nDEL\r\n${}\r\n{y}\r\nEXEC\r\n*0\r\n*-1\r\nPING\r\n", y.len()));
        client.must_receive("+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:1\r\n:1\r\n+PONG\r\n");
    });
}

/// Input that is no request, and what is said before the connection closes.
const MALFORMED: &[(&str, &str)] = &[
    ("*3\r\n$3\r\nSET\r\n$1\r\nx\r\n:5\r\n", "-ERR Protocol error: expected '$', got ':'\r\n"),
    ("*3\r\n$3\r\nSET\r\n$1\r\nx\r\nabc\r\n", "-ERR Protocol error: expected '$', got 'a'\r\n"),
    ("*2147483648\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
    ("*abc\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
    ("*+1\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
    ("*01\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
    ("*1\r\n$-1\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
    ("*1\r\n$abc\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
    ("*1\r\n$04\r\nPING\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
    ("*1\r\n$2000000000\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
    ("SET x \"unbalanced\r\n", "-ERR Protocol error: unbalanced quotes in request\r\n"),
    ("SET x 'a'b\r\n", "-ERR Protocol error: unbalanced quotes in request\r\n"),
];

#[test]
fn malformed_input_is_answered_with_redis_text_and_the_connection_closed() {
    on_each(|stage| {
        for (input, expected) in MALFORMED {
            let mut client = stage.client();
            client.send_raw(format!("PING\r\n{input}"));
            client.must_receive(format!("+PONG\r\n{expected}"));
            client.must_be_closed();
        }
        let mut endless = stage.client();
        endless.send_raw("x".repeat(70_000));
        endless.must_receive("-ERR Protocol error: too big inline request\r\n");
        let mut endless = stage.client();
        endless.send_raw(format!("*{}", "1".repeat(70_000)));
        endless.must_receive("-ERR Protocol error: too big mbulk count string\r\n");
    });
}

#[test]
fn the_texts_for_malformed_input_are_redis_own() {
    let server = Server::start(Flavor::Redis, &[]);
    for (input, expected) in MALFORMED {
        let mut client = server.client();
        client.send_raw(input);
        client.must_receive(expected);
    }
}

#[test]
fn a_transaction_cut_short_by_malformed_input_applies_nothing() {
    on_each(|stage| {
        let [x, y, _] = stage.keys();
        let mut client = stage.client();
        client.send_raw(format!("MULTI\r\nSET {x} 1\r\nSET {y} 1\r\n*1\r\n:1\r\n"));
        client.must_receive("+OK\r\n+QUEUED\r\n+QUEUED\r\n-ERR Protocol error: expected '$', got ':'\r\n");
        client.must_be_closed();
        stage.client().must_int(&format!("EXISTS {x} {y}"), 0);
    });
}

#[test]
fn http_on_the_wrong_port_is_hung_up_on() {
    on_each(|stage| {
        for line in ["POST / HTTP/1.1\r\nFLUSHALL\r\n", "GET x\r\nHost: localhost:6380\r\nPING\r\n"] {
            let mut client = stage.client();
            client.send_raw(line);
            while client.try_receive().is_ok() {}
            client.must_be_closed();
        }
    });
}

#[test]
fn quit_answers_and_closes_behind_what_was_sent_before() {
    on_each(|stage| {
        let [x, ..] = stage.keys();
        let mut client = stage.client();
        client.send_raw(format!("SET {x} 1\r\nGET {x}\r\nQUIT\r\nSET {x} 2\r\n"));
        client.must_receive("+OK\r\n$1\r\n1\r\n+OK\r\n");
        client.must_be_closed();
        stage.client().must_bulk(&format!("GET {x}"), "1");
    });
}

#[test]
fn with_a_password_nothing_works_before_auth() {
    for mode in Mode::ALL {
        let shards = Shards::start(mode, Flavor::Redis, 3);
        let weft = Weft::setup(&shards).set("password", "secret").start();
        let mut client = Client::connect(weft.address());
        for command in ["GET x", "SET x 1", "MULTI", "EXEC", "CLIENT ID", "NOSUCH", "GET", "PING"] {
            client.must_err(command, "NOAUTH Authentication required.");
        }
        client.must_err("AUTH wrong", "WRONGPASS invalid username-password pair or user is disabled.");
        client.must_err("HELLO 3", "NOAUTH HELLO must be called with the client already authenticated");
        client.must_err("HELLO 3 AUTH default wrong", "WRONGPASS");
        client.must_err("AUTH someone secret", "WRONGPASS");
        client.must_ok("AUTH secret");
        client.must_ok("SET x 1");
        client.must_err("AUTH wrong", "WRONGPASS");
        client.must_bulk("GET x", "1");
        client.must_reply("RESET", Reply::Simple("RESET".into()));
        client.must_err("GET x", "NOAUTH");
        client.must_ok("AUTH default secret");
        client.must_bulk("GET x", "1");
        let mut resp3 = Client::connect(weft.address());
        assert!(matches!(resp3.call("HELLO 3 AUTH default secret SETNAME me"), Reply::Map(_)));
        resp3.must_bulk("CLIENT GETNAME", "me");

        for (flood, text) in [("*11\r\n", "unauthenticated multibulk length"), ("*1\r\n$16385\r\n", "unauthenticated bulk length")] {
            let mut stranger = Client::connect(weft.address());
            stranger.send_raw(flood);
            stranger.must_receive(format!("-ERR Protocol error: {text}\r\n"));
            stranger.must_be_closed();
        }
    }
}
