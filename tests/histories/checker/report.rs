//! What the checker found, for a human: each anomaly with its name, its operations as they were, and why each comes before the next.

use std::collections::BTreeMap;
use std::fmt;

use super::explain;
use crate::histories::history::{Key, Operation, Outcome};

/// How many anomalies of a kind are told in full; the others are only counted.
const TOLD_MAX: usize = 10;
/// How many operations of an anomaly are told, and how many reasons.
const LINES_MAX: usize = 20;

/// The name of what is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Nothing of an operation that took effect is in the final state, or in the last read of each key.
    LostAppend,
    /// One part of an operation that took effect is in the final state, another is not.
    HalfApplied,
    /// A value is in a list twice.
    DuplicateAppend,
    /// A read saw a value that nobody appended, or that was appended to another key.
    GarbageRead,
    /// A read saw a value of an operation that failed (Adya's G1a).
    AbortedRead,
    /// A read saw a key in the middle of an operation that appends to it several times (G1b).
    IntermediateRead,
    /// Of two reads of a key, neither begins with the other.
    IncompatibleOrders,
    /// An operation contradicts itself: it does not see its own appends, or two of its reads disagree.
    Internal,
    /// Two operations each write over the other (G0).
    DirtyWrite,
    /// A cycle of information: each saw or wrote over what the one before wrote (G1c).
    CircularFlow,
    /// Two operations read the same version and each went on from there.
    LostUpdate,
    /// A read saw one append of an operation and not another.
    FracturedRead,
    /// Reads that no one state holds (G-single).
    ReadSkew,
    /// Operations that each miss what another writes (G2-item).
    WriteSkew,
    /// A write stands before one that was completed before it was invoked (G0-realtime).
    DirtyWriteInRealTime,
    /// A read saw what had yet to be written, or the like (G1c-realtime).
    CircularFlowInRealTime,
    /// A read missed what was completed before it was invoked (G-single-realtime).
    StaleRead,
    /// Operations that each miss what another writes, counting what real time orders (G2-item-realtime).
    WriteSkewInRealTime,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::LostAppend => "lost append",
            Kind::HalfApplied => "half-applied transaction",
            Kind::DuplicateAppend => "duplicate append",
            Kind::GarbageRead => "garbage read",
            Kind::AbortedRead => "aborted read (G1a)",
            Kind::IntermediateRead => "intermediate read (G1b)",
            Kind::IncompatibleOrders => "incompatible orders",
            Kind::Internal => "internal inconsistency",
            Kind::DirtyWrite => "dirty write (G0)",
            Kind::CircularFlow => "circular information flow (G1c)",
            Kind::LostUpdate => "lost update (G-single)",
            Kind::FracturedRead => "fractured read (G-single)",
            Kind::ReadSkew => "read skew (G-single)",
            Kind::WriteSkew => "write skew (G2-item)",
            Kind::DirtyWriteInRealTime => "writes against real time (G0-realtime)",
            Kind::CircularFlowInRealTime => "information against real time (G1c-realtime)",
            Kind::StaleRead => "stale read (G-single-realtime)",
            Kind::WriteSkewInRealTime => "write skew against real time (G2-item-realtime)",
        })
    }
}

/// Something that no strictly serializable store could have done.
#[derive(Debug, Clone)]
pub(crate) struct Anomaly {
    /// Its name.
    pub(crate) kind: Kind,
    /// The operations in it, by their place in the history; for a cycle, in its order.
    pub(crate) operations: Vec<usize>,
    /// The operations and why they cannot be, a line each.
    pub(crate) story: Vec<String>,
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  {}", self.kind, self.story.join("\n  "))
    }
}

/// What the checker says of a history.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    /// How many operations ended in which way: ok, committed, failed, unknown.
    pub(crate) outcomes: [usize; 4],
    /// The anomalies, at most [`TOLD_MAX`] of each kind.
    pub(crate) anomalies: Vec<Anomaly>,
    /// How many anomalies of each kind there are.
    pub(crate) counts: BTreeMap<Kind, usize>,
}

impl Report {
    /// Whether a strictly serializable store can answer like that.
    pub(crate) fn is_clean(&self) -> bool {
        self.counts.is_empty()
    }

    /// The kinds of the anomalies, each once, in the order of [`Kind`].
    pub(crate) fn kinds(&self) -> Vec<Kind> {
        self.counts.keys().copied().collect()
    }
}

/// A report that is being written.
pub(super) struct Findings<'h> {
    history: &'h [Operation],
    pub(super) report: Report,
}

impl<'h> Findings<'h> {
    pub(super) fn new(history: &'h [Operation]) -> Findings<'h> {
        let mut outcomes = [0; 4];
        for operation in history {
            outcomes[operation.outcome as usize] += 1;
        }
        Findings { history, report: Report { outcomes, anomalies: Vec::new(), counts: BTreeMap::new() } }
    }

    /// Adds an anomaly of `operations` that concerns `keys`; `why` is asked for its reasons, a line each, if it is told.
    pub(super) fn add(&mut self, kind: Kind, operations: &[u32], keys: &[Key], why: impl FnOnce() -> Vec<String>) {
        let count = self.report.counts.entry(kind).or_default();
        *count += 1;
        if *count > TOLD_MAX {
            return;
        }
        let mut distinct: Vec<usize> = Vec::new();
        for number in operations.iter().map(|&number| number as usize) {
            if !distinct.contains(&number) {
                distinct.push(number);
            }
        }
        let mut story = shorten(distinct.iter().map(|&number| explain::operation(self.history, number, keys)).collect());
        story.extend(shorten(why()));
        self.report.anomalies.push(Anomaly { kind, operations: distinct, story });
    }
}

/// Leaves out the middle of many lines.
fn shorten(mut lines: Vec<String>) -> Vec<String> {
    if lines.len() > LINES_MAX {
        let hidden = lines.len() - LINES_MAX;
        lines.splice(LINES_MAX / 2..LINES_MAX / 2 + hidden, [format!("... and {hidden} more ...")]);
    }
    lines
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [ok, committed, failed, unknown] = self.outcomes;
        let total = ok + committed + failed + unknown;
        write!(f, "{total} operations ({ok} ok, {committed} committed, {failed} failed, {unknown} unknown): ")?;
        if self.is_clean() {
            return f.write_str("no anomalies");
        }
        let counts: Vec<String> = self.counts.iter().map(|(kind, count)| format!("{kind}: {count}")).collect();
        write!(f, "{}", counts.join(", "))?;
        for anomaly in &self.anomalies {
            write!(f, "\n\n{anomaly}")?;
        }
        Ok(())
    }
}

// `Report::outcomes` is indexed by them.
const _: () = assert!(Outcome::Ok as usize == 0 && Outcome::Unknown as usize == 3);
