//! The sweeper: after a while, nothing of weft's is left on any shard.

use super::*;
use crate::support::{PATIENCE, eventually};

/// A weft that sweeps often, and finds everything older than `age_ms` old.
fn sweeping(shards: &Shards, age_ms: u32) -> Setup {
    let setup = setup(shards).set("sweep.interval_ms", 100).set("sweep.prepared_age_ms", age_ms);
    setup.set("sweep.committed_age_ms", age_ms).set("sweep.aborted_age_ms", age_ms)
}

#[test]
fn what_a_dead_proxy_left_is_finished_and_then_deleted() {
    for mode in Mode::ALL {
        let shards = Shards::start(mode, Flavor::Redis, 3);
        let deaths = ["before-commit", "after-commit:3"];
        for failpoint in deaths {
            let mut doomed = setup(&shards).env("WEFT_FAILPOINT", failpoint).start();
            send_transaction(&mut doomed.client(), increments(&keys(&shards, 3, failpoint)));
            doomed.process().must_exit();
        }
        assert_eq!(shards.internal_keys().len(), 6 + 3 + 3, "{:?}", shards.internal_keys());
        // Nobody asks for the keys.
        let sweeper = sweeping(&shards, 300).start();
        eventually(PATIENCE, "the shards are clean", || shards.internal_keys().is_empty());
        for key in deaths.into_iter().flat_map(|failpoint| keys(&shards, 3, failpoint)) {
            sweeper.client().must_bulk(&format!("GET {key}"), "1");
        }
    }
}

#[test]
fn a_tombstone_and_other_databases_are_swept_too() {
    let shards = static_shards(2);
    let keys = keys(&shards, 2, "k");
    let mut client = shards.servers()[0].client();
    client.must_ok("SELECT 3");
    client.must_int("HSET __weft:t:1-2-3-4 state aborted format 1 time 1", 3);
    let mut doomed = setup(&shards).env("WEFT_FAILPOINT", "before-commit").start();
    let mut other = doomed.client();
    other.must_ok("SELECT 3");
    send_transaction(&mut other, increments(&keys));
    doomed.process().must_exit();
    client.must_int("DBSIZE", 4);
    let _sweeper = sweeping(&shards, 300).start();
    eventually(PATIENCE, "the database has nothing but the user's key", || client.call("DBSIZE") == Reply::Integer(1));
    client.must_bulk(&format!("GET {}", keys[0]), "1");
}

#[test]
fn what_is_young_is_left_alone() {
    let shards = static_shards(2);
    let keys = keys(&shards, 2, "k");
    let mut doomed = setup(&shards).env("WEFT_FAILPOINT", "before-commit").start();
    send_transaction(&mut doomed.client(), increments(&keys));
    doomed.process().must_exit();
    let before = shards.internal_keys();
    let mut scans = shards.servers()[0].client();
    let _sweeper = sweeping(&shards, 60_000).start();
    eventually(PATIENCE, "three rounds have passed", || {
        let stats = scans.call("INFO commandstats").text().unwrap();
        stats.lines().find_map(|line| line.strip_prefix("cmdstat_scan:calls=")?.split(',').next()?.parse().ok()).unwrap_or(0) >= 3
    });
    assert_eq!(shards.internal_keys(), before);
}
