//! Trees and elements of every type, and of bytes that are none.

#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use proptest::prelude::*;

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[test]
fn every_type_becomes_a_value() {
    let text = |text: &'static str| Value::Bulk(bytes(text));
    for (frame, value) in [
        ("+OK\r\n", Value::Simple(bytes("OK"))),
        ("-ERR x\r\n", Value::Error(bytes("ERR x"))),
        ("!5\r\nERR x\r\n", Value::Error(bytes("ERR x"))),
        (":-7\r\n", Value::Integer(-7)),
        ("$2\r\nab\r\n", text("ab")),
        ("$2\r\n-1\r\n", text("-1")),
        ("$-1\r\n", Value::Null),
        ("*-1\r\n", Value::Null),
        ("_\r\n", Value::Null),
        ("#t\r\n", Value::Boolean(true)),
        (",1.5\r\n", Value::Double(1.5)),
        ("(12345678901234567890\r\n", Value::BigNumber(bytes("12345678901234567890"))),
        ("=6\r\ntxt:ab\r\n", Value::Verbatim(bytes("ab"))),
        ("*2\r\n:1\r\n*0\r\n", Value::Array(vec![Value::Integer(1), Value::Array(vec![])])),
        ("%1\r\n$1\r\nk\r\n~1\r\n:1\r\n", Value::Map(vec![(text("k"), Value::Set(vec![Value::Integer(1)]))])),
        (">1\r\n:1\r\n", Value::Push(vec![Value::Integer(1)])),
        ("*1\r\n|1\r\n+a\r\n:1\r\n:2\r\n", Value::Array(vec![Value::Integer(2)])),
    ] {
        assert_eq!(Value::parse(&bytes(frame)), Ok(value), "{frame:?}");
    }
    assert_eq!(Value::parse(&bytes(":1")), Err(ReplyError::Incomplete));
    assert_eq!(Value::parse(&bytes(":1\r\n:")), Err(ReplyError::Trailing));
}

#[test]
fn pairs_are_the_same_in_both_versions() {
    let (map, flat) = (Value::parse(&bytes("%1\r\n+k\r\n:1\r\n")).unwrap(), Value::parse(&bytes("*2\r\n+k\r\n:1\r\n")).unwrap());
    assert_eq!(map.pairs(), flat.pairs());
    assert_eq!(map.pairs().unwrap()[0].1.integer(), Some(1));
}

#[test]
fn elements_are_the_frames_of_an_aggregate() {
    let parts = |frame| elements(&bytes(frame));
    assert_eq!(parts("*2\r\n$1\r\na\r\n*1\r\n:1\r\n"), Ok(Some(vec![bytes("$1\r\na\r\n"), bytes("*1\r\n:1\r\n")])));
    assert_eq!(parts("%1\r\n+k\r\n_\r\n"), Ok(Some(vec![bytes("+k\r\n"), bytes("_\r\n")])));
    assert_eq!(parts("|1\r\n+a\r\n:1\r\n~1\r\n:2\r\n"), Ok(Some(vec![bytes(":2\r\n")])));
    assert_eq!(parts("*1\r\n|1\r\n+a\r\n:1\r\n:2\r\n"), Ok(Some(vec![bytes("|1\r\n+a\r\n:1\r\n:2\r\n")])));
    assert_eq!(parts("*0\r\n"), Ok(Some(vec![])));
    for null in ["*-1\r\n", "_\r\n", "$-1\r\n"] {
        assert_eq!(parts(null), Ok(None));
    }
    assert_eq!(parts("+OK\r\n"), Err(ReplyError::NotAggregate));
    assert_eq!(parts("*2\r\n:1\r\n"), Err(ReplyError::Incomplete));
    assert_eq!(parts("*1\r\n:1\r\n:2\r\n"), Err(ReplyError::Trailing));
    assert_eq!(parts("*4294967295\r\n"), Err(ReplyError::Incomplete));
    assert_eq!(parts(""), Err(ReplyError::Incomplete));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(prop_oneof![prop::sample::select(b"*$|%~>+-:_#,(!=0123\r\n".to_vec()), any::<u8>()], 0..48)) {
        let bytes = Bytes::from(bytes);
        let value = Value::parse(&bytes);
        let parts = elements(&bytes);
        if let (Ok(Value::Array(items)), Ok(Some(parts))) = (value, parts) {
            prop_assert_eq!(items.len(), parts.len());
        }
    }
}
