//! What clients do, by chance: which kind of operation, on which keys, in which order.

use fastrand::Rng;

use super::keys::{Keys, read};
use crate::histories::history::{Key, Step};

/// A kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// APPEND or RPUSH.
    Append,
    /// GET or LRANGE.
    Read,
    /// Several of both on one key, in one write. Each step is an operation.
    Pipeline,
    /// MGET over shards.
    Snapshot,
    /// EVAL that appends to both keys of a slot and reads one.
    Script,
    /// The same script on keys of different pairs, mostly over shards.
    WideScript,
    /// MULTI ... EXEC on both keys of a slot.
    OneSlot,
    /// MULTI ... EXEC over shards.
    Transaction,
    /// The same, with reads alone.
    ReadTransaction,
    /// WATCH, reads of what is watched, MULTI ... EXEC.
    WatchLoop,
}

impl Kind {
    /// What reports call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Read => "read",
            Self::Pipeline => "pipelined append or read",
            Self::Snapshot => "MGET",
            Self::Script => "EVAL",
            Self::WideScript => "EVAL over shards",
            Self::OneSlot => "EXEC on one slot",
            Self::Transaction => "EXEC",
            Self::ReadTransaction => "EXEC of reads",
            Self::WatchLoop => "WATCH ... EXEC",
        }
    }

    /// Whether it counts as a transaction.
    pub(super) fn is_transaction(self) -> bool {
        matches!(self, Self::OneSlot | Self::Transaction | Self::ReadTransaction | Self::WatchLoop)
    }
}

/// An operation to be done.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) kind: Kind,
    /// Of a WATCH loop: first the reads of what is watched, then what is queued.
    pub(super) steps: Vec<Step>,
}

/// The next operation of a client.
pub(super) fn next(rng: &mut Rng, keys: &Keys) -> Plan {
    let kind = pick_kind(rng);
    let steps = match kind {
        Kind::Append => on(keys, &keys.pick(rng, 1), |_| true),
        Kind::Read => on(keys, &keys.pick(rng, 1), |_| false),
        Kind::Pipeline => {
            let key = keys.pick(rng, 1)[0];
            let steps = vec![key; rng.usize(2..6)];
            on(keys, &steps, |_| rng.bool())
        }
        Kind::Snapshot => {
            let count = rng.usize(2..6);
            on(keys, &keys.pick_strings(rng, count), |_| false)
        }
        Kind::Script => {
            let [string, list] = keys.pick_both(rng);
            vec![keys.append(string), keys.append(list), read(string)]
        }
        Kind::WideScript => {
            let strings = keys.pick_strings(rng, 2);
            vec![keys.append(strings[0]), keys.append(strings[1] + 1), read(strings[0])]
        }
        Kind::OneSlot => {
            let both = keys.pick_both(rng);
            let steps: Vec<Key> = (0..rng.usize(2..5)).map(|_| both[rng.usize(..2)]).collect();
            on(keys, &steps, |_| rng.bool())
        }
        Kind::Transaction => {
            let count = rng.usize(2..5);
            let mut some = keys.pick(rng, count);
            // Now and then a key comes twice.
            if rng.bool() {
                some.push(some[0]);
            }
            // At least one append: what only reads is a kind of its own.
            let append = rng.usize(..some.len());
            on(keys, &some, |place| place == append || rng.bool())
        }
        Kind::ReadTransaction => {
            let count = rng.usize(2..5);
            on(keys, &keys.pick(rng, count), |_| false)
        }
        Kind::WatchLoop => {
            let count = rng.usize(1..4);
            let watched = keys.pick(rng, count);
            let mut written = watched.clone();
            // As often as not, what is watched decides about what is written elsewhere: the way into a write skew.
            if rng.bool() {
                written.truncate(1);
                written.extend(keys.pick(rng, 1));
            }
            [on(keys, &watched, |_| false), on(keys, &written, |_| true)].concat()
        }
    };
    Plan { kind, steps }
}

/// One step on each of `some` keys; `is_append` says by its place which.
fn on(keys: &Keys, some: &[Key], mut is_append: impl FnMut(usize) -> bool) -> Vec<Step> {
    some.iter().enumerate().map(|(place, key)| if is_append(place) { keys.append(*key) } else { read(*key) }).collect()
}

fn pick_kind(rng: &mut Rng) -> Kind {
    let ticket = rng.u32(..OFTEN.iter().map(|(_, weight)| weight).sum::<u32>());
    let mut passed = 0;
    let chosen = OFTEN.iter().find(|(_, weight)| {
        passed += weight;
        ticket < passed
    });
    chosen.expect("the ticket is below the sum of the weights").0
}

/// How often each kind comes, of a hundred.
pub(super) const OFTEN: [(Kind, u32); 10] = [
    (Kind::Append, 13),
    (Kind::Read, 13),
    (Kind::Pipeline, 8),
    (Kind::Snapshot, 12),
    (Kind::Script, 5),
    (Kind::WideScript, 6),
    (Kind::OneSlot, 5),
    (Kind::Transaction, 18),
    (Kind::ReadTransaction, 6),
    (Kind::WatchLoop, 14),
];
