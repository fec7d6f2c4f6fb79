//! Commands that no script can run, in a transaction whose coordinator died: a resolver runs them natively, once.

use super::*;

const APPEND: &str = "return redis.call('APPEND', KEYS[1], ARGV[1])";

fn queue_script(client: &mut Client, keys: &[String]) {
    client.must_ok("MULTI");
    client.must_queue(&["EVAL", APPEND, "1", &keys[0], "x"]);
    client.must_queue(&format!("INCR {}", keys[1]));
}

#[test]
fn a_users_script_that_was_prepared_is_run_once_by_whoever_comes_next() {
    for mode in Mode::ALL {
        let shards = Shards::start(mode, Flavor::Redis, 2);
        let keys = keys(&shards, 2, "k");
        for key in &keys {
            assert!(shards.servers()[shards.shard_of(key)].client().answers());
        }
        let mut doomed = setup(&shards).env("WEFT_FAILPOINT", "before-commit").start();
        let mut client = doomed.client();
        queue_script(&mut client, &keys);
        client.send("EXEC");
        doomed.process().must_exit();
        assert_eq!(left(&shards, &[]), [(0, 't'), (0, 'x'), (1, 't'), (1, 'x')]);

        let survivor = setup(&shards).start();
        let mut client = survivor.client();
        client.must_bulk(&format!("GET {}", keys[1]), "1");
        client.must_bulk(&format!("GET {}", keys[0]), "x");
        must_have_no_locks(&shards);
    }
}

#[test]
fn a_coordinator_runs_a_users_script_natively_itself() {
    let shards = static_shards(2);
    let keys = keys(&shards, 2, "k");
    let weft = setup(&shards).start();
    let mut client = weft.client();
    for round in 1..=2 {
        queue_script(&mut client, &keys);
        client.must_reply("EXEC", integers([round, round]));
    }
    must_have_no_locks(&shards);
}

#[test]
fn a_command_that_a_shard_will_never_queue_is_an_error_beside_the_replies_of_the_others() {
    let shards = static_shards(2);
    let keys = keys(&shards, 2, "k");
    let weft = setup(&shards).start();
    let mut client = weft.client();
    client.must_ok("MULTI");
    client.must_queue(&["EVAL", APPEND, "1", &keys[0], "x"]);
    // Known to Valkey 9, not to this server.
    client.must_queue(&format!("DELIFEQ {} x", keys[0]));
    client.must_queue(&format!("STRLEN {}", keys[0]));
    client.must_queue(&format!("INCR {}", keys[1]));
    let Reply::Array(replies) = client.call("EXEC") else { panic!("no array") };
    assert_eq!((&replies[0], &replies[2], &replies[3]), (&Reply::Integer(1), &Reply::Integer(1), &Reply::Integer(1)));
    assert!(matches!(&replies[1], Reply::Error(text) if text.starts_with("ERR unknown command 'DELIFEQ'")), "{:?}", replies[1]);
    must_have_no_locks(&shards);
}
