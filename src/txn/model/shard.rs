//! A participant as the scripts see it.

use std::collections::BTreeSet;

use super::Mutant;
use super::world::tid;
use crate::txn::{Locked, State, prepare, reapply};

/// A participant: one key, its lock, and a record for each transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Shard {
    pub(super) lock: Option<usize>,
    pub(super) records: Vec<Cell>,
    /// Which transactions took a prepare back.
    pub(super) rolled_back: BTreeSet<usize>,
    /// What was applied, in order.
    pub(super) log: Vec<usize>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Cell {
    #[default]
    Absent,
    Prepared,
    Committed,
    Aborted,
}

impl Shard {
    pub(super) fn state(&self, transaction: usize) -> State {
        match self.records[transaction] {
            Cell::Absent => State::Gone,
            Cell::Prepared => State::Prepared,
            Cell::Committed => State::Committed(None),
            Cell::Aborted => State::Aborted,
        }
    }

    pub(super) fn prepare(&mut self, mutant: Option<Mutant>, transaction: usize, age: u8) -> prepare::Answer {
        if self.records[transaction] != Cell::Absent {
            return prepare::Answer::Found(self.state(transaction));
        }
        if age > 0 && mutant != Some(Mutant::NoAgeCheck) {
            return prepare::Answer::ClockApart;
        }
        match self.lock {
            Some(_) if mutant == Some(Mutant::CommitWhenAnyPrepared) => return prepare::Answer::Found(State::Prepared),
            Some(owner) if mutant != Some(Mutant::NoLockCheck) => return prepare::Answer::Locked(locked(owner)),
            _ => {}
        }
        self.hold(transaction);
        prepare::Answer::Found(State::Prepared)
    }

    pub(super) fn reapply(&mut self, native: bool, transaction: usize, age: u8) -> reapply::Answer {
        match (self.records[transaction], self.lock) {
            (Cell::Committed | Cell::Prepared, _) => {}
            _ if age == 2 => return reapply::Answer::TooLate,
            (_, Some(owner)) if owner != transaction => return reapply::Answer::Locked(locked(owner)),
            _ if native => self.hold(transaction),
            _ => self.finish(transaction),
        }
        reapply::Answer::Found(self.state(transaction))
    }

    fn hold(&mut self, transaction: usize) {
        self.lock = Some(transaction);
        self.records[transaction] = Cell::Prepared;
    }

    pub(super) fn finish(&mut self, transaction: usize) {
        self.log.push(transaction);
        self.take_back(transaction, Cell::Committed);
    }

    pub(super) fn take_back(&mut self, transaction: usize, cell: Cell) {
        self.lock = self.lock.filter(|owner| *owner != transaction);
        self.records[transaction] = cell;
    }

    pub(super) fn applied(&self, transaction: usize) -> usize {
        self.log.iter().filter(|applied| **applied == transaction).count()
    }
}

fn locked(owner: usize) -> Locked {
    Locked { owner: tid(owner), lease_left_ms: 1 }
}
