//! Clocks that are wrong: proxies and shards a minute apart, in either direction, and clocks that jump while a transaction is under way.
//!
//! Leases and ages are told by the shard's clock alone. A proxy's clock gives a transaction its start, which five minutes to either side
//! of the shard's must bear; beyond that it is refused.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use weft::txn::Script;

use super::crash::must_be_all_or_nothing;
use super::wire::{Wire, call_of};
use super::*;
use crate::support::{Clock, Fault, FaultProxy, Way};

/// Whose clock is off, and by how many seconds: the dead coordinator's, the survivor's, one shard's.
const APART: &[(i64, i64, i64)] = &[(60, 0, 0), (-60, 0, 0), (0, 60, 0), (0, -60, 0), (0, 0, 60), (0, 0, -60), (60, -60, 0), (-60, 60, 60)];

#[test]
fn what_a_dead_coordinator_left_is_settled_in_time_when_clocks_are_a_minute_apart() {
    settled_in_time(Mode::Static);
}

#[test]
fn what_a_dead_coordinator_left_in_a_cluster_is_settled_in_time_when_clocks_are_a_minute_apart() {
    settled_in_time(Mode::Cluster);
}

fn settled_in_time(mode: Mode) {
    // Long enough that a busy machine does not decide.
    let lease = Duration::from_secs(1);
    let clocks = [0, 0, 0].map(Clock::ahead_by);
    let shards = Shards::with_clocks(mode, clocks.clone());
    for (index, (coordinator, survivor, shard)) in APART.iter().enumerate() {
        clocks[1].set(*shard);
        let setup = || Weft::setup(&shards).set("transactions.lease_ms", lease.as_millis());
        let survivor = setup().by(&Clock::ahead_by(*survivor)).start();
        for (failpoint, applied) in [("before-commit", Some(true)), ("after-prepare:1", None), ("after-commit:1", None)] {
            let context = format!("{index} {failpoint}");
            let keys = keys(&shards, 2, &format!("{index}-{failpoint}-"));
            let mut doomed = setup().by(&Clock::ahead_by(*coordinator)).env("WEFT_FAILPOINT", failpoint).start();
            send_transaction(&mut doomed.client(), increments(&keys));
            doomed.process().must_exit();
            let death = Instant::now();
            must_be_all_or_nothing(&survivor, &keys, applied, &context);
            assert!(death.elapsed() < 2 * lease + Duration::from_secs(2), "{context}: {:?}", death.elapsed());
            must_have_no_locks(&shards);
        }
    }
}

#[test]
fn a_living_owner_is_waited_for_although_clocks_are_a_minute_apart() {
    for seconds in [60, -60] {
        let shards = static_shards(2);
        let keys = keys(&shards, 2, "k");
        let proxy = FaultProxy::start(shards.servers()[1].address());
        // With a lease of half a minute nobody has a reason to resolve it.
        let setup = || Weft::setup(&shards).set("transactions.lease_ms", 30_000);
        let owner = setup().by(&Clock::ahead_by(seconds)).through(&proxy, &shards.servers()[1]).start();
        let other = setup().by(&Clock::ahead_by(-seconds)).start();
        proxy.set(Way::Requests, call_of(Script::Commit), Fault::Hold);
        let mut client = owner.client();
        send_transaction(&mut client, increments(&keys));
        proxy.must_spring();
        let mut reader = other.client();
        reader.send(&format!("GET {}", keys[1]));
        reader.must_stay_silent(Duration::from_millis(300));
        assert_eq!(left(&shards, &[]), [(0, 't'), (1, 't'), (1, 'x')], "nobody has resolved it");
        proxy.release();
        assert_eq!(client.receive(), integers([1, 1]));
        assert_eq!(reader.receive(), Reply::from("1"));
        must_have_no_locks(&shards);
    }
}

#[test]
fn a_transaction_whose_start_is_six_minutes_off_the_shards_clock_is_refused() {
    for seconds in [360, -360] {
        let shards = static_shards(2);
        let keys = keys(&shards, 2, "k");
        let clock = Clock::ahead_by(seconds);
        let weft = setup(&shards).by(&clock).start();
        let mut client = weft.client();
        send_transaction(&mut client, increments(&keys));
        assert!(matches!(client.receive(), Reply::Error(text) if text.contains("clocks of weft and of a shard")));
        keys.iter().for_each(|key| client.must_nil(&format!("GET {key}")));
        assert!(shards.internal_keys().is_empty());
        // Nothing else depends on it.
        client.must_int(&format!("INCR {}", keys[0]), 1);
        clock.set(0);
        send_transaction(&mut client, increments(&keys));
        assert_eq!(client.receive(), integers([2, 1]));
    }
}

#[test]
fn a_clock_that_jumps_between_prepare_and_commit_changes_nothing() {
    for (proxys, shards) in [(3600, 0), (-3600, 0), (0, 3600), (0, -3600)] {
        let clocks = [0, 0].map(Clock::ahead_by);
        let clock = Clock::ahead_by(0);
        let wire = Wire::before(Shards::with_clocks(Mode::Static, clocks.clone()), |setup| setup.by(&clock));
        let other = setup(&wire.shards).start();
        wire.proxy.set(Way::Requests, call_of(Script::Commit), Fault::Hold);
        let mut client = wire.weft.client();
        send_transaction(&mut client, increments(&wire.keys));
        wire.proxy.must_spring();
        clock.set(proxys);
        clocks.iter().for_each(|clock| clock.set(shards));
        // By a clock that was set back an hour the lease has an hour left; by one that was set forward it is over.
        if shards == 3600 {
            other.client().must_bulk(&format!("GET {}", wire.keys[1]), "1");
        }
        wire.proxy.release();
        assert_eq!(client.receive(), integers([1, 1]), "{proxys} {shards}");
        other.client().must_bulk(&format!("GET {}", wire.keys[1]), "1");
        must_have_no_locks(&wire.shards);
    }
}

#[test]
fn proxies_and_shards_a_minute_apart_lose_and_double_nothing_while_proxies_are_killed() {
    let shards = Shards::with_clocks(Mode::Static, [Clock::ahead_by(0), Clock::ahead_by(60)]);
    let keys = keys(&shards, 2, "k");
    let (acknowledged, uncertain) = (AtomicI64::new(0), AtomicI64::new(0));
    std::thread::scope(|scope| {
        for seconds in [60, -60] {
            let (shards, keys, acknowledged, uncertain) = (&shards, &keys, &acknowledged, &uncertain);
            scope.spawn(move || {
                for _ in 0..4 {
                    let mut weft = setup(shards).by(&Clock::ahead_by(seconds)).start();
                    let mut clients = [weft.client(), weft.client()];
                    for round in 0..50 {
                        clients.iter_mut().for_each(|client| {
                            client.send_raw(format!("MULTI\r\nINCR {}\r\nINCR {}\r\nEXEC\r\n", keys[0], keys[1]));
                        });
                        if round == 49 {
                            weft.process().kill();
                            uncertain.fetch_add(2, Ordering::Relaxed);
                            break;
                        }
                        for client in &mut clients {
                            let reply = (0..4).map(|_| client.receive()).last().unwrap();
                            let Reply::Array(counts) = reply else { panic!("{reply:?}") };
                            assert_eq!(counts[0], counts[1], "both keys are incremented by every transaction");
                            acknowledged.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    let reader = setup(&shards).start();
    let values: Vec<i64> = keys.iter().map(|key| reader.client().call(&format!("GET {key}")).text().unwrap().parse().unwrap()).collect();
    let (least, most) = (acknowledged.load(Ordering::Relaxed), acknowledged.load(Ordering::Relaxed) + uncertain.load(Ordering::Relaxed));
    assert_eq!(values[0], values[1]);
    assert!((least..=most).contains(&values[0]), "{least} {values:?} {most}");
    must_have_no_locks(&shards);
}
