//! An operation as bytes: every request is formatted once; an operation only overwrites the keys' digits in it.

use crate::keyspace::{self, KEY_BYTES};
use crate::load::scan::Kind;
use crate::operation::{A, B, Operation, Step};

/// What a connection sends over and over.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) hops: Vec<Hop>,
    key_count: usize,
}

/// Requests that leave together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hop {
    pub(crate) bytes: Vec<u8>,
    /// What each reply must be.
    pub(crate) expected: Vec<Expected>,
    /// Where keys stand in `bytes`, and which of the keys drawn; operations of a pipeline count on (0 and 1, 2 and 3, …).
    keys: Vec<(usize, usize)>,
}

/// The reply to a request that did what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// `OK` or `QUEUED`.
    Status,
    /// A value: every key exists.
    Value,
    /// The array of EXEC, without an error in it.
    Executed,
}

impl Script {
    /// The requests of `operation`, writing values of `value_bytes` times the byte `fill`.
    pub(crate) fn new(operation: &Operation, value_bytes: usize, fill: u8) -> Self {
        let (value, keys) = (vec![fill; value_bytes], operation.key_count());
        let hops = operation.hops.iter().map(|steps| {
            let mut hop = Hop::default();
            for index in 0..operation.pipeline {
                steps.iter().for_each(|&step| hop.push(step, index * keys, &value));
            }
            hop
        });
        Self { hops: hops.collect(), key_count: operation.pipeline * keys }
    }

    /// How many keys [`Script::aim`] wants.
    pub(crate) fn key_count(&self) -> usize {
        self.key_count
    }

    /// Writes the keys of the next operations into the requests.
    pub(crate) fn aim(&mut self, ids: &[u32]) {
        for hop in &mut self.hops {
            for &(offset, index) in &hop.keys {
                hop.bytes[offset..offset + KEY_BYTES].copy_from_slice(&keyspace::key(ids[index]));
            }
        }
    }
}

impl Hop {
    fn push(&mut self, step: Step, first_key: usize, value: &[u8]) {
        let key = |index| Argument::Key(first_key + index);
        let (arguments, expected): (&[Argument<'_>], _) = match step {
            Step::Get(index) => (&[Argument::Bytes(b"GET"), key(index)], Expected::Value),
            Step::Set(index) => (&[Argument::Bytes(b"SET"), key(index), Argument::Bytes(value)], Expected::Status),
            Step::WatchBoth => (&[Argument::Bytes(b"WATCH"), key(A), key(B)], Expected::Status),
            Step::Multi => (&[Argument::Bytes(b"MULTI")], Expected::Status),
            Step::Exec => (&[Argument::Bytes(b"EXEC")], Expected::Executed),
        };
        self.bytes.extend_from_slice(format!("*{}\r\n", arguments.len()).as_bytes());
        for argument in arguments {
            self.push_argument(argument);
        }
        self.expected.push(expected);
    }

    fn push_argument(&mut self, argument: &Argument<'_>) {
        let blank = keyspace::key(0);
        let bytes = match argument {
            Argument::Bytes(bytes) => bytes,
            Argument::Key(_) => &blank[..],
        };
        self.bytes.extend_from_slice(format!("${}\r\n", bytes.len()).as_bytes());
        if let Argument::Key(index) = argument {
            self.keys.push((self.bytes.len(), *index));
        }
        self.bytes.extend_from_slice(bytes);
        self.bytes.extend_from_slice(b"\r\n");
    }
}

enum Argument<'a> {
    Bytes(&'a [u8]),
    Key(usize),
}

impl Expected {
    /// Whether a reply of this kind is a success.
    pub(crate) fn is_met_by(self, kind: Kind) -> bool {
        matches!((self, kind), (Self::Status, Kind::Simple) | (Self::Value, Kind::Bulk) | (Self::Executed, Kind::Array))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::workload::Workload;

    fn script(name: &str) -> Script {
        Script::new(&Workload::named(name).unwrap().operation(), 3, b'v')
    }

    #[test]
    fn a_get_is_one_canonical_request() {
        assert_eq!(script("get-p1").hops[0].bytes, b"*2\r\n$3\r\nGET\r\n$16\r\nkey:000000000000\r\n");
    }

    #[test]
    fn aiming_changes_the_keys_of_every_hop_and_nothing_else() {
        let mut script = script("watch-2");
        let before: Vec<usize> = script.hops.iter().map(|hop| hop.bytes.len()).collect();
        assert_eq!(script.key_count(), 2);
        script.aim(&[5, 99_999]);
        assert_eq!(script.hops.iter().map(|hop| hop.bytes.len()).collect::<Vec<_>>(), before);
        let texts: Vec<_> = script.hops.iter().map(|hop| String::from_utf8_lossy(&hop.bytes)).collect();
        assert_eq!(texts[0], "*3\r\n$5\r\nWATCH\r\n$16\r\nkey:000000000005\r\n$16\r\nkey:000000099999\r\n");
        assert!(texts[1].contains("000000000005") && texts[2].contains("000000099999"));
        assert!(texts[3].ends_with("$3\r\nvvv\r\n*1\r\n$4\r\nEXEC\r\n"));
    }

    #[test]
    fn operations_of_a_pipeline_have_keys_of_their_own() {
        let mut script = script("set-p16");
        let ids: Vec<u32> = (100..100 + script.key_count() as u32).collect();
        script.aim(&ids);
        let text = String::from_utf8_lossy(&script.hops[0].bytes).into_owned();
        assert!((0..16).all(|operation| text.contains(&format!("key:000000000{}", 100 + 2 * operation))), "{text}");
    }

    #[test]
    fn an_error_never_meets_an_expectation() {
        for expected in [Expected::Status, Expected::Value, Expected::Executed] {
            assert!(!expected.is_met_by(Kind::Error) && !expected.is_met_by(Kind::ArrayWithError) && !expected.is_met_by(Kind::Nil));
        }
    }
}
