//! From a request to its row. Hot: runs once for every command; no allocation.
//!
//! Names are at most [`LONGEST`] bytes long, so that a name is three machine words, folded to lower case and compared as such. They
//! sit in an open hash table that is built at compile time; it is sparse enough that nearly every probe is the first.

use super::spec::CommandSpec;
use super::table::COMMANDS;
use crate::resp::Request;

/// Why a request has no row, as Redis tells it apart.
#[derive(Clone, Copy, Debug)]
pub enum LookupError {
    /// No command has this name.
    Unknown,
    /// The container has no such subcommand.
    UnknownSubcommand(&'static CommandSpec),
    /// The command exists, with another number of arguments.
    WrongArity(&'static CommandSpec),
}

/// The row of `request`, of the subcommand if it is one, with its number of arguments checked.
///
/// As in Redis, a container without a subcommand is a command of its own: most then fail the arity check.
pub fn lookup(request: &Request) -> Result<&'static CommandSpec, LookupError> {
    let mut spec = find(request.arg(0)).ok_or(LookupError::Unknown)?;
    if !spec.subcommands.is_empty() && request.argc() > 1 {
        spec = subcommand(spec, request.arg(1)).ok_or(LookupError::UnknownSubcommand(spec))?;
    }
    if spec.admits(request.argc()) { Ok(spec) } else { Err(LookupError::WrongArity(spec)) }
}

/// Every row, subcommands right after their containers.
pub fn all() -> impl Iterator<Item = &'static CommandSpec> {
    COMMANDS.iter().flat_map(|spec| std::iter::once(spec).chain(spec.subcommands))
}

/// The command called `name`, in any case.
#[inline]
fn find(name: &[u8]) -> Option<&'static CommandSpec> {
    let name = Name::new(name)?;
    let mut slot = name.slot();
    loop {
        let (candidate, row) = &INDEX[slot];
        if *candidate == name {
            return COMMANDS.get(*row as usize);
        }
        if *row == EMPTY {
            return None;
        }
        slot = (slot + 1) % SLOTS;
    }
}

fn subcommand(container: &'static CommandSpec, name: &[u8]) -> Option<&'static CommandSpec> {
    let prefix = container.name.len() + 1;
    container.subcommands.iter().find(|spec| spec.name.as_bytes()[prefix..].eq_ignore_ascii_case(name))
}

/// A command's name in lower case as three words. Together with the length they are the name: shorter names read some bytes twice
/// instead of copying them into a padded buffer, which would cost several times the rest of the lookup.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Name {
    words: [u64; 3],
    len: usize,
}

impl Name {
    const NONE: Self = Self { words: [0; 3], len: 0 };

    #[inline]
    const fn new(name: &[u8]) -> Option<Self> {
        let len = name.len();
        let words = match len {
            1..=3 => [name[0] as u64 | (name[len / 2] as u64) << 8 | (name[len - 1] as u64) << 16, 0, 0],
            4..=7 => match (name.first_chunk(), name.last_chunk()) {
                (Some(first), Some(last)) => [u32::from_le_bytes(*first) as u64 | (u32::from_le_bytes(*last) as u64) << 32, 0, 0],
                _ => return None,
            },
            8..=LONGEST => match (name.first_chunk(), name.split_at(len / 2 - 4).1.first_chunk(), name.last_chunk()) {
                (Some(first), Some(middle), Some(last)) => {
                    [u64::from_le_bytes(*first), u64::from_le_bytes(*middle), u64::from_le_bytes(*last)]
                }
                _ => return None,
            },
            _ => return None,
        };
        Some(Self { words: [lower(words[0]), lower(words[1]), lower(words[2])], len })
    }

    #[inline]
    const fn slot(&self) -> usize {
        let folded = self.words[0] ^ self.words[1].rotate_left(23) ^ self.words[2].rotate_left(41) ^ self.len as u64;
        (folded.wrapping_mul(MULTIPLIER) >> (u64::BITS - SLOTS.trailing_zeros())) as usize
    }
}

/// ASCII letters in lower case, all eight bytes at once: a byte's top bit is set where it is at least `A`, and cleared again where it is
/// beyond `Z`; moved to the place of 0x20 it turns an upper case letter into a lower case one.
#[inline]
const fn lower(word: u64) -> u64 {
    const fn all(byte: u8) -> u64 {
        u64::from_le_bytes([byte; 8])
    }
    let low = word & all(0x7f);
    let upper = (low + all(0x80 - b'A')) & !(low + all(0x7f - b'Z')) & !word & all(0x80);
    word | upper >> 2
}

/// The longest name there is room for, three words; a longer one in the table does not compile.
const LONGEST: usize = 24;
/// A power of two, several times the number of commands.
const SLOTS: usize = 1024;
/// 2^64 divided by the golden ratio (Knuth's multiplicative hashing).
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
const EMPTY: u16 = u16::MAX;

static INDEX: [(Name, u16); SLOTS] = build();

const fn build() -> [(Name, u16); SLOTS] {
    let mut index = [(Name::NONE, EMPTY); SLOTS];
    let mut row = 0;
    while row < COMMANDS.len() {
        #[expect(clippy::panic, reason = "runs at compile time")]
        let Some(name) = Name::new(COMMANDS[row].name.as_bytes()) else { panic!("LONGEST is too short") };
        let mut slot = name.slot();
        while index[slot].1 != EMPTY {
            slot = (slot + 1) % SLOTS;
        }
        index[slot] = (name, row as u16);
        row += 1;
    }
    index
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use super::*;

    fn name_of(args: &[&str]) -> Result<&'static str, &'static str> {
        lookup(&Request::new(args)).map(|spec| spec.name).map_err(|error| match error {
            LookupError::Unknown => "unknown",
            LookupError::UnknownSubcommand(_) => "unknown subcommand",
            LookupError::WrongArity(_) => "wrong arity",
        })
    }

    #[test]
    fn every_row_is_found_under_its_name_in_any_case() {
        for spec in all() {
            let upper = spec.name.to_ascii_uppercase();
            let mut args: Vec<&str> = upper.split('|').collect();
            args.resize(args.len().max(spec.arity.unsigned_abs() as usize), "x");
            if !spec.subcommands.is_empty() {
                args.truncate(1);
            }
            let found = match lookup(&Request::new(&args)) {
                Ok(found) | Err(LookupError::WrongArity(found)) => found,
                Err(error) => panic!("{args:?}: {error:?}"),
            };
            assert_eq!(found.name, spec.name);
        }
    }

    #[test]
    fn rows_are_sorted_and_unique() {
        assert!(COMMANDS.is_sorted_by(|one, other| one.name < other.name));
        for container in COMMANDS {
            assert!(container.subcommands.is_sorted_by(|one, other| one.name < other.name));
            assert!(container.subcommands.iter().all(|spec| spec.name.split_once('|').unwrap().0 == container.name));
        }
    }

    #[test]
    fn only_ascii_letters_are_folded() {
        assert_eq!(name_of(&["gEt", "k"]), Ok("get"));
        assert_eq!(name_of(&["bitfield_ro", "k"]), Ok("bitfield_ro"));
        assert_eq!(name_of(&["bitfield\x7fro", "k"]), Err("unknown"));
        assert_eq!(name_of(&["restore\rasking", "k", "0", "v"]), Err("unknown"));
        assert_eq!(name_of(&["get\0", "k"]), Err("unknown"));
        assert_eq!(name_of(&["", "k"]), Err("unknown"));
        assert_eq!(name_of(&["get get get get get get get", "k"]), Err("unknown"));
        assert_eq!(name_of(&["xxxxxxxxxxxxxxxxxxxxxxxx", "k"]), Err("unknown"));
    }

    #[test]
    fn every_byte_folds_as_in_ascii() {
        for byte in 0..=u8::MAX {
            let folded = byte.to_ascii_lowercase();
            assert_eq!(lower(u64::from_le_bytes([byte; 8])), u64::from_le_bytes([folded; 8]), "{byte}");
        }
    }

    #[test]
    fn a_name_with_any_byte_changed_is_another() {
        for spec in COMMANDS {
            let name = spec.name.as_bytes();
            for at in 0..name.len() {
                let mut changed = name.to_vec();
                changed[at] = b'#';
                assert!(find(&changed).is_none(), "{}", changed.escape_ascii());
            }
        }
    }

    #[test]
    fn subcommands_are_commands() {
        assert_eq!(name_of(&["CLIENT", "SETNAME", "me"]), Ok("client|setname"));
        assert_eq!(name_of(&["client", "setname"]), Err("wrong arity"));
        assert_eq!(name_of(&["client", "nonsense", "me"]), Err("unknown subcommand"));
        assert_eq!(name_of(&["client", ""]), Err("unknown subcommand"));
        assert_eq!(name_of(&["client"]), Err("wrong arity"));
        assert_eq!(name_of(&["command"]), Ok("command"));
        assert_eq!(name_of(&["client|id"]), Err("unknown"));
    }

    #[test]
    fn arity_is_exact_or_a_minimum() {
        assert_eq!(name_of(&["get"]), Err("wrong arity"));
        assert_eq!(name_of(&["get", "k", "more"]), Err("wrong arity"));
        assert_eq!(name_of(&["set", "k"]), Err("wrong arity"));
        assert_eq!(name_of(&["set", "k", "v", "px", "1"]), Ok("set"));
        assert_eq!(name_of(&["ping"]), Ok("ping"));
    }
}
