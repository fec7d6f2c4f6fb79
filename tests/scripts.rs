//! Every Lua script alone, against real servers of both kinds.

mod participant;

use std::time::Duration;

use bytes::Bytes;
use participant::{Shard, assert_lock_of, assert_refused, batch, command, lock};
use weft::resp::Request;
use weft::slot::Slot;
use weft::txn::{Batch, Participant, Refused, Script, State, commit, forget, guarded, internal_keys, prepare, reapply};

use crate::support::{Flavor, Server};

const HOUR: Duration = Duration::from_secs(3600);

fn on_each(test: impl Fn(Shard)) {
    Flavor::ALL.into_iter().for_each(|flavor| test(Shard::start(flavor)));
}

#[test]
fn commit_runs_what_prepare_staged_and_leaves_one_record() {
    on_each(|mut shard| {
        let (tid, batch) = (shard.begin(0), batch("x:k s:r", &["SET k v", "GET r", "STRLEN k"]));
        shard.must_prepare(tid, &batch);
        shard.must("EXISTS k", ":0\r\n");
        let record = format!("__weft:t:{tid}");
        shard.must_have_keys(&["__weft:g", "__weft:s:r", &record, "__weft:x:k"]);
        shard.must_commit(tid, &batch, &["+OK\r\n", "$-1\r\n", ":1\r\n"]);
        shard.must_have_keys(&[&record, "k"]);
        shard.must("GET k", "$1\r\nv\r\n");
    });
}

#[test]
fn commit_sent_again_answers_the_replies_of_the_one_execution() {
    on_each(|mut shard| {
        shard.run("RPUSH list a");
        let commands = &["INCRBY n 1", "GET none", "LPUSH n x", "LRANGE list 0 -1", "SET s 1", "LRANGE none 0 -1"];
        let (tid, batch) = (shard.begin(0), batch("x:n s:none s:list x:s", commands));
        shard.must_prepare(tid, &batch);
        let wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";
        let replies = [":1\r\n", "$-1\r\n", wrong, "*1\r\n$1\r\na\r\n", "+OK\r\n", "*0\r\n"];
        shard.must_commit(tid, &batch, &replies);
        shard.must_commit(tid, &batch, &replies);
        shard.must("GET n", "$1\r\n1\r\n");
        assert_eq!(shard.prepare(tid, &batch), Ok(prepare::Answer::Found(State::Committed(None))));
    });
}

#[test]
fn commit_leaves_a_batch_with_a_users_script_to_be_run_natively() {
    on_each(|mut shard| {
        let mut staged = batch("x:k", &["SET k \r\n\0"]);
        staged.commands.push(command(&["EVAL", "return redis.call('APPEND', KEYS[1], 'v')", "1", "k"]));
        let tid = shard.begin(0);
        shard.must_prepare(tid, &staged);
        shard.must_leave_to_native(tid, &staged);
        assert_eq!(shard.fence(tid).state, State::Prepared);
        shard.must("EXISTS k", ":0\r\n");
    });
}

#[test]
fn replies_that_are_too_long_are_not_kept() {
    on_each(|mut shard| {
        shard.run(&format!("SET k {}", "v".repeat(2000)));
        let (tid, batch) = (shard.begin(0), batch("s:k", &["GET k"]));
        shard.must_prepare(tid, &batch);
        assert!(matches!(shard.commit(tid, &batch), Ok(State::Committed(Some(replies))) if replies[0].len() > 2000));
        assert_eq!(shard.commit(tid, &batch), Ok(State::Committed(None)));
    });
}

#[test]
fn prepare_refuses_a_key_that_another_holds() {
    on_each(|mut shard| {
        let owner = shard.begin(0);
        shard.must_prepare(owner, &batch("x:w s:r", &[]));
        for keys in ["x:w", "s:w", "x:r", "n:r", "x:free x:w"] {
            let tid = shard.begin(0);
            shard.must_be_locked(tid, &batch(keys, &[]), owner);
        }
        let reader = shard.begin(0);
        shard.must_prepare(reader, &batch("s:r", &[]));
        let records = [format!("__weft:t:{owner}"), format!("__weft:t:{reader}")];
        shard.must_have_keys(&["__weft:g", "__weft:s:r", &records[0], &records[1], "__weft:x:w"]);
        shard.must_abort(owner, &batch("x:w s:r", &[]), State::Gone);
        let writer = shard.begin(0);
        shard.must_be_locked(writer, &batch("x:r", &[]), reader);
        shard.must_abort(reader, &batch("s:r", &[]), State::Gone);
        shard.must_have_keys(&[]);
    });
}

#[test]
fn prepare_refuses_what_exists_where_it_must_not() {
    on_each(|mut shard| {
        shard.run("SET b 1");
        let (tid, both) = (shard.begin(0), batch("n:a n:b", &["MSETNX a 1 b 2"]));
        assert_eq!(shard.prepare(tid, &both), Ok(prepare::Answer::Exists));
        shard.must_have_keys(&["b"]);
        shard.run("DEL b");
        shard.must_prepare(tid, &both);
        shard.must_commit(tid, &both, &[":1\r\n"]);
    });
}

#[test]
fn prepare_refuses_a_start_that_is_five_minutes_off() {
    on_each(|mut shard| {
        for (offset, fits) in [(-302_000, false), (302_000, false), (-298_000, true), (298_000, true)] {
            let (tid, batch) = (shard.begin(offset), batch("x:k", &[]));
            let prepared = shard.prepare(tid, &batch);
            assert_eq!(prepared == Ok(prepare::Answer::Found(State::Prepared)), fits, "{offset}: {prepared:?}");
            assert_eq!(prepared == Ok(prepare::Answer::ClockApart), !fits);
            shard.must_abort(tid, &batch, State::Gone);
        }
    });
}

#[test]
fn a_fence_keeps_a_late_prepare_out() {
    on_each(|mut shard| {
        let (tid, batch) = (shard.begin(0), batch("x:k", &["SET k v"]));
        assert_eq!(shard.inspect(tid).state, State::Gone);
        shard.must_have_keys(&[]);
        assert_eq!(shard.fence(tid).state, State::Aborted);
        assert_eq!(shard.prepare(tid, &batch), Ok(prepare::Answer::Found(State::Aborted)));
        assert_eq!(shard.commit(tid, &batch), Ok(State::Aborted));
        shard.must_abort(tid, &batch, State::Aborted);
        assert_eq!(shard.fence(tid).state, State::Aborted);
        shard.must_have_keys(&[&format!("__weft:t:{tid}")]);
    });
}

#[test]
fn a_fence_leaves_prepared_as_it_is_and_tells_what_a_resolver_needs() {
    on_each(|mut shard| {
        let (tid, mut staged) = (shard.begin(0), batch("x:k s:r n:n", &["SET k v"]));
        staged.keys.push(lock("s", b"\r\n\0\xff"));
        shard.must_prepare(tid, &staged);
        let record = shard.fence(tid);
        assert_eq!(record.staged, shard.inspect(tid).staged);
        assert_eq!(record.state, State::Prepared);
        let found = record.staged.unwrap();
        assert_eq!((found.start_ms, found.lease_ms, found.run_id.as_str()), (tid.start_ms, 2000, "run-1"));
        assert_eq!(found.participants, ["a/0".parse().unwrap(), "b/0".parse().unwrap()]);
        assert_eq!(found.keys, staged.keys);
        shard.must_commit(tid, &Batch { keys: found.keys, ..staged }, &["+OK\r\n"]);
        assert_eq!(shard.fence(tid).state, State::Committed(None));
    });
}

#[test]
fn abort_gives_back_what_prepare_took_and_never_touches_committed() {
    on_each(|mut shard| {
        let (first, second, batch) = (shard.begin(0), shard.begin(0), batch("x:k s:r", &["SET k v"]));
        shard.must_prepare(first, &batch);
        shard.must_abort(first, &batch, State::Gone);
        shard.must_abort(first, &batch, State::Gone);
        assert_eq!(shard.commit(first, &batch), Ok(State::Gone));
        shard.must_have_keys(&[]);
        shard.must_prepare(second, &batch);
        shard.must_commit(second, &batch, &["+OK\r\n"]);
        shard.must_abort(second, &batch, State::Committed(None));
        shard.must_have_keys(&[&format!("__weft:t:{second}"), "k"]);
    });
}

#[test]
fn commit_and_abort_refuse_keys_that_are_not_those_of_the_record() {
    on_each(|mut shard| {
        let (tid, right) = (shard.begin(0), batch("x:k s:r", &["SET k v"]));
        shard.must_prepare(tid, &right);
        assert_refused(shard.commit(tid, &batch("x:k", &[])), Refused::Error, "ERR weft commit");
        assert_eq!(shard.fence(tid).state, State::Prepared);
        shard.must_abort(tid, &right, State::Gone);
    });
}

#[test]
fn forget_deletes_by_state_and_age() {
    on_each(|mut shard| {
        let (done, open, fenced, batch) = (shard.begin(0), shard.begin(0), shard.begin(0), batch("x:k", &[]));
        shard.must_prepare(done, &batch);
        shard.must_commit(done, &batch, &[]);
        shard.must_prepare(open, &batch);
        shard.fence(fenced);
        let all = [done, open, fenced];
        assert_eq!(shard.forget(&all, forget::Age::OldCommitted(HOUR)), 0);
        assert_eq!(shard.forget(&all, forget::Age::OldTombstone(HOUR)), 0);
        assert_eq!(shard.forget(&all, forget::Age::CommittedEverywhere), 1);
        shard.run(&format!("HSET __weft:t:{fenced} time 1"));
        assert_eq!(shard.forget(&all, forget::Age::OldTombstone(HOUR)), 1);
        assert_eq!(shard.inspect(open).state, State::Prepared);
    });
}

#[test]
fn reapply_applies_once_what_a_participant_has_lost() {
    on_each(|mut shard| {
        let (tid, batch) = (shard.begin(0), batch("x:n", &["INCRBY n 1"]));
        shard.fence(tid);
        let done = State::Committed(Some(vec![Bytes::from_static(b":1\r\n")]));
        for _ in 0..2 {
            assert_eq!(shard.reapply(tid, &batch), Ok(reapply::Answer::Found(done.clone())));
        }
        assert_eq!(shard.commit(tid, &batch), Ok(done));
        assert_eq!(shard.fence(tid).staged.unwrap().keys, batch.keys);
        shard.must_have_keys(&[&format!("__weft:t:{tid}"), "n"]);
    });
}

#[test]
fn reapply_takes_no_lock_of_another_and_is_refused_after_ten_minutes() {
    on_each(|mut shard| {
        let (owner, tid, batch) = (shard.begin(0), shard.begin(0), batch("x:n", &["INCRBY n 1"]));
        shard.must_prepare(owner, &batch);
        match shard.reapply(tid, &batch) {
            Ok(reapply::Answer::Locked(locked)) => assert_lock_of(locked, owner),
            other => panic!("{other:?}"),
        }
        shard.must_abort(owner, &batch, State::Gone);
        let old = shard.begin(-602_000);
        assert_eq!(shard.reapply(old, &batch), Ok(reapply::Answer::TooLate));
        shard.must_have_keys(&[]);
    });
}

#[test]
fn guarded_commands_run_in_one_step_unless_a_lock_is_in_their_way() {
    on_each(|mut shard| {
        let owner = shard.begin(0);
        shard.must_prepare(owner, &batch("x:w s:r", &[]));
        shard.must_guard(&batch("s:r x:k", &["GET r", "SET k v", "LPUSH k x"]), &["$-1\r\n", "+OK\r\n", WRONG_TYPE]);
        for keys in ["s:w", "x:w", "x:r", "x:a s:w"] {
            match shard.guarded(&batch(keys, &["SET a 1"])) {
                Ok(guarded::Answer::Locked(locked)) => assert_lock_of(locked, owner),
                other => panic!("{other:?}"),
            }
        }
        shard.must("EXISTS a", ":0\r\n");
    });
}

#[test]
fn integers_beyond_two_to_the_53rd_keep_their_digits() {
    on_each(|mut shard| {
        let lines = ["INCRBY n 9007199254740993", "INCRBY n -1", "INCRBY m -9223372036854775807", "HINCRBY h f 9223372036854775807"];
        let replies = [":9007199254740993\r\n", ":9007199254740992\r\n", ":-9223372036854775807\r\n", ":9223372036854775807\r\n"];
        let batch = batch("x:n x:m x:h", &lines);
        shard.must_guard(&batch, &replies);
        shard.run("DEL n m h");
        let tid = shard.begin(0);
        shard.must_prepare(tid, &batch);
        shard.must_commit(tid, &batch, &replies);
        shard.must_commit(tid, &batch, &replies);
    });
}

#[test]
fn keys_and_values_are_any_bytes() {
    on_each(|mut shard| {
        let (key, value): (&[u8], Vec<u8>) = (b"\r\n\0 \xff{", (0..=255).cycle().take(70_000).collect());
        let commands = vec![command(&[b"SET", key, &value]), command(&[b"GET", key])];
        let batch = Batch { participant: shard.at.clone(), keys: vec![lock("x", key)], commands };
        let reply = |value: &[u8]| [b"$70000\r\n", value, b"\r\n"].concat();
        let tid = shard.begin(0);
        shard.kept_reply_bytes_max = 100_000;
        shard.must_prepare(tid, &batch);
        for _ in 0..2 {
            let Ok(State::Committed(Some(replies))) = shard.commit(tid, &batch) else { panic!("not committed") };
            assert_eq!(replies[1], reply(&value));
        }
        assert!(matches!(shard.guarded(&batch), Ok(guarded::Answer::Done(replies)) if replies[1] == reply(&value)));
    });
}

#[test]
fn replies_are_those_of_resp3_for_a_resp3_client() {
    on_each(|mut shard| {
        shard.speak_resp3();
        let batch =
            batch("x:h x:z s:none x:set", &["HSET h f v", "HGETALL h", "GET none", "ZADD z INCR 1.5 m", "SADD set a", "SMEMBERS set"]);
        let replies = [":1\r\n", "%1\r\n$1\r\nf\r\n$1\r\nv\r\n", "_\r\n", ",1.5\r\n", ":1\r\n", "~1\r\n$1\r\na\r\n"];
        shard.must_guard(&batch, &replies);
        shard.run("DEL h z set");
        let tid = shard.begin(0);
        shard.must_prepare(tid, &batch);
        shard.must_commit(tid, &batch, &replies);
        shard.must_commit(tid, &batch, &replies);
        assert_eq!(shard.fence(tid).staged.unwrap().keys, batch.keys);
    });
}

#[test]
fn a_full_memory_refuses_prepare_and_writes_but_nothing_that_finishes() {
    on_each(|mut shard| {
        let (first, second, third, fourth) = (shard.begin(0), shard.begin(0), shard.begin(0), shard.begin(0));
        let write = batch("x:k", &["SET k v"]);
        shard.must_prepare(first, &write);
        shard.must_prepare(second, &batch("x:j", &[]));
        shard.must("CONFIG SET maxmemory 1", "+OK\r\n");
        assert_refused(shard.prepare(third, &batch("x:l", &[])), Refused::Later, "OOM");
        assert_refused(shard.guarded(&batch("x:l", &["SET l v"])), Refused::Later, "OOM");
        shard.must_commit(first, &write, &["+OK\r\n"]);
        shard.must_abort(second, &batch("x:j", &[]), State::Gone);
        assert_eq!(shard.fence(third).state, State::Aborted);
        assert_eq!(shard.inspect(second).state, State::Gone);
        assert!(matches!(shard.reapply(fourth, &batch("x:l", &["SET l v"])), Ok(reapply::Answer::Found(State::Committed(_)))));
        assert_eq!(shard.forget(&[first, fourth], forget::Age::CommittedEverywhere), 2);
    });
}

#[test]
fn a_replica_and_a_server_without_the_scripts_refuse() {
    on_each(|mut shard| {
        let (tid, write) = (shard.begin(0), batch("x:k", &["SET k v"]));
        shard.must_prepare(tid, &write);
        shard.run("REPLICAOF 127.0.0.1 1");
        assert_refused(shard.commit(tid, &write), Refused::Later, "READONLY");
        assert_refused(shard.guarded(&write), Refused::Later, "READONLY");
        shard.run("REPLICAOF NO ONE");
        shard.run("SCRIPT FLUSH");
        assert_refused(shard.commit(tid, &write), Refused::NoScript, "NOSCRIPT");
        shard.call(&Script::Commit.load());
        shard.must_commit(tid, &write, &["+OK\r\n"]);
    });
}

#[test]
fn a_lock_key_of_the_wrong_type_is_in_the_way() {
    on_each(|mut shard| {
        for value in ["SET __weft:x:k nonsense", "LPUSH __weft:s:k 1"] {
            shard.run("FLUSHALL");
            shard.run(value);
            let tid = shard.begin(0);
            assert_refused(shard.prepare(tid, &batch("x:k", &[])), Refused::Malformed, "WEFTLOCKED ?");
            assert_refused(shard.guarded(&batch("x:k", &["SET k v"])), Refused::Malformed, "WEFTLOCKED ?");
            shard.must("DBSIZE", ":1\r\n");
        }
    });
}

#[test]
fn the_closing_commands_of_a_native_commit_do_what_commit_does() {
    on_each(|mut shard| {
        let (tid, batch) = (shard.begin(0), batch("x:k s:r n:n", &["SET k v"]));
        shard.must_prepare(tid, &batch);
        for request in commit::native_closing(tid, &shard.at.clone(), &batch.keys) {
            shard.call(&request);
        }
        shard.must_have_keys(&[&format!("__weft:t:{tid}")]);
        assert_eq!(shard.commit(tid, &batch), Ok(State::Committed(None)));
        assert_eq!(shard.fence(tid).staged.unwrap().keys, batch.keys);
    });
}

#[test]
fn the_longest_command_that_fits_a_script_runs_in_one() {
    on_each(|mut shard| {
        let words: Vec<String> = ["RPUSH".into(), "l".into()].into_iter().chain((2..7_900).map(|n| n.to_string())).collect();
        let long = Request::new(&words);
        assert!(weft::txn::fits_script(&long));
        assert!(!weft::txn::fits_script(&Request::new(&vec!["x"; 7_901])));
        let batch = Batch { participant: shard.at.clone(), keys: vec![lock("x", b"l")], commands: vec![command(&words)] };
        shard.must_guard(&batch, &[":7898\r\n"]);
        let tid = shard.begin(0);
        shard.must_prepare(tid, &batch);
        shard.must_commit(tid, &batch, &[":15796\r\n"]);
    });
}

#[test]
fn in_a_cluster_every_key_of_every_step_lies_in_one_slot() {
    on_each(|mut shard| {
        let slot = Slot::of(b"{a}");
        let program = if shard.run("INFO server").windows(6).any(|window| window == b"valkey") { Flavor::Valkey } else { Flavor::Redis };
        shard.server = Server::start(program, &["--cluster-enabled", "yes", "--cluster-require-full-coverage", "no"]);
        shard.reconnect();
        shard.must(&format!("CLUSTER ADDSLOTS {slot}"), "+OK\r\n");
        crate::support::eventually(crate::support::PATIENCE, "the cluster is up", || shard.run("SET {a} 1") == "+OK\r\n");
        shard.at = Participant::Slot(slot);
        let tid = shard.begin(0);
        let batch = Batch { participant: shard.at.clone(), ..batch("x:{a}k s:{a}r", &["SET {a}k v", "GET {a}r"]) };
        shard.must_prepare(tid, &batch);
        assert_eq!(shard.fence(tid).state, State::Prepared);
        shard.must_commit(tid, &batch, &["+OK\r\n", "$-1\r\n"]);
        shard.must_guard(&batch, &["+OK\r\n", "$-1\r\n"]);
        let lost = shard.begin(0);
        shard.fence(lost);
        assert!(matches!(shard.reapply(lost, &batch), Ok(reapply::Answer::Found(State::Committed(_)))));
        assert_eq!(shard.forget(&[tid, lost], forget::Age::CommittedEverywhere), 2);
        let other = Batch { participant: shard.at.clone(), ..batch.clone() };
        let foreign = Batch { keys: vec![lock("x", b"elsewhere")], ..other };
        assert_refused(shard.guarded(&foreign), Refused::Error, "CROSSSLOT");
        assert!(internal_keys::is_internal(&internal_keys::record(&shard.at, tid)));
    });
}

const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";
