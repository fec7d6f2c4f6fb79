//! What is written down of a client's operations: list-append histories (Kingsbury and Alvaro, "Elle", VLDB 2020).
//!
//! Every key holds a list, and every append brings a value that no other append of the history brings. So a read tells not only what
//! it saw but in which order it was written, and the order of the versions of a key needs no guess.

use std::time::Duration;

/// A key of the history. What it is called at the shards, and whether it is a Redis list (RPUSH, LRANGE) or a string of values with a
/// blank behind each (APPEND, GET, MGET), is the generator's business.
pub(crate) type Key = u32;

/// An appended value: unique in its history.
pub(crate) type Value = u64;

/// One part of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// `value` to the end of `key`.
    Append { key: Key, value: Value },
    /// All of `key`. What it saw is known only where the operation's [`Outcome`] is [`Outcome::Ok`].
    Read { key: Key, seen: Vec<Value> },
}

/// What became of an operation, as its client knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It happened; its reads were answered.
    Ok,
    /// It happened, and whoever comes after its completion sees it; its reads were not answered (`TXNPENDING`: some shard has yet to
    /// write, under locks that nobody reads past).
    Committed,
    /// It did not happen and never will (EXEC answered nil, `LOCKWAIT`, `TXNREFUSED` ...).
    Failed,
    /// Nobody told (the connection broke, `UNKNOWN`, `TXNUNKNOWN`): it may have happened, may happen later, or never.
    Unknown,
}

/// An operation of one client: a plain command, a snapshot read, or a transaction; atomic as a whole if the store keeps its word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Operation {
    /// Who did it; a client has one operation at a time.
    pub(crate) client: usize,
    /// In the order in which they took effect within the operation.
    pub(crate) steps: Vec<Step>,
    /// When it was sent, since the beginning of the history, on the clock of the machine that all clients share.
    pub(crate) invoked: Duration,
    /// When its outcome was known. Real time orders only what was told: an operation of unknown outcome ends never.
    pub(crate) completed: Duration,
    /// What became of it.
    pub(crate) outcome: Outcome,
}

impl Step {
    /// The key that it is about.
    pub(crate) fn key(&self) -> Key {
        match self {
            Step::Append { key, .. } | Step::Read { key, .. } => *key,
        }
    }
}

impl Operation {
    /// Whether one of its reads of `wanted` saw `value`.
    pub(crate) fn sees(&self, wanted: Key, value: Value) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Read { key, seen } if *key == wanted && seen.contains(&value)))
    }

    /// Whether one of its reads saw an append of `other`.
    pub(crate) fn sees_part_of(&self, other: &Operation) -> bool {
        other.steps.iter().any(|step| matches!(step, Step::Append { key, value } if self.sees(*key, *value)))
    }
}
