//! Histories that look odd and are not.

use super::*;

#[test]
fn nothing_is_no_anomaly() {
    must_pass(&[]);
    must_pass(&[finally(&[(X, &[])])]);
    assert_eq!(check(&[]).to_string(), "0 operations (0 ok, 0 committed, 0 failed, 0 unknown): no anomalies");
}

#[test]
fn operations_that_overlap_may_take_effect_in_any_order() {
    must_pass(&[
        op(1, (0, 10), &[append(X, 1)]),
        op(2, (1, 9), &[append(X, 2)]),
        op(3, (2, 3), &[read(X, &[])]),
        op(4, (4, 5), &[read(X, &[2])]),
        op(5, (4, 5), &[read(X, &[2, 1])]),
        finally(&[(X, &[2, 1])]),
    ]);
}

#[test]
fn what_happens_at_the_same_instant_is_not_ordered() {
    must_pass(&[op(1, (0, 1), &[append(X, 1)]), op(2, (1, 2), &[read(X, &[])]), finally(&[(X, &[1])])]);
}

#[test]
fn what_has_an_unknown_outcome_happens_at_once_or_later_or_never() {
    let unknown = |value| but(Outcome::Unknown, op(1, (0, 1), &[append(X, value), append(Y, 10 * value)]));
    must_pass(&[
        unknown(1),
        unknown(2),
        unknown(3),
        op(2, (2, 3), &[read(X, &[2]), read(Y, &[20])]),
        op(3, (4, 5), &[append(X, 4)]),
        op(3, (6, 7), &[read(X, &[2, 4])]),
        finally(&[(X, &[2, 4, 3]), (Y, &[20, 30])]),
    ]);
}

#[test]
fn what_was_not_answered_is_not_judged() {
    for outcome in [Outcome::Unknown, Outcome::Committed] {
        must_pass(&[but(outcome, op(1, ONCE, &[read(X, &[7]), append(X, 1)])), finally(&[(X, &[1])])]);
    }
}

#[test]
fn a_failed_operation_leaves_no_trace() {
    let failed = but(Outcome::Failed, op(1, (0, 1), &[append(X, 1), append(Y, 3)]));
    must_pass(&[failed, op(2, (2, 5), &[read(X, &[]), append(X, 2)]), finally(&[(X, &[2]), (Y, &[])])]);
}

#[test]
fn a_committed_operation_takes_effect_before_its_completion() {
    must_pass(&[
        but(Outcome::Committed, op(1, (0, 5), &[append(X, 1), append(Y, 2)])),
        op(2, (3, 4), &[read(X, &[])]),
        op(2, (6, 7), &[read(X, &[1]), read(Y, &[2])]),
        finally(&[(X, &[1]), (Y, &[2])]),
    ]);
}

#[test]
fn an_operation_sees_its_own_appends() {
    let own = [append(X, 3), read(X, &[1, 2, 3]), append(X, 4), append(Y, 5), read(Y, &[5]), read(X, &[1, 2, 3, 4])];
    must_pass(&[
        op(1, (0, 1), &[append(X, 1), append(X, 2)]),
        op(2, (2, 3), &[&[read(X, &[1, 2])], &own[..]].concat()),
        finally(&[(X, &[1, 2, 3, 4]), (Y, &[5])]),
    ]);
    must_pass(&[op(1, (0, 1), &[append(X, 1), append(X, 2)]), op(2, (2, 3), &own), finally(&[(X, &[1, 2, 3, 4]), (Y, &[5])])]);
}

#[test]
fn an_append_is_not_missed_where_no_read_came_later() {
    must_pass(&[op(1, (0, 5), &[read(X, &[]), append(X, 1)])]);
    must_pass(&[op(1, (0, 5), &[append(X, 1)]), op(2, (4, 6), &[read(X, &[])])]);
}
