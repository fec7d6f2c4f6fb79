//! What one participant has to do for a transaction: the commands, and the keys that they need.

use std::hash::{Hash, Hasher};

use bytes::{BufMut, Bytes, BytesMut};

use super::{Participant, internal_keys};
use crate::resp::{Proto, Request};

/// How a transaction holds a key between prepare and commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LockMode {
    /// It has read or watches the key: nobody else writes it.
    Shared,
    /// It will write the key: nobody else reads or writes it.
    Exclusive,
    /// Like `Exclusive`, on the condition that the key does not exist (MSETNX).
    ExclusiveAbsent,
}

impl LockMode {
    fn letter(self) -> u8 {
        match self {
            Self::Shared => b's',
            Self::Exclusive => b'x',
            Self::ExclusiveAbsent => b'n',
        }
    }

    fn from_letter(letter: u8) -> Option<Self> {
        [Self::Shared, Self::Exclusive, Self::ExclusiveAbsent].into_iter().find(|mode| mode.letter() == letter)
    }
}

/// A key and how it is held.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyLock {
    /// The user's key.
    pub key: Bytes,
    /// How it is held.
    pub mode: LockMode,
}

impl KeyLock {
    /// The letters of several modes, as records and scripts hold them.
    pub(super) fn modes(keys: &[Self]) -> Vec<u8> {
        keys.iter().map(|lock| lock.mode.letter()).collect()
    }

    /// The keys and the letters of a record, put together again.
    pub(super) fn zip(keys: Vec<Bytes>, modes: &[u8]) -> Option<Vec<Self>> {
        if keys.len() != modes.len() {
            return None;
        }
        keys.into_iter().zip(modes).map(|(key, letter)| Some(Self { key, mode: LockMode::from_letter(*letter)? })).collect()
    }

    /// The KEYS of prepare, commit, reapply and abort: the record, then for each key its x-lock, its s-lock and the key, then the gate.
    pub(super) fn declare(participant: &Participant, record: Bytes, keys: &[Self]) -> Vec<Bytes> {
        let mut declared = Vec::with_capacity(2 + 3 * keys.len());
        declared.push(record);
        for KeyLock { key, .. } in keys {
            declared.push(internal_keys::exclusive_lock(participant, key));
            declared.push(internal_keys::shared_lock(participant, key));
            declared.push(key.clone());
        }
        declared.push(internal_keys::gate(participant));
        declared
    }
}

/// How a script finds all the digits of an integer that a command answered, should a Lua number not hold them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReRead {
    /// `GET` of the command's first argument (INCRBY).
    String,
    /// `HGET` of its first and second (HINCRBY).
    HashField,
}

/// What becomes of a command in a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It runs, and its reply survives Lua.
    Plain,
    /// It runs, and answers an integer that may lie beyond ±2^53.
    WideInteger(ReRead),
    /// It cannot run, or its reply would be another one: whoever commits runs it natively.
    Native,
}

/// A command of a batch.
#[derive(Clone, Debug)]
pub struct Command {
    /// The command itself.
    pub request: Request,
    /// How the scripts treat it.
    pub kind: Kind,
}

impl Command {
    /// The letter by which the scripts know how to treat it.
    pub(super) fn letter(&self) -> &'static [u8] {
        match self.kind {
            Kind::Plain => b".",
            Kind::WideInteger(ReRead::String) => b"s",
            Kind::WideInteger(ReRead::HashField) => b"h",
            Kind::Native => b"n",
        }
    }

    /// The reply that the client is owed for the one that a script gave: an integer that Lua could not hold came as a string.
    pub(super) fn restore(&self, reply: Bytes) -> Bytes {
        if !matches!(self.kind, Kind::WideInteger(_)) || !reply.starts_with(b"$") {
            return reply;
        }
        let digits = reply.split(|byte| *byte == b'\n').nth(1).unwrap_or_default();
        let mut integer = BytesMut::with_capacity(digits.len() + 2);
        integer.put_u8(b':');
        integer.put_slice(digits);
        integer.put_u8(b'\n');
        integer.freeze()
    }
}

impl PartialEq for Command {
    fn eq(&self, other: &Self) -> bool {
        self.request.bytes() == other.request.bytes() && self.kind == other.kind
    }
}

impl Eq for Command {}

impl Hash for Command {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.request.bytes().hash(state);
    }
}

/// A transaction's part at one participant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Batch {
    /// Where.
    pub participant: Participant,
    /// Every key of the commands, and every watched key, once each.
    pub keys: Vec<KeyLock>,
    /// In the client's order. None, where a key is only watched.
    pub commands: Vec<Command>,
}

impl Batch {
    /// Whether no script can carry out all of the commands.
    pub(super) fn is_native(&self) -> bool {
        self.commands.iter().any(|command| command.kind == Kind::Native)
    }

    /// The commands as prepare carries them and the record keeps them: msgpack, an array of arrays of kind and arguments.
    pub(super) fn pack(&self) -> Bytes {
        let size: usize = self.commands.iter().map(|command| command.request.bytes().len() + 8).sum();
        let mut out = BytesMut::with_capacity(size + 5);
        array(&mut out, self.commands.len());
        for command in &self.commands {
            array(&mut out, 1 + command.request.argc());
            string(&mut out, command.letter());
            command.request.args_from(0).for_each(|arg| string(&mut out, arg));
        }
        out.freeze()
    }
}

/// The argument that tells a script for which version of RESP its commands' replies are.
pub(super) fn proto(proto: Proto) -> &'static [u8] {
    match proto {
        Proto::Resp2 => b"2",
        Proto::Resp3 => b"3",
    }
}

/// The head of a msgpack array, `array 32`: short forms save nothing that matters.
fn array(out: &mut BytesMut, len: usize) {
    out.put_u8(0xdd);
    out.put_u32(len as u32);
}

/// A msgpack string, `fixstr` or `str 32`.
fn string(out: &mut BytesMut, text: &[u8]) {
    if text.len() < 32 {
        out.put_u8(0xa0 | text.len() as u8);
    } else {
        out.put_u8(0xdb);
        out.put_u32(text.len() as u32);
    }
    out.put_slice(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wide_integer_comes_back_as_an_integer() {
        let command = Command { request: Request::new(&["INCR", "k"]), kind: Kind::WideInteger(ReRead::String) };
        assert_eq!(command.restore(Bytes::from_static(b"$16\r\n9007199254740993\r\n")), ":9007199254740993\r\n");
        assert_eq!(command.restore(Bytes::from_static(b":5\r\n")), ":5\r\n");
        assert_eq!(command.restore(Bytes::from_static(b"-WRONGTYPE x\r\n")), "-WRONGTYPE x\r\n");
        let exact = Command { kind: Kind::Plain, ..command };
        assert_eq!(exact.restore(Bytes::from_static(b"$1\r\n5\r\n")), "$1\r\n5\r\n");
    }

    #[test]
    fn a_batch_is_packed_as_msgpack() {
        let participant = Participant::Shard { name: "a".into(), db: 0 };
        let command = Command { request: Request::new(&["GET", "k"]), kind: Kind::Plain };
        let batch = Batch { participant, keys: vec![], commands: vec![command] };
        assert_eq!(batch.pack().as_ref(), b"\xdd\0\0\0\x01\xdd\0\0\0\x03\xa1.\xa3GET\xa1k");
    }
}
