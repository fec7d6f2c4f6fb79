//! The names of locks, and the native commands that look at them.
//!
//! What is locked is a key, or a group of keys by its name ([`part::batch`](super::part::batch)); neither a lock nor a record tells the two
//! apart, so whoever resolves a transaction needs no rules of affinity for it.

use bytes::{Bytes, BytesMut};

use super::batch::{Batch, KeyLock};
use super::participant::Participant;
use super::{guarded, internal_keys};
use crate::resp::Request;
use crate::slot::Slot;

/// The locks that stand in the way of a batch: whoever reads looks at the x-locks, whoever writes at both.
#[derive(Clone, Debug)]
pub struct LockKeys {
    locks: Vec<Bytes>,
    data: Vec<Bytes>,
}

impl LockKeys {
    /// The locks against `batch`.
    pub fn against(batch: &Batch) -> Self {
        Self::of(&batch.participant, &batch.keys)
    }

    /// The locks against holding `keys`.
    pub fn of(participant: &Participant, keys: &[KeyLock]) -> Self {
        let mut locks = guarded::locks(participant, keys);
        if locks.is_empty() {
            // WATCH and EXISTS want something to look at, in the participant's own slot. A lock of the empty key is as good as any.
            locks.push(internal_keys::exclusive_lock(participant, b""));
        }
        Self { locks, data: keys.iter().map(|lock| lock.key.clone()).collect() }
    }

    /// `WATCH` of the locks.
    pub fn watch(&self) -> Request {
        named(b"WATCH", self.locks.iter())
    }

    /// `WATCH` of the keys and their locks.
    pub fn watch_with_data(&self) -> Request {
        named(b"WATCH", self.data.iter().chain(&self.locks))
    }

    /// `EXISTS` of the locks: `:0` says that the way is free.
    pub fn exists(&self) -> Request {
        named(b"EXISTS", self.locks.iter())
    }

    /// `EXISTS` of each lock by itself.
    pub fn each(&self) -> impl Iterator<Item = Request> {
        self.locks.iter().map(|lock| named(b"EXISTS", std::iter::once(lock)))
    }
}

pub(super) fn named<'a>(command: &'a [u8], keys: impl Iterator<Item = &'a Bytes>) -> Request {
    let words: Vec<&[u8]> = std::iter::once(command).chain(keys.map(|key| &key[..])).collect();
    Request::new(&words)
}

/// Hot: appends `EXISTS` of the x-locks of `keys` to `out`, without building the names first.
pub fn write_exists<'a>(out: &mut BytesMut, slot: Option<Slot>, keys: impl Iterator<Item = &'a [u8]> + Clone) {
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(b"*");
    out.extend_from_slice(digits.format(1 + keys.clone().count()).as_bytes());
    out.extend_from_slice(b"\r\n$6\r\nEXISTS\r\n");
    let tag = slot.map_or("", Slot::tag);
    let braces = if slot.is_some() { 2 } else { 0 };
    for key in keys {
        out.extend_from_slice(b"$");
        out.extend_from_slice(digits.format(internal_keys::PREFIX.len() + braces + tag.len() + 2 + key.len()).as_bytes());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(internal_keys::PREFIX);
        if slot.is_some() {
            out.extend_from_slice(b"{");
            out.extend_from_slice(tag.as_bytes());
            out.extend_from_slice(b"}");
        }
        out.extend_from_slice(b"x:");
        out.extend_from_slice(key);
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::super::internal_keys::exclusive_lock;
    use super::*;

    #[test]
    fn the_hot_form_names_the_same_locks() {
        let slot = Slot::of(b"key");
        for (participant, slot) in [(Participant::Slot(slot), Some(slot)), (Participant::Shard { name: "a".into(), db: 0 }, None)] {
            let keys = [&b"key"[..], b"a longer one", b""];
            let mut out = BytesMut::new();
            write_exists(&mut out, slot, keys.into_iter());
            let mut words: Vec<Bytes> = vec![Bytes::from_static(b"EXISTS")];
            words.extend(keys.iter().map(|key| exclusive_lock(&participant, key)));
            assert_eq!(out, Request::new(&words).bytes());
        }
    }
}
