//! A model check of what clients see: plain reads and writes, reads of several keys, snapshots and WATCH against transactions, under every
//! schedule of small worlds, judged for strict serializability; and a mutant for each rule that they owe.
//!
//! Plain commands go both ways that they have: looking at their own keys' locks, and relying on the gate ([`gate`](crate::txn::gate)), where
//! what a client sends is judged by a look or a watch that is shared with others. There the connections are shared here too (`pool`), a
//! client asks for one command of its pipeline after another (`window`), and that a request leaves, is carried out and is answered are events
//! of their own: whether a read is covered by a look is a question of which comes first. A client that was told that the outcome of a write
//! is unknown may find it done later, or never.
//!
//! Two participants, keys *a* and *b* at one of them and *c* at the other. The servers are small models of Redis; what they carry out is what
//! weft sends: requests and the reading of their replies are those of `txn::lock`, `txn::one_phase` and `txn::part`; the
//! steps between them, which wait in production, are told again in `client` beside the name of the file that they follow;
//! transactions are the machines of `txn::state`. The commit protocol itself, with what is lost and what dies, is the other
//! model's ([`super`]).
//!
//! What is left out: clusters (slots that move, and no gate is relied on), blocking commands, more attempts of an EXEC that met a lock, the
//! third try of a snapshot, which is an EXEC that reads, and several workers, who meet at the servers only, as clients on connections
//! of their own do.
//!
//! The largest world of these tests has some 11,000 states, the larger ones of `make model` up to 346,000.
//!
//! Of the protocol's invariants this one checks 3, 4 and 5, of 6 that no lock is left, and of 7 that values and refusals are true.

mod client;
mod gated;
mod history;
mod pool;
mod server;
mod transaction;
mod window;
mod world;

use stateright::{Checker, HasDiscoveries, Model, Property};
use world::{Act, World};

type Key = &'static str;
const A: Key = "a";
const B: Key = "b";
const C: Key = "c";

/// Something that a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Op {
    /// Reads of one key each, pipelined.
    Reads(&'static [Key]),
    /// One read of several keys of one participant.
    ReadMany(&'static [Key]),
    /// One read of keys of both participants.
    Snapshot(&'static [Key]),
    /// A write at one participant, by script.
    Write(&'static [(Key, u8)]),
    /// A write at one participant that no script can do.
    NativeWrite(&'static [(Key, u8)]),
    Watch(&'static [Key]),
    /// MULTI to EXEC.
    Exec {
        reads: &'static [Key],
        writes: &'static [(Key, u8)],
    },
    /// Reads of one key and writes at one participant, pipelined; they travel with those of other clients, relying on the gate.
    Piped(&'static [Op]),
}

impl Op {
    fn reads(&self) -> &'static [Key] {
        match *self {
            Self::Reads(keys) | Self::ReadMany(keys) | Self::Snapshot(keys) | Self::Exec { reads: keys, .. } => keys,
            Self::Write(_) | Self::NativeWrite(_) | Self::Watch(_) | Self::Piped(_) => &[],
        }
    }

    fn writes(&self) -> &'static [(Key, u8)] {
        match *self {
            Self::Write(writes) | Self::NativeWrite(writes) | Self::Exec { writes, .. } => writes,
            Self::Reads(_) | Self::ReadMany(_) | Self::Snapshot(_) | Self::Watch(_) | Self::Piped(_) => &[],
        }
    }

    /// What has an entry of its own in a history.
    fn parts(&self) -> Vec<Self> {
        match *self {
            Self::Reads(keys) => keys.chunks(1).map(Self::Reads).collect(),
            Self::Piped(ops) => ops.to_vec(),
            Self::Watch(_) => Vec::new(),
            op => vec![op],
        }
    }

    fn entries(&self) -> usize {
        match self {
            Self::Reads(keys) => keys.len(),
            Self::Piped(ops) => ops.len(),
            Self::Watch(_) => 0,
            _ => 1,
        }
    }

    /// The kind of connection it uses, 1 for a leased one.
    fn connection(&self, watching: bool) -> usize {
        match self {
            Self::Reads(_) | Self::ReadMany(_) | Self::Write(_) => 0,
            Self::Snapshot(_) | Self::NativeWrite(_) | Self::Watch(_) => 1,
            Self::Exec { .. } => usize::from(watching),
            Self::Piped(_) => 0,
        }
    }
}

/// A world to explore.
#[derive(Clone, Copy, Debug)]
struct Scenario {
    /// What each client asks for, one after the other.
    clients: &'static [&'static [Op]],
    /// How many resolvers may be started.
    resolvers: usize,
    /// How often the connection for writes of each pool may be lost.
    losses: usize,
    mutants: &'static [Mutant],
}

/// A rule left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutant {
    /// A read looks at no lock.
    UncheckedRead,
    /// A read looks at the lock behind it.
    ReadBeforeCheck,
    /// A read of several keys looks at the locks before it, not in the same step.
    CheckThenRead,
    /// A write looks at no lock.
    UncheckedWrite,
    /// Locks are looked at before they are watched.
    CheckBeforeWatch,
    /// A snapshot is one checked read at each participant.
    GuardedReadsInParallel,
    /// A snapshot watches the keys, but not their locks.
    WatchWithoutLocks,
    /// A snapshot's last look counts only what was watched.
    LastLookTakesAnyAnswer,
    /// A snapshot takes its last look at a participant without waiting for the others.
    NoBarrier,
    /// A snapshot reads twice, and compares.
    ReadTwice,
    /// What follows WATCH does not wait for its answers.
    WatchIsNoBarrier,
    /// A WATCH that meets a lock begins anew, whatever else its connection watches.
    WatchAnewAlways,
    /// prepare is not sent on the connection that watches.
    PrepareOutsideOfTheWatch,
    /// prepare looks at no lock.
    PrepareIgnoresLocks,
    /// What a transaction only reads or watches is not locked.
    NothingShared,
    /// A read that met a lock is sent again alone.
    LaterReadsStay,
    /// prepare closes the gate in a step of its own, behind the one that takes the locks.
    GateBehindLocks,
    /// The gate is opened in a step of its own, before commit.
    GateBeforeCommit,
    /// Whoever gives back his locks opens the gate for all.
    GateOfOne,
    /// What a transaction only reads or watches does not close the gate.
    GateOfWriters,
    /// A look at the gate counts for reads that are asked for before its answer is known.
    LookUntilAnswered,
    /// A look that has found the gate free counts for later reads.
    LookForGood,
    /// The connection for writes does not watch the gate.
    GateUnwatched,
    /// The connection for writes is armed whatever its look has found.
    ArmedWhateverFound,
    /// It stays armed though it was lost.
    ArmedForGood,
    /// A batch of writes is sent before the one ahead of it was answered.
    BatchUnderBatch,
    /// A batch of writes is sent though the one ahead of it was refused.
    BatchBehindRefused,
    /// Writes are sent again when their connection was lost before it answered.
    SentAgainInDoubt,
    /// A client's next command is sent whatever it has in flight.
    NothingWaits,
}

impl Scenario {
    fn has(&self, mutant: Mutant) -> bool {
        self.mutants.contains(&mutant)
    }
}

impl Model for Scenario {
    type State = World;
    type Action = Act;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Act>) {
        if world.explained {
            world.possible(self, actions);
        }
    }

    fn next_state(&self, world: &World, act: Act) -> Option<World> {
        let mut next = world.clone();
        next.perform(self, act);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(SERIALIZABLE, |scenario: &Self, world: &World| {
                world.explained && (!world.is_quiet(scenario) || world.end_is_explained())
            }),
            Property::always("invariant 3: locks exclude each other, and belong to prepared records", |_: &Self, world: &World| {
                world.locks_exclude()
            }),
            Property::always("invariant 4: no plain write between prepare and commit", |_: &Self, world: &World| {
                world.servers.iter().all(|server| !server.trespassed)
            }),
            Property::always("the gate is closed for those who hold locks", |_: &Self, world: &World| world.gates_tell()),
            Property::always("invariant 6: whoever is heard out leaves no lock", |scenario: &Self, world: &World| {
                !world.is_quiet(scenario) || world.is_unlocked()
            }),
            Property::always("whoever asks is answered", |scenario: &Self, world: &World| {
                !world.is_quiet(scenario) || world.is_over(scenario)
            }),
            Property::sometimes("all of it can take effect", |_: &Self, world: &World| world.history.is_full()),
        ]
    }
}

/// With it invariant 5 (what a transaction watches is as its client read it) and, of invariant 7, that what clients are told is true.
const SERIALIZABLE: &str = "every history is strictly serializable";

const TRANSFER: Op = Op::Exec { reads: &[], writes: &[(A, b'1'), (C, b'1')] };

const READS: &[&[Op]] = &[&[TRANSFER], &[Op::Reads(&[C]), Op::Reads(&[A])]];
const READS_OF_TWO: &[&[Op]] = &[&[TRANSFER], &[Op::Reads(&[C]), Op::Reads(&[A])], &[Op::Reads(&[A]), Op::Reads(&[C])]];
const READS_OF_SEVERAL_KEYS: &[&[Op]] =
    &[&[TRANSFER], &[Op::ReadMany(&[A, B])], &[Op::Reads(&[C]), Op::Write(&[(B, b'2')]), Op::ReadMany(&[A, B])]];
const PIPELINED_READS: &[&[Op]] = &[&[TRANSFER], &[Op::Reads(&[A, B])], &[Op::Write(&[(B, b'2')]), Op::Reads(&[C])]];
const WRITES: &[&[Op]] = &[&[TRANSFER], &[Op::Reads(&[C]), Op::Write(&[(A, b'2')])], &[Op::Reads(&[A])]];
const NATIVE_WRITES: &[&[Op]] = &[&[TRANSFER], &[Op::NativeWrite(&[(A, b'2'), (B, b'2')])], &[Op::Reads(&[C]), Op::Reads(&[B])]];
const SNAPSHOTS: &[&[Op]] = &[&[TRANSFER], &[Op::Snapshot(&[A, C])]];
const SNAPSHOTS_AMONG_ALL: &[&[Op]] = &[&[TRANSFER], &[Op::Snapshot(&[A, C])], &[Op::Write(&[(A, b'2')])]];
const SNAPSHOTS_OF_WRITES: &[&[Op]] = &[
    &[Op::Snapshot(&[A, C])],
    &[
        Op::Write(&[(A, b'1')]),
        Op::Write(&[(C, b'1')]),
        Op::Write(&[(C, b'0')]),
        Op::Write(&[(A, b'0')]),
        Op::Write(&[(A, b'1')]),
        Op::Write(&[(C, b'1')]),
    ],
];
/// Each reads what the other writes.
const SKEW: &[&[Op]] = &[&[Op::Exec { reads: &[A], writes: &[(C, b'1')] }], &[Op::Exec { reads: &[C], writes: &[(A, b'2')] }]];
const WATCHED_ELSEWHERE: &[&[Op]] =
    &[&[Op::Watch(&[A]), Op::Reads(&[A]), Op::Exec { reads: &[], writes: &[(C, b'1')] }], &[Op::Write(&[(A, b'2')]), Op::Reads(&[C])]];
const WATCHED_AT_BOTH: &[&[Op]] = &[
    &[Op::Watch(&[A, C]), Op::Reads(&[A, C]), Op::Exec { reads: &[], writes: &[(A, b'1')] }],
    &[Op::Write(&[(C, b'2')]), Op::Reads(&[A])],
];
const WATCHED_ONE_BY_ONE: &[&[Op]] = &[
    &[Op::Watch(&[A]), Op::Reads(&[A]), Op::Watch(&[B]), Op::Reads(&[B]), Op::Exec { reads: &[], writes: &[(B, b'1')] }],
    &[Op::Exec { reads: &[], writes: &[(B, b'2'), (C, b'2')] }],
    &[Op::Write(&[(A, b'3')])],
];
const WATCH_LOOPS: &[&[Op]] = &[
    &[Op::Watch(&[A]), Op::Reads(&[A]), Op::Exec { reads: &[], writes: &[(A, b'1'), (C, b'1')] }],
    &[Op::Watch(&[A]), Op::Reads(&[A]), Op::Exec { reads: &[], writes: &[(A, b'2'), (B, b'2')] }],
];

const fn of(clients: &'static [&'static [Op]]) -> Scenario {
    Scenario { clients, resolvers: 0, losses: 0, mutants: &[] }
}

fn must_hold(scenario: Scenario) {
    let checker = scenario.checker().spawn_bfs().join();
    println!("{} states: {scenario:?}", checker.unique_state_count());
    checker.assert_properties();
}

fn must_break(scenario: Scenario) {
    let checker = scenario.checker().finish_when(HasDiscoveries::AnyOf([SERIALIZABLE].into())).spawn_bfs().join();
    let states = checker.unique_state_count();
    println!("{:?}: {states} states, {:?}", scenario.mutants, checker.discoveries().keys());
    assert!(checker.discoveries().contains_key(SERIALIZABLE), "{scenario:?} goes unnoticed in {states} states");
}

#[test]
fn reads_see_all_of_a_transaction_or_nothing() {
    must_hold(of(READS_OF_TWO));
    must_hold(of(READS_OF_SEVERAL_KEYS));
}

#[test]
fn pipelined_reads_keep_their_order() {
    must_hold(of(PIPELINED_READS));
}

#[test]
fn writes_stay_out_of_transactions() {
    must_hold(of(WRITES));
    must_hold(of(NATIVE_WRITES));
}

#[test]
fn snapshots_are_of_one_moment() {
    must_hold(of(SNAPSHOTS_AMONG_ALL));
    must_hold(of(SNAPSHOTS_OF_WRITES));
}

#[test]
fn what_is_watched_has_not_changed() {
    for clients in [WATCHED_ELSEWHERE, WATCHED_AT_BOTH, WATCHED_ONE_BY_ONE, WATCH_LOOPS] {
        must_hold(of(clients));
    }
}

#[test]
fn transactions_that_read_what_others_write() {
    must_hold(of(SKEW));
}

#[test]
fn a_resolver_in_the_middle_of_it() {
    for clients in [READS, SNAPSHOTS, WATCHED_ELSEWHERE, SKEW] {
        must_hold(Scenario { resolvers: 1, ..of(clients) });
    }
}

/// `make model` runs it.
#[test]
#[ignore = "minutes"]
fn larger_worlds() {
    must_hold(of(&[&[TRANSFER], &[Op::Snapshot(&[A, C])], &[Op::Write(&[(A, b'2')]), Op::Reads(&[C])]]));
    must_hold(Scenario { resolvers: 1, ..of(READS_OF_TWO) });
}

#[test]
fn each_rule_is_needed() {
    use Mutant::*;
    let table: &[(&[&[Op]], &[Mutant])] = &[
        (READS, &[UncheckedRead]),
        (READS, &[ReadBeforeCheck]),
        (READS_OF_SEVERAL_KEYS, &[CheckThenRead]),
        (PIPELINED_READS, &[LaterReadsStay]),
        (WRITES, &[UncheckedWrite]),
        (NATIVE_WRITES, &[CheckBeforeWatch]),
        (SNAPSHOTS, &[GuardedReadsInParallel]),
        (SNAPSHOTS, &[WatchWithoutLocks, LastLookTakesAnyAnswer]),
        (SNAPSHOTS, &[CheckBeforeWatch, LastLookTakesAnyAnswer]),
        (SNAPSHOTS, &[NoBarrier]),
        (SNAPSHOTS_OF_WRITES, &[ReadTwice]),
        (SKEW, &[NothingShared]),
        (SKEW, &[PrepareIgnoresLocks]),
        (WATCHED_ELSEWHERE, &[NothingShared]),
        (WATCHED_ELSEWHERE, &[PrepareOutsideOfTheWatch]),
        (WATCHED_AT_BOTH, &[WatchIsNoBarrier]),
        (WATCHED_ONE_BY_ONE, &[WatchAnewAlways]),
    ];
    for &(clients, mutants) in table {
        must_break(Scenario { mutants, ..of(clients) });
    }
}

/// A snapshot has two guards against a transaction that is prepared behind its first look: each is enough.
#[test]
fn a_snapshot_is_guarded_twice() {
    use Mutant::*;
    for mutants in [&[WatchWithoutLocks][..], &[CheckBeforeWatch], &[LastLookTakesAnyAnswer]] {
        must_hold(Scenario { mutants, ..of(SNAPSHOTS) });
    }
}
