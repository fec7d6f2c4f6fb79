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

/// A reply of RESP2, and its frame.
fn resp2() -> impl Strategy<Value = (Value, Vec<u8>)> {
    let leaf = prop_oneof![
        "[a-zA-Z ]{0,20}".prop_map(|text| (Value::Simple(text.clone().into()), format!("+{text}\r\n").into_bytes())),
        "[A-Z]{1,8} [a-z ]{0,20}".prop_map(|text| (Value::Error(text.clone().into()), format!("-{text}\r\n").into_bytes())),
        any::<i64>().prop_map(|value| (Value::Integer(value), format!(":{value}\r\n").into_bytes())),
        proptest::collection::vec(any::<u8>(), 0..60).prop_map(|bytes| {
            let frame = [format!("${}\r\n", bytes.len()).as_bytes(), &bytes, b"\r\n"].concat();
            (Value::Bulk(bytes.into()), frame)
        }),
        Just((Value::Null, b"$-1\r\n".to_vec())),
    ];
    leaf.prop_recursive(4, 40, 8, |item| {
        proptest::collection::vec(item, 0..8).prop_map(|items| {
            let (values, frames): (Vec<Value>, Vec<Vec<u8>>) = items.into_iter().unzip();
            (Value::Array(values), [format!("*{}\r\n", frames.len()).into_bytes(), frames.concat()].concat())
        })
    })
}

fn of_peer(frame: redis_protocol::resp2::types::OwnedFrame) -> Value {
    use redis_protocol::resp2::types::OwnedFrame as Peer;
    match frame {
        Peer::SimpleString(text) => Value::Simple(text.into()),
        Peer::Error(text) => Value::Error(text.into()),
        Peer::Integer(value) => Value::Integer(value),
        Peer::BulkString(bytes) => Value::Bulk(bytes.into()),
        Peer::Array(items) => Value::Array(items.into_iter().map(of_peer).collect()),
        Peer::Null => Value::Null,
    }
}

proptest! {
    /// Two implementations that share no line read the same.
    #[test]
    fn redis_protocol_reads_the_same((value, frame) in resp2()) {
        let (peer, length) = redis_protocol::resp2::decode::decode(&frame).unwrap().unwrap();
        prop_assert_eq!(length, frame.len());
        prop_assert_eq!(of_peer(peer), value.clone());
        prop_assert_eq!(Value::parse(&Bytes::from(frame)).unwrap(), value);
    }
}
