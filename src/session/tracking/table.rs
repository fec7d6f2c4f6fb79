//! Which clients have read which keys, and have not been told of a change since.
//!
//! An entry is a promise: when the key changes, the clients that stand beside it are told. A client that goes away leaves its entries
//! behind; they go with the next change of their keys, or when room is needed.

use std::collections::HashMap;

use bytes::Bytes;
use smallvec::SmallVec;

/// Clients, by their numbers.
pub(super) type Readers = SmallVec<[u64; 2]>;

/// The keys that were read.
#[derive(Default)]
pub(super) struct Table {
    entries: HashMap<Bytes, Entry>,
    /// All keys, in no order, so that one can be picked by chance.
    keys: Vec<Bytes>,
    /// Pairs of a key and a client.
    items: usize,
}

struct Entry {
    /// The key's place among `keys`.
    at: usize,
    readers: Readers,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn items(&self) -> usize {
        self.items
    }

    /// `client` has read `key`.
    pub(super) fn insert(&mut self, key: &[u8], client: u64) {
        let entry = match self.entries.get_mut(key) {
            Some(entry) => entry,
            None => {
                // Copied: a slice would keep the read buffer alive.
                let key = Bytes::copy_from_slice(key);
                self.keys.push(key.clone());
                self.entries.entry(key).or_insert(Entry { at: self.keys.len() - 1, readers: Readers::new() })
            }
        };
        if !entry.readers.contains(&client) {
            entry.readers.push(client);
            self.items += 1;
        }
    }

    /// Takes out `key`: who has read it.
    pub(super) fn take(&mut self, key: &[u8]) -> Readers {
        let Some(entry) = self.entries.remove(key) else { return Readers::new() };
        self.keys.swap_remove(entry.at);
        if let Some(moved) = self.keys.get(entry.at).and_then(|moved| self.entries.get_mut(moved)) {
            moved.at = entry.at;
        }
        self.items -= entry.readers.len();
        entry.readers
    }

    /// Takes out `client` alone; whether it had read `key`.
    pub(super) fn take_one(&mut self, key: &[u8], client: u64) -> bool {
        let Some(entry) = self.entries.get_mut(key) else { return false };
        let Some(place) = entry.readers.iter().position(|reader| *reader == client) else { return false };
        entry.readers.swap_remove(place);
        self.items -= 1;
        if entry.readers.is_empty() {
            self.take(key);
        }
        true
    }

    /// The key at the place that `pick` chooses among so many.
    pub(super) fn pick(&self, pick: impl FnOnce(usize) -> usize) -> Option<Bytes> {
        if self.keys.is_empty() { None } else { self.keys.get(pick(self.keys.len())).cloned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_read_a_key_stands_beside_it_once() {
        let mut table = Table::default();
        for (key, client) in [("a", 1), ("a", 2), ("a", 1), ("b", 1), ("c", 3)] {
            table.insert(key.as_bytes(), client);
        }
        assert_eq!((table.len(), table.items()), (3, 4));
        assert_eq!(table.take(b"a")[..], [1, 2]);
        assert!(table.take(b"a").is_empty());
        assert!(!table.take_one(b"c", 1) && table.take_one(b"c", 3) && !table.take_one(b"c", 3));
        assert_eq!((table.len(), table.items()), (1, 1));
        assert_eq!(table.pick(|count| count - 1).as_deref(), Some(&b"b"[..]));
        assert_eq!(table.take(b"b")[..], [1]);
        assert_eq!((table.len(), table.items(), table.pick(|_| 0)), (0, 0, None));
    }

    #[test]
    fn keys_that_move_to_another_place_are_found_there() {
        let mut table = Table::default();
        (0..100u64).for_each(|number| table.insert(&number.to_be_bytes(), number));
        for number in (0..100u64).step_by(3) {
            assert_eq!(table.take(&number.to_be_bytes())[..], [number]);
        }
        while let Some(key) = table.pick(|count| count / 2) {
            assert_eq!(table.take(&key).len(), 1);
        }
        assert_eq!(table.items(), 0);
    }
}
