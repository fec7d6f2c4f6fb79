//! What cannot be carried out: commands that are refused while they are queued, and shards that cannot do their part when EXEC comes.

use crate::support::{Client, PATIENCE, Reply, Stage, eventually, on_each, on_each_alone};

/// EXEC fails with an error that contains `reason`, and none of `keys` exists.
#[track_caller]
fn must_apply_nothing(client: &mut Client, reason: &str, keys: &[String]) {
    let text = client.must_err("EXEC", "");
    assert!(text.contains(reason), "{text}");
    client.must_reply("PING", Reply::Simple("PONG".into()));
    keys.iter().for_each(|key| client.must_nil(&format!("GET {key}")));
}

/// Sets an option of the shard at `index`, past weft.
#[track_caller]
fn configure(stage: &Stage<'_>, index: usize, option: &str) {
    stage.shards().servers()[index].client().must_ok(&format!("CONFIG SET {option}"));
}

#[test]
fn what_may_not_be_queued_aborts_the_transaction() {
    on_each(|stage| {
        let mut client = stage.client();
        for command in ["SAVE", "SHUTDOWN", "SWAPDB 0 1", "REPLICAOF NO ONE", "FLUSHALL"] {
            let [x, y, _] = stage.keys();
            client.must_ok("MULTI");
            client.must_queue(&format!("SET {x} bar"));
            client.must_err(command, "ERR ");
            client.must_queue(&format!("SET {y} bar"));
            client.must_err("EXEC", "EXECABORT");
            client.must_int(&format!("EXISTS {x} {y}"), 0);
        }
        client.must_ok("MULTI");
        client.must_err("SAVE", "ERR Command not allowed inside a transaction");
        client.must_ok("DISCARD");
    });
}

#[test]
fn a_transaction_that_writes_fails_whole_when_one_of_its_shards_is_out_of_memory() {
    on_each_alone(|stage| {
        let (mut client, [x, y, z]) = (stage.client(), stage.keys());
        client.must_ok(&format!("SET {z} value"));
        configure(stage, 1, "maxmemory 1");
        client.must_ok("MULTI");
        client.must_queue(&format!("SET {x} 1"));
        client.must_queue(&format!("SET {y} 1"));
        must_apply_nothing(&mut client, "OOM", &[x.clone(), y.clone()]);

        client.must_ok(&format!("WATCH {y}"));
        client.must_ok("MULTI");
        client.must_queue(&format!("SET {y} 1"));
        must_apply_nothing(&mut client, "OOM", std::slice::from_ref(&y));

        client.must_ok("MULTI");
        client.must_queue(&format!("SET {y} 1"));
        client.must_ok("DISCARD");

        client.must_ok("MULTI");
        client.must_queue(&format!("GET {z}"));
        client.must_queue(&format!("GET {y}"));
        client.must_reply("EXEC", Reply::Array(vec!["value".into(), Reply::Nil]));
        let beside = format!("{{{y}}}2");
        client.must_ok("MULTI");
        client.must_queue(&format!("GET {y}"));
        client.must_queue(&format!("EXISTS {y} {beside}"));
        client.must_reply("EXEC", Reply::Array(vec![Reply::Nil, 0.into()]));
        client.must_reply(&format!("MGET {y} {beside}"), Reply::Array(vec![Reply::Nil, Reply::Nil]));

        configure(stage, 1, "maxmemory 0");
        client.must_ok("MULTI");
        client.must_queue(&format!("SET {x} 1"));
        client.must_queue(&format!("SET {y} 1"));
        client.must_reply("EXEC", Reply::Array(vec![Reply::ok(), Reply::ok()]));
    });
}

#[test]
fn a_transaction_that_writes_fails_whole_when_one_of_its_shards_lacks_replicas() {
    on_each_alone(|stage| {
        let (mut client, [x, y, _]) = (stage.client(), stage.keys());
        client.must_ok("MULTI");
        client.must_queue(&format!("INCR {x}"));
        client.must_queue(&format!("INCR {y}"));
        configure(stage, 1, "min-replicas-to-write 2");
        must_apply_nothing(&mut client, "NOREPLICAS", &[x.clone(), y.clone()]);
        configure(stage, 1, "min-replicas-to-write 0");
        client.must_ok("MULTI");
        client.must_queue(&format!("INCR {x}"));
        client.must_queue(&format!("INCR {y}"));
        client.must_reply("EXEC", Reply::array([1, 1]));
    });
}

#[test]
fn exec_while_a_shard_is_busy_with_a_script_runs_whole_or_not_at_all() {
    on_each_alone(|stage| {
        let (mut client, [x, y, _]) = (stage.client(), stage.keys());
        client.must_ok("MULTI");
        client.must_queue(&format!("INCR {x}"));
        client.must_queue(&format!("INCR {y}"));
        configure(stage, 1, "lua-time-limit 10");
        let shard = &stage.shards().servers()[1];
        let (mut endless, mut killer) = (shard.client(), shard.client());
        endless.send(&["EVAL", "while true do end", "0"]);
        let busy = || matches!(killer.call("PING"), Reply::Error(text) if text.starts_with("BUSY"));
        eventually(PATIENCE, "the script is slow", busy);
        let text = client.must_err("EXEC", "");
        assert!(text.contains("BUSY"), "{text}");
        client.must_reply("PING asdf", "asdf");
        shard.client().must_ok("SCRIPT KILL");
        endless.receive();
        client.must_reply(&format!("MGET {x} {y}"), Reply::Array(vec![Reply::Nil, Reply::Nil]));
    });
}

#[test]
fn a_transaction_that_would_lock_too_many_keys_or_queue_too_much_is_refused_with_the_limits_name() {
    on_each(|stage| {
        let [x, y, z] = stage.keys();
        let limited = crate::support::Weft::setup(stage.shards())
            .set("transactions.queue_commands_max", 2)
            .set("transactions.watch_keys_max", 2)
            .start();
        let mut client = limited.client();
        client.must_err(&format!("WATCH {x} {y} {z}"), "ERR too many watched keys: watch_keys_max is 2");
        client.must_ok("MULTI");
        client.must_queue(&format!("SET {x} 1"));
        client.must_queue(&format!("SET {y} 1"));
        client.must_err(&format!("SET {z} 1"), "ERR transaction is too long: queue_commands_max is 2");
        must_apply_nothing(&mut client, "EXECABORT", &[x, y, z]);
    });
}
