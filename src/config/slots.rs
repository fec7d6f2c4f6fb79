//! Slot ranges as they are written, and whether they cover the keyspace exactly once.

use std::ops::RangeInclusive;

use crate::slot::SLOT_COUNT;

/// `5` or `0-5460`, within the keyspace and ascending.
pub(super) fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (first <= last && last < SLOT_COUNT).then_some(first..=last)
}

/// What keeps a set of ranges from covering the keyspace exactly once.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// The first slot that two ranges have, and the shard of the second.
    Twice(u16, usize),
    /// The first stretch that no range has.
    Missing(RangeInclusive<u16>),
}

/// Checks the ranges of all shards together.
pub(super) fn cover(shards: &[Vec<RangeInclusive<u16>>]) -> Result<(), Flaw> {
    let mut ranges: Vec<(u16, u16, usize)> =
        shards.iter().enumerate().flat_map(|(shard, ranges)| ranges.iter().map(move |r| (*r.start(), *r.end(), shard))).collect();
    ranges.sort_unstable();
    let mut next = 0;
    for (first, last, shard) in ranges {
        if first < next {
            return Err(Flaw::Twice(first, shard));
        }
        if first > next {
            return Err(Flaw::Missing(next..=first - 1));
        }
        next = last + 1;
    }
    if next < SLOT_COUNT { Err(Flaw::Missing(next..=SLOT_COUNT - 1)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_a_number_or_two() {
        assert_eq!(range("7"), Some(7..=7));
        assert_eq!(range("0-16383"), Some(0..=16383));
        for text in ["", "-", "5-", "-5", "6-5", "0-16384", "16384", "a-b", "1-2-3"] {
            assert_eq!(range(text), None, "{text:?}");
        }
    }

    #[test]
    fn every_slot_must_be_covered_exactly_once() {
        assert_eq!(cover(&[vec![0..=99, 200..=16383], vec![100..=199]]), Ok(()));
        assert_eq!(cover(&[vec![0..=99], vec![99..=16383]]), Err(Flaw::Twice(99, 1)));
        assert_eq!(cover(&[vec![0..=99], vec![110..=16383]]), Err(Flaw::Missing(100..=109)));
        assert_eq!(cover(&[vec![0..=99]]), Err(Flaw::Missing(100..=16383)));
        assert_eq!(cover(&[]), Err(Flaw::Missing(0..=16383)));
    }
}
