//! Where a RESP2 reply ends and what kind it is: all that the generator needs to know about it. Hot: no allocation, no copy.

use memchr::memchr;

/// How deep arrays may nest; the workloads' replies nest once.
const DEPTH_MAX: usize = 8;

/// A complete reply at the head of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) kind: Kind,
    /// Its length on the wire.
    pub(crate) len: usize,
}

/// As much as checking a reply takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Simple,
    Error,
    Integer,
    Bulk,
    Nil,
    Array,
    /// An array with an error somewhere in it.
    ArrayWithError,
}

/// These bytes are no RESP2 reply.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// The reply at the head of `bytes`, or `None` if it is not complete yet.
pub(crate) fn scan(bytes: &[u8]) -> Result<Option<Reply>, Malformed> {
    scan_nested(bytes, DEPTH_MAX)
}

fn scan_nested(bytes: &[u8], depth: usize) -> Result<Option<Reply>, Malformed> {
    let Some(end) = memchr(b'\n', bytes) else { return Ok(None) };
    let line = bytes[..end].strip_suffix(b"\r").ok_or(Malformed)?;
    let (marker, rest) = line.split_first().ok_or(Malformed)?;
    let len = end + 1;
    match marker {
        b'+' => Ok(Some(Reply { kind: Kind::Simple, len })),
        b'-' => Ok(Some(Reply { kind: Kind::Error, len })),
        b':' => Ok(Some(Reply { kind: Kind::Integer, len })),
        b'$' => Ok(match length(rest)? {
            None => Some(Reply { kind: Kind::Nil, len }),
            Some(payload) => Some(Reply { kind: Kind::Bulk, len: len + payload + 2 }).filter(|reply| reply.len <= bytes.len()),
        }),
        b'*' => match length(rest)? {
            None => Ok(Some(Reply { kind: Kind::Nil, len })),
            Some(elements) => scan_elements(bytes, len, elements, depth.checked_sub(1).ok_or(Malformed)?),
        },
        _ => Err(Malformed),
    }
}

fn scan_elements(bytes: &[u8], header: usize, elements: usize, depth: usize) -> Result<Option<Reply>, Malformed> {
    let mut whole = Reply { kind: Kind::Array, len: header };
    for _ in 0..elements {
        let Some(element) = scan_nested(&bytes[whole.len..], depth)? else { return Ok(None) };
        whole.len += element.len;
        if matches!(element.kind, Kind::Error | Kind::ArrayWithError) {
            whole.kind = Kind::ArrayWithError;
        }
    }
    Ok(Some(whole))
}

/// A length, `None` for the -1 of nil. Nine digits are more than any reply here.
fn length(digits: &[u8]) -> Result<Option<usize>, Malformed> {
    if digits == b"-1" {
        return Ok(None);
    }
    if digits.is_empty() || digits.len() > 9 {
        return Err(Malformed);
    }
    let value = digits.iter().try_fold(0_usize, |value, digit| digit.is_ascii_digit().then(|| value * 10 + usize::from(digit - b'0')));
    value.map(Some).ok_or(Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLIES: [(&[u8], Kind); 9] = [
        (b"+OK\r\n", Kind::Simple),
        (b"-ERR no\r\n", Kind::Error),
        (b":42\r\n", Kind::Integer),
        (b"$5\r\nhe\r\no\r\n", Kind::Bulk),
        (b"$0\r\n\r\n", Kind::Bulk),
        (b"$-1\r\n", Kind::Nil),
        (b"*-1\r\n", Kind::Nil),
        (b"*2\r\n+OK\r\n*1\r\n$1\r\na\r\n", Kind::Array),
        (b"*2\r\n+OK\r\n*1\r\n-WRONGTYPE\r\n", Kind::ArrayWithError),
    ];

    #[test]
    fn a_reply_ends_where_it_ends_whatever_follows() {
        for (bytes, kind) in REPLIES {
            assert_eq!(scan(&[bytes, b"+next\r\n"].concat()), Ok(Some(Reply { kind, len: bytes.len() })));
        }
    }

    #[test]
    fn a_reply_cut_anywhere_is_incomplete() {
        for (bytes, _) in REPLIES {
            for cut in 0..bytes.len() {
                assert_eq!(scan(&bytes[..cut]), Ok(None), "{:?} cut at {cut}", String::from_utf8_lossy(bytes));
            }
        }
    }

    #[test]
    fn what_is_not_resp_is_malformed() {
        for bytes in [&b"HTTP/1.1 400\r\n"[..], b"\r\n", b"+OK\n", b"$x\r\n", b"$\r\n", b"$9999999999\r\n", &b"*1\r\n".repeat(9)] {
            assert_eq!(scan(bytes), Err(Malformed), "{:?}", String::from_utf8_lossy(bytes));
        }
    }
}
