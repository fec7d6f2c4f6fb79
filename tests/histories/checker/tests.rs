//! The checker is checked: with histories known to be bad, each of whose anomalies it must name, with good ones, with mutants of good ones,
//! and with small ones whose verdict is found by trying all orders.

mod bad;
mod cycles;
mod exhaustive;
mod good;
mod long;
mod random;

use std::time::Duration;

use proptest::prelude::*;

use super::{Kind, Report, check};
use crate::histories::history::{Key, Operation, Outcome, Step, Value};

const X: Key = 0;
const Y: Key = 1;

/// From when to when, for operations that are all under way at once.
const ONCE: (u64, u64) = (0, 10);

/// Asserts that exactly the anomalies of `kinds` are found in `history`, and returns what was said of them.
#[track_caller]
fn must_find(history: &[Operation], kinds: &[Kind]) -> Report {
    let report = check(history);
    assert_eq!(report.kinds(), kinds, "{report}\n");
    report
}

#[track_caller]
fn must_pass(history: &[Operation]) {
    must_find(history, &[]);
}

/// An operation from `invoked` to `completed`, in seconds.
fn op(client: usize, (invoked, completed): (u64, u64), steps: &[Step]) -> Operation {
    let (invoked, completed) = (Duration::from_secs(invoked), Duration::from_secs(completed));
    Operation { client, steps: steps.to_vec(), invoked, completed, outcome: Outcome::Ok }
}

/// `operation` with another outcome.
fn but(outcome: Outcome, mut operation: Operation) -> Operation {
    operation.outcome = outcome;
    operation
}

fn append(key: Key, value: Value) -> Step {
    Step::Append { key, value }
}

fn read(key: Key, seen: &[Value]) -> Step {
    Step::Read { key, seen: seen.to_vec() }
}

/// The judge's read of all keys at the end.
fn finally(lists: &[(Key, &[Value])]) -> Operation {
    let steps: Vec<Step> = lists.iter().map(|(key, seen)| read(*key, seen)).collect();
    op(99, (100_000_000, 100_000_001), &steps)
}

/// The judge's read of the keys from 0 on.
fn finally_all(lists: &[Vec<Value>]) -> Operation {
    let lists: Vec<(Key, &[Value])> = (0..).zip(lists).map(|(key, list)| (key, &list[..])).collect();
    finally(&lists)
}

/// Outcomes as they come, with whether an operation of unknown outcome takes effect.
fn outcomes() -> impl Strategy<Value = (Outcome, bool)> {
    let outcome = prop_oneof![
        8 => Just(Outcome::Ok), 1 => Just(Outcome::Committed), 1 => Just(Outcome::Failed), 2 => Just(Outcome::Unknown)
    ];
    (outcome, any::<bool>())
}

/// Whether `operation` happened for certain.
fn happened(operation: &Operation) -> bool {
    matches!(operation.outcome, Outcome::Ok | Outcome::Committed)
}

/// Whether real time orders `one` before `other`.
fn precedes(one: &Operation, other: &Operation) -> bool {
    happened(one) && one.completed < other.invoked
}

/// Numbers below a bound that are the same at each run.
fn random(seed: u64) -> impl FnMut(usize) -> usize {
    let mut random = fastrand::Rng::with_seed(seed);
    move |below| random.usize(..below)
}
