//! Hot path: the numbers in frame heads, read in a single pass.
//!
//! Heads are a few bytes long, so a plain loop over the digits beats both a search for the CR followed by a conversion
//! and any conversion by way of `str`. Only the one canonical form is accepted (no sign, no leading zero), which
//! is also what Redis's `string2ll` accepts.

/// Reads `digits CRLF` at the start of `bytes`: the number, and how many bytes it took with its CRLF.
///
/// `None` when it is anything else: incomplete, negative, malformed or above ten digits.
#[inline]
pub(super) fn length(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0u64;
    for (at, &byte) in bytes.iter().take(DIGITS_MAX + 1).enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit < 10 {
            value = value * 10 + u64::from(digit);
            continue;
        }
        let canonical = byte == b'\r' && bytes.get(at + 1) == Some(&b'\n') && (at == 1 || (at > 1 && bytes[0] != b'0'));
        return canonical.then_some((value, at + 2));
    }
    None
}

/// A whole text as an integer, by the rules of `string2ll`: no `+`, no leading zero, no `-0`, no space.
pub(super) fn integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical = match digits {
        [b'0'] => digits.len() == text.len(),
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if canonical { std::str::from_utf8(text).ok()?.parse().ok() } else { None }
}

/// No count and no length has more digits: all are below 2^32.
pub(super) const DIGITS_MAX: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_canonical_or_refused() {
        assert_eq!(length(b"0\r\n"), Some((0, 3)));
        assert_eq!(length(b"12\r\nrest"), Some((12, 4)));
        assert_eq!(length(b"9999999999\r\n"), Some((9_999_999_999, 12)));
        for bad in ["", "1", "1\r", "\r\n", "01\r\n", "00\r\n", "+1\r\n", "-1\r\n", " 1\r\n", "1 \r\n", "1\n", "1\rx", "12345678901\r\n"] {
            assert_eq!(length(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn integers_follow_string2ll() {
        assert_eq!(integer(b"0"), Some(0));
        assert_eq!(integer(b"-1"), Some(-1));
        assert_eq!(integer(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(integer(b"9223372036854775807"), Some(i64::MAX));
        for bad in ["", "-", "-0", "+1", "01", "-01", " 1", "1 ", "1a", "9223372036854775808", "\u{661}"] {
            assert_eq!(integer(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
