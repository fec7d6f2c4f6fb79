//! Replies that weft reads itself, taken apart: slow paths only.
//!
//! [`elements`] cuts an aggregate into the frames of its elements (an EXEC array whose parts go to different
//! clients or places); [`Value`] is the whole reply as a tree (CLUSTER SHARDS, HELLO, what a script answered). Both are
//! slices of the frame, and hold it in memory as long as they live.
//!
//! Why not the tree of the `redis-protocol` crate (version 6): its RESP3 decoder takes `*-1` and `$-1`, which every
//! server sends to RESP2 connections, for the start of a stream; its maps are hash maps, which lose the order and refuse
//! nested keys; and it descends by recursion without a bound, so a nesting bomb ends the process. Its RESP2 decoder
//! recurses likewise. The scanner has to know every type anyway, and a tree on top of it is what follows.

use bytes::Bytes;

use super::scanner::{Head, ReplyScanner, double, head};
use super::{ReplyError, line};

/// One reply as a tree. Attributes are left out.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `+`
    Simple(Bytes),
    /// `-` or `!`, beginning with its code.
    Error(Bytes),
    /// `:`
    Integer(i64),
    /// `$`
    Bulk(Bytes),
    /// `_`, or `$-1` or `*-1` in RESP2.
    Null,
    /// `*`
    Array(Vec<Value>),
    /// `%`, in the order sent.
    Map(Vec<(Value, Value)>),
    /// `~`, in the order sent.
    Set(Vec<Value>),
    /// `>`
    Push(Vec<Value>),
    /// `#`
    Boolean(bool),
    /// `,`
    Double(f64),
    /// `(`, in decimal.
    BigNumber(Bytes),
    /// `=` without its format.
    Verbatim(Bytes),
}

impl Value {
    /// Parses one complete reply.
    pub fn parse(frame: &Bytes) -> Result<Self, ReplyError> {
        // Walking the frame first makes every count in it one that is really there.
        match ReplyScanner::new().scan(frame)? {
            None => Err(ReplyError::Incomplete),
            Some(len) if len < frame.len() => Err(ReplyError::Trailing),
            Some(_) => Self::build(frame, &mut 0, 0),
        }
    }

    /// The text of a string of any kind, errors excepted.
    pub fn text(&self) -> Option<&Bytes> {
        match self {
            Self::Simple(text) | Self::Bulk(text) | Self::BigNumber(text) | Self::Verbatim(text) => Some(text),
            _ => None,
        }
    }

    /// The text of an error.
    pub fn error(&self) -> Option<&Bytes> {
        if let Self::Error(text) = self { Some(text) } else { None }
    }

    /// An integer.
    pub fn integer(&self) -> Option<i64> {
        if let Self::Integer(value) = self { Some(*value) } else { None }
    }

    /// The elements of an array, a set or a push.
    pub fn items(&self) -> Option<&[Value]> {
        match self {
            Self::Array(items) | Self::Set(items) | Self::Push(items) => Some(items),
            _ => None,
        }
    }

    /// The pairs of a map, which in RESP2 is an array of keys and values in turn.
    pub fn pairs(&self) -> Option<Vec<(&Value, &Value)>> {
        match self {
            Self::Map(pairs) => Some(pairs.iter().map(|(key, value)| (key, value)).collect()),
            Self::Array(items) if items.len() % 2 == 0 => Some(items.chunks_exact(2).map(|pair| (&pair[0], &pair[1])).collect()),
            _ => None,
        }
    }

    /// Builds the value at `at` of a frame that was scanned, and moves `at` behind it.
    fn build(frame: &Bytes, at: &mut usize, depth: usize) -> Result<Self, ReplyError> {
        if depth > DEPTH_MAX {
            return Err(ReplyError::TooDeep);
        }
        let begin = *at;
        let Some(&kind) = frame.get(begin) else { return Err(ReplyError::Incomplete) };
        match head(&frame[begin..], 0)? {
            Head::More { .. } => Err(ReplyError::Incomplete),
            Head::Null { end } => {
                *at += end;
                Ok(Self::Null)
            }
            Head::Text { start, end } => {
                *at += end;
                Self::leaf(kind, frame.slice(begin + start..begin + end - 2))
            }
            Head::Elements { start, count } => {
                *at += start;
                let mut items = Vec::new();
                for _ in 0..count {
                    items.push(Self::build(frame, at, depth + 1)?);
                }
                Self::node(kind, items)
            }
        }
    }

    fn leaf(kind: u8, text: Bytes) -> Result<Self, ReplyError> {
        match kind {
            b'+' => Ok(Self::Simple(text)),
            b'-' | b'!' => Ok(Self::Error(text)),
            b'$' => Ok(Self::Bulk(text)),
            b'(' => Ok(Self::BigNumber(text)),
            b'=' => Ok(Self::Verbatim(text.slice(4..))),
            b':' => line::integer(&text).map(Self::Integer).ok_or(ReplyError::Scalar),
            b',' => double(&text).map(Self::Double).ok_or(ReplyError::Scalar),
            b'#' => Ok(Self::Boolean(text.as_ref() == b"t")),
            other => Err(ReplyError::UnknownType(other)),
        }
    }

    fn node(kind: u8, mut items: Vec<Value>) -> Result<Self, ReplyError> {
        match kind {
            b'*' => Ok(Self::Array(items)),
            b'~' => Ok(Self::Set(items)),
            b'>' => Ok(Self::Push(items)),
            b'%' => {
                let mut items = items.into_iter();
                Ok(Self::Map(std::iter::from_fn(|| items.next().zip(items.next())).collect()))
            }
            // The last element of an attribute is the reply it belongs to.
            b'|' => items.pop().ok_or(ReplyError::Incomplete),
            other => Err(ReplyError::UnknownType(other)),
        }
    }
}

/// The frames of the direct elements of an aggregate (of a map: keys and values in turn), without attributes of its own; `None`
/// for a null of any form.
pub fn elements(frame: &Bytes) -> Result<Option<Vec<Bytes>>, ReplyError> {
    let mut scanner = ReplyScanner::new();
    let mut next = |at: usize| -> Result<usize, ReplyError> {
        let len = scanner.scan(&frame[at..])?.ok_or(ReplyError::Incomplete)?;
        Ok(at + len)
    };
    let mut at = 0;
    loop {
        match head(&frame[at..], 0)? {
            Head::More { .. } => return Err(ReplyError::Incomplete),
            Head::Text { .. } => return Err(ReplyError::NotAggregate),
            Head::Null { end } if at + end == frame.len() => return Ok(None),
            Head::Null { .. } => return Err(ReplyError::Trailing),
            Head::Elements { start, count } if frame[at] == b'|' => {
                at += start;
                for _ in 1..count {
                    at = next(at)?;
                }
            }
            Head::Elements { start, count } => {
                at += start;
                let mut parts = Vec::new();
                for _ in 0..count {
                    let end = next(at)?;
                    parts.push(frame.slice(at..end));
                    at = end;
                }
                return if at == frame.len() { Ok(Some(parts)) } else { Err(ReplyError::Trailing) };
            }
        }
    }
}

/// How deep the recursion goes: nothing that weft reads itself is nested half as deeply.
const DEPTH_MAX: usize = 32;

#[cfg(test)]
mod tests;
