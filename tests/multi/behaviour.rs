//! The promises of MULTI and WATCH, each over three shards.

use crate::support::{Client, Flavor, Mode, PATIENCE, Reply, Server, Shards, Stage, Weft, eventually, on_each, on_each_alone};

/// A client in a transaction of one PING, watching whatever `watch` watched.
#[track_caller]
fn must_exec_ping(client: &mut Client) {
    client.must_ok("MULTI");
    client.must_queue("PING");
    client.must_reply("EXEC", pong());
}

#[track_caller]
fn must_fail_to_exec_ping(client: &mut Client) {
    client.must_ok("MULTI");
    client.must_queue("PING");
    client.must_reply("EXEC", Reply::NilArray);
}

fn pong() -> Reply {
    Reply::Array(vec![Reply::Simple("PONG".into())])
}

/// A client, and the keys it plays with.
fn cast(stage: &Stage<'_>) -> (Client, [String; 3]) {
    (stage.client(), stage.keys())
}

#[test]
fn exec_answers_with_the_replies_of_all_shards_in_order() {
    on_each(|stage| {
        let (mut client, [x, y, z]) = cast(stage);
        client.must_int(&format!("RPUSH {x} a b c"), 3);
        client.must_ok("MULTI");
        client.must_queue(&format!("LRANGE {x} 0 -1"));
        client.must_queue("PING");
        client.must_queue(&format!("SET {y} 1"));
        client.must_queue(&format!("INCR {z}"));
        client.must_queue(&format!("INCR {y}"));
        let expected = vec![Reply::array(["a", "b", "c"]), Reply::Simple("PONG".into()), Reply::ok(), 1.into(), 2.into()];
        client.must_reply("EXEC", Reply::Array(expected));
    });
}

#[test]
fn discard_forgets_what_was_queued() {
    on_each(|stage| {
        let (mut client, [x, y, _]) = cast(stage);
        client.must_int(&format!("RPUSH {x} a b c"), 3);
        client.must_ok("MULTI");
        client.must_queue(&format!("DEL {x}"));
        client.must_queue(&format!("SET {y} 1"));
        client.must_ok("DISCARD");
        client.must_reply(&format!("LRANGE {x} 0 -1"), Reply::array(["a", "b", "c"]));
        client.must_nil(&format!("GET {y}"));
    });
}

#[test]
fn nested_multi_is_not_allowed_and_does_not_spoil_the_transaction() {
    on_each(|stage| {
        let (mut client, [x, y, _]) = cast(stage);
        client.must_ok("MULTI");
        client.must_queue(&format!("INCR {x}"));
        client.must_err("MULTI", "ERR MULTI calls can not be nested");
        client.must_queue(&format!("INCR {y}"));
        client.must_reply("EXEC", Reply::array([1, 1]));
    });
}

#[test]
fn a_command_that_is_rewritten_when_it_runs_replies_as_itself() {
    on_each(|stage| {
        let (mut client, [x, y, _]) = cast(stage);
        client.must_int(&format!("SADD {x} a"), 1);
        client.must_ok("MULTI");
        client.must_queue(&format!("SPOP {x}"));
        client.must_queue(&format!("INCRBYFLOAT {y} 1.5"));
        client.must_reply("EXEC", Reply::array(["a", "1.5"]));
        client.must_int(&format!("EXISTS {x}"), 0);
    });
}

#[test]
fn watch_inside_multi_is_not_allowed_and_does_not_spoil_the_transaction() {
    on_each(|stage| {
        let (mut client, [x, y, _]) = cast(stage);
        client.must_ok("MULTI");
        client.must_err(&format!("WATCH {x}"), "ERR WATCH inside MULTI is not allowed");
        client.must_queue(&format!("INCR {x}"));
        client.must_queue(&format!("INCR {y}"));
        client.must_reply("EXEC", Reply::array([1, 1]));
    });
}

#[test]
fn exec_aborts_when_a_queued_command_was_rejected_and_leaves_multi() {
    let rejected = ["no-such-command", "GET", "GET a b", "CLIENT no-such-subcommand", "SET __weft:mine 1"];
    on_each(|stage| {
        let mut client = stage.client();
        for reject in rejected {
            let [x, y, _] = stage.keys();
            client.must_ok("MULTI");
            client.must_queue(&format!("SET {x} 1"));
            client.must_err(reject, "ERR ");
            client.must_queue(&format!("SET {y} 2"));
            client.must_err("EXEC", "EXECABORT Transaction discarded because of previous errors.");
            client.must_reply("PING", Reply::Simple("PONG".into()));
            client.must_int(&format!("EXISTS {x} {y}"), 0);
        }
    });
}

#[test]
fn exec_works_on_watched_keys_that_were_not_modified() {
    on_each(|stage| {
        let (mut client, [x, y, z]) = cast(stage);
        client.must_ok(&format!("SET {y} 1"));
        client.must_ok(&format!("WATCH {x} {y}"));
        client.must_ok(&format!("WATCH {z}"));
        must_exec_ping(&mut client);
        client.must_ok(&format!("WATCH {x} {y} {z}"));
        client.must_ok("MULTI");
        client.must_queue(&format!("INCR {y}"));
        client.must_queue(&format!("INCR {z}"));
        client.must_reply("EXEC", Reply::array([2, 1]));
    });
}

#[test]
fn exec_fails_when_the_one_watched_key_was_modified() {
    on_each(|stage| {
        let (mut client, [x, ..]) = cast(stage);
        client.must_ok(&format!("SET {x} 30"));
        client.must_ok(&format!("WATCH {x}"));
        client.must_ok(&format!("SET {x} 40"));
        must_fail_to_exec_ping(&mut client);
    });
}

#[test]
fn exec_fails_when_one_of_several_watched_keys_was_modified_whichever_it_is() {
    on_each(|stage| {
        let mut client = stage.client();
        for modified in 0..3 {
            let keys = stage.keys();
            let [x, y, z] = &keys;
            client.must_ok(&format!("WATCH {x} {y} {z}"));
            stage.client().must_ok(&format!("SET {} 40", keys[modified]));
            client.must_ok("MULTI");
            keys.iter().for_each(|key| client.must_queue(&format!("SET {key} mine")));
            client.must_reply("EXEC", Reply::NilArray);
            for (index, key) in keys.iter().enumerate() {
                client.must_reply(&format!("GET {key}"), if index == modified { "40".into() } else { Reply::Nil });
            }
        }
    });
}

#[test]
fn exec_fails_when_a_watched_key_was_modified_by_a_sort_that_stored_nothing() {
    on_each(|stage| {
        let (mut client, [x, ..]) = cast(stage);
        client.must_int(&format!("LPUSH {x} bar"), 1);
        client.must_ok(&format!("WATCH {x}"));
        let empty = format!("{{{x}}}empty");
        client.must_int(&format!("SORT {empty} STORE {x}"), 0);
        must_fail_to_exec_ping(&mut client);
    });
}

#[test]
fn after_exec_no_key_is_watched_any_more() {
    on_each(|stage| {
        let (mut client, [x, y, _]) = cast(stage);
        client.must_ok(&format!("WATCH {x} {y}"));
        must_exec_ping(&mut client);
        client.must_ok(&format!("SET {x} 40"));
        must_exec_ping(&mut client);
    });
}

#[test]
fn after_a_failed_exec_no_key_is_watched_any_more() {
    on_each(|stage| {
        let (mut client, [x, y, _]) = cast(stage);
        client.must_ok(&format!("WATCH {x} {y}"));
        client.must_ok(&format!("SET {x} 40"));
        must_fail_to_exec_ping(&mut client);
        client.must_ok(&format!("SET {y} 40"));
        must_exec_ping(&mut client);
    });
}

#[test]
fn unwatch_lets_modified_keys_be() {
    on_each(|stage| {
        let (mut client, [x, y, _]) = cast(stage);
        client.must_ok(&format!("WATCH {x} {y}"));
        client.must_ok(&format!("SET {x} 40"));
        client.must_ok("UNWATCH");
        must_exec_ping(&mut client);
    });
}

#[test]
fn unwatch_with_nothing_watched_is_fine() {
    on_each(|stage| stage.client().must_ok("UNWATCH"));
}

#[test]
fn unwatch_within_multi_is_queued_and_comes_too_late() {
    on_each(|stage| {
        let (mut client, [x, y, _]) = cast(stage);
        client.must_ok(&format!("WATCH {x}"));
        client.must_ok(&format!("SET {x} 40"));
        client.must_ok("MULTI");
        client.must_queue("UNWATCH");
        client.must_queue(&format!("SET {y} 1"));
        client.must_reply("EXEC", Reply::NilArray);
        client.must_ok("MULTI");
        client.must_queue("UNWATCH");
        client.must_queue(&format!("SET {y} 1"));
        client.must_reply("EXEC", Reply::Array(vec![Reply::ok(), Reply::ok()]));
    });
}

#[test]
fn flushing_touches_the_watched_keys_that_exist_and_no_others() {
    on_each_alone(|stage| {
        let (mut client, [x, y, z]) = cast(stage);
        for flush in ["FLUSHALL", "FLUSHDB"] {
            client.must_ok(&format!("SET {x} 30"));
            client.must_ok(&format!("WATCH {y} {x}"));
            client.must_ok(flush);
            must_fail_to_exec_ping(&mut client);
            client.must_ok(&format!("SET {x} 30"));
            client.must_ok(&format!("WATCH {y} {z}"));
            client.must_ok(flush);
            must_exec_ping(&mut client);
        }
    });
}

#[test]
fn watch_remembers_the_database_of_a_key() {
    on_each(|stage| {
        if !stage.is_static() {
            return;
        }
        let (mut client, [x, y, _]) = cast(stage);
        client.must_ok("SELECT 5");
        client.must_ok(&format!("SET {x} 30"));
        client.must_ok(&format!("WATCH {x} {y}"));
        client.must_ok("SELECT 1");
        client.must_ok(&format!("SET {x} 10"));
        client.must_ok(&format!("SET {y} 10"));
        client.must_ok("SELECT 5");
        must_exec_ping(&mut client);
        client.must_ok(&format!("WATCH {x}"));
        client.must_ok("SELECT 1");
        let mut other = stage.client();
        other.must_ok("SELECT 5");
        other.must_ok(&format!("SET {x} 31"));
        must_fail_to_exec_ping(&mut client);
    });
}

#[test]
fn watch_considers_a_key_touched_that_was_given_a_time_to_live() {
    on_each(|stage| {
        let (mut client, [x, y, _]) = cast(stage);
        client.must_ok(&format!("SET {x} foo"));
        client.must_ok(&format!("WATCH {x} {y}"));
        client.must_int(&format!("EXPIRE {x} 10"), 1);
        must_fail_to_exec_ping(&mut client);
    });
}

#[test]
fn watch_considers_a_key_touched_that_has_expired() {
    on_each(|stage| {
        let (mut client, [x, y, _]) = cast(stage);
        client.must_ok(&format!("SET {x} foo PX 50"));
        client.must_ok(&format!("WATCH {x} {y}"));
        let mut other = stage.client();
        eventually(PATIENCE, "the key expires", || other.call(&format!("EXISTS {x}")) == Reply::Integer(0));
        must_fail_to_exec_ping(&mut client);
    });
}

#[test]
fn discard_clears_what_a_modified_key_left_on_the_client() {
    on_each(|stage| {
        let (mut client, [x, y, _]) = cast(stage);
        client.must_ok(&format!("WATCH {x} {y}"));
        client.must_ok(&format!("SET {x} 10"));
        client.must_ok("MULTI");
        client.must_ok("DISCARD");
        client.must_ok("MULTI");
        client.must_queue(&format!("INCR {x}"));
        client.must_queue(&format!("INCR {y}"));
        client.must_reply("EXEC", Reply::array([11, 1]));
    });
}

#[test]
fn discard_unwatches_all_keys() {
    on_each(|stage| {
        let (mut client, [x, y, _]) = cast(stage);
        client.must_ok(&format!("WATCH {x} {y}"));
        client.must_ok("MULTI");
        client.must_ok("DISCARD");
        client.must_ok(&format!("SET {x} 10"));
        client.must_ok("MULTI");
        client.must_queue(&format!("INCR {x}"));
        client.must_queue(&format!("INCR {y}"));
        client.must_reply("EXEC", Reply::array([11, 1]));
    });
}

#[test]
fn blocking_commands_in_a_transaction_do_not_wait() {
    on_each(|stage| {
        let (mut client, [x, y, z]) = cast(stage);
        let (stream, other) = (format!("{{{z}}}s"), format!("{{{y}}}2"));
        client.must_ok(&format!("XGROUP CREATE {stream} g $ MKSTREAM"));
        client.must_ok("MULTI");
        client.must_queue(&format!("BLPOP {x} 0"));
        client.must_queue(&format!("BRPOP {x} 0"));
        client.must_queue(&format!("BRPOPLPUSH {y} {other} 0"));
        client.must_queue(&format!("BLMOVE {y} {other} LEFT LEFT 0"));
        client.must_queue(&format!("BZPOPMIN {z} 0"));
        client.must_queue(&format!("BZPOPMAX {z} 0"));
        client.must_queue(&format!("XREAD BLOCK 0 STREAMS {stream} $"));
        client.must_queue(&format!("XREADGROUP GROUP g c BLOCK 0 STREAMS {stream} >"));
        let (array, bulk) = (Reply::NilArray, Reply::Nil);
        let expected = [&array, &array, &bulk, &bulk, &array, &array, &array, &array];
        client.must_reply("EXEC", Reply::Array(expected.into_iter().cloned().collect()));
    });
}

#[test]
fn commands_of_others_do_not_run_between_those_of_a_transaction() {
    on_each(|stage| {
        let [x, y, _] = stage.keys();
        let mut client = stage.client();
        client.must_ok(&format!("MSET {x} 0 {y} 0"));
        let writer = |rounds: usize| {
            let mut client = stage.client();
            for _ in 0..rounds {
                client.must_ok("MULTI");
                client.must_queue(&format!("INCR {x}"));
                client.must_queue(&format!("INCR {y}"));
                let reply = client.call("EXEC");
                let counts = reply.items().unwrap_or_else(|| panic!("{reply:?}"));
                assert_eq!(counts[0], counts[1]);
            }
        };
        std::thread::scope(|scope| {
            let writers = [scope.spawn(|| writer(30)), scope.spawn(|| writer(30))];
            while !writers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
                let reply = client.call(&format!("MGET {x} {y}"));
                let values = reply.items().unwrap_or_else(|| panic!("{reply:?}"));
                assert_eq!(values[0], values[1]);
            }
        });
        client.must_reply(&format!("MGET {x} {y}"), Reply::array(["60", "60"]));
    });
}

#[test]
fn a_session_that_ends_within_multi_applies_nothing() {
    on_each(|stage| {
        let (mut client, [x, y, _]) = cast(stage);
        client.must_ok(&format!("WATCH {x}"));
        client.must_ok("MULTI");
        client.must_queue(&format!("SET {x} 1"));
        client.must_queue(&format!("SET {y} 1"));
        client.finish_sending();
        client.must_be_closed();
        stage.client().must_int(&format!("EXISTS {x} {y}"), 0);
    });
}

#[test]
fn transactions_leave_nothing_behind_on_the_shards() {
    on_each_alone(|stage| {
        let (mut client, [x, y, z]) = cast(stage);
        client.must_ok(&format!("WATCH {z}"));
        client.must_ok("MULTI");
        client.must_queue(&format!("SET {x} 1"));
        client.must_queue(&format!("SET {y} 1"));
        client.must_reply("EXEC", Reply::Array(vec![Reply::ok(), Reply::ok()]));
        eventually(PATIENCE, "the records are forgotten", || stage.shards().internal_keys().is_empty());
    });
}

/// How many changes each shard has counted.
fn changes(shards: &Shards) -> Vec<u64> {
    let of = |server: &Server| {
        let info = server.client().call("INFO persistence").text().expect("a text");
        info.lines().find_map(|line| line.strip_prefix("rdb_changes_since_last_save:")).expect("the counter").parse().unwrap()
    };
    shards.servers().iter().map(of).collect()
}

#[test]
fn what_only_reads_writes_nothing_on_any_shard() {
    for mode in Mode::ALL {
        let shards = Shards::start(mode, Flavor::Redis, 3);
        let weft = Weft::start(&shards);
        let keys = [0, 1, 2].map(|index| shards.key_on(index, "read"));
        let mut client = weft.client();
        for key in &keys {
            client.must_ok(&["SET", key, "1"]);
        }
        let before = changes(&shards);
        for _ in 0..10 {
            client.must_reply(&["MGET", &keys[0], &keys[1], &keys[2]], Reply::array(["1", "1", "1"]));
            client.must_int(&["EXISTS", &keys[0], &keys[1], &keys[2]], 3);
            client.must_ok("MULTI");
            keys.iter().for_each(|key| client.must_queue(&["GET", key]));
            client.must_reply("EXEC", Reply::array(["1", "1", "1"]));
        }
        assert_eq!(changes(&shards), before, "{mode:?}");
    }
}
