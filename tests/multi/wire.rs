//! Transactions byte for byte: most of these run beside a server that weft does not know, whose every reply must be the same.

use crate::support::{Reply, on_each};

#[test]
fn exec_of_nothing_is_an_empty_array() {
    on_each(|stage| {
        stage.must_agree("MULTI; EXEC; WATCH X Y; MULTI; EXEC; MULTI; DISCARD");
    });
}

#[test]
fn words_out_of_place_are_refused_as_redis_refuses_them() {
    on_each(|stage| {
        stage.must_agree(
            "EXEC; DISCARD; UNWATCH; WATCH; MULTI x; EXEC x; MULTI; WATCH; EXEC; MULTI; EXEC x; EXEC; DISCARD; MULTI; UNWATCH; \
             EXEC",
        );
    });
}

#[test]
fn errors_stand_in_the_array_where_the_commands_stood() {
    on_each(|stage| {
        stage.must_agree(
            "MULTI; SET X a; LPUSH X 1; INCR X; SET Y 9223372036854775807; INCR Y; HSET Z f a; HINCRBY Z f 1; GET X; \
             LRANGE Z 0 -1; SET X b EX 0; SINTERCARD nonsense X; EXEC; MGET X Y Z",
        );
    });
}

#[test]
fn commands_about_the_connection_are_queued_and_answered_in_their_place() {
    on_each(|stage| {
        stage.must_agree(
            "MULTI; PING; PING hello; SET X 1; ECHO there; CLIENT SETNAME me; CLIENT GETNAME; INCR Y; PING a b; CLIENT NO-EVICT \
             on; EXEC; CLIENT GETNAME; MULTI; CLIENT SETNAME you; DISCARD; CLIENT GETNAME",
        );
    });
}

#[test]
fn replies_behind_a_hello_are_in_its_protocol() {
    on_each(|stage| {
        let [x, y, z] = stage.keys();
        let mut client = stage.client();
        client.must_int(&format!("HSET {x} f v"), 1);
        client.must_int(&format!("ZADD {y} 1 a"), 1);
        let greeting = |reply: &Reply, proto: i64| {
            let words = match reply {
                Reply::Array(words) => words.clone(),
                Reply::Map(pairs) => pairs.iter().flat_map(|(key, value)| [key.clone(), value.clone()]).collect(),
                other => panic!("{other:?}"),
            };
            assert!(words.windows(2).any(|pair| pair == ["proto".into(), Reply::Integer(proto)]), "{words:?}");
        };
        let flat = || Reply::array(["f", "v"]);
        let map = || Reply::Map(vec![("f".into(), "v".into())]);
        let scores = Reply::Array(vec![Reply::Array(vec!["a".into(), Reply::Double("1".into())])]);
        let queue = format!(
            "MULTI;HGETALL {x};HELLO 3;HGETALL {x};ZRANGE {y} 0 -1 WITHSCORES;MGET {z} {x};SET {z} 1;HELLO 4;HELLO 3 AUTH nobody x;EVAL return{{}} 0;\
             HELLO 2;ZRANGE {y} 0 -1 WITHSCORES;HELLO 3"
        );
        queue.split(';').for_each(|command| drop(client.call(command)));
        let Reply::Array(replies) = client.call("EXEC") else { panic!("EXEC has no array") };
        let [before, hello3, after, ranked, values, set, no4, nobody, script, hello2, flat_again, last] = &replies[..] else {
            panic!("{replies:?}")
        };
        assert_eq!([before, after, ranked, set], [&flat(), &map(), &scores, &Reply::ok()]);
        assert_eq!(
            [values, script, flat_again],
            [&Reply::Array(vec![Reply::Nil, Reply::Nil]), &Reply::Array(vec![]), &Reply::array(["a", "1"])]
        );
        assert!(
            matches!((no4, nobody), (Reply::Error(no4), Reply::Error(nobody)) if no4.starts_with("NOPROTO") && nobody.starts_with("WRONGPASS"))
        );
        [(hello3, 3), (hello2, 2), (last, 3)].into_iter().for_each(|(reply, proto)| greeting(reply, proto));
        client.must_reply(&format!("HGETALL {x}"), map());
        client.must_ok("MULTI");
        drop(client.call("HELLO 2"));
        client.must_ok("DISCARD");
        client.must_reply(&format!("HGETALL {x}"), map());
        // Nothing but scripts without keys, which have no place of their own.
        ["MULTI", "HELLO 2", "EVAL return{} 0"].into_iter().for_each(|command| drop(client.call(command)));
        assert!(matches!(client.call("EXEC"), Reply::Array(replies) if replies.len() == 2 && replies[1] == Reply::Array(vec![])));
        client.must_reply(&format!("HGETALL {x}"), flat());
    });
}

#[test]
fn a_queued_command_with_the_wrong_number_of_arguments_spoils_the_transaction() {
    on_each(|stage| {
        stage.must_agree("MULTI; SET X; SET Y 1; EXEC; EXISTS Y; MULTI; nope X Y; SET Y 1; EXEC; EXISTS Y");
        stage.must_agree("MULTI; SET X; DISCARD; MULTI; SET Y 1; SET Z 1; EXEC");
    });
}

#[test]
fn a_broken_watch_is_a_null_array_in_resp2_and_a_null_in_resp3() {
    on_each(|stage| {
        for (mut client, null) in [(stage.client(), "*-1\r\n"), (stage.client_resp3(), "_\r\n")] {
            let [x, y, z] = stage.keys();
            client.send_raw(format!("WATCH {x} {y}\r\nSET {x} 1\r\nMULTI\r\nSET {y} 1\r\nSET {z} 1\r\nEXEC\r\nPING\r\n"));
            client.must_receive(format!("+OK\r\n+OK\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n{null}+PONG\r\n"));
            client.send_raw(format!("WATCH {x}\r\nSET {x} 1\r\nMULTI\r\nGET {x}\r\nEXEC\r\n"));
            client.must_receive(format!("+OK\r\n+OK\r\n+OK\r\n+QUEUED\r\n{null}"));
        }
    });
}

#[test]
fn watch_and_exec_agree_on_every_outcome() {
    on_each(|stage| {
        stage.must_agree(
            "WATCH X Y; MULTI; SET X 1; SET Y 2; SET Z 3; EXEC; WATCH X X; SET Y 5; MULTI; GET X; GET Y; EXEC; WATCH Z; DEL Z; \
             MULTI; GET X; EXEC; WATCH X; WATCH Y; WATCH X; SET Y 1; MULTI; SET X 1; EXEC; WATCH X; SETNX X 1; MULTI; SET Z 2; \
             EXEC; WATCH X; SET X 1; DISCARD; UNWATCH; MULTI; MSET X 7 Y 8 Z 9; MGET X Y Z; DEL X Y nothing; EXISTS X Y Z Z; \
             EXEC",
        );
    });
}

#[test]
fn commands_over_several_shards_work_within_a_transaction() {
    on_each(|stage| {
        stage.must_agree(
            "MULTI; MSET X 1 Y 2; MGET X Y Z; DEL X Z; MGET X Y Z X; SADD Z a; MGET Z Y; TOUCH X Y Z; UNLINK Y Z; EXISTS X Y Z; \
             EXEC; MULTI; MSET X 1 Y; EXEC; MULTI; MGET X Y; EXISTS X Z; EXEC",
        );
    });
}

#[test]
fn select_within_a_transaction_moves_what_follows_it() {
    on_each(|stage| {
        if !stage.is_static() {
            return;
        }
        stage.must_agree(
            "MULTI; SET X 0; SELECT 1; SET X 1; SET Y 1; SELECT 99; SELECT nonsense; GET X; SELECT 0; GET X; GET Y; SELECT 2; \
             EXEC; GET X; SET X 2; SELECT 1; GET X; SELECT 0; GET X; MULTI; SELECT 1; GET X; DISCARD; GET X; SELECT 2; GET X",
        );
    });
}

#[test]
fn replies_of_every_type_survive_a_transaction_over_shards() {
    on_each(|stage| {
        stage.must_agree(
            "MULTI; HSET X a 1 b 2; HGETALL X; ZADD Y 1.5 m; ZADD Y INCR 1 m; ZSCORE Y m; ZRANGE Y 0 -1 WITHSCORES; \
             ZADD Y XX INCR 1 none; SADD Z a; SMEMBERS Z; LPOP nothing 2; LPOP nothing; ZPOPMIN Y 0; GEOPOS nothing q; \
             HRANDFIELD X 0; INCRBYFLOAT nothing 0.1; XRANGE nothing2 - +; CONFIG; EXEC; MULTI; HSET X a 1; HGETALL X; \
             HGETALL Y; ZRANGE Y 0 -1 WITHSCORES; LPOP nothing3 2; SET Z 9007199254740993; INCRBY Z 9214364837600034814; \
             INCR Z; GETSET Z 1; EXEC",
        );
    });
}
