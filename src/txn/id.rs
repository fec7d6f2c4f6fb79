//! The name of one attempt at a transaction.
//!
//! A retry after an abort is a new attempt with a new name, so whatever is done under a name is done once. The name carries
//! its start, because evidence has an age: records and tombstones are deleted some day, and what depends on them must end before.

use std::fmt;
use std::str::FromStr;

use super::Malformed;

/// Which attempt of which proxy. Its text form is four lower-case hexadecimal numbers: `proxy-incarnation-sequence-start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TxnId {
    /// A random number that belongs to one proxy.
    pub proxy: u64,
    /// Which run of the proxy, or which of its workers.
    pub incarnation: u32,
    /// Which attempt of that run.
    pub sequence: u64,
    /// When it started, in milliseconds since 1970 by the proxy's clock.
    pub start_ms: u64,
}

/// Three numbers of sixteen digits, one of eight, and what stands behind each.
const TEXT_BYTES_MAX: usize = 3 * 16 + 8 + 4;

/// The text form of a [`TxnId`].
#[derive(Clone, Copy, Debug)]
pub struct TxnName {
    text: [u8; TEXT_BYTES_MAX],
    start: usize,
}

impl TxnName {
    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text[self.start..TEXT_BYTES_MAX - 1]
    }
}

impl TxnId {
    /// Its text form, without an allocation: it is part of every step's keys and arguments.
    pub fn name(&self) -> TxnName {
        // By hand, from its end: the formatting machinery takes ten times as long.
        let mut text = [b'-'; TEXT_BYTES_MAX];
        let mut start = text.len();
        for mut number in [self.start_ms, self.sequence, self.incarnation.into(), self.proxy] {
            // The place of a hyphen, behind the first number that of nothing.
            start -= 1;
            loop {
                start -= 1;
                text[start] = b"0123456789abcdef"[(number & 15) as usize];
                number >>= 4;
                if number == 0 {
                    break;
                }
            }
        }
        TxnName { text, start }
    }
}

impl fmt::Display for TxnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(self.name().as_bytes()).unwrap_or_default())
    }
}

impl FromStr for TxnId {
    type Err = Malformed;

    /// Reads the text form; only what [`Display`](fmt::Display) writes is accepted, so that equal names are equal texts.
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let mut fields = text.split('-').map(|field| u64::from_str_radix(field, 16).map_err(|_| Malformed));
        let mut next = || fields.next().unwrap_or(Err(Malformed));
        let (proxy, incarnation, sequence, start_ms) = (next()?, next()?, next()?, next()?);
        let id = Self { proxy, incarnation: incarnation.try_into().map_err(|_| Malformed)?, sequence, start_ms };
        if id.to_string() == text { Ok(id) } else { Err(Malformed) }
    }
}

/// Gives out names. Each worker of a proxy has its own, with an incarnation of its own.
#[derive(Debug)]
pub struct TxnIds {
    proxy: u64,
    incarnation: u32,
    sequence: u64,
}

impl TxnIds {
    /// Names of the proxy `proxy` in its run `incarnation`.
    pub fn new(proxy: u64, incarnation: u32) -> Self {
        Self { proxy, incarnation, sequence: 0 }
    }

    /// The name of an attempt that starts now.
    pub fn next(&mut self, now_ms: u64) -> TxnId {
        self.sequence += 1;
        TxnId { proxy: self.proxy, incarnation: self.incarnation, sequence: self.sequence, start_ms: now_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_survives_its_text_form() {
        let mut ids = TxnIds::new(u64::MAX, 3);
        let (first, second) = (ids.next(1_700_000_000_000), ids.next(1_700_000_000_000));
        assert_ne!(first, second);
        assert_eq!(first.to_string().parse(), Ok(first));
        assert_eq!(first.to_string(), "ffffffffffffffff-3-1-18bcfe56800");
        let longest = TxnId { proxy: u64::MAX, incarnation: u32::MAX, sequence: u64::MAX, start_ms: u64::MAX };
        assert_eq!(longest.to_string(), "ffffffffffffffff-ffffffff-ffffffffffffffff-ffffffffffffffff");
        assert_eq!(TxnId { proxy: 0, incarnation: 0, sequence: 0, start_ms: 0 }.to_string(), "0-0-0-0");
    }

    #[test]
    fn any_other_text_is_no_name() {
        for text in ["", "1-2-3", "1-2-3-4-5", "1-2-3-", "01-2-3-4", "+1-2-3-4", "A-2-3-4", "1-100000000-3-4", " 1-2-3-4"] {
            assert_eq!(text.parse::<TxnId>(), Err(Malformed), "{text:?}");
        }
    }
}
