//! What clients have seen, and the judge: is there one order of all of it that explains every value and respects real time?
//!
//! An order is looked for by trying all of them. What was begun and not answered may stand in it or not. "In real time" is what was
//! answered before the first command of another was carried out: no schedule with slower answers asks for more.

use super::Key;

/// Everything that clients have asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct History {
    entries: Vec<Entry>,
}

/// A command, or a transaction, as its client sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Entry {
    stand: Stand,
    /// Those that were answered before it began.
    after: u32,
    /// Those that its client sent before it, in the same pipeline to the same participant: it may not stand before any of them.
    follows: u32,
    reads: Vec<(Key, u8)>,
    writes: Vec<(Key, u8)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stand {
    Ahead,
    Begun,
    /// It took effect.
    Done,
    /// Its client was told that it had none.
    Void,
}

impl Entry {
    pub(super) fn new(writes: Vec<(Key, u8)>, follows: u32) -> Self {
        Self { stand: Stand::Ahead, after: 0, follows, reads: Vec::new(), writes }
    }
}

impl History {
    pub(super) fn new(entries: Vec<Entry>) -> Self {
        Self { entries }
    }

    /// The first command of `entry` is carried out.
    pub(super) fn begin(&mut self, entry: usize) {
        if self.entries[entry].stand == Stand::Ahead {
            self.entries[entry].after = self.mask(|entry| matches!(entry.stand, Stand::Done | Stand::Void));
            self.entries[entry].stand = Stand::Begun;
        }
    }

    /// `entry` depends on these values.
    pub(super) fn expect(&mut self, entry: usize, reads: impl IntoIterator<Item = (Key, u8)>) {
        self.entries[entry].reads.extend(reads);
    }

    pub(super) fn done(&mut self, entry: usize) {
        self.entries[entry].stand = Stand::Done;
    }

    pub(super) fn void(&mut self, entry: usize) {
        self.entries[entry] = Entry { stand: Stand::Void, ..Entry::new(Vec::new(), 0) };
    }

    /// Nobody knows whether `entry` took effect or will yet: what its client sent behind it may stand before it.
    pub(super) fn doubt(&mut self, entry: usize) {
        self.entries.iter_mut().for_each(|other| other.follows &= !(1 << entry));
    }

    /// Whether each entry was answered, and took effect.
    pub(super) fn is_full(&self) -> bool {
        self.entries.iter().all(|entry| entry.stand == Stand::Done)
    }

    /// Whether some order explains it, after which the keys have the values of `end`.
    pub(super) fn is_explained(&self, end: Option<[u8; 3]>) -> bool {
        self.search(self.mask(|entry| entry.stand == Stand::Void), [b'0'; 3], end)
    }

    fn search(&self, placed: u32, values: [u8; 3], end: Option<[u8; 3]>) -> bool {
        let done = self.mask(|entry| entry.stand == Stand::Done);
        if done & !placed == 0 && end.is_none_or(|end| end == values) {
            return true;
        }
        (0..self.entries.len()).filter(|index| self.may_stand(*index, placed, &values)).any(|index| {
            let mut next = values;
            self.entries[index].writes.iter().for_each(|(key, value)| next[place(key)] = *value);
            self.search(placed | 1 << index, next, end)
        })
    }

    fn may_stand(&self, index: usize, placed: u32, values: &[u8; 3]) -> bool {
        let entry = &self.entries[index];
        placed & 1 << index == 0
            && matches!(entry.stand, Stand::Begun | Stand::Done)
            && entry.after & !placed == 0
            && placed & self.mask(|other| other.follows & 1 << index != 0) == 0
            && entry.reads.iter().all(|(key, value)| values[place(key)] == *value)
    }

    fn mask(&self, is: impl Fn(&Entry) -> bool) -> u32 {
        self.entries.iter().enumerate().filter(|(_, entry)| is(entry)).map(|(index, _)| 1 << index).sum()
    }
}

fn place(key: Key) -> usize {
    usize::from(key.as_bytes()[0] - b'a')
}
