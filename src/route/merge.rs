//! One reply out of those of several shards, as the command's response policy says (the command tips of Redis).
//!
//! The policy is a column of the command table, so that a command over all shards is a row there and nothing here. An error of any
//! shard is the reply, except where one success is enough: a client that is told OK may rely on it everywhere.

use bytes::{Bytes, BytesMut};

use crate::command::ResponsePolicy;
use crate::resp::{Proto, ReplyWriter, Value, elements};

/// Appends to `out` what `replies`, at least one and all in the form of `proto`, come to under `policy`.
pub fn merge(policy: ResponsePolicy, replies: &[Bytes], out: &mut BytesMut, proto: Proto) {
    let error = replies.iter().find(|reply| is_error(reply));
    let whole = match (policy, error) {
        (ResponsePolicy::OneSucceeded, _) => replies.iter().find(|reply| !is_error(reply)).or(error),
        (_, Some(error)) => Some(error),
        (ResponsePolicy::None, None) => return concatenate(replies, out, proto),
        (ResponsePolicy::AggSum, None) => return fold(replies, out, proto, i64::saturating_add),
        (ResponsePolicy::AggMin | ResponsePolicy::AggLogicalAnd, None) => return fold(replies, out, proto, i64::min),
        (ResponsePolicy::AggMax | ResponsePolicy::AggLogicalOr, None) => return fold(replies, out, proto, i64::max),
        // All say the same; of what is special the first shard's reply stands for all.
        (ResponsePolicy::AllSucceeded | ResponsePolicy::Special, None) => replies.first(),
    };
    whole.into_iter().for_each(|reply| out.extend_from_slice(reply));
}

/// Whether `frame` is an error.
pub fn is_error(frame: &[u8]) -> bool {
    matches!(frame.first(), Some(b'-' | b'!'))
}

/// One array of the elements of all.
fn concatenate(replies: &[Bytes], out: &mut BytesMut, proto: Proto) {
    let parts: Vec<Bytes> = replies.iter().filter_map(|reply| elements(reply).ok().flatten()).flatten().collect();
    ReplyWriter::new(out, proto).array(parts.len());
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// Joins integers, or arrays of them element by element; 0 and 1 are how the servers say no and yes.
fn fold(replies: &[Bytes], out: &mut BytesMut, proto: Proto, join: fn(i64, i64) -> i64) {
    let rows: Vec<Vec<i64>> = replies.iter().map(integers).collect();
    let joined = rows.into_iter().reduce(|one, other| one.into_iter().zip(other).map(|(a, b)| join(a, b)).collect()).unwrap_or_default();
    let mut writer = ReplyWriter::new(out, proto);
    if replies.iter().all(|reply| reply.first() == Some(&b'*')) {
        writer.array(joined.len());
    }
    joined.into_iter().for_each(|value| writer.integer(value));
}

fn integers(reply: &Bytes) -> Vec<i64> {
    match Value::parse(reply) {
        Ok(Value::Integer(value)) => vec![value],
        Ok(value) => value.items().unwrap_or_default().iter().filter_map(Value::integer).collect(),
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn merged(policy: ResponsePolicy, replies: &[&'static str]) -> String {
        let replies: Vec<Bytes> = replies.iter().map(|reply| Bytes::from_static(reply.as_bytes())).collect();
        let mut out = BytesMut::new();
        merge(policy, &replies, &mut out, Proto::Resp2);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn numbers_are_joined_alone_and_in_arrays() {
        assert_eq!(merged(ResponsePolicy::AggSum, &[":1\r\n", ":2\r\n", ":39\r\n"]), ":42\r\n");
        assert_eq!(merged(ResponsePolicy::AggMin, &[":1\r\n", ":2\r\n"]), ":1\r\n");
        assert_eq!(merged(ResponsePolicy::AggMax, &[":1\r\n", ":2\r\n"]), ":2\r\n");
        assert_eq!(merged(ResponsePolicy::AggMin, &["*2\r\n:1\r\n:5\r\n", "*2\r\n:2\r\n:4\r\n"]), "*2\r\n:1\r\n:4\r\n");
        assert_eq!(merged(ResponsePolicy::AggLogicalAnd, &["*2\r\n:1\r\n:1\r\n", "*2\r\n:0\r\n:1\r\n"]), "*2\r\n:0\r\n:1\r\n");
        assert_eq!(merged(ResponsePolicy::AggLogicalOr, &["*2\r\n:1\r\n:0\r\n", "*2\r\n:0\r\n:0\r\n"]), "*2\r\n:1\r\n:0\r\n");
        assert_eq!(merged(ResponsePolicy::AggLogicalAnd, &["*0\r\n", "*0\r\n"]), "*0\r\n");
    }

    #[test]
    fn one_error_is_the_reply_unless_one_success_is_enough() {
        let replies = ["+OK\r\n", "-ERR no\r\n"];
        assert_eq!(merged(ResponsePolicy::AllSucceeded, &replies), "-ERR no\r\n");
        assert_eq!(merged(ResponsePolicy::AggSum, &[":1\r\n", "-ERR no\r\n"]), "-ERR no\r\n");
        assert_eq!(merged(ResponsePolicy::OneSucceeded, &["-NOTBUSY none\r\n", "+OK\r\n"]), "+OK\r\n");
        assert_eq!(merged(ResponsePolicy::OneSucceeded, &["-NOTBUSY none\r\n", "-NOTBUSY none\r\n"]), "-NOTBUSY none\r\n");
        assert_eq!(merged(ResponsePolicy::AllSucceeded, &["$2\r\nab\r\n", "$2\r\nab\r\n"]), "$2\r\nab\r\n");
    }

    #[test]
    fn arrays_are_put_behind_each_other() {
        assert_eq!(merged(ResponsePolicy::None, &["*1\r\n$1\r\na\r\n", "*0\r\n", "*1\r\n*1\r\n:1\r\n"]), "*2\r\n$1\r\na\r\n*1\r\n:1\r\n");
    }
}
