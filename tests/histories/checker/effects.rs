//! Which operations took effect, and whether all of it stayed.

use std::time::Duration;

use super::orders::Orders;
use super::report::{Findings, Kind};
use crate::histories::history::{Key, Operation, Outcome, Step, Value};

/// Tells which operations took effect, and reports those of which the last reads lack something.
pub(super) fn check(history: &[Operation], orders: &Orders<'_>, findings: &mut Findings<'_>) -> Vec<bool> {
    let seen = Seen::of(history, orders);
    history.iter().zip(0..).map(|(operation, op)| check_one(history, orders, &seen, (operation, op), findings)).collect()
}

/// When each value was first known to be there, because a read that saw it was completed; by the keys of [`Orders`].
struct Seen(Vec<Vec<Duration>>);

impl Seen {
    fn of(history: &[Operation], orders: &Orders<'_>) -> Seen {
        let firsts = orders.keys.iter().map(|order| {
            let mut first = vec![Duration::MAX; order.values.len()];
            for read in order.reads.iter().filter(|read| read.fits) {
                if let Some(last) = read.seen.len().checked_sub(1) {
                    first[last] = first[last].min(history[read.op as usize].completed);
                }
            }
            for at in (1..first.len()).rev() {
                first[at - 1] = first[at - 1].min(first[at]);
            }
            first
        });
        Seen(firsts.collect())
    }
}

fn check_one(
    history: &[Operation],
    orders: &Orders<'_>,
    seen: &Seen,
    (operation, op): (&Operation, u32),
    findings: &mut Findings<'_>,
) -> bool {
    let told = match operation.outcome {
        Outcome::Ok | Outcome::Committed => Some(operation.completed),
        Outcome::Unknown => None,
        Outcome::Failed => return false,
    };
    let appends = operation.steps.iter().filter_map(|step| match step {
        Step::Append { key, value } => Some((orders.number(*key), *value)),
        Step::Read { .. } => None,
    });
    let first_seen = appends.clone().filter_map(|(key, value)| orders.appends.position(value).map(|at| seen.0[key][at])).min();
    let Some(known) = told.into_iter().chain(first_seen).min() else { return false };

    let (mut there, mut missing) = (false, Vec::new());
    for (key, value) in appends {
        let order = &orders.keys[key];
        let Some(last) = order.last() else { continue };
        let holds =
            if last.fits { orders.appends.position(value).is_some_and(|at| at < last.seen.len()) } else { last.seen.contains(&value) };
        there |= holds;
        let reader = &history[last.op as usize];
        if !holds && last.op != op && (known < reader.invoked || reader.sees_part_of(operation)) {
            missing.push((order.key, value, last.op));
        }
    }
    if !missing.is_empty() {
        let kind = if there { Kind::HalfApplied } else { Kind::LostAppend };
        let readers = missing.iter().map(|(.., reader)| *reader);
        let operations: Vec<u32> = [op].into_iter().chain(readers).collect();
        let keys: Vec<Key> = operation.steps.iter().map(Step::key).collect();
        findings.add(kind, &operations, &keys, || why(&missing));
    }
    true
}

/// The reasons for each missing value: its key, itself and the last reader of the key.
fn why(missing: &[(Key, Value, u32)]) -> Vec<String> {
    let line = |(key, value, reader): &(Key, Value, u32)| {
        format!("{value} should be in key {key} by then, and #{reader}, the last to read it, does not see it")
    };
    missing.iter().map(line).collect()
}
