//! The decoder against hand-written cases, and against a reference that sees whole streams.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::*;
use proptest::prelude::*;

type Args = Vec<Vec<u8>>;

/// Feeds `pieces` one by one; returns the requests and the error that ended them.
fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, limits: &Limits) -> (Vec<Request>, Option<ProtocolError>) {
    let (mut decoder, mut buf, mut requests) = (RequestDecoder::new(), BytesMut::new(), Vec::new());
    for piece in pieces {
        buf.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buf, limits) {
                Ok(Some(request)) => requests.push(request),
                Ok(None) => break,
                Err(error) => return (requests, Some(error)),
            }
        }
        assert_eq!(decoder.needed() > 0, !buf.is_empty(), "a frame has begun exactly when something of it is there");
    }
    (requests, None)
}

fn args(request: &Request) -> Args {
    request.args_from(0).map(<[u8]>::to_vec).collect()
}

/// The error that `bytes` end with, however they are cut up.
fn must_fail(bytes: &[u8], limits: &Limits) -> ProtocolError {
    let (_, error) = decode([bytes], limits);
    let (_, bytewise) = decode(bytes.chunks(1), limits);
    assert_eq!(error, bytewise, "{}", bytes.escape_ascii());
    error.unwrap_or_else(|| panic!("accepted {}", bytes.escape_ascii()))
}

#[test]
fn canonical_requests_are_passed_on_as_they_are() {
    let bytes: &[u8] = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\n\r\n\0v\r\n*1\r\n$4\r\nPING\r\n*2\r\n$3\r\nGET\r\n$0\r\n\r\n";
    for size in 1..=bytes.len() {
        let (requests, error) = decode(bytes.chunks(size), &Limits::default());
        assert_eq!(error, None);
        assert_eq!(
            requests.iter().map(args).collect::<Vec<_>>(),
            [vec![b"SET".to_vec(), b"k".to_vec(), b"\r\n\0v".to_vec()], vec![b"PING".to_vec()], vec![b"GET".to_vec(), vec![]]]
        );
        assert_eq!(requests.iter().flat_map(|request| request.bytes().to_vec()).collect::<Vec<_>>(), bytes);
    }
}

#[test]
fn commands_that_are_none_are_swallowed() {
    let bytes: &[u8] = b"*0\r\n\r\n\n*-1\r\n*-5\r\n  \r\nPING\r\n*0\r\n*1\r\n$4\r\nPING\r\n*-1\r\n";
    for size in 1..=bytes.len() {
        let (requests, error) = decode(bytes.chunks(size), &Limits::default());
        assert_eq!((requests.len(), error), (2, None));
        for request in requests {
            assert_eq!(request.bytes().as_ref(), b"*1\r\n$4\r\nPING\r\n");
        }
    }
}

#[test]
fn inline_commands_are_encoded_anew() {
    let (requests, error) = decode([b"set k \"a b\"\r\nget k\n".as_slice()], &Limits::default());
    assert_eq!(error, None);
    assert_eq!(requests[0].bytes().as_ref(), b"*3\r\n$3\r\nset\r\n$1\r\nk\r\n$3\r\na b\r\n");
    assert_eq!(requests[1].bytes().as_ref(), b"*2\r\n$3\r\nget\r\n$1\r\nk\r\n");
}

#[test]
fn malformed_requests_get_the_words_of_redis() {
    for (bytes, text) in [
        ("*x\r\n", "invalid multibulk length"),
        ("*\r\n", "invalid multibulk length"),
        ("*+1\r\n", "invalid multibulk length"),
        ("*01\r\n", "invalid multibulk length"),
        ("* 1\r\n", "invalid multibulk length"),
        ("*-0\r\n", "invalid multibulk length"),
        ("*1\n$4\r\n", "invalid multibulk length"),
        ("*2147483648\r\n", "invalid multibulk length"),
        ("*99999999999999999999\r\n", "invalid multibulk length"),
        ("*1\r\n:4\r\n", "expected '$', got ':'"),
        ("*1\r\nPING\r\n", "expected '$', got 'P'"),
        ("*2\r\n$3\r\nGET\r\n*1\r\n", "expected '$', got '*'"),
        ("*1\r\n$\r\n", "invalid bulk length"),
        ("*1\r\n$-1\r\n", "invalid bulk length"),
        ("*1\r\n$+4\r\n", "invalid bulk length"),
        ("*1\r\n$04\r\n", "invalid bulk length"),
        ("*1\r\n$4 \r\n", "invalid bulk length"),
        ("*1\r\n$536870913\r\n", "invalid bulk length"),
        ("*1\r\n$99999999999999999999\r\n", "invalid bulk length"),
        ("*1\rx", "invalid CRLF in request"),
        ("*0\rx", "invalid CRLF in request"),
        ("*1\r\n$4\rxPING", "invalid CRLF in request"),
        ("*1\r\n$4\r\nPINGxx", "invalid CRLF in request"),
        ("*1\r\n$4\r\nPING\n\n", "invalid CRLF in request"),
        ("*1\r\n$4\r\nPING345\r\n", "invalid CRLF in request"),
        ("get \"k\r\n", "unbalanced quotes in request"),
        ("get 'k'x\r\n", "unbalanced quotes in request"),
        ("get \0\r\n", "zero byte in inline request"),
    ] {
        assert_eq!(must_fail(bytes.as_bytes(), &Limits::default()).to_string(), format!("Protocol error: {text}"), "{bytes:?}");
    }
}

#[test]
fn lines_that_do_not_end_are_refused() {
    let limits = Limits { inline_bytes_max: 100, ..Limits::default() };
    for (start, text) in [
        ("*", "too big mbulk count string"),
        ("*1\r\n$", "too big bulk count string"),
        ("g", "too big inline request"),
        ("get k ", "too big inline request"),
    ] {
        let bytes = format!("{start}{}", "1".repeat(100));
        assert_eq!(must_fail(bytes.as_bytes(), &limits).to_string(), format!("Protocol error: {text}"));
        let (_, error) = decode([&bytes.as_bytes()[..start.len() + 90 - start.len()]], &limits);
        assert_eq!(error, None);
    }
    assert_eq!(must_fail(format!("{}\n", "1".repeat(101)).as_bytes(), &limits), ProtocolError::InlineLine);
}

#[test]
fn clients_that_must_authenticate_get_less() {
    let limits = Limits::UNAUTHENTICATED;
    assert_eq!(must_fail(b"*11\r\n", &limits).to_string(), "Protocol error: unauthenticated multibulk length");
    assert_eq!(must_fail(b"*2147483648\r\n", &limits).to_string(), "Protocol error: invalid multibulk length");
    assert_eq!(must_fail(b"*1\r\n$16385\r\n", &limits).to_string(), "Protocol error: unauthenticated bulk length");
    assert_eq!(must_fail(b"*1\r\n$-1\r\n", &limits).to_string(), "Protocol error: invalid bulk length");
    assert_eq!(decode([b"*10\r\n$16384\r\n".as_slice()], &limits).1, None);
}

#[test]
fn browsers_are_refused() {
    for bytes in ["POST / HTTP/1.1\r\n", "host: weft\r\n", "*1\r\n$4\r\npost\r\n", "*1\r\n$5\r\nHost:\r\n"] {
        assert_eq!(must_fail(bytes.as_bytes(), &Limits::default()), ProtocolError::CrossProtocol);
    }
    assert_eq!(decode([b"posts\r\nhost\r\n".as_slice()], &Limits::default()).1, None);
}

#[test]
fn announced_numbers_allocate_nothing() {
    let (mut decoder, mut buf) = (RequestDecoder::new(), BytesMut::from(&b"*2147483647\r\n$1\r\na\r\n$536870912\r\nx"[..]));
    let capacity = buf.capacity();
    assert!(decoder.decode(&mut buf, &Limits::default()).unwrap().is_none());
    assert!(buf.capacity() <= capacity && !decoder.args.spilled());
    assert_eq!(decoder.needed(), 536_870_912 + 2 - 1);
}

#[test]
fn a_request_beyond_4_gib_is_refused() {
    let limits = Limits { bulk_bytes_max: u32::MAX, ..Limits::default() };
    assert_eq!(must_fail(b"*1\r\n$4294967290\r\n", &limits), ProtocolError::RequestTooLong);
}

/// What a stream of whole, canonical or inline commands means.
fn reference(commands: &[(Args, bool)]) -> (Vec<u8>, Vec<Args>) {
    let mut bytes = Vec::new();
    for (args, inline) in commands {
        if *inline {
            for arg in args {
                bytes.push(b'"');
                for byte in arg {
                    bytes.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
                }
                bytes.extend_from_slice(b"\" ");
            }
            bytes.extend_from_slice(b"\r\n");
        } else {
            bytes.extend_from_slice(format!("*{}\r\n", args.len()).as_bytes());
            for arg in args {
                bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
                bytes.extend_from_slice(arg);
                bytes.extend_from_slice(b"\r\n");
            }
        }
    }
    (bytes, commands.iter().map(|(args, _)| args.clone()).filter(|args| !args.is_empty()).collect())
}

/// `bytes` cut at `cuts`.
fn pieces<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).chain([0, bytes.len()]).collect();
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

proptest! {
    #[test]
    fn pipelines_mean_the_same_however_they_are_cut(
        commands in prop::collection::vec((prop::collection::vec(prop::collection::vec(any::<u8>(), 0..12), 0..9), any::<bool>()), 0..8),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let (bytes, expected) = reference(&commands);
        let (requests, error) = decode(pieces(&bytes, &cuts), &Limits::default());
        prop_assert_eq!(error, None);
        prop_assert_eq!(requests.iter().map(args).collect::<Vec<_>>(), expected);
        for request in &requests {
            let again = Request::new(&args(request));
            prop_assert_eq!(request.bytes(), again.bytes());
        }
    }

    #[test]
    fn any_bytes_give_the_same_outcome_however_they_are_cut(
        bytes in prop::collection::vec(prop_oneof![Just(b'*'), Just(b'$'), Just(b'\r'), Just(b'\n'), b'0'..=b'3', any::<u8>()], 0..64),
        lines in prop::collection::vec(prop::sample::select(vec!["*1\r\n", "*2\r\n", "$1\r\n", "$0\r\n", "x\r\n", "\r\n", "*-1\r\n", "\"a"]), 0..8),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let bytes = [lines.concat().as_bytes(), &bytes].concat();
        let (whole, whole_error) = decode([&bytes[..]], &Limits::default());
        let (cut, cut_error) = decode(pieces(&bytes, &cuts), &Limits::default());
        prop_assert_eq!(whole_error, cut_error);
        prop_assert_eq!(whole.iter().map(args).collect::<Vec<_>>(), cut.iter().map(args).collect::<Vec<_>>());
    }
}
