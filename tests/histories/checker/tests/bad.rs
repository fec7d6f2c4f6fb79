//! Histories in which single values or operations are wrong, each with the name of what is.

use super::*;

#[test]
fn a_lost_append_is_named() {
    let end = finally(&[(X, &[])]);
    let report = must_find(&[op(1, ONCE, &[append(X, 1)]), end.clone()], &[Kind::LostAppend]);
    assert_eq!(report.anomalies[0].operations, [0, 1]);
    let committed = but(Outcome::Committed, op(1, ONCE, &[append(X, 1)]));
    must_find(&[committed, end.clone()], &[Kind::LostAppend]);
    // Where its client was told nothing, whoever saw it knows. The final read is then older than the other one, too.
    let unknown = but(Outcome::Unknown, op(1, ONCE, &[append(X, 1)]));
    must_find(&[unknown, op(2, ONCE, &[read(X, &[1])]), end], &[Kind::LostAppend, Kind::StaleRead]);
}

#[test]
fn a_half_applied_transaction_is_named() {
    let transfer = op(1, ONCE, &[append(X, 1), append(Y, 2)]);
    let saw_it = op(2, (11, 12), &[read(X, &[1])]);
    let end = finally(&[(X, &[1]), (Y, &[])]);
    for outcome in [Outcome::Ok, Outcome::Committed, Outcome::Unknown] {
        let report = must_find(&[but(outcome, transfer.clone()), saw_it.clone(), end.clone()], &[Kind::HalfApplied]);
        assert_eq!(report.anomalies[0].operations, [0, 2], "{outcome:?}");
    }
    // Nobody but the judge saw the one half, at the same time as the lack of the other.
    let unknown = but(Outcome::Unknown, transfer);
    let ends = [op(9, (100, 101), &[read(X, &[1])]), op(9, (102, 103), &[read(Y, &[])])];
    must_find(&[unknown.clone(), ends[0].clone(), ends[1].clone()], &[Kind::HalfApplied]);
    must_find(&[unknown, end], &[Kind::HalfApplied]);
}

#[test]
fn a_duplicate_append_is_named() {
    let report = must_find(&[op(1, ONCE, &[append(X, 1)]), finally(&[(X, &[1, 1])])], &[Kind::DuplicateAppend]);
    assert_eq!(report.anomalies[0].operations, [0, 1]);
    let history = [op(1, ONCE, &[append(X, 1)]), op(1, ONCE, &[append(X, 2)]), op(2, ONCE, &[read(X, &[2, 2])]), finally(&[(X, &[1, 2])])];
    must_find(&history, &[Kind::DuplicateAppend, Kind::IncompatibleOrders]);
}

#[test]
fn a_garbage_read_is_named() {
    must_find(&[op(1, ONCE, &[append(X, 1)]), finally(&[(X, &[7, 1])])], &[Kind::GarbageRead]);
    // The value of another key.
    must_find(&[op(1, ONCE, &[append(X, 1)]), finally(&[(X, &[1]), (Y, &[1])])], &[Kind::GarbageRead]);
}

#[test]
fn an_aborted_read_is_named() {
    let failed = but(Outcome::Failed, op(1, ONCE, &[append(X, 1)]));
    let other = op(2, ONCE, &[append(X, 2)]);
    must_find(&[failed.clone(), other.clone(), finally(&[(X, &[1, 2])])], &[Kind::AbortedRead]);
    // A dirty read: the value is gone at the end.
    let history = [failed, op(3, ONCE, &[read(X, &[1])]), other, finally(&[(X, &[2])])];
    let report = must_find(&history, &[Kind::AbortedRead, Kind::IncompatibleOrders]);
    let aborted = report.anomalies.iter().find(|anomaly| anomaly.kind == Kind::AbortedRead).unwrap();
    assert_eq!(aborted.operations, [0, 1]);
}

#[test]
fn an_intermediate_read_is_named() {
    let twice = op(1, ONCE, &[append(X, 1), append(X, 2)]);
    let report = must_find(&[twice, op(2, ONCE, &[read(X, &[1])]), finally(&[(X, &[1, 2])])], &[Kind::IntermediateRead]);
    assert_eq!(report.anomalies[0].operations, [0, 1]);
}

#[test]
fn incompatible_orders_are_named() {
    let history = [op(1, ONCE, &[append(X, 1)]), op(2, ONCE, &[append(X, 2)]), op(3, ONCE, &[read(X, &[2])]), finally(&[(X, &[1, 2])])];
    let report = must_find(&history, &[Kind::IncompatibleOrders]);
    assert_eq!(report.anomalies[0].operations, [2, 3]);
}

#[test]
fn an_operation_that_contradicts_itself_is_named() {
    let end = finally(&[(X, &[1])]);
    for steps in [
        // Its own append is not there.
        &[append(X, 1), read(X, &[])][..],
        // Its own append is there before it was made.
        &[read(X, &[1]), append(X, 1)],
        // Its own append is gone again.
        &[append(X, 1), read(X, &[1]), read(X, &[])],
    ] {
        must_find(&[op(1, ONCE, steps), end.clone()], &[Kind::Internal]);
    }
    // Somebody else is let in between its reads.
    must_find(&[op(2, ONCE, &[append(X, 1)]), op(1, ONCE, &[read(X, &[]), read(X, &[1])]), end], &[Kind::Internal]);
    // Its appends are there the wrong way round.
    must_find(&[op(1, ONCE, &[append(X, 1), append(X, 2)]), finally(&[(X, &[2, 1])])], &[Kind::Internal]);
}

#[test]
fn anomalies_beyond_the_first_of_a_kind_are_counted() {
    let mut history: Vec<Operation> = (0..30).map(|key| op(1, ONCE, &[append(key, key.into())])).collect();
    history.push(finally_all(&vec![Vec::new(); 30]));
    let report = must_find(&history, &[Kind::LostAppend]);
    assert_eq!((report.counts[&Kind::LostAppend], report.anomalies.len()), (30, 10));
    assert!(report.to_string().starts_with("31 operations (31 ok, 0 committed, 0 failed, 0 unknown): lost append: 30\n"));
}
