//! Histories in which every operation is fine by itself, and no order explains them all.

use super::*;

#[test]
fn a_dirty_write_is_named() {
    // Each writes over the other, on two keys and on one.
    let (one, two) = (op(1, ONCE, &[append(X, 1), append(Y, 2)]), op(2, ONCE, &[append(X, 3), append(Y, 4)]));
    let report = must_find(&[one, two, finally(&[(X, &[1, 3]), (Y, &[4, 2])])], &[Kind::DirtyWrite]);
    assert_eq!(report.anomalies[0].operations.len(), 2);
    let (one, two) = (op(1, ONCE, &[append(X, 1), append(X, 2)]), op(2, ONCE, &[append(X, 3)]));
    must_find(&[one, two, finally(&[(X, &[1, 3, 2])])], &[Kind::DirtyWrite]);
}

#[test]
fn a_circular_information_flow_is_named() {
    let (one, two) = (op(1, ONCE, &[append(X, 1), read(Y, &[2])]), op(2, ONCE, &[append(Y, 2), read(X, &[1])]));
    must_find(&[one, two, finally(&[(X, &[1]), (Y, &[2])])], &[Kind::CircularFlow]);
}

#[test]
fn a_lost_update_is_named() {
    let (one, two) = (op(1, ONCE, &[read(X, &[]), append(X, 1)]), op(2, ONCE, &[read(X, &[]), append(X, 2)]));
    let report = must_find(&[one, two, finally(&[(X, &[1, 2])])], &[Kind::LostUpdate]);
    let story = &report.anomalies[0].story;
    for line in [
        "#1 client 2, 0.000000 s to 10.000000 s, ok: read key 0: []; append 2 to key 0",
        "#1 before #0 (rw): #1 did not see 1 of #0 in key 0",
        "#0 before #1 (ww): in key 0, 2 of #1 stands next after the append of #0",
    ] {
        assert!(story.iter().any(|other| other == line), "{report}");
    }
}

#[test]
fn a_fractured_read_is_named() {
    let end = finally(&[(X, &[1]), (Y, &[2])]);
    for outcome in [Outcome::Ok, Outcome::Committed, Outcome::Unknown] {
        let transfer = but(outcome, op(1, ONCE, &[append(X, 1), append(Y, 2)]));
        for half in [[read(X, &[1]), read(Y, &[])], [read(X, &[]), read(Y, &[2])]] {
            let report = must_find(&[transfer.clone(), op(2, ONCE, &half), end.clone()], &[Kind::FracturedRead]);
            assert_eq!(report.anomalies[0].operations, [1, 0]);
        }
    }
}

#[test]
fn a_read_skew_is_named() {
    // The first sees what the third wrote, and not what the third saw.
    let history = [
        op(1, ONCE, &[read(X, &[]), read(Y, &[2])]),
        op(2, ONCE, &[append(X, 1)]),
        op(3, ONCE, &[read(X, &[1]), append(Y, 2)]),
        finally(&[(X, &[1]), (Y, &[2])]),
    ];
    let report = must_find(&history, &[Kind::ReadSkew]);
    assert_eq!(report.anomalies[0].operations, [0, 1, 2]);
}

#[test]
fn a_write_skew_is_named() {
    let (one, two) = (op(1, ONCE, &[read(X, &[]), append(Y, 1)]), op(2, ONCE, &[read(Y, &[]), append(X, 2)]));
    must_find(&[one, two, finally(&[(X, &[2]), (Y, &[1])])], &[Kind::WriteSkew]);
}

#[test]
fn readers_that_see_two_writes_in_different_orders_are_a_write_skew() {
    let history = [
        op(1, ONCE, &[append(X, 1)]),
        op(2, ONCE, &[append(Y, 2)]),
        op(3, ONCE, &[read(X, &[1]), read(Y, &[])]),
        op(4, ONCE, &[read(X, &[]), read(Y, &[2])]),
        finally(&[(X, &[1]), (Y, &[2])]),
    ];
    assert_eq!(must_find(&history, &[Kind::WriteSkew]).anomalies[0].operations.len(), 4);
}

#[test]
fn a_stale_read_after_a_completed_write_is_named() {
    let end = finally(&[(X, &[1])]);
    let history = [op(1, (0, 1), &[append(X, 1)]), op(2, (2, 3), &[read(X, &[])]), end.clone()];
    let report = must_find(&history, &[Kind::StaleRead]);
    assert_eq!(report.anomalies[0].operations, [1, 0]);
    let line = "#0 before #1 (rt): #0 was completed at 1.000000 s, #1 invoked at 2.000000 s";
    assert!(report.anomalies[0].story.iter().any(|other| other == line), "{report}");
    // A transaction whose replies are not available is completed, too.
    let committed = but(Outcome::Committed, history[0].clone());
    must_find(&[committed, history[1].clone(), end], &[Kind::StaleRead]);
}

#[test]
fn a_read_that_is_staler_than_another_clients_is_named() {
    let history = [
        but(Outcome::Unknown, op(1, (0, 1), &[append(X, 1)])),
        op(2, (2, 3), &[read(X, &[1])]),
        op(3, (4, 5), &[read(X, &[])]),
        finally(&[(X, &[1])]),
    ];
    assert_eq!(must_find(&history, &[Kind::StaleRead]).anomalies[0].operations, [2, 0, 1]);
}

#[test]
fn a_read_that_is_ahead_of_its_write_is_named() {
    let history = [op(1, (5, 6), &[append(X, 1)]), op(2, (2, 3), &[read(X, &[1])]), finally(&[(X, &[1])])];
    must_find(&history, &[Kind::CircularFlowInRealTime]);
}

#[test]
fn writes_against_real_time_are_named() {
    let history = [op(1, (0, 1), &[append(X, 1)]), op(2, (2, 3), &[append(X, 2)]), finally(&[(X, &[2, 1])])];
    must_find(&history, &[Kind::DirtyWriteInRealTime]);
}

#[test]
fn a_write_skew_that_real_time_closes_is_named() {
    // The first sees one write and misses the other, the last misses the one and comes after the other.
    let history = [
        op(1, (0, 9), &[read(X, &[]), read(Y, &[2])]),
        op(2, (1, 2), &[append(X, 1)]),
        op(3, (0, 9), &[append(Y, 2)]),
        op(4, (3, 9), &[read(Y, &[])]),
        finally(&[(X, &[1]), (Y, &[2])]),
    ];
    let report = must_find(&history, &[Kind::WriteSkewInRealTime]);
    assert_eq!(report.anomalies[0].operations, [0, 1, 3, 2]);
}
