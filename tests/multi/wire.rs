//! Transactions byte for byte: most of these run beside a server that weft does not know, whose every reply must be the same.

use crate::support::on_each;

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
