//! Values and replies that are easily bent on the way: wide integers, nulls of both kinds, RESP3's types, large and binary data.

use crate::support::{Reply, on_each};

#[test]
fn integers_beyond_what_a_double_holds_keep_their_digits() {
    on_each(|stage| {
        stage.must_agree(
            "SET X 9223372036854775806; INCR X; INCR X; INCRBY X -1; DECRBY X 9223372036854775806; \
             DECRBY X -9223372036854775808; SET Y -9223372036854775808; DECR Y; INCRBY Y 1; HSET Z f 9007199254740993; \
             HINCRBY Z f 2; HINCRBY Z f 9214364837600034812; HINCRBY Z f 1; INCRBY X 9007199254740993; GET X; \
             BITFIELD Y SET i64 0 9223372036854775807 INCRBY i64 0 -1; EXPIRE missing 1",
        );
    });
}

#[test]
fn nulls_are_of_the_kind_that_redis_gives() {
    on_each(|stage| {
        stage.must_agree(
            "LPOP X; LPOP X 2; RPOP X 2; LPOP X 0; RPUSH X a b c; LPOP X 2; LPOP X 5; LPOP X 0; GETDEL Y; GETSET Y a; GETEX Y; \
             SET Y b GET; SET Z b NX GET; SET Z c NX GET; SET Z c NX; SPOP missing; SPOP missing 2; ZSCORE missing m; \
             ZMSCORE missing a b; HGET missing f; HMGET missing f g; ZRANK missing a; LINDEX X 9; LPOS X q; \
             LMOVE X X LEFT RIGHT; ZADD X NX 1 a; GEODIST missing a b; OBJECT ENCODING missing; RPOPLPUSH missing missing; \
             ZPOPMIN missing; SRANDMEMBER missing; HRANDFIELD missing; ZRANDMEMBER missing; XREAD STREAMS missing 0",
        );
    });
}

#[test]
fn maps_sets_and_doubles_are_native_in_resp3() {
    on_each(|stage| {
        stage.must_agree(
            "HSET X a 1 b 2; HGETALL X; HRANDFIELD X 0 WITHVALUES; SADD Y a; SMEMBERS Y; SREM Y a; SADD Y 1 2 3; SISMEMBER Y 1; \
             SMISMEMBER Y 1 9; SINTER Y Y; SUNION Y Y; SPOP Y 9; ZADD Z 1.5 a 2 b inf c; ZADD Z INCR 0.25 a; ZINCRBY Z 1e300 b; \
             ZSCORE Z c; ZRANGE Z 0 -1 WITHSCORES; ZRANGEBYSCORE Z -inf +inf WITHSCORES LIMIT 0 1; ZMSCORE Z a missing; \
             ZADD Z CH XX 2 a; ZADD Z NX INCR 1 a; ZPOPMAX Z; ZPOPMIN Z 2; HINCRBYFLOAT X a 0.1; INCRBYFLOAT missing-float \
             3.0e3; DEL missing-float; XADD stream:{s} 1-1 f v; XRANGE stream:{s} - +; \
             XREAD COUNT 1 STREAMS stream:{s} 0; XINFO STREAM missing; DEL stream:{s}; COMMAND COUNT",
        );
    });
}

#[test]
fn options_that_change_the_shape_of_a_reply_are_answered_in_that_shape() {
    on_each(|stage| {
        stage.must_agree(
            "SET X a; SET X b GET; SET X c XX; SET X c XX GET; SET X d KEEPTTL; SET X d EX 0; SET X d BADOPTION; \
             GETEX X PERSIST; LPOS Y a COUNT 0; RPUSH Y a b a; LPOS Y a COUNT 0; LPOS Y a RANK -1; LMPOP 1 Y LEFT; \
             LMPOP 1 missing LEFT; ZADD Z 1 a; ZMPOP 1 Z MIN; ZMPOP 1 Z MIN; SINTERCARD 1 missing; LCS X X; LCS X X IDX; \
             GETRANGE X 0 -1; SORT missing; SORT Y STORE Y; OBJECT HELP; OBJECT REFCOUNT missing; EXPIRE X 100 NX; \
             EXPIRETIME missing; TTL X; COPY X X; RENAME missing missing; TYPE X; TYPE missing; APPEND X tail; STRLEN X; \
             SETRANGE X 3 abc; SETBIT X 7 1; BITCOUNT X; GETBIT X 0; PFADD missing-hll a; PFCOUNT missing-hll; DEL missing-hll",
        );
    });
}

#[test]
fn binary_keys_and_values_pass_unharmed() {
    on_each(|stage| {
        let all: Vec<u8> = (0..=255).collect();
        let command = |words: &[&[u8]]| words.iter().map(|word| word.to_vec()).collect::<Vec<_>>();
        let key = [b"binary:\r\n\0*3\r\n$3\r\n\xff\xfe".as_slice(), &all].concat();
        stage.must_agree_on(&[
            command(&[b"SET", &key, &all]),
            command(&[b"GET", &key]),
            command(&[b"SET", b"X", b""]),
            command(&[b"MGET", b"X", &key, b"Y"]),
            command(&[b"APPEND", &key, b"\r\n+OK\r\n"]),
            command(&[b"MULTI"]),
            command(&[b"SET", b"X", &all]),
            command(&[b"SET", b"Y", b"\r\n"]),
            command(&[b"MGET", &key, b"X", b"Y"]),
            command(&[b"EXEC"]),
            command(&[b"DEL", &key, b"X", b"Y"]),
            command(&[b"SET", b"", b"the empty key"]),
            command(&[b"GET", b""]),
            command(&[b"DEL", b""]),
            command(&[b"ECHO", &all]),
            command(&[b"\0\r\n", &all]),
        ]);
    });
}

#[test]
fn large_values_travel_plainly_and_in_transactions() {
    on_each(|stage| {
        let [x, y, z] = stage.keys();
        let large: Vec<u8> = (0..5_000_000_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
        let mut client = stage.client();
        client.must_ok(&[b"SET", x.as_bytes(), &large]);
        client.must_reply(&["GET", x.as_str()], Reply::Bulk(large.clone()));
        client.must_ok("MULTI");
        client.must_reply(&[b"SET", y.as_bytes(), &large], Reply::Simple("QUEUED".into()));
        client.must_reply(&[b"SET", z.as_bytes(), &large[..1_000_000]], Reply::Simple("QUEUED".into()));
        client.must_queue(&format!("GET {x}"));
        client.must_reply("EXEC", Reply::Array(vec![Reply::ok(), Reply::ok(), Reply::Bulk(large.clone())]));
        let values = client.call(&format!("MGET {x} {y} {z}"));
        assert_eq!(
            values,
            Reply::Array(vec![Reply::Bulk(large.clone()), Reply::Bulk(large.clone()), Reply::Bulk(large[..1_000_000].to_vec())])
        );
        client.must_int(&format!("DEL {x} {y} {z}"), 3);
    });
}

#[test]
fn commands_of_ten_thousand_arguments_run_plainly_and_in_transactions() {
    on_each(|stage| {
        let [x, y, _] = stage.keys();
        let long = |name: &str, key: &str| {
            let words = (0..10_000).map(|n| n.to_string());
            [name.to_owned(), key.to_owned()].into_iter().chain(words).collect::<Vec<String>>()
        };
        let mut client = stage.client();
        client.must_int(&long("RPUSH", &x)[..], 10_000);
        client.must_int(&long("SADD", &y)[..], 10_000);
        client.must_ok("MULTI");
        client.must_reply(&long("RPUSH", &x)[..], Reply::Simple("QUEUED".into()));
        client.must_reply(&long("SREM", &y)[..], Reply::Simple("QUEUED".into()));
        client.must_reply("EXEC", Reply::array([20_000, 10_000]));
        client.must_bulk(&format!("LINDEX {x} 19999"), "9999");
        client.must_int(&format!("SCARD {y}"), 0);
        client.must_int(&format!("DEL {x}"), 1);
    });
}
