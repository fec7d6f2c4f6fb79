//! Which arguments of a request are keys, and whether they are read or written.
//!
//! Finds what `COMMAND GETKEYS` finds. Where a request names its keys in a way that its command must refuse, the keys that could be
//! found are enough: the shard gives the exact error, and nothing runs. Hot: one key at argument 1 is the first branch.

use smallvec::SmallVec;

use super::spec::{BeginSearch, CommandSpec, FindKeys, Flags, KeyFlags, KeySpec};
use super::special;
use crate::resp::Request;

/// The keys of a request, in the order of its key specs.
pub type Keys = SmallVec<[KeyRef; 4]>;

/// One key of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRef {
    /// Which argument it is.
    pub index: u32,
    /// What the command does with it.
    pub access: Access,
}

/// Whether a key must be locked against writers only, or against everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It is read.
    Read,
    /// It may be written.
    Write,
}

/// Why the keys of a request cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// The number of keys is not an integer.
    NotAnInteger,
    /// The number of keys is negative, zero where there must be one, or larger than the number of arguments.
    OutOfRange,
    /// A word without which there are no keys is missing.
    Syntax,
    /// The command reads keys that arise from data by a pattern (SORT BY, SORT GET); the other keys were found.
    Pattern,
    /// The command is a SORT with GET, although no pattern of it makes up a key; servers of a cluster refuse that. All keys were found.
    Get,
    /// The command writes to another database than the session's (COPY .. DB, MOVE); the keys were found.
    OtherDatabase,
}

/// How the keys of a command are found. A column of the table: derived from the key specs, but for the commands whose specs do not say
/// it all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyRule {
    /// One key, at argument 1.
    First(Access),
    /// As the key specs say.
    Specs,
    /// BITFIELD only reads when every operation is a GET.
    Bitfield,
    /// COPY may name another database.
    Copy,
    /// MOVE names another database.
    Move,
    /// GEORADIUS may STORE, under a key that an earlier argument looks like.
    GeoRadius,
    /// SORT may STORE, the last one counting, and reads by patterns.
    Sort,
    /// XREAD and XREADGROUP name their keys after options whose values may look like STREAMS. XREADGROUP changes the group.
    Streams,
}

/// Replaces the content of `keys` by the keys of `request`, whose row is `spec`.
#[inline]
pub fn keys(spec: &CommandSpec, request: &Request, keys: &mut Keys) -> Result<(), KeyError> {
    keys.clear();
    match spec.key_rule {
        KeyRule::First(access) => {
            keys.push(KeyRef { index: 1, access });
            Ok(())
        }
        KeyRule::Specs => by_specs(spec, request, keys),
        KeyRule::Bitfield => special::bitfield(request, keys),
        KeyRule::Move => special::moved(keys),
        KeyRule::Copy => special::copy(request, keys),
        KeyRule::GeoRadius => special::georadius(spec, request, keys),
        KeyRule::Sort => special::sort(spec, request, keys),
        KeyRule::Streams => special::streams(spec, request, keys),
    }
}

impl KeySpec {
    /// What the spec's keys are locked for.
    pub const fn access(&self) -> Access {
        if self.flags.intersects(KeyFlags::RW.union(KeyFlags::OW).union(KeyFlags::RM)) { Access::Write } else { Access::Read }
    }

    const fn is_key(&self) -> bool {
        !self.flags.contains(KeyFlags::NOT_KEY)
    }
}

/// The rule that follows from key specs alone.
pub(super) const fn rule(specs: &[KeySpec]) -> KeyRule {
    match specs {
        [only @ KeySpec { begin: BeginSearch::Index(1), find: FindKeys::Range { last_key: 0, .. }, .. }] if only.is_key() => {
            KeyRule::First(only.access())
        }
        _ => KeyRule::Specs,
    }
}

fn by_specs(spec: &CommandSpec, request: &Request, keys: &mut Keys) -> Result<(), KeyError> {
    for key_spec in spec.keys.iter().filter(|key_spec| key_spec.is_key()) {
        let Some(begin) = begin(key_spec.begin, request) else { continue };
        let (first, last, step) = match key_spec.find {
            FindKeys::Range { last_key, step, limit } => (begin, last(begin, last_key, limit, request.argc()), step),
            FindKeys::KeyNum { index, first, step } => {
                let count = number_of_keys(request, begin + usize::from(index))?;
                if count == 0 && spec.flags.contains(Flags::NO_MANDATORY_KEYS) {
                    continue;
                }
                let first = begin + usize::from(first);
                (first, (first + count * usize::from(step)).checked_sub(usize::from(step)), step)
            }
            FindKeys::Unknown => continue,
        };
        let last = last.filter(|&last| first <= last && last < request.argc()).ok_or(KeyError::OutOfRange)?;
        let access = key_spec.access();
        keys.extend((first..=last).step_by(usize::from(step)).map(|index| KeyRef { index: index as u32, access }));
    }
    Ok(())
}

/// The argument where the search begins, if the request has what it begins with.
fn begin(begin: BeginSearch, request: &Request) -> Option<usize> {
    match begin {
        BeginSearch::Index(index) => Some(usize::from(index)),
        BeginSearch::Keyword { word, start_from } => {
            let is_word = |index: &usize| request.arg(*index).eq_ignore_ascii_case(word.as_bytes());
            let start = usize::from(start_from.unsigned_abs());
            let word = match start_from {
                0.. => (start..request.argc() - 1).find(is_word),
                _ => (1..=request.argc().saturating_sub(start)).rev().find(is_word),
            };
            word.map(|index| index + 1)
        }
        BeginSearch::Unknown => None,
    }
}

/// The last key of a range that begins at `first`.
fn last(first: usize, last_key: i8, limit: u8, argc: usize) -> Option<usize> {
    let (end, distance) = (argc, usize::from(last_key.unsigned_abs()));
    match (last_key, limit) {
        (0.., _) => Some(first + distance),
        (_, 0 | 1) => end.checked_sub(distance),
        (_, limit) => (first + end.checked_sub(first)? / usize::from(limit)).checked_sub(distance),
    }
}

/// The number of keys that the argument at `index` tells; it is below the number of arguments.
fn number_of_keys(request: &Request, index: usize) -> Result<usize, KeyError> {
    if index >= request.argc() {
        return Err(KeyError::OutOfRange);
    }
    let count = integer(request.arg(index)).ok_or(KeyError::NotAnInteger)?;
    usize::try_from(count).ok().filter(|&count| count < request.argc()).ok_or(KeyError::OutOfRange)
}

/// A decimal number written as Redis writes it (`string2ll`): no plus sign, no spaces, no leading zeros.
pub(super) fn integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    match digits {
        [b'0'] => (text.len() == 1).then_some(0),
        [b'1'..=b'9', ..] => std::str::from_utf8(text).ok()?.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::command::{lookup, may_wait};

    /// The keys of a request written in one line, those that are written marked with a `!`.
    fn keys_of(line: &str) -> Result<String, KeyError> {
        let request = Request::new(&line.split(' ').collect::<Vec<_>>());
        let mut found = Keys::new();
        keys(lookup(&request).unwrap(), &request, &mut found)?;
        let word = |key: &KeyRef| {
            let mark = if key.access == Access::Write { "!" } else { "" };
            format!("{}{mark}", std::str::from_utf8(request.arg(key.index as usize)).unwrap())
        };
        Ok(found.iter().map(word).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn specs_by_index() {
        assert_eq!(keys_of("get k").unwrap(), "k");
        assert_eq!(keys_of("set k v get").unwrap(), "k!");
        assert_eq!(keys_of("mset a 1 b 2").unwrap(), "a! b!");
        assert_eq!(keys_of("del a b").unwrap(), "a! b!");
        assert_eq!(keys_of("blpop a b 0").unwrap(), "a! b!");
        assert_eq!(keys_of("bitop and d a b").unwrap(), "d! a b");
        assert_eq!(keys_of("object encoding k").unwrap(), "k");
        assert_eq!(keys_of("rename a b").unwrap(), "a! b!");
        assert_eq!(keys_of("ping").unwrap(), "");
    }

    #[test]
    fn a_channel_is_not_a_key() {
        assert_eq!(keys_of("spublish c m").unwrap(), "");
        assert_eq!(keys_of("ssubscribe a b").unwrap(), "");
    }

    #[test]
    fn counted_keys() {
        assert_eq!(keys_of("eval s 2 a b c").unwrap(), "a! b!");
        assert_eq!(keys_of("eval_ro s 1 a b c").unwrap(), "a");
        assert_eq!(keys_of("eval s 0 a").unwrap(), "");
        assert_eq!(keys_of("zunionstore d 2 a b weights 1 2").unwrap(), "d! a b");
        assert_eq!(keys_of("msetex 2 a 1 b 2 nx").unwrap(), "a! b!");
        assert_eq!(keys_of("zunion 0 a"), Err(KeyError::OutOfRange));
        assert_eq!(keys_of("zunion 2 a"), Err(KeyError::OutOfRange));
        assert_eq!(keys_of("eval s -1 a"), Err(KeyError::OutOfRange));
        assert_eq!(keys_of("eval s 9223372036854775807 a"), Err(KeyError::OutOfRange));
        for not_a_number in ["+1", "01", "x", "1x", "-0", "-"] {
            assert_eq!(keys_of(&format!("eval s {not_a_number} a")), Err(KeyError::NotAnInteger), "{not_a_number}");
        }
    }

    #[test]
    fn values_that_look_like_keywords_do_not_hide_keys() {
        assert_eq!(keys_of("xread count 2 streams a b 0 0").unwrap(), "a b");
        assert_eq!(keys_of("xreadgroup count 1 group streams c streams k >").unwrap(), "k!");
        assert_eq!(keys_of("xread count 2 foo bar"), Err(KeyError::Syntax));
        assert_eq!(keys_of("georadius k 0 0 1 m count 3 store d").unwrap(), "k d!");
        assert_eq!(keys_of("georadius k 0 0 1 m storedist store store d").unwrap(), "k store! d!");
        assert_eq!(keys_of("georadiusbymember k store 1 m store d").unwrap(), "k d!");
        assert_eq!(keys_of("sort k store a store b").unwrap(), "k b!");
        assert_eq!(keys_of("sort k limit store 1 store b").unwrap(), "k b!");
        assert_eq!(keys_of("sort_ro k by nosort").unwrap(), "k");
    }

    #[test]
    fn what_cannot_be_routed_is_an_error_with_the_keys_found() {
        assert_eq!(keys_of("sort k by w_*"), Err(KeyError::Pattern));
        assert_eq!(keys_of("sort k get # get d_*->f"), Err(KeyError::Pattern));
        assert_eq!(keys_of("sort_ro k by nosort get #"), Err(KeyError::Get));
        assert_eq!(keys_of("copy a b db 1"), Err(KeyError::OtherDatabase));
        assert_eq!(keys_of("copy a b replace").unwrap(), "a b!");
    }

    #[test]
    fn bitfield_reads_when_all_its_operations_do() {
        assert_eq!(keys_of("bitfield k get u8 0 overflow sat get u8 8").unwrap(), "k");
        assert_eq!(keys_of("bitfield k get u8 0 incrby u8 0 1").unwrap(), "k!");
        assert_eq!(keys_of("bitfield k get set").unwrap(), "k");
    }

    #[test]
    fn only_block_makes_a_stream_reader_wait() {
        let waits = |line: &str| {
            let request = Request::new(&line.split(' ').collect::<Vec<_>>());
            may_wait(lookup(&request).unwrap(), &request)
        };
        assert!(waits("blpop k 0"));
        assert!(waits("xread block 0 streams k $"));
        assert!(!waits("xread count 1 streams block $"));
        assert!(waits("xreadgroup group block c block 1 streams k >"));
        assert!(!waits("xreadgroup group block c streams k >"));
        assert!(!waits("lpop k"));
    }
}
