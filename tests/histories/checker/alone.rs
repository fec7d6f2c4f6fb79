//! What is wrong with an operation whoever else did what: a read contradicts its own operation, or shows the middle of another, or the
//! appends of an operation to a key stand in another order than it made them.

use super::explain;
use super::orders::{Appends, NOBODY, Order, Orders, Read};
use super::report::{Findings, Kind};
use crate::histories::history::{Key, Operation, Step, Value};

/// Reports such operations, and gives their [`Read::base`] to the reads that are fine and the first of the key in their operation.
pub(super) fn check(history: &[Operation], orders: &mut Orders<'_>, findings: &mut Findings<'_>) {
    let Orders { keys, appends, .. } = orders;
    for order in keys {
        for index in 0..order.reads.len() {
            let read = &order.reads[index];
            let earlier = earlier(history, order.key, read);
            if let Some(why) = contradiction(order.key, read, &earlier).or_else(|| premature(history, order.key, read, appends)) {
                findings.add(Kind::Internal, &[read.op], &[order.key], || vec![format!("#{} {why}", read.op)]);
            } else if read.fits && earlier.seen.is_none() {
                let base = read.seen.len() - earlier.appended.len();
                match middle(history, order, read, base) {
                    Some((writer, why)) => findings.add(Kind::IntermediateRead, &[writer, read.op], &[order.key], || vec![why]),
                    None => order.reads[index].base = Some(base),
                }
            }
        }
    }
    for (operation, op) in history.iter().zip(0..) {
        if let Some((key, why)) = turned(operation, appends) {
            findings.add(Kind::Internal, &[op], &[key], || vec![format!("#{op} {why}")]);
        }
    }
}

/// The first two appends of an operation to a key that stand there the other way round.
fn turned(operation: &Operation, appends: &Appends) -> Option<(Key, String)> {
    operation.steps.iter().enumerate().find_map(|(index, step)| {
        let Step::Append { key, value } = step else { return None };
        let next = operation.steps[index + 1..].iter().find_map(|step| match step {
            Step::Append { key: other, value } if other == key => Some(*value),
            _ => None,
        })?;
        let is_turned = appends.position(next)? < appends.position(*value)?;
        is_turned.then(|| (*key, format!("appended {value} to key {key} before {next}, which stands before it")))
    })
}

/// What an operation knows of a key when it reads it.
struct Earlier<'h> {
    /// What its last read saw, if there was one.
    seen: Option<&'h [Value]>,
    /// What it has appended since then, or since it began.
    appended: Vec<Value>,
}

fn earlier<'h>(history: &'h [Operation], key: Key, read: &Read<'_>) -> Earlier<'h> {
    let mut earlier = Earlier { seen: None, appended: Vec::new() };
    for step in &history[read.op as usize].steps[..read.step as usize] {
        match step {
            Step::Append { key: other, value } if *other == key => earlier.appended.push(*value),
            Step::Read { key: other, seen } if *other == key => earlier = Earlier { seen: Some(seen), appended: Vec::new() },
            _ => {}
        }
    }
    earlier
}

/// How `read` contradicts what its own operation did before.
fn contradiction(key: Key, read: &Read<'_>, earlier: &Earlier<'_>) -> Option<String> {
    let Some(rest) = read.seen.strip_suffix(&earlier.appended[..]) else {
        return Some(format!("does not see in key {key} that it has appended {}", explain::list(&earlier.appended)));
    };
    let before = earlier.seen.filter(|before| *before != rest)?;
    Some(format!("reads key {key} twice, and sees {} and then {}", explain::list(before), explain::list(rest)))
}

/// Which append of its own operation `read` sees too early.
fn premature(history: &[Operation], key: Key, read: &Read<'_>, appends: &Appends) -> Option<String> {
    let sees = |value| if read.fits { appends.position(value).is_some_and(|at| at < read.seen.len()) } else { read.seen.contains(&value) };
    let later = &history[read.op as usize].steps[read.step as usize + 1..];
    later.iter().find_map(|step| match step {
        Step::Append { key: other, value } if *other == key && sees(*value) => {
            Some(format!("sees {value} in key {key} before it has appended it"))
        }
        _ => None,
    })
}

/// The operation that `read` saw the middle of: the last of its `base` values is not the last of its operation.
fn middle(history: &[Operation], order: &Order<'_>, read: &Read<'_>, base: usize) -> Option<(u32, String)> {
    let at = base.checked_sub(1)?;
    let (value, writer) = (order.values[at], order.writers[at]);
    if writer == NOBODY || writer == read.op {
        return None;
    }
    let appended = history[writer as usize].steps.iter().filter_map(|step| match step {
        Step::Append { key, value } if *key == order.key => Some(*value),
        _ => None,
    });
    let next = appended.skip_while(|other| *other != value).skip(1).find(|next| !read.seen.contains(next))?;
    Some((writer, format!("#{} saw {value} in key {} and not {next}, both of #{writer}", read.op, order.key)))
}
