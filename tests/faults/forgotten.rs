//! A shard that forgets the scripts, as `SCRIPT FLUSH` and restarts make it, right before a step of the protocol: they are loaded again,
//! and the step is carried out once.

use weft::txn::Script;

use super::wire::{Wire, call_of};
use super::*;
use crate::support::{Fault, PATIENCE, Way, eventually};

/// Has the second shard forget every script right before the next call of `script`.
fn forget_before(wire: &Wire, script: Script, begin: impl FnOnce()) {
    wire.proxy.set(Way::Requests, call_of(script), Fault::Hold);
    begin();
    wire.proxy.must_spring();
    wire.shards.servers().iter().for_each(|server| server.client().must_ok("SCRIPT FLUSH"));
    wire.proxy.release();
}

#[test]
fn scripts_that_a_shard_has_forgotten_are_loaded_again_at_any_step() {
    for mode in Mode::ALL {
        for script in [Script::Prepare, Script::Commit] {
            let wire = Wire::start(mode);
            let mut client = wire.weft.client();
            forget_before(&wire, script, || send_transaction(&mut client, increments(&wire.keys)));
            assert_eq!(client.receive(), integers([1, 1]), "{mode:?} {script:?}");
            forget_before(&wire, Script::Guarded, || client.send(&format!("INCR {}", wire.keys[1])));
            assert_eq!(client.receive(), Reply::Integer(2), "{mode:?} {script:?}");
            must_have_no_locks(&wire.shards);
        }
    }
}

#[test]
fn an_abort_and_a_fence_are_loaded_again() {
    for mode in Mode::ALL {
        let wire = Wire::start(mode);
        let mut client = wire.weft.client();
        // A lock at the first shard aborts what the second has prepared.
        let (mut first, lock) = (wire.shards.servers()[0].client(), wire.shards.lock_of(&wire.keys[0]));
        first.must_ok(&["SET", &lock, "1-1-1-1 9999999999999"]);
        forget_before(&wire, Script::Abort, || send_transaction(&mut client, increments(&wire.keys)));
        first.must_int(&format!("DEL {lock}"), 1);
        assert_eq!(client.receive(), integers([1, 1]), "{mode:?}");

        // A prepare that is cut off is fenced.
        wire.proxy.set(Way::Requests, call_of(Script::Prepare), Fault::Cut);
        forget_before(&wire, Script::Fence, || send_transaction(&mut client, increments(&wire.keys)));
        assert_eq!(client.receive(), integers([2, 2]), "{mode:?}");
        must_have_no_locks(&wire.shards);
    }
}

#[test]
fn a_resolvers_steps_are_loaded_again() {
    for mode in Mode::ALL {
        for script in [Script::Inspect, Script::Fence, Script::Commit] {
            let wire = Wire::start(mode);
            let mut doomed = setup(&wire.shards).env("WEFT_FAILPOINT", "before-commit").start();
            send_transaction(&mut doomed.client(), increments(&wire.keys));
            doomed.process().must_exit();
            let mut client = wire.weft.client();
            forget_before(&wire, script, || client.send(&format!("INCR {}", wire.keys[1])));
            assert_eq!(client.receive(), Reply::Integer(2), "{mode:?} {script:?}");
            client.must_bulk(&format!("GET {}", wire.keys[0]), "1");
            must_have_no_locks(&wire.shards);
        }
    }
}

#[test]
fn what_is_applied_again_is_loaded_again() {
    let wire = Wire::start(Mode::Static);
    let mut client = wire.weft.client();
    wire.proxy.set(Way::Requests, call_of(Script::Commit), Fault::Hold);
    send_transaction(&mut client, increments(&wire.keys));
    wire.proxy.must_spring();
    wire.shards.servers()[1].client().must_ok("FLUSHALL");
    forget_before(&wire, Script::Reapply, || wire.proxy.release());
    assert_eq!(client.receive(), integers([1, 1]));
    assert_eq!(wire.on_shards(), ["1".into(), "1".into()]);
    must_have_no_locks(&wire.shards);
}

#[test]
fn the_forgetting_of_records_is_loaded_again() {
    let wire = Wire::start(Mode::Static);
    let mut client = wire.weft.client();
    forget_before(&wire, Script::Forget, || {
        send_transaction(&mut client, increments(&wire.keys));
        assert_eq!(client.receive(), integers([1, 1]));
    });
    eventually(PATIENCE, "the coordinator forgets", || wire.shards.internal_keys().is_empty());
}
