//! In which order the values of each key were appended, as far as reads tell, and what is wrong with single values.

use std::collections::HashMap;

use super::explain;
use super::report::{Findings, Kind};
use crate::histories::history::{Key, Operation, Outcome, Step, Value};

/// In place of the writer of a value that no operation can have written.
pub(super) const NOBODY: u32 = u32::MAX;

/// The orders of all keys.
pub(super) struct Orders<'h> {
    pub(super) keys: Vec<Order<'h>>,
    index: HashMap<Key, u32>,
    pub(super) appends: Appends,
}

/// The order of the values of one key.
pub(super) struct Order<'h> {
    pub(super) key: Key,
    /// The longest list that a read saw.
    pub(super) values: &'h [Value],
    /// The operation of each value, or [`NOBODY`].
    pub(super) writers: Vec<u32>,
    /// Every answered read of the key.
    pub(super) reads: Vec<Read<'h>>,
    /// The one of them that began last.
    pub(super) last: Option<usize>,
    /// No value stands in it twice, so it is an order.
    pub(super) is_order: bool,
}

/// An answered read.
pub(super) struct Read<'h> {
    pub(super) op: u32,
    pub(super) step: u32,
    pub(super) seen: &'h [Value],
    /// `values` begins with `seen`.
    pub(super) fits: bool,
    /// How many of the values were there before its operation appended any, if the read says what came before and after its operation.
    pub(super) base: Option<usize>,
}

/// The append of each value.
pub(super) struct Appends(HashMap<Value, Append>);

struct Append {
    op: u32,
    key: Key,
    /// Where in the key's order, if a read saw it.
    position: Option<u32>,
}

impl<'h> Orders<'h> {
    /// Sorts the steps of `history` by keys, takes the longest read of each for its order, and reports what contradicts it.
    pub(super) fn of(history: &'h [Operation], findings: &mut Findings<'_>) -> Orders<'h> {
        let mut orders = Orders { keys: Vec::new(), index: HashMap::new(), appends: Appends(HashMap::new()) };
        for (operation, op) in history.iter().zip(0..) {
            for (step, number) in operation.steps.iter().zip(0..) {
                match step {
                    Step::Append { key, value } => {
                        let twice = orders.appends.0.insert(*value, Append { op, key: *key, position: None });
                        assert!(twice.is_none(), "not a list-append history: {value} is appended by two steps");
                        orders.order_mut(*key);
                    }
                    Step::Read { key, seen } if operation.outcome == Outcome::Ok => {
                        orders.order_mut(*key).reads.push(Read { op, step: number, seen, fits: true, base: None });
                    }
                    Step::Read { .. } => {}
                }
            }
        }
        for order in &mut orders.keys {
            order.settle(history, &mut orders.appends, findings);
        }
        orders
    }

    /// Where `key`, which some step of the history names, is among the keys.
    pub(super) fn number(&self, key: Key) -> usize {
        self.index[&key] as usize
    }

    fn order_mut(&mut self, key: Key) -> &mut Order<'h> {
        let keys = &mut self.keys;
        let index = *self.index.entry(key).or_insert_with(|| {
            keys.push(Order { key, values: &[], writers: Vec::new(), reads: Vec::new(), last: None, is_order: true });
            keys.len() as u32 - 1
        });
        &mut self.keys[index as usize]
    }
}

impl Appends {
    /// Where `value` stands in the order of its key, if a read saw it.
    pub(super) fn position(&self, value: Value) -> Option<usize> {
        self.0.get(&value)?.position.map(|position| position as usize)
    }
}

impl Order<'_> {
    /// The last read of the key.
    pub(super) fn last(&self) -> Option<&Read<'_>> {
        self.last.map(|index| &self.reads[index])
    }

    fn settle(&mut self, history: &[Operation], appends: &mut Appends, findings: &mut Findings<'_>) {
        let invoked = |read: &Read<'_>| history[read.op as usize].invoked;
        let Some(longest) = self.reads.iter().max_by_key(|read| (read.seen.len(), invoked(read))) else { return };
        let (longest, values) = (longest.op, longest.seen);
        self.values = values;
        self.last = (0..self.reads.len()).max_by_key(|&index| invoked(&self.reads[index]));
        self.writers.reserve_exact(values.len());
        for (&value, position) in values.iter().zip(0..) {
            let writer = self.writer(history, appends.0.get(&value), value, longest, findings);
            self.writers.push(writer);
            if let Some(append) = appends.0.get_mut(&value).filter(|append| append.key == self.key) {
                if append.position.is_some() {
                    self.is_order = false;
                    let why = || vec![format!("#{longest} saw {value} in key {} more than once", self.key)];
                    findings.add(Kind::DuplicateAppend, &[append.op, longest], &[self.key], why);
                }
                append.position.get_or_insert(position);
            }
        }
        for index in 0..self.reads.len() {
            let Read { op, seen, .. } = self.reads[index];
            if !values.starts_with(seen) {
                self.reads[index].fits = false;
                let parted = seen.iter().zip(values).take_while(|(one, other)| one == other).count();
                let why = || {
                    let (common, one, other) = (explain::list(&values[..parted]), seen[parted], values[parted]);
                    vec![format!("after {common} in key {}, #{op} saw {one} and #{longest} saw {other}", self.key)]
                };
                findings.add(Kind::IncompatibleOrders, &[op, longest], &[self.key], why);
                self.look_at_odd_read(history, appends, &seen[parted..], op, findings);
            }
        }
    }

    /// Reports what is wrong with the values that `reader` saw where the order has others.
    fn look_at_odd_read(&self, history: &[Operation], appends: &Appends, seen: &[Value], reader: u32, findings: &mut Findings<'_>) {
        let mut sorted = seen.to_vec();
        sorted.sort_unstable();
        for pair in sorted.windows(2).filter(|pair| pair[0] == pair[1]) {
            let why = || vec![format!("#{reader} saw {} in key {} more than once", pair[0], self.key)];
            findings.add(Kind::DuplicateAppend, &[reader], &[self.key], why);
        }
        sorted.dedup();
        for value in sorted {
            self.writer(history, appends.0.get(&value), value, reader, findings);
        }
    }

    /// Who wrote `value`, whose append is `append`, and which `reader` saw; reports it if nobody can have.
    fn writer(&self, history: &[Operation], append: Option<&Append>, value: Value, reader: u32, findings: &mut Findings<'_>) -> u32 {
        let key = self.key;
        match append {
            Some(append) if append.key == key && history[append.op as usize].outcome == Outcome::Failed => {
                let why = || vec![format!("#{reader} saw {value} in key {key}, but #{} failed", append.op)];
                findings.add(Kind::AbortedRead, &[append.op, reader], &[key], why);
                NOBODY
            }
            Some(append) if append.key == key => append.op,
            Some(append) => {
                let why = || vec![format!("#{reader} saw {value} in key {key}, but #{} appended it to key {}", append.op, append.key)];
                findings.add(Kind::GarbageRead, &[append.op, reader], &[key, append.key], why);
                NOBODY
            }
            None => {
                let why = || vec![format!("#{reader} saw {value} in key {key}, and nobody appended it")];
                findings.add(Kind::GarbageRead, &[reader], &[key], why);
                NOBODY
            }
        }
    }
}
