//! What one participant has to do for a transaction: the commands, and the keys that they need.

use std::hash::{Hash, Hasher};

use bytes::{BufMut, Bytes, BytesMut};

use super::Participant;
use crate::resp::{FrameWriter, Proto, Request};

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
    /// Writes the letters of the modes of `keys`, as records and scripts hold them.
    pub(super) fn write_modes(keys: &[Self], out: &mut FrameWriter) {
        out.arg_of(keys.len(), |arg| keys.iter().for_each(|lock| arg.copy(&[lock.mode.letter()])));
    }

    /// The keys and the letters of a record, put together again.
    pub(super) fn zip(keys: Vec<Bytes>, modes: &[u8]) -> Option<Vec<Self>> {
        if keys.len() != modes.len() {
            return None;
        }
        keys.into_iter().zip(modes).map(|(key, letter)| Some(Self { key, mode: LockMode::from_letter(*letter)? })).collect()
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

impl Kind {
    /// The letter by which the scripts know it.
    pub(super) fn letter(self) -> &'static [u8] {
        match self {
            Self::Plain => b".",
            Self::WideInteger(ReRead::String) => b"s",
            Self::WideInteger(ReRead::HashField) => b"h",
            Self::Native => b"n",
        }
    }
}

impl Command {
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

    /// Writes the commands as prepare carries them and the record keeps them: msgpack, an array of arrays of kind and arguments.
    pub(super) fn write(&self, out: &mut FrameWriter) {
        out.arg_of(self.packed_len(), |arg| {
            array(arg, self.commands.len());
            for Command { request, kind } in &self.commands {
                array(arg, 1 + request.argc());
                string_head(arg, kind.letter().len());
                arg.copy(kind.letter());
                for index in 0..request.argc() {
                    string_head(arg, request.arg(index).len());
                    arg.share(request, index);
                }
            }
        });
    }

    fn packed_len(&self) -> usize {
        let string = |text: &[u8]| text.len() + if text.len() < STR_BYTES_MIN { 1 } else { 5 };
        let command = |Command { request, kind }: &Command| 5 + string(kind.letter()) + request.args_from(0).map(string).sum::<usize>();
        5 + self.commands.iter().map(command).sum::<usize>()
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
fn array(out: &mut FrameWriter, len: usize) {
    out.copy(&[0xdd]);
    out.copy(&(len as u32).to_be_bytes());
}

/// The head of a msgpack string, `fixstr` or `str 32`.
fn string_head(out: &mut FrameWriter, len: usize) {
    if len < STR_BYTES_MIN {
        out.copy(&[0xa0 | len as u8]);
    } else {
        out.copy(&[0xdb]);
        out.copy(&(len as u32).to_be_bytes());
    }
}

/// The shortest string that is no `fixstr`.
const STR_BYTES_MIN: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::Frame as _;

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
        let long = Command { request: Request::new(&["GET", &"k".repeat(32)]), kind: Kind::Native };
        let batch = Batch { participant, keys: vec![], commands: vec![command, long] };
        let mut out = FrameWriter::new(1, 0);
        batch.write(&mut out);
        let mut packed = b"\xdd\0\0\0\x02\xdd\0\0\0\x03\xa1.\xa3GET\xa1k\xdd\0\0\0\x03\xa1n\xa3GET\xdb\0\0\0\x20".to_vec();
        packed.extend([b'k'; 32]);
        assert_eq!(Request::new(&[packed]).bytes(), &out.finish().pieces().concat());
    }
}
