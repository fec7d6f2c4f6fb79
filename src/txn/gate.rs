//! The gate of a participant: one key that stands for all its locks.
//!
//! prepare adds the transaction to the set, in the step that takes its locks; commit and abort take it out, in the step that gives them
//! back. So while the gate does not exist nobody holds a lock here, and a WATCH on it notices whoever takes one. That makes two
//! things cheap, where many commands go to one participant, which is to say on static shards (in a cluster every slot has a gate of its
//! own, and it pays for none of them):
//!
//! - **Reads of one key** that leave together share one look at the gate in front of them, in place of a look at each key's lock. The
//!   argument is that of protocol §7: each of them was asked for before the shard answered the look, so it began before anybody
//!   who takes a lock after that was prepared, and it may stand before him whatever of it the read sees. A read that was asked for later
//!   needs a later look, even if the bytes of the first had only just left.
//! - **Writes** that leave together go as one MULTI on a connection that watches the gate and has seen it free; see
//!   [`ArmedConn`](crate::upstream::ArmedConn). EXEC and the check are one atomic step at the shard, which is what §7 asks for.
//!
//! A gate that is not free says that some lock is held, not which: then each command looks at its own keys' locks. If the record of a
//! transaction is lost, its name in the gate stays until somebody resolves it. That costs time, never correctness: a gate that is closed
//! without need sends commands the longer way.
//!
//! `model::isolation` explores both, and what breaks where the gate is touched in another step than the locks, where a look covers more than it
//! may, and where a batch goes out under a watch that was not set, or behind a batch that was refused.

use std::sync::LazyLock;

use bytes::Bytes;

use super::{Participant, internal_keys};
use crate::resp::Request;

/// `EXISTS` of a static shard's gate: `:0` says that it is free.
pub fn look() -> &'static Bytes {
    &LOOK
}

/// `WATCH` of a static shard's gate, and a look at it.
pub fn watch_and_look() -> &'static Bytes {
    &WATCH_AND_LOOK
}

/// `EXISTS` of a static shard's gate.
pub fn exists() -> Request {
    Request::new(&[b"EXISTS", &static_gate()[..]])
}

/// `WATCH` of a static shard's gate.
pub fn watch() -> Request {
    Request::new(&[b"WATCH", &static_gate()[..]])
}

static LOOK: LazyLock<Bytes> = LazyLock::new(|| exists().bytes().clone());

static WATCH_AND_LOOK: LazyLock<Bytes> = LazyLock::new(|| [watch().bytes(), &LOOK[..]].concat().into());

/// It bears the same name in every database of every static shard.
fn static_gate() -> Bytes {
    internal_keys::gate(&Participant::Shard { name: "".into(), db: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gate_of_a_static_shard_is_named_without_a_tag() {
        assert_eq!(look().as_ref(), b"*2\r\n$6\r\nEXISTS\r\n$8\r\n__weft:g\r\n");
        assert_eq!(watch_and_look().as_ref(), b"*2\r\n$5\r\nWATCH\r\n$8\r\n__weft:g\r\n*2\r\n$6\r\nEXISTS\r\n$8\r\n__weft:g\r\n");
    }
}
