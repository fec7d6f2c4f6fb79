//! Worlds whose plain commands rely on the gate, and what breaks without each of its rules.

use super::Mutant::*;
use super::*;

const GATED_READS: &[&[Op]] = &[&[TRANSFER], &[Op::Reads(&[C]), Op::Piped(&[Op::Reads(&[A])])]];
const GATED_READS_OF_TWO: &[&[Op]] = &[&[TRANSFER], &[Op::Piped(&[Op::Reads(&[A])])], &[Op::Reads(&[C]), Op::Piped(&[Op::Reads(&[A])])]];
/// A look that is answered before the transaction, and one behind it.
const GATED_TWICE: &[&[Op]] = &[&[TRANSFER], &[Op::Piped(&[Op::Reads(&[A])]), Op::Reads(&[C]), Op::Piped(&[Op::Reads(&[A])])]];
const GATED_PIPELINE: &[&[Op]] = &[&[TRANSFER], &[Op::Piped(&[Op::Reads(&[A]), Op::Reads(&[B])])], &[Op::Write(&[(A, b'2'), (B, b'2')])]];
/// Two that hold locks at one participant together.
const TWO_HOLDERS: &[&[Op]] = &[
    &[Op::Exec { reads: &[C], writes: &[(A, b'1')] }],
    &[Op::Exec { reads: &[C], writes: &[(B, b'1')] }],
    &[Op::Write(&[(C, b'2')]), Op::Piped(&[Op::Reads(&[B])])],
];
const ARMED_WRITES: &[&[Op]] = &[&[TRANSFER], &[Op::Reads(&[C]), Op::Piped(&[Op::Write(&[(A, b'2')])])]];
/// The transaction only reads what the write is of.
const ARMED_SKEW: &[&[Op]] =
    &[&[Op::Exec { reads: &[A], writes: &[(C, b'1')] }], &[Op::Reads(&[C]), Op::Piped(&[Op::Write(&[(A, b'2')])])]];
const ARMED_TOGETHER: &[&[Op]] =
    &[&[TRANSFER], &[Op::Piped(&[Op::Write(&[(A, b'2')])])], &[Op::Piped(&[Op::Write(&[(A, b'3'), (B, b'3')])])]];
const ARMED_PIPELINE: &[&[Op]] = &[&[TRANSFER], &[Op::Piped(&[Op::Write(&[(A, b'2')]), Op::Write(&[(A, b'3')])])]];
const WRITE_THEN_READ: &[&[Op]] = &[&[TRANSFER], &[Op::Piped(&[Op::Write(&[(A, b'2')]), Op::Reads(&[A])])]];
const READ_THEN_WRITE: &[&[Op]] = &[&[TRANSFER], &[Op::Piped(&[Op::Reads(&[A]), Op::Write(&[(A, b'2')])])]];
const GATED_AMONG_ALL: &[&[Op]] =
    &[&[TRANSFER], &[Op::Piped(&[Op::Reads(&[A]), Op::Write(&[(A, b'2')])])], &[Op::Reads(&[C]), Op::Piped(&[Op::Reads(&[A])])]];
const ARMED_ALONE: &[&[Op]] = &[&[Op::Piped(&[Op::Write(&[(A, b'1')])])], &[Op::Reads(&[A]), Op::Write(&[(A, b'2')])]];

#[test]
fn reads_that_share_a_look_at_the_gate() {
    for clients in [GATED_READS_OF_TWO, GATED_TWICE, GATED_PIPELINE, TWO_HOLDERS] {
        must_hold(of(clients));
    }
}

#[test]
fn writes_under_a_watch_of_the_gate() {
    for clients in [ARMED_WRITES, ARMED_SKEW, ARMED_TOGETHER, ARMED_PIPELINE, WRITE_THEN_READ, READ_THEN_WRITE] {
        must_hold(of(clients));
    }
}

#[test]
fn the_connection_for_writes_is_lost() {
    for clients in [ARMED_WRITES, ARMED_ALONE] {
        must_hold(Scenario { losses: 1, ..of(clients) });
    }
}

#[test]
fn a_resolver_opens_the_gate() {
    must_hold(Scenario { resolvers: 1, ..of(GATED_READS) });
}

/// `make model` runs it.
#[test]
#[ignore = "minutes"]
fn larger_worlds() {
    must_hold(Scenario { resolvers: 1, ..of(GATED_READS_OF_TWO) });
    must_hold(Scenario { resolvers: 1, ..of(ARMED_SKEW) });
    must_hold(Scenario { losses: 1, ..of(ARMED_PIPELINE) });
    must_hold(Scenario { losses: 1, ..of(ARMED_TOGETHER) });
    must_hold(of(GATED_AMONG_ALL));
}

#[test]
fn each_rule_of_the_gate_is_needed() {
    let table: &[(&[&[Op]], Mutant)] = &[
        (GATED_READS, GateBehindLocks),
        (GATED_READS, GateBeforeCommit),
        (TWO_HOLDERS, GateOfOne),
        (GATED_READS, UncheckedRead),
        (GATED_READS, ReadBeforeCheck),
        (GATED_READS_OF_TWO, LookUntilAnswered),
        (GATED_TWICE, LookForGood),
        (GATED_PIPELINE, LaterReadsStay),
        (ARMED_WRITES, GateBehindLocks),
        (ARMED_WRITES, GateBeforeCommit),
        (ARMED_SKEW, GateOfWriters),
        (ARMED_WRITES, GateUnwatched),
        (ARMED_WRITES, CheckBeforeWatch),
        (ARMED_WRITES, ArmedWhateverFound),
        (ARMED_PIPELINE, BatchUnderBatch),
        (ARMED_PIPELINE, BatchBehindRefused),
        (WRITE_THEN_READ, NothingWaits),
        (READ_THEN_WRITE, NothingWaits),
    ];
    for (clients, mutant) in table {
        must_break(Scenario { mutants: std::slice::from_ref(mutant), ..of(clients) });
    }
    must_break(Scenario { losses: 1, mutants: &[ArmedForGood], ..of(ARMED_WRITES) });
    must_break(Scenario { losses: 1, mutants: &[SentAgainInDoubt], ..of(ARMED_ALONE) });
}
