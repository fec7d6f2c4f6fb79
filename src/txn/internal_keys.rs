//! The keys that weft keeps among the users' own.
//!
//! All begin with `__weft:`. In a cluster a tag follows that puts them into the slot of what they guard; it comes before
//! the user's key, so a tag in there changes nothing. None ever has a TTL: a lock or a record that expires un-decides a transaction.

use bytes::Bytes;

use super::{KeyLock, LockMode, Participant, TxnId};
use crate::resp::FrameWriter;

/// What every internal key begins with.
pub const PREFIX: &[u8] = b"__weft:";

/// What stands in front of the rest of each kind's name.
pub(super) const EXCLUSIVE: &[u8] = b"x:";
pub(super) const SHARED: &[u8] = b"s:";
pub(super) const RECORD: &[u8] = b"t:";
pub(super) const GATE: &[u8] = b"g";

/// Whether `key` is one of weft's own: refused as a client's key, and hidden from clients that list keys.
pub fn is_internal(key: &[u8]) -> bool {
    key.starts_with(PREFIX)
}

/// The lock of whoever will write `key`: a string, `tid deadline`.
pub fn exclusive_lock(participant: &Participant, key: &[u8]) -> Bytes {
    internal(participant, EXCLUSIVE, key)
}

/// The locks of those who have read or watch `key`: a hash from tid to deadline.
pub fn shared_lock(participant: &Participant, key: &[u8]) -> Bytes {
    internal(participant, SHARED, key)
}

/// The staging record of `tid`: a hash.
pub fn record(participant: &Participant, tid: TxnId) -> Bytes {
    internal(participant, RECORD, tid.name().as_bytes())
}

/// The transaction whose record `key` is; `None` for any other key.
pub fn tid_of(key: &[u8]) -> Option<TxnId> {
    std::str::from_utf8(behind_tag(key)?.strip_prefix(b"t:")?).ok()?.parse().ok()
}

/// The user's key that `key` is a lock of, and the mode in which it is held; `None` for any other key.
pub fn locked_by(key: &[u8]) -> Option<KeyLock> {
    let (mode, name) = match behind_tag(key)?.split_at_checked(2)? {
        (b"x:", name) => (LockMode::Exclusive, name),
        (b"s:", name) => (LockMode::Shared, name),
        _ => return None,
    };
    Some(KeyLock { key: Bytes::copy_from_slice(name), mode })
}

fn behind_tag(key: &[u8]) -> Option<&[u8]> {
    let rest = key.strip_prefix(PREFIX)?;
    match rest.strip_prefix(b"{") {
        Some(tagged) => tagged.splitn(2, |byte| *byte == b'}').nth(1),
        None => Some(rest),
    }
}

/// What `key` is called while a server computes on a copy of it: made and deleted in one step.
pub fn copy(participant: &Participant, key: &[u8]) -> Bytes {
    internal(participant, b"c:", key)
}

/// The gate: the set of the transactions that are prepared here. It exists exactly while locks are held, and whoever takes one
/// touches it; see [`gate`](super::gate).
pub fn gate(participant: &Participant) -> Bytes {
    internal(participant, GATE, b"")
}

/// A key that is written and deleted in one step, so that there is something to wait for the replication of.
pub fn trace(participant: &Participant) -> Bytes {
    internal(participant, b"w:", b"")
}

/// Writes a key of `kind` with the `rest` of its name as an argument, for those who do not need the key itself.
pub(super) fn write(out: &mut FrameWriter, participant: &Participant, kind: &[u8], rest: &[u8]) {
    let [open, tag, close] = tag(participant);
    out.arg_of(PREFIX.len() + open.len() + tag.len() + close.len() + kind.len() + rest.len(), |arg| {
        arg.copy(PREFIX);
        if !tag.is_empty() {
            [open, tag, close].into_iter().for_each(|part| arg.copy(part));
        }
        arg.copy(kind);
        arg.copy(rest);
    });
}

fn internal(participant: &Participant, kind: &[u8], rest: &[u8]) -> Bytes {
    let [open, tag, close] = tag(participant);
    [PREFIX, open, tag, close, kind, rest].concat().into()
}

/// What puts a key into the slot of `participant`.
fn tag(participant: &Participant) -> [&'static [u8]; 3] {
    match participant {
        Participant::Slot(slot) => [b"{", slot.tag().as_bytes(), b"}"],
        Participant::Shard { .. } => [b""; 3],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slot::Slot;

    #[test]
    fn in_a_cluster_they_lie_in_the_slot_of_what_they_guard() {
        for key in ["foo", "{a}b", "a{b}{c}", "}{", ""] {
            let slot = Slot::of(key.as_bytes());
            let participant = Participant::Slot(slot);
            let tid = TxnId { proxy: 1, incarnation: 2, sequence: 3, start_ms: 4 };
            for internal in
                [exclusive_lock(&participant, key.as_bytes()), shared_lock(&participant, key.as_bytes()), record(&participant, tid)]
            {
                assert_eq!(Slot::of(&internal), slot, "{internal:?}");
                assert!(is_internal(&internal));
                assert_eq!(tid_of(&internal), (internal == record(&participant, tid)).then_some(tid));
            }
            let lock = |mode| KeyLock { key: Bytes::copy_from_slice(key.as_bytes()), mode };
            assert_eq!(locked_by(&exclusive_lock(&participant, key.as_bytes())), Some(lock(LockMode::Exclusive)));
            assert_eq!(locked_by(&shared_lock(&participant, key.as_bytes())), Some(lock(LockMode::Shared)));
            assert_eq!(locked_by(&record(&participant, tid)), None);
        }
    }

    #[test]
    fn on_a_static_shard_they_carry_no_tag() {
        let participant = Participant::Shard { name: "a".into(), db: 0 };
        assert_eq!(exclusive_lock(&participant, b"k"), "__weft:x:k");
        assert_eq!(shared_lock(&participant, b"k"), "__weft:s:k");
        assert!(!is_internal(b"__weft"));
    }
}
