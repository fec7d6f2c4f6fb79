//! A model check of the machines themselves: every schedule of small worlds, and a mutant for each rule that looks fussy.
//!
//! The participants are the scripts' semantics over one key each, which every transaction writes. A step is executed and answered at
//! any time after it was sent. A sender may give up waiting: then the step is executed later, or never, and nobody hears of it; what
//! is sent again meanwhile makes it a duplicate. A crash needs no action of its own: it is a schedule in which nothing of a
//! process is delivered any more, and every prefix of a schedule is checked.
//!
//! Worlds that differ only by which participant or which resolver is which are explored once ([`symmetry`]). The largest worlds of
//! these tests have some 24,000 such states. `make model` explores larger ones, in which more happens together, and to their end too:
//!
//! | participants | transactions | resolvers | losses | time passes | states |
//! |---|---|---|---|---|---|
//! | 3 | 1 | 2 | 1 | | 71,739 |
//! | 2 | 2 | 1 | 1 | yes | 411,237 |
//! | 2 | 2 | 2 | 1 | | 471,642 |
//! | 3 | 2 | 2 | | | 1,164,870 |
//! | 3 | 2 | 2 | 1 | | 23,841,104 |
//!
//! All but the last take a minute or two together, the last a quarter of an hour or more.
//!
//! Of the protocol's invariants this model checks 1 (applied everywhere or nowhere; where a record was lost, that is what it comes to in the
//! end, unless it is reported as torn), 2 (once), 3 (for x-locks), 6 (as far as locks go; records
//! are deleted by age, which no test here waits for) and 7 (the outcome; replies are not in the model). What plain commands see and do, and
//! what is watched, 4 and 5, is the subject of [`isolation`].

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod invariants;
mod isolation;
mod shard;
mod symmetry;
mod world;

use stateright::{Checker, Model, Property};
use world::{Act, World};

/// A world to explore.
#[derive(Clone, Debug)]
struct Spec {
    participants: usize,
    transactions: usize,
    /// How many resolvers may be started.
    resolvers: usize,
    /// How often a sender may give up waiting.
    losses: usize,
    /// Whether time passes, so that prepares are refused and records deleted for their age.
    ages: bool,
    /// How often a prepared participant may lose everything, or, without resolvers, a committed one its record.
    wipes: usize,
    /// Whether what is lost of a prepared participant is only its record, and its lock stays.
    lone_locks: bool,
    /// Whether transactions after the first prepare in order, and wait.
    ordered: bool,
    /// Whether batches run natively, so that what is applied again is prepared again.
    native: bool,
    mutant: Option<Mutant>,
}

/// A rule left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutant {
    /// A prepare that timed out counts as a no.
    AbortOnTimeout,
    /// fence turns prepared into aborted.
    FenceAbortsPrepared,
    /// Resolvers delete what they have committed.
    ResolverForgets,
    /// The coordinator forgets as soon as one participant has committed.
    ForgetBeforeAllCommits,
    /// fence leaves no tombstone.
    ResolveWithoutFencing,
    /// prepare does not look at the transaction's age.
    NoAgeCheck,
    /// A participant that is locked counts as prepared.
    CommitWhenAnyPrepared,
    /// prepare does not look at locks.
    NoLockCheck,
    /// abort deletes committed records.
    AbortDeletesCommitted,
    /// commit runs the batch again.
    CommitNotIdempotent,
    /// Committed records vanish.
    CommittedExpires,
    /// A prepare that timed out is sent again.
    PrepareResent,
    /// Tombstones vanish.
    TombstonesEvicted,
    /// A fence's answer is believed however late it comes.
    OldFenceBelieved,
    /// A participant that has nothing is applied to again, though a commit to it went unanswered.
    ReapplyAfterLostCommit,
}

const SMALL: Spec = Spec {
    participants: 2,
    transactions: 1,
    resolvers: 1,
    losses: 1,
    ages: false,
    wipes: 0,
    lone_locks: false,
    ordered: false,
    native: false,
    mutant: None,
};

impl Model for Spec {
    type State = World;
    type Action = Act;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Act>) {
        world.possible(self, actions);
    }

    fn next_state(&self, world: &World, act: Act) -> Option<World> {
        let mut next = world.clone();
        next.perform(self, act);
        Some(next.in_order(!self.ordered))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("invariant 1: a transaction is applied everywhere or nowhere", |spec: &Self, world: &World| {
                spec.wipes > 0 || world.agrees()
            }),
            Property::always("invariant 2: it is applied at most once", |_: &Self, world: &World| world.applied_once()),
            Property::always("invariant 3: every lock belongs to one prepared record", |spec: &Self, world: &World| {
                spec.wipes > 0 || world.locks_are_owned()
            }),
            Property::always("what was lost is made good in the end, or reported as torn", |_: &Self, world: &World| {
                world.torn || !world.is_quiet() || world.is_whole()
            }),
            Property::sometimes("what was lost is made good", |spec: &Self, world: &World| spec.wipes == 0 || world.is_repaired()),
            // What is applied again comes behind those that found its key unlocked meanwhile.
            Property::always("all participants see one order", |spec: &Self, world: &World| spec.wipes > 0 || world.is_serial()),
            Property::always("invariant 7: what a client is told is what happened", |_: &Self, world: &World| world.told_the_truth()),
            Property::always("nothing is torn where nothing was lost", |spec: &Self, world: &World| spec.wipes > 0 || !world.torn),
            Property::always("invariant 6: whoever is heard out leaves no lock", |spec: &Self, world: &World| {
                // A lock without a record is left until somebody meets it.
                spec.lone_locks || !world.is_quiet() || world.is_clean()
            }),
        ]
    }
}

/// Explores all of it: nothing is broken. Depth first, since that keeps few worlds in memory besides the fingerprints of all.
fn must_hold(spec: Spec) {
    let checker = spec.clone().checker().spawn_dfs().join();
    println!("{} states: {spec:?}", checker.unique_state_count());
    checker.assert_properties();
}

/// Finds the schedule that breaks.
fn must_break(spec: Spec, mutant: Mutant) {
    let spec = Spec { mutant: Some(mutant), ..spec };
    let checker = spec.checker().finish_when(stateright::HasDiscoveries::Any).spawn_bfs().join();
    println!("{mutant:?}: {} states, {:?}", checker.unique_state_count(), checker.discoveries().keys());
    assert!(!checker.discoveries().is_empty(), "{mutant:?} goes unnoticed in {} states", checker.unique_state_count());
}

#[test]
fn two_transactions_collide_at_two_participants() {
    must_hold(Spec { transactions: 2, ..SMALL });
}

#[test]
fn two_transactions_collide_and_the_second_waits_in_order() {
    must_hold(Spec { transactions: 2, ordered: true, resolvers: 0, ..SMALL });
}

#[test]
fn two_resolvers_and_the_coordinator_finish_one_transaction() {
    must_hold(Spec { resolvers: 2, losses: 2, ..SMALL });
}

#[test]
fn two_resolvers_at_three_participants() {
    must_hold(Spec { participants: 3, resolvers: 2, losses: 0, ..SMALL });
}

#[test]
fn two_transactions_at_three_participants() {
    must_hold(Spec { participants: 3, transactions: 2, resolvers: 1, losses: 0, ..SMALL });
}

#[test]
fn records_grow_old() {
    must_hold(Spec { resolvers: 1, losses: 2, ages: true, ..SMALL });
}

#[test]
fn a_prepared_participant_loses_everything() {
    must_hold(Spec { wipes: 1, resolvers: 2, ..SMALL });
    must_hold(Spec { participants: 3, wipes: 1, ..SMALL });
}

/// What is applied again meets the lock of another.
#[test]
fn a_prepared_participant_loses_everything_and_another_comes_first() {
    must_hold(Spec { transactions: 2, wipes: 1, resolvers: 0, losses: 0, ..SMALL });
}

/// reapply never applies these: those that are made good were prepared again, and committed.
#[test]
fn what_ran_natively_is_prepared_again() {
    must_hold(Spec { wipes: 1, native: true, ..SMALL });
    must_hold(Spec { wipes: 1, native: true, resolvers: 0, losses: 3, ..SMALL });
}

#[test]
fn a_prepared_participant_loses_its_record_and_keeps_its_lock() {
    must_hold(Spec { wipes: 1, lone_locks: true, resolvers: 2, losses: 0, ..SMALL });
}

#[test]
fn a_committed_participant_loses_its_record() {
    must_hold(Spec { wipes: 1, resolvers: 0, losses: 3, ..SMALL });
}

/// Everything together; `make model` runs them.
mod larger_worlds {
    use super::*;

    #[test]
    #[ignore = "minutes"]
    fn two_transactions_and_two_resolvers_at_two_participants() {
        must_hold(Spec { transactions: 2, resolvers: 2, ..SMALL });
    }

    #[test]
    #[ignore = "minutes"]
    fn two_transactions_and_two_resolvers_at_three_participants() {
        must_hold(Spec { participants: 3, transactions: 2, resolvers: 2, losses: 0, ..SMALL });
    }

    #[test]
    #[ignore = "minutes"]
    fn two_resolvers_and_a_loss_at_three_participants() {
        must_hold(Spec { participants: 3, resolvers: 2, ..SMALL });
    }

    #[test]
    #[ignore = "minutes"]
    fn two_transactions_grow_old() {
        must_hold(Spec { transactions: 2, resolvers: 1, ages: true, ..SMALL });
    }

    #[test]
    #[ignore = "a quarter of an hour and more"]
    fn two_transactions_two_resolvers_and_a_loss_at_three_participants() {
        must_hold(Spec { participants: 3, transactions: 2, resolvers: 2, ..SMALL });
    }
}

#[test]
fn each_rule_is_needed() {
    use Mutant::*;
    let two = Spec { transactions: 2, ..SMALL };
    let old = Spec { losses: 2, ages: true, ..SMALL };
    for (mutant, spec) in [
        (AbortOnTimeout, SMALL),
        (FenceAbortsPrepared, SMALL),
        (ResolverForgets, Spec { resolvers: 2, ..SMALL }),
        (ForgetBeforeAllCommits, SMALL),
        (ResolveWithoutFencing, SMALL),
        (NoAgeCheck, old.clone()),
        (CommitWhenAnyPrepared, two.clone()),
        (NoLockCheck, two.clone()),
        (AbortDeletesCommitted, Spec { wipes: 1, resolvers: 2, losses: 0, ..SMALL }),
        (CommitNotIdempotent, SMALL),
        (CommittedExpires, SMALL),
        (PrepareResent, two),
        (TombstonesEvicted, SMALL),
        (OldFenceBelieved, old),
        (ReapplyAfterLostCommit, Spec { wipes: 1, resolvers: 0, ..SMALL }),
    ] {
        must_break(spec, mutant);
    }
}

/// Whatever step the coordinator dies after, a resolver that comes by any participant finishes its transaction.
#[test]
fn a_crash_after_any_step_leaves_all_or_nothing() {
    let spec = Spec { participants: 3, resolvers: usize::MAX, ..SMALL };
    for home in 0..spec.participants {
        for steps in 0.. {
            let mut world = World::new(&spec);
            let alive = (0..steps).all(|_| world.deliver_next(&spec));
            world.crash();
            while let Some(prepared) = world.prepared_from(home) {
                world.perform(&spec, Act::Resolve(0, prepared));
                while world.deliver_next(&spec) {}
            }
            assert!(world.agrees() && world.applied_once() && world.locks_are_owned() && world.told_the_truth(), "{world:?}");
            if !alive {
                break;
            }
        }
    }
}

/// A record is lost after any step, its lock stays, and the coordinator dies: whoever meets the lock takes it away, and what nobody had
/// applied nobody applies.
#[test]
fn a_lock_without_a_record_goes_when_it_is_met() {
    let spec = Spec { participants: 3, resolvers: usize::MAX, ..SMALL };
    for home in 0..spec.participants {
        for steps in 0.. {
            let mut world = World::new(&spec);
            if !(0..steps).all(|_| world.deliver_next(&spec)) {
                break;
            }
            world.crash();
            if world.prepared_from(home) != Some(home) {
                continue;
            }
            let undecided = !world.is_applied();
            world.perform(&spec, Act::LoseRecord(0, home));
            world.perform(&spec, Act::Resolve(0, home));
            while world.deliver_next(&spec) {}
            assert!(world.locks_are_owned(), "{world:?}");
            while let Some(prepared) = world.prepared_from(home) {
                world.perform(&spec, Act::Resolve(0, prepared));
                while world.deliver_next(&spec) {}
            }
            assert!(world.locks_are_owned() && world.applied_once() && world.is_applied() != undecided, "{world:?}");
        }
    }
}
