//! What a participant answers, whichever step asked.
//!
//! Three kinds are told apart: what a script answered, that the server would not run it ([`Refusal`]: nothing was written),
//! and bytes that are neither, which are a refusal of kind [`Refused::Malformed`] because they say nothing.

use bytes::Bytes;

use super::TxnId;
use crate::resp::{Value, elements};

/// A text that is not what weft would have written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not something that weft wrote")]
pub struct Malformed;

/// Where a participant stands with a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// It has promised: locks taken, commands staged.
    Prepared,
    /// It has applied its batch. The replies, one frame each, unless they were too long to be kept.
    Committed(Option<Vec<Bytes>>),
    /// A tombstone: it will never prepare.
    Aborted,
    /// It knows nothing, or nothing any more.
    Gone,
}

/// Another transaction's lock is in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Locked {
    /// Whose it is.
    pub owner: TxnId,
    /// How much of its lease is left by the shard's clock. Not above zero: do not wait, resolve.
    pub lease_left_ms: i64,
}

/// A server would not do as asked; the step wrote nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Refusal {
    /// What to do about it.
    pub kind: Refused,
    /// The whole error, without the leading `-`.
    pub text: Bytes,
}

/// Why a step was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refused {
    /// The script is not loaded: load it and send the step again.
    NoScript,
    /// MOVED: refresh the topology and send the step to the slot's new node.
    Moved,
    /// ASK: send the step to the node named, after ASKING.
    Ask,
    /// The server will be able to, some time later.
    Later,
    /// The record was written by a weft of another version, and says something that this one does not understand: leave it alone.
    Foreign,
    /// Anything else that a server says.
    Error,
    /// Not an answer that weft understands.
    Malformed,
}

impl Refused {
    /// Whether the same request may succeed a moment later, or elsewhere.
    pub fn is_passing(self) -> bool {
        matches!(self, Self::NoScript | Self::Moved | Self::Ask | Self::Later)
    }
}

impl Refusal {
    fn of_error(text: Bytes) -> Self {
        let code = text.split(|byte| *byte == b' ').next().unwrap_or_default();
        let kind = CODES.iter().find(|(known, _)| known.as_bytes() == code).map_or(Refused::Error, |(_, kind)| *kind);
        Self { kind, text }
    }

    /// An answer that is none.
    pub(super) fn malformed() -> Self {
        Self { kind: Refused::Malformed, text: Bytes::from_static(b"ERR a shard gave an answer that weft does not understand") }
    }
}

impl From<Malformed> for Refusal {
    fn from(_: Malformed) -> Self {
        Self::malformed()
    }
}

impl From<crate::resp::ReplyError> for Refusal {
    fn from(_: crate::resp::ReplyError) -> Self {
        Self::malformed()
    }
}

/// The errors that a server gives before it runs a script, and the one that a script gives. `NOPERM` is among them because a decided transaction must not
/// be given up over a permission that an operator can grant.
const CODES: [(&str, Refused); 14] = [
    ("NOSCRIPT", Refused::NoScript),
    ("MOVED", Refused::Moved),
    ("ASK", Refused::Ask),
    ("TRYAGAIN", Refused::Later),
    ("CLUSTERDOWN", Refused::Later),
    ("MASTERDOWN", Refused::Later),
    ("READONLY", Refused::Later),
    ("LOADING", Refused::Later),
    ("BUSY", Refused::Later),
    ("OOM", Refused::Later),
    ("MISCONF", Refused::Later),
    ("NOREPLICAS", Refused::Later),
    ("NOPERM", Refused::Later),
    ("WEFTFORMAT", Refused::Foreign),
];

/// What a script answered: a word and what belongs to it, or that a lock was in the way.
pub(super) enum Said {
    Word(Bytes, Vec<Bytes>),
    Locked(Locked),
}

/// Reads the answer of a step.
pub(super) fn read(frame: &Bytes) -> Result<Said, Refusal> {
    if let Some(locked) = error_or_lock(frame)? {
        return Ok(Said::Locked(locked));
    }
    let mut parts = elements(frame)?.ok_or_else(Refusal::malformed)?.into_iter();
    let word = parts.next().ok_or_else(Refusal::malformed)?;
    let word = Value::parse(&word)?.text().cloned().ok_or_else(Refusal::malformed)?;
    Ok(Said::Word(word, parts.collect()))
}

/// The lock in the way if `frame` says so; another error is a refusal.
pub(super) fn error_or_lock(frame: &Bytes) -> Result<Option<Locked>, Refusal> {
    if !matches!(frame.first(), Some(b'-' | b'!')) {
        return Ok(None);
    }
    let Value::Error(text) = Value::parse(frame)? else { return Err(Refusal::malformed()) };
    let Some(locked) = text.strip_prefix(b"WEFTLOCKED ") else { return Err(Refusal::of_error(text)) };
    parse_locked(locked).map(Some).ok_or_else(|| Refusal { kind: Refused::Malformed, text: text.clone() })
}

impl State {
    /// The state that `word` names.
    pub(super) fn of(word: &[u8], rest: &[Bytes]) -> Result<Self, Refusal> {
        match word {
            b"prepared" => Ok(Self::Prepared),
            b"committed" => match rest.first() {
                None => Ok(Self::Committed(None)),
                Some(replies) => Ok(Self::Committed(elements(replies)?)),
            },
            b"aborted" => Ok(Self::Aborted),
            b"gone" => Ok(Self::Gone),
            _ => Err(Refusal::malformed()),
        }
    }
}

fn parse_locked(text: &[u8]) -> Option<Locked> {
    let (owner, left) = std::str::from_utf8(text).ok()?.split_once(' ')?;
    Some(Locked { owner: owner.parse().ok()?, lease_left_ms: left.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(frame: &'static [u8]) -> Option<Refused> {
        read(&Bytes::from_static(frame)).err().map(|refusal| refusal.kind)
    }

    #[test]
    fn refusals_are_told_apart() {
        assert_eq!(refused(b"-NOSCRIPT No matching script. Please use EVAL.\r\n"), Some(Refused::NoScript));
        assert_eq!(refused(b"-MOVED 3999 127.0.0.1:6381\r\n"), Some(Refused::Moved));
        assert_eq!(refused(b"-ASK 3999 127.0.0.1:6381\r\n"), Some(Refused::Ask));
        assert_eq!(refused(b"-OOM allow-oom flag is not set on the script\r\n"), Some(Refused::Later));
        assert_eq!(refused(b"-READONLY\r\n"), Some(Refused::Later));
        assert_eq!(refused(b"-WEFTFORMAT 2\r\n"), Some(Refused::Foreign));
        assert_eq!(refused(b"!11\r\nERR a\r\nb  c\r\n"), Some(Refused::Error));
        for malformed in [&b"+OK\r\n"[..], b":1\r\n", b"*0\r\n", b"*-1\r\n", b"_\r\n", b"*1\r\n:1\r\n", b"", b"*1\r\n"] {
            assert_eq!(refused(malformed), Some(Refused::Malformed), "{malformed:?}");
        }
        assert_eq!(refused(b"-WEFTLOCKED ? 0\r\n"), Some(Refused::Malformed));
    }

    #[test]
    fn a_lock_names_its_owner() {
        let frame = Bytes::from_static(b"-WEFTLOCKED a-1-2-3 -40\r\n");
        let owner = TxnId { proxy: 10, incarnation: 1, sequence: 2, start_ms: 3 };
        assert!(matches!(read(&frame), Ok(Said::Locked(locked)) if locked == Locked { owner, lease_left_ms: -40 }));
    }
}
