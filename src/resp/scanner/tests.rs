//! The scanner over every type, whole and byte by byte, and over what no server should send.

#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use proptest::prelude::*;

/// The result of scanning `bytes` at once, which must be that of scanning them as they grow byte by byte.
fn scan(bytes: &[u8]) -> Result<Option<usize>, ReplyError> {
    let whole = ReplyScanner::new().scan(bytes);
    let mut scanner = ReplyScanner::new();
    for len in 0..bytes.len() {
        match scanner.scan(&bytes[..len]) {
            Ok(None) => assert_eq!(scanner.needed() > 0, len > 0, "{}", bytes[..len].escape_ascii()),
            // An error may show, and a frame may end, before the last byte.
            early => {
                assert_eq!(early, whole, "{}", bytes.escape_ascii());
                return whole;
            }
        }
    }
    assert_eq!(scanner.scan(bytes), whole, "{}", bytes.escape_ascii());
    if let Ok(Some(_)) = whole {
        assert_eq!(scanner.scan(b":1\r\n"), Ok(Some(4)), "it is ready for the next reply");
    }
    whole
}

const FRAMES: [&str; 33] = [
    "+OK\r\n",
    "+\r\n",
    "-ERR no\r\n",
    ":0\r\n",
    ":-9223372036854775808\r\n",
    "$0\r\n\r\n",
    "$5\r\na\r\nbc\r\n",
    "$-1\r\n",
    "*-1\r\n",
    "*0\r\n",
    "*2\r\n$1\r\na\r\n:1\r\n",
    "*2\r\n*1\r\n*0\r\n*-1\r\n",
    "_\r\n",
    "#t\r\n",
    "#f\r\n",
    ",1.5\r\n",
    ",-inf\r\n",
    ",nan\r\n",
    ",1e+20\r\n",
    "(-3492890328409238509324850943850943825024385\r\n",
    "!5\r\nERR x\r\n",
    "=6\r\ntxt:ab\r\n",
    "%1\r\n+k\r\n*1\r\n:1\r\n",
    "%0\r\n",
    "~2\r\n:1\r\n:2\r\n",
    ">2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n",
    "|1\r\n+ttl\r\n:3\r\n$1\r\nv\r\n",
    "|0\r\n+OK\r\n",
    "*2\r\n|1\r\n+ttl\r\n:3\r\n:1\r\n:2\r\n",
    "|1\r\n+a\r\n:1\r\n|1\r\n+b\r\n:2\r\n*1\r\n:3\r\n",
    "*1\r\n_\r\n",
    "*3\r\n%0\r\n~0\r\n$0\r\n\r\n",
    "*1\r\n|1\r\n+a\r\n*0\r\n*0\r\n",
];

#[test]
fn every_type_ends_where_it_should() {
    for frame in FRAMES {
        assert_eq!(scan(frame.as_bytes()), Ok(Some(frame.len())), "{frame:?}");
        assert_eq!(scan(format!("{frame}+tail").as_bytes()), Ok(Some(frame.len())), "{frame:?}");
        for len in 0..frame.len() {
            assert_eq!(scan(&frame.as_bytes()[..len]), Ok(None), "{:?}", &frame[..len]);
        }
    }
}

#[test]
fn what_is_not_resp_is_refused() {
    for (bytes, error) in [
        ("x", ReplyError::UnknownType(b'x')),
        ("\r\n", ReplyError::UnknownType(b'\r')),
        ("*1\r\nx", ReplyError::UnknownType(b'x')),
        ("$+1\r\n", ReplyError::Length),
        ("$01\r\n", ReplyError::Length),
        ("$-2\r\n", ReplyError::Length),
        ("$?\r\n", ReplyError::Length),
        ("$1\rx", ReplyError::Length),
        ("$4294967296\r\n", ReplyError::Length),
        ("*99999999999", ReplyError::Length),
        ("*\r\n", ReplyError::Length),
        ("%-1\r\n", ReplyError::Length),
        ("=2\r\nab\r\n", ReplyError::Length),
        ("=6\r\ntxtxab\r\n", ReplyError::Length),
        ("$1\r\nabc", ReplyError::Crlf),
        ("+a\rb", ReplyError::Crlf),
        ("-a\nb", ReplyError::Crlf),
        (":\r\n", ReplyError::Scalar),
        (":+1\r\n", ReplyError::Scalar),
        (":9223372036854775808\r\n", ReplyError::Scalar),
        ("#x\r\n", ReplyError::Scalar),
        ("_x\r\n", ReplyError::Scalar),
        ("(1.0\r\n", ReplyError::Scalar),
        (",\r\n", ReplyError::Scalar),
    ] {
        assert_eq!(scan(bytes.as_bytes()), Err(error), "{bytes:?}");
    }
}

#[test]
fn bombs_cost_nothing() {
    for kind in ["*", "%", "~", ">", "|"] {
        assert_eq!(scan(format!("{kind}1\r\n").repeat(NESTING_MAX + 1).as_bytes()), Err(ReplyError::TooDeep));
        assert_eq!(scan(format!("{kind}2147483647\r\n").as_bytes()), Ok(None));
        assert_eq!(scan(format!("{kind}4294967295\r\n:1\r\n:2\r\n").as_bytes()), Ok(None));
    }
    let deepest = format!("{}:1\r\n", "*1\r\n".repeat(NESTING_MAX));
    assert_eq!(scan(deepest.as_bytes()), Ok(Some(deepest.len())));
    let mut scanner = ReplyScanner::new();
    assert_eq!(scanner.scan(b"*2\r\n*3\r\n$5\r\nab"), Ok(None));
    assert_eq!(scanner.missing, [2, 3], "a number for each that is open, and nothing else");
}

#[test]
fn a_reader_is_told_how_much_of_a_string_is_missing() {
    let mut scanner = ReplyScanner::new();
    assert_eq!(scanner.scan(b"*1\r\n$1000\r\nab"), Ok(None));
    assert_eq!(scanner.needed(), 1000 - 2 + 2);
}

proptest! {
    #[test]
    fn replies_in_a_row_are_told_apart_however_they_arrive(
        frames in prop::collection::vec(prop::sample::select(FRAMES.to_vec()), 1..12),
        step in 1usize..20,
    ) {
        let bytes = frames.concat().into_bytes();
        let (mut scanner, mut start, mut found) = (ReplyScanner::new(), 0, Vec::new());
        for end in (0..bytes.len()).step_by(step).chain([bytes.len()]) {
            while let Some(len) = scanner.scan(&bytes[start..end]).unwrap() {
                found.push(std::str::from_utf8(&bytes[start..start + len]).unwrap());
                start += len;
            }
        }
        prop_assert_eq!(found, frames);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(prop_oneof![prop::sample::select(b"*$|%~>+-:_#,(!=0123\r\n".to_vec()), any::<u8>()], 0..48)) {
        if let Ok(Some(len)) = scan(&bytes) {
            prop_assert!(len <= bytes.len());
        }
    }
}
