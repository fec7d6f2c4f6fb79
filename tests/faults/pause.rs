//! A weft that is stopped for longer than its lease, and comes back when others have settled its transaction.

use rustix::process::Signal;
use weft::txn::Script;

use super::*;
use crate::support::{Fault, FaultProxy, PATIENCE, Way, eventually};

/// Stops the weft in the middle of `count` keys' transaction, when the bytes that contain `pattern` come along; then `meanwhile`; then
/// lets it go on. The reply to EXEC.
fn paused(way: Way, pattern: &str, meanwhile: impl FnOnce(&mut Client, &[String])) -> (Shards, Vec<String>, Reply) {
    let shards = static_shards(2);
    let keys = keys(&shards, 2, "k");
    let proxies: Vec<FaultProxy> = shards.servers().iter().map(|server| FaultProxy::start(server.address())).collect();
    let setup_through = shards.servers().iter().zip(&proxies).fold(setup(&shards), |setup, (server, proxy)| setup.through(proxy, server));
    let mut first = setup_through.start();
    let second = setup(&shards).start();
    let mut client = first.client();
    proxies.iter().for_each(|proxy| proxy.set(way, pattern, Fault::Hold));
    send_transaction(&mut client, increments(&keys));
    proxies.iter().for_each(FaultProxy::must_spring);
    first.process().pause();
    meanwhile(&mut second.client(), &keys);
    proxies.iter().for_each(FaultProxy::release);
    first.process().resume();
    let reply = client.receive();
    must_have_no_locks(&shards);
    (shards, keys, reply)
}

#[test]
fn a_coordinator_that_wakes_after_the_others_committed_tells_the_replies_of_the_one_execution() {
    for way in [Way::Replies, Way::Requests] {
        let pattern = if way == Way::Replies { "prepared\r\n" } else { Script::Commit.sha1() };
        let (_shards, _keys, reply) = paused(way, pattern, |other, keys| {
            for key in keys {
                other.must_bulk(&format!("GET {key}"), "1");
                other.must_int(&format!("INCRBY {key} 10"), 11);
            }
        });
        assert_eq!(reply, integers([1, 1]), "{way:?}");
    }
}

#[test]
fn a_coordinator_that_wakes_after_the_others_aborted_tries_again_and_tells_what_came_of_that() {
    // Its prepares have not arrived anywhere: the others see nothing of it, and it does not matter that its lease is long over.
    let (_shards, _keys, reply) = paused(Way::Requests, Script::Prepare.sha1(), |other, keys| {
        keys.iter().for_each(|key| other.must_int(&format!("INCRBY {key} 10"), 10));
    });
    assert_eq!(reply, integers([11, 11]));

    // One prepare has arrived, the other not: the others abort it.
    let shards = static_shards(2);
    let keys = keys(&shards, 2, "k");
    let proxy = FaultProxy::start(shards.servers()[1].address());
    let mut first = setup(&shards).through(&proxy, &shards.servers()[1]).start();
    let second = setup(&shards).start();
    let mut client = first.client();
    proxy.set(Way::Requests, Script::Prepare.sha1(), Fault::Hold);
    send_transaction(&mut client, increments(&keys));
    proxy.must_spring();
    eventually(PATIENCE, "the other prepare has arrived", || left(&shards, &[]) == [(0, 't'), (0, 'x')]);
    first.process().pause();
    second.client().must_int(&format!("INCRBY {} 10", keys[0]), 10);
    assert_eq!(left(&shards, &[]), [(1, 't')]);
    first.process().resume();
    proxy.release();
    assert_eq!(client.receive(), integers([11, 1]));
    must_have_no_locks(&shards);
}

#[test]
fn a_weft_that_is_told_to_stop_finishes_what_it_began() {
    let shards = static_shards(2);
    let keys = keys(&shards, 2, "k");
    let proxy = FaultProxy::start(shards.servers()[1].address());
    let mut weft = setup(&shards).through(&proxy, &shards.servers()[1]).start();
    let mut client = weft.client();
    proxy.set(Way::Requests, Script::Commit.sha1(), Fault::Hold);
    send_transaction(&mut client, increments(&keys));
    proxy.must_spring();
    weft.process().signal(Signal::TERM);
    client.must_be_closed();
    proxy.release();
    assert!(weft.process().must_exit().success());
    // Nobody else had to finish it.
    for (server, key) in shards.servers().iter().zip(&keys) {
        server.client().must_bulk(&format!("GET {key}"), "1");
    }
    must_have_no_locks(&shards);
}
