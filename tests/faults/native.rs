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
