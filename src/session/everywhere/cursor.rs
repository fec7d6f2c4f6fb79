//! SCAN's cursor over several shards: one decimal number, as clients expect, with a shard and a position in it.
//!
//! The shard's number takes the low 14 bits, room for as many shards as there are slots, the server's own cursor the bits above. Servers
//! count in as many bits as their hash table has (and 14 more in a cluster, where each slot has one), so the 50 bits that are left
//! suffice for tables of 2^36 keys; a cursor that does not fit is refused instead of cut. 0 begins, and 0 ends.
//!
//! A cursor says nothing of the topology it was made under. The shards of a cluster are numbered by their slots, so a failover changes
//! nothing; when slots move during a scan, keys that move along may be missed, as with any client that scans a cluster.

use std::str;

/// Where a scan goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    /// The shard's number.
    pub(super) shard: usize,
    /// The server's own cursor.
    pub(super) position: u64,
}

impl Cursor {
    /// Reads what a client sent; `None` if it is no number.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let number: u64 = str::from_utf8(text).ok()?.parse().ok()?;
        Some(Self { shard: (number & SHARD_MASK) as usize, position: number >> SHARD_BITS })
    }

    /// Where to go on after a shard has answered `next`; the scan began with `shards` shards.
    pub(super) fn advance(self, next: u64, shards: usize) -> Self {
        match next {
            0 if self.shard + 1 >= shards => Self::default(),
            0 => Self { shard: self.shard + 1, position: 0 },
            position => Self { position, ..self },
        }
    }

    /// The number for the client; `None` if it does not fit.
    pub(super) fn number(self) -> Option<u64> {
        let fits = self.position <= u64::MAX >> SHARD_BITS && self.shard as u64 <= SHARD_MASK;
        fits.then_some(self.position << SHARD_BITS | self.shard as u64)
    }
}

const SHARD_BITS: u32 = 14;
const SHARD_MASK: u64 = (1 << SHARD_BITS) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn through(cursor: Cursor) -> Option<Cursor> {
        Cursor::parse(cursor.number()?.to_string().as_bytes())
    }

    #[test]
    fn a_cursor_survives_its_text_form_or_is_refused() {
        for shard in [0, 1, 2, 16383] {
            for position in [0, 1, 5, 1 << 20, (1 << 50) - 1] {
                let cursor = Cursor { shard, position };
                assert_eq!(through(cursor), Some(cursor));
            }
            assert_eq!(Cursor { shard, position: 1 << 50 }.number(), None);
        }
        assert_eq!(Cursor { shard: 16384, position: 0 }.number(), None);
    }

    #[test]
    fn a_scan_visits_every_shard_and_ends_with_zero() {
        let mut cursor = Cursor::default();
        let mut visited = Vec::new();
        loop {
            visited.push((cursor.shard, cursor.position));
            cursor = cursor.advance(if cursor.position == 0 { 7 } else { 0 }, 3);
            if cursor.number() == Some(0) {
                break;
            }
        }
        assert_eq!(visited, [(0, 0), (0, 7), (1, 0), (1, 7), (2, 0), (2, 7)]);
    }

    #[test]
    fn what_is_no_number_is_no_cursor() {
        for text in ["", "a", "-1", "1.5", "18446744073709551616"] {
            assert_eq!(Cursor::parse(text.as_bytes()), None, "{text}");
        }
    }
}
