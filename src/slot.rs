//! Hash slots: how a key finds its slot, and a short tag that leads back to it.
//!
//! The slot of a key is `CRC16(hash tag) mod 16384` as in the Redis Cluster specification ("Key distribution model"); the CRC is
//! CRC-16/XMODEM. The tags are weft's own table: internal keys carry `{tag}` so that they live in the slot of the data they guard.

use std::fmt;
use std::sync::LazyLock;

/// How many slots a keyspace is divided into (Redis: `CLUSTER_SLOTS`).
pub const SLOT_COUNT: u16 = 16384;

/// A hash slot, always below [`SLOT_COUNT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u16);

impl Slot {
    /// The slot numbered zero.
    pub const FIRST: Self = Self(0);

    /// The slot that `key` belongs to, honouring a hash tag.
    pub fn of(key: &[u8]) -> Self {
        Self(CRC.checksum(hash_tag(key)) % SLOT_COUNT)
    }

    /// The slot numbered `index`, if there is one.
    pub const fn new(index: u16) -> Option<Self> {
        if index < SLOT_COUNT { Some(Self(index)) } else { None }
    }

    /// Every slot, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..SLOT_COUNT).map(Self)
    }

    /// The slot's number, for indexing a table of [`SLOT_COUNT`] entries.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// A short string without braces whose slot is this one; the same in every weft process of every version.
    pub fn tag(self) -> &'static str {
        &TAGS[self.index()]
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The part of `key` that is hashed: what stands between the first `{` and the next `}` if that is not empty, else the whole key.
pub fn hash_tag(key: &[u8]) -> &[u8] {
    let Some(open) = memchr::memchr(b'{', key) else { return key };
    let rest = &key[open + 1..];
    match memchr::memchr(b'}', rest) {
        Some(close) if close > 0 => &rest[..close],
        _ => key,
    }
}

const CRC: crc::Crc<u16, crc::Table<16>> = crc::Crc::<u16, crc::Table<16>>::new(&crc::CRC_16_XMODEM);

/// The first string of `ALPHABET`, shortest first, then in the alphabet's order, that falls into each slot. Changing the order
/// or the alphabet would move every internal key: it is part of the protocol between weft processes.
static TAGS: LazyLock<Vec<Box<str>>> = LazyLock::new(|| {
    const ALPHABET: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut tags: Vec<Option<Box<str>>> = vec![None; SLOT_COUNT as usize];
    let mut missing = tags.len();
    for number in 0_usize.. {
        if missing == 0 {
            break;
        }
        let mut text = String::new();
        let mut rest = number;
        loop {
            text.insert(0, ALPHABET[rest % ALPHABET.len()] as char);
            rest /= ALPHABET.len();
            if rest == 0 {
                break;
            }
            rest -= 1;
        }
        let entry = &mut tags[Slot::of(text.as_bytes()).index()];
        if entry.is_none() {
            *entry = Some(text.into_boxed_str());
            missing -= 1;
        }
    }
    tags.into_iter().flatten().collect()
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_cluster_specification() {
        assert_eq!(Slot::of(b"123456789").index(), 0x31c3);
        assert_eq!(Slot::of(b"foo").index(), 12182);
        assert_eq!(Slot::of(b"{foo}bar"), Slot::of(b"foo"));
        assert_eq!(Slot::of(b"foo{}{bar}").index(), Slot::of(b"foo{}{bar}").index());
    }

    #[test]
    fn an_empty_or_unclosed_tag_is_no_tag() {
        assert_eq!(hash_tag(b"foo{}{bar}"), b"foo{}{bar}");
        assert_eq!(hash_tag(b"foo{bar"), b"foo{bar");
        assert_eq!(hash_tag(b"foo{{bar}}zap"), b"{bar");
        assert_eq!(hash_tag(b"foo{bar}{zap}"), b"bar");
    }

    #[test]
    fn every_slot_has_a_tag_that_leads_back_to_it() {
        for slot in Slot::all() {
            assert_eq!(Slot::of(slot.tag().as_bytes()), slot);
            assert!(slot.tag().len() <= 4, "{} is long", slot.tag());
        }
        assert_eq!(Slot::of(b"0").tag(), "0");
    }
}
