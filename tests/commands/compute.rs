//! Commands that compute over keys of several shards, alone and in transactions: the same replies as from one server, and the same data.

use crate::support::{Flavor, Mode, PATIENCE, Reply, Shards, Weft, eventually, on_each};

#[test]
fn keys_are_renamed_and_copied_over_shards_with_all_they_have() {
    on_each(|stage| {
        stage.must_agree(
            "SET X 1; RENAME X Y; MGET X Y; RENAME X Y; RENAMENX Y Z; RENAMENX X Z; SET Y 2; RENAMENX Y Z; MGET X Y Z; RENAME Y Z; GET Z; \
             COPY Z X; COPY Z X; COPY Y X; COPY Z Y REPLACE; MGET X Y Z; DEL X Y Z; RPUSH X a b c; PEXPIREAT X 99999999999999; RENAME X Y; \
             LRANGE Y 0 -1; PEXPIRETIME Y; COPY Y Z; PEXPIRETIME Z; SET X plain; RENAME X Y; PEXPIRETIME Y; TYPE Y; RENAME X X; \
             XADD X 1-1 f v; XGROUP CREATE X g 0; XREADGROUP GROUP g c COUNT 1 STREAMS X >; RENAME X Y; XPENDING Y g; \
             RENAME X; COPY X Y REPLACE FOO; COPY X Y DB; COPY X Y DB x; COPY X Y DB 99; COPY X Y DB 99999999999",
        );
    });
}

#[test]
fn sets_are_computed_over_shards() {
    on_each(|stage| {
        stage.must_agree(
            "SADD X 1 2 3; SADD Y 2 3 4; SMOVE X Y 1; SMOVE X Y 1; SMEMBERS Y; SINTERCARD 2 X Y; SINTERCARD 2 X Y LIMIT 1; SINTER X Y; \
             SUNION X Y Z; SDIFF Y X; SDIFF X Y; SINTERSTORE Z X Y; SMEMBERS Z; SUNIONSTORE Z X Y; SMEMBERS Z; SDIFFSTORE Z X Y; EXISTS Z; \
             SUNIONSTORE X X Y; SMEMBERS X; SET Z no; SUNION X Z; SUNIONSTORE Z X Y; TYPE Z; SET Z no; SMOVE X Z 2; SMOVE Z X 2; \
             SMEMBERS X; SINTERCARD 0 X; SINTERCARD x X Y; SINTERCARD 9 X Y; SINTER X; PEXPIREAT X 99999999999999; SUNIONSTORE X Y; \
             PTTL X",
        );
    });
}

#[test]
fn sorted_sets_are_computed_over_shards() {
    on_each(|stage| {
        stage.must_agree(
            "ZADD X 1 a 2.5 b 3 c; ZADD Y 10 b 20 c 30 d; ZUNION 2 X Y WITHSCORES; ZUNION 2 X Y; ZINTER 2 X Y WITHSCORES; \
             ZDIFF 2 X Y WITHSCORES; ZINTERCARD 2 X Y LIMIT 1; ZUNIONSTORE Z 2 X Y WEIGHTS 2 3 AGGREGATE MAX; ZRANGE Z 0 -1 WITHSCORES; \
             ZINTERSTORE Z 2 X Y; ZRANGE Z 0 -1 WITHSCORES; ZDIFFSTORE Z 2 X Y; ZRANGE Z 0 -1; ZRANGESTORE Z Y 0 1; ZRANGE Z 0 -1 WITHSCORES; \
             ZRANGESTORE Z Y 5 9; EXISTS Z; ZUNIONSTORE Z 2 X; ZUNIONSTORE Z 1 X Y; ZUNION 0 X Y; SET Z no; ZUNION 2 X Z; ZUNIONSTORE Z 2 X Y; TYPE Z; \
             SADD Z a; ZADD Y 1 z; ZUNION 2 Y Z WITHSCORES",
        );
    });
}

#[test]
fn strings_bits_and_logs_are_computed_over_shards() {
    on_each(|stage| {
        stage.must_agree(
            "SET X foobar; SET Y abcdef; BITOP AND Z X Y; GET Z; BITOP OR Z X Y; GET Z; BITOP XOR Z X missing; GET Z; BITOP NOT Z X; GET Z; \
             BITOP NOT Z X Y; BITOP FOO Z X Y; LCS X Y; LCS X Y LEN; LCS X Y IDX WITHMATCHLEN; LPUSH missing-list a; DEL missing-list; DEL X Y Z; \
             PFADD X a b c; PFADD Y c d; PFCOUNT X Y; PFCOUNT X Y Z; PFMERGE Z X Y; PFCOUNT Z; PFMERGE X Y; PFCOUNT X; SET Y no; PFCOUNT X Y; \
             PFMERGE Z X Y; BITOP AND X Y missing",
        );
    });
}

#[test]
fn places_are_searched_and_lists_sorted_into_other_shards() {
    on_each(|stage| {
        stage.must_agree(
            "GEOADD X 13.361389 38.115556 Palermo 15.087269 37.502669 Catania; GEOSEARCHSTORE Y X FROMLONLAT 15 37 BYRADIUS 200 km ASC; \
             ZRANGE Y 0 -1 WITHSCORES; GEOSEARCHSTORE Y X FROMMEMBER Palermo BYBOX 400 400 km STOREDIST; ZRANGE Y 0 -1; \
             GEORADIUS X 15 37 200 km STORE Z; ZRANGE Z 0 -1; GEORADIUSBYMEMBER X Palermo 10 km STOREDIST Z; ZRANGE Z 0 -1; \
             DEL X Y Z; RPUSH X 3 1 2; SORT X STORE Y; LRANGE Y 0 -1; SORT X ALPHA DESC STORE Z; LRANGE Z 0 -1; SORT missing STORE Z; \
             EXISTS Z; RPUSH X b; SORT X STORE Y; LLEN Y",
        );
    });
}

#[test]
fn the_first_key_that_has_something_is_popped_wherever_it_is() {
    on_each(|stage| {
        stage.must_agree(
            "LMPOP 3 X Y Z LEFT; RPUSH Y a b c; LMPOP 3 X Y Z LEFT; LMPOP 3 X Y Z RIGHT COUNT 5; EXISTS Y; ZADD Z 1 a 2 b; \
             ZMPOP 3 X Y Z MAX; ZMPOP 3 X Y Z MIN COUNT 9; ZMPOP 3 X Y Z MIN; SET X no; LMPOP 2 X Y LEFT; ZMPOP 2 X Y MIN; LMPOP 0 X Y LEFT; \
             LMPOP 2 X Y MIDDLE; LMPOP 2 X Y LEFT COUNT 0",
        );
    });
}

#[test]
fn commands_of_a_transaction_see_what_those_before_them_computed() {
    on_each(|stage| {
        stage.must_agree(
            "MULTI; SADD X 1 2; SADD Y 2 3; SUNIONSTORE Z X Y; SCARD Z; SMOVE X Y 1; SINTER X Y; GET Z; RENAME Z X; SMEMBERS X; \
             EXPIREAT X 99999999999; EXPIRETIME X; PING; MGET X Y; EXEC; EXISTS X Y Z; SMEMBERS Y; EXPIRETIME X; DEL X Y; \
             MULTI; MSETNX X 1 Y 2; MSETNX X 3 Y 4; MSETNX Z 5 missing-no 6; DEL missing-no; MGET X Y Z; EXEC; DEL X Y Z; \
             MULTI; RPUSH X a b c; LMOVE X Y LEFT RIGHT; RPOPLPUSH X Y; BLPOP Z Y 0; LMPOP 2 Z X LEFT; BLMOVE Y Z LEFT LEFT 0; EXEC; \
             LRANGE Z 0 -1; EXISTS X Y; SET X no; MULTI; SUNION X Y; INCR X; SINTERCARD 0 X; EXEC; MULTI; SUNION X Y; DISCARD; DEL X Z; \
             WATCH X; SET Y 1; MULTI; RENAME Y Z; EXEC; GET Z; WATCH X; SET X 1; MULTI; RENAME Z Y; EXEC; MGET X Y Z; \
             XADD X 1-1 a b; XADD Y 1-1 c d; MULTI; XREAD COUNT 9 STREAMS X Y 0 0; RENAME Z X; EXEC",
        );
    });
}

#[test]
fn keys_go_to_other_databases() {
    on_each(|stage| {
        if stage.is_static() {
            stage.must_agree(
                "SELECT 1; SET X 1; EXPIREAT X 99999999999; MOVE X 2; MOVE X 2; GET X; SELECT 2; GET X; EXPIRETIME X; MOVE X 2; MOVE X 99; MOVE X foo; \
                 COPY X Y DB 1; COPY X Y DB 1; COPY X Y DB 1 REPLACE; COPY X X DB 1; SELECT 1; MGET X Y; MOVE X 2; \
                 MULTI; SET X 5; MOVE X 3; SELECT 3; GET X; COPY X Y DB 2; RENAME X Z; EXEC; MGET X Y Z; SELECT 2; MGET X Y; DEL X Y; SELECT 3; DEL Z",
            );
        }
    });
}

#[test]
fn nothing_is_left_where_it_was_computed_and_too_much_is_refused() {
    on_each(|stage| {
        let [x, y, z] = stage.keys();
        let mut client = stage.client();
        client.must_int(&format!("SADD {x} 1 2"), 2);
        client.must_int(&format!("SADD {y} 3"), 1);
        client.must_int(&format!("SUNIONSTORE {z} {x} {y}"), 3);
        let copies: Vec<_> = stage.shards().internal_keys().into_iter().filter(|(_, name)| name.contains("c:k")).collect();
        assert!(copies.is_empty(), "{copies:?}");

        let small = Weft::setup(stage.shards()).set("transactions.compute_bytes_max", 1024).start();
        let mut client = small.client();
        // Nothing that DUMP could compress.
        let long: String = (1..400_u32).map(|n| format!("{:08x}", n.wrapping_mul(2_654_435_761))).collect();
        client.must_int(&format!("DEL {x}"), 1);
        client.must_ok(&format!("SET {x} {long}"));
        client.must_err(&format!("RENAME {x} {z}"), "ERR the keys lie on several shards and hold too many bytes");
        client.must_int(&format!("STRLEN {x}"), long.len() as i64);
        client.must_int(&format!("SCARD {z}"), 3);
        let reject = Weft::setup(stage.shards()).set("transactions.multi_key", "reject").start();
        reject.client().must_err(&format!("RENAME {x} {z}"), "CROSSSLOT");
    });
}

#[test]
fn members_that_many_clients_move_about_are_neither_lost_nor_doubled() {
    const MEMBERS: usize = 20;
    for mode in Mode::ALL {
        let shards = Shards::start(mode, Flavor::Redis, 3);
        let wefts = [Weft::start(&shards), Weft::start(&shards)];
        let keys: Vec<String> = (0..3).map(|shard| shards.key_on(shard, "members")).collect();
        let all: Vec<String> = (0..MEMBERS).map(|member| member.to_string()).collect();
        wefts[0].client().must_int(&format!("SADD {} {}", keys[0], all.join(" ")), MEMBERS as i64);
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let (mut client, keys, all) = (wefts[worker % 2].client(), &keys, &all);
                scope.spawn(move || {
                    for turn in 0..40 {
                        let [from, to] = [turn + worker, turn + worker + 1].map(|at| &keys[at % 3]);
                        let reply = match turn % 4 {
                            3 => client.call(&format!("SUNION {} {} {}", keys[0], keys[1], keys[2])),
                            _ => client.call(&format!("SMOVE {from} {to} {}", all[(turn * 7 + worker) % MEMBERS])),
                        };
                        match reply {
                            // One moment's union has every member.
                            Reply::Array(members) => assert_eq!(members.len(), MEMBERS),
                            Reply::Integer(moved) => assert!((0..=1).contains(&moved)),
                            Reply::Error(error) => assert!(error.starts_with("LOCKWAIT"), "{error}"),
                            other => panic!("{other:?}"),
                        }
                    }
                });
            }
        });
        let mut client = wefts[0].client();
        let counts: i64 = keys
            .iter()
            .map(|key| match client.call(&format!("SCARD {key}")) {
                Reply::Integer(count) => count,
                other => panic!("{other:?}"),
            })
            .sum();
        assert_eq!(counts, MEMBERS as i64);
        client.must_int(&format!("SINTERCARD 2 {} {}", keys[0], keys[1]), 0);
    }
}

#[test]
fn a_weft_that_dies_while_it_renames_leaves_one_key_or_the_other() {
    all_or_nothing_of(
        |from| format!("RPUSH {from} a b"),
        |from, to| ["RENAME", from, to].map(str::to_owned).to_vec(),
        |key| format!("LLEN {key}"),
        [[2.into(), 0.into()], [0.into(), 2.into()]],
    );
}

/// Has a weft die at one step after the other of carrying out `command` over two keys on different shards, of which `prepare` has made the
/// first; what another weft finds then under the two by `look` is what was there before or what has to be there afterwards.
pub(super) fn all_or_nothing_of(
    prepare: impl Fn(&str) -> String,
    command: impl Fn(&str, &str) -> Vec<String>,
    look: impl Fn(&str) -> String,
    before_and_after: [[Reply; 2]; 2],
) {
    for mode in Mode::ALL {
        let shards = Shards::start(mode, Flavor::Redis, 2);
        let survivor = Weft::setup(&shards).set("transactions.lease_ms", 500).start();
        for (failpoint, carried_out) in [
            ("before-prepare:1", Some(false)),
            ("after-prepare:1", None),
            ("after-prepare:2", Some(true)),
            ("before-commit:2", Some(true)),
            ("after-commit:1", Some(true)),
        ] {
            let [from, to] = [0, 1].map(|shard| shards.key_on(shard, failpoint));
            let mut client = survivor.client();
            assert!(!matches!(client.call(&prepare(&from)), Reply::Error(_)));
            let mut doomed = Weft::setup(&shards).set("transactions.lease_ms", 500).env("WEFT_FAILPOINT", failpoint).start();
            doomed.client().send(command(&from, &to).as_slice());
            doomed.process().must_exit();
            // Whoever comes next finishes it or takes it back.
            eventually(PATIENCE, "the locks are gone", || !matches!(client.call(&look(&from)), Reply::Error(_)));
            let at = [&from, &to].map(|key| client.call(&look(key)));
            match carried_out {
                Some(carried_out) => assert_eq!(at, before_and_after[usize::from(carried_out)], "{failpoint}"),
                None => assert!(before_and_after.contains(&at), "{failpoint}: {at:?}"),
            }
            let copies: Vec<_> = shards.internal_keys().into_iter().filter(|(_, name)| name.contains("c:")).collect();
            assert!(copies.is_empty(), "{copies:?}");
        }
    }
}
