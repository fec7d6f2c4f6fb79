//! What a blocking command asks for: how long it waits, and the commands that try it without waiting.
//!
//! Pure. The order in which arguments are looked at, and the words of the errors, are those of Redis 7.0.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::lines::Family;
use crate::resp::{Proto, ReplyWriter, Request, elements, error_reply};

/// A blocking command, understood.
#[derive(Debug)]
pub(super) struct Form {
    /// How long to wait; `None` is for ever.
    pub(super) timeout: Option<Duration>,
    /// What its keys must become.
    pub(super) family: Family,
    /// What is tried, in this order, until something comes of it.
    pub(super) tries: Vec<Try>,
}

/// One command that does not wait, over one key or, for streams, over several.
#[derive(Clone, Debug)]
pub(super) struct Try {
    /// The command.
    pub(super) request: Request,
    /// The keys that must bring something for it to succeed.
    pub(super) keys: Vec<Bytes>,
    /// How its reply becomes that of the blocking command.
    pub(super) answer: Answer,
}

/// From the reply of a [`Try`] to that of the blocking command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is the same.
    Same,
    /// It is the same, and what it holds was added to another key.
    Moved,
    /// The key stands before it: `value` to `[key, value]`.
    KeyAndValue,
    /// The key stands before its elements: `[member, score]` to `[key, member, score]`.
    KeyAndElements,
}

impl Try {
    /// The reply of the blocking command, if the reply `frame` of this try means that there was something.
    pub(super) fn reply(&self, frame: &Bytes, proto: Proto) -> Option<Bytes> {
        if is_nothing(frame) {
            return None;
        }
        let parts = match self.answer {
            _ if frame.first() == Some(&b'-') => return Some(frame.clone()),
            Answer::Same | Answer::Moved => return Some(frame.clone()),
            Answer::KeyAndValue => vec![frame.clone()],
            Answer::KeyAndElements => elements(frame).ok().flatten().unwrap_or_default(),
        };
        let mut out = BytesMut::new();
        let mut writer = ReplyWriter::new(&mut out, proto);
        writer.array(parts.len() + 1);
        writer.bulk(self.keys.first().map_or(&[], |key| &key[..]));
        parts.iter().for_each(|part| out.extend_from_slice(part));
        Some(out.freeze())
    }
}

/// Whether `frame` says that there was nothing: a null of any form, or no elements.
pub(super) fn is_nothing(frame: &[u8]) -> bool {
    matches!(frame, b"$-1\r\n" | b"*-1\r\n" | b"_\r\n" | b"*0\r\n" | b"%0\r\n")
}

/// Takes the blocking command `name` apart.
///
/// # Errors
/// The text of the error to answer with.
pub(super) fn form(name: &str, request: &Request) -> Result<Form, &'static str> {
    let last = request.argc() - 1;
    match name {
        "blpop" => pops(request, "LPOP", Family::List, Answer::KeyAndValue),
        "brpop" => pops(request, "RPOP", Family::List, Answer::KeyAndValue),
        "bzpopmin" => pops(request, "ZPOPMIN", Family::SortedSet, Answer::KeyAndElements),
        "bzpopmax" => pops(request, "ZPOPMAX", Family::SortedSet, Answer::KeyAndElements),
        "blmove" if !(3..=4).all(|index| is_one_of(request.arg(index), ["LEFT", "RIGHT"])) => Err(error_reply::SYNTAX),
        "blmove" => moves(request, &[request.arg(3), request.arg(4)], last),
        "brpoplpush" => moves(request, &[b"RIGHT", b"LEFT"], last),
        "blmpop" => pops_several(request, "LMPOP", Family::List, ["LEFT", "RIGHT"]),
        "bzmpop" => pops_several(request, "ZMPOP", Family::SortedSet, ["MIN", "MAX"]),
        _ => streams(request),
    }
}

/// `BLPOP key [key ...] timeout`
fn pops(request: &Request, command: &str, family: Family, answer: Answer) -> Result<Form, &'static str> {
    let last = request.argc() - 1;
    let timeout = seconds(request.arg(last))?;
    let of_key = |index: usize| Try {
        request: Request::new(&[command.as_bytes(), request.arg(index)]),
        keys: vec![request.arg_bytes(index)],
        answer,
    };
    Ok(Form { timeout, family, tries: (1..last).map(of_key).collect() })
}

/// `BLMOVE source destination from to timeout`
fn moves(request: &Request, sides: &[&[u8]; 2], timeout: usize) -> Result<Form, &'static str> {
    let command = Request::new(&[b"LMOVE", request.arg(1), request.arg(2), sides[0], sides[1]]);
    let only = Try { request: command, keys: vec![request.arg_bytes(1)], answer: Answer::Moved };
    Ok(Form { timeout: seconds(request.arg(timeout))?, family: Family::List, tries: vec![only] })
}

/// `BLMPOP timeout numkeys key [key ...] LEFT|RIGHT [COUNT count]`
fn pops_several(request: &Request, command: &str, family: Family, sides: [&str; 2]) -> Result<Form, &'static str> {
    let count = positive(request.arg(2)).ok_or(error_reply::NUMKEYS)?;
    let side = usize::try_from(count)
        .ok()
        .and_then(|count| count.checked_add(3))
        .filter(|&side| side < request.argc())
        .ok_or(error_reply::SYNTAX)?;
    if !is_one_of(request.arg(side), sides) {
        return Err(error_reply::SYNTAX);
    }
    match request.argc() - side {
        1 => {}
        3 if is_one_of(request.arg(side + 1), ["COUNT"]) => drop(positive(request.arg(side + 2)).ok_or(error_reply::COUNT)?),
        _ => return Err(error_reply::SYNTAX),
    }
    let of_key = |index: usize| {
        let mut args: Vec<&[u8]> = vec![command.as_bytes(), b"1", request.arg(index)];
        args.extend(request.args_from(side));
        Try { request: Request::new(&args), keys: vec![request.arg_bytes(index)], answer: Answer::Same }
    };
    Ok(Form { timeout: seconds(request.arg(1))?, family, tries: (3..side).map(of_key).collect() })
}

/// `XREAD [COUNT count] BLOCK milliseconds STREAMS key [key ...] id [id ...]`, and XREADGROUP.
fn streams(request: &Request) -> Result<Form, &'static str> {
    let (mut timeout, mut index) = (None, 1);
    let mut args: Vec<&[u8]> = vec![request.arg(0)];
    while index < request.argc() && !is_one_of(request.arg(index), ["STREAMS"]) {
        let values = match request.arg(index) {
            word if is_one_of(word, ["BLOCK"]) => {
                timeout = milliseconds(request.args_from(index + 1).next().ok_or(error_reply::SYNTAX)?)?;
                index += 2;
                continue;
            }
            word if is_one_of(word, ["COUNT"]) => 1,
            word if is_one_of(word, ["GROUP"]) => 2,
            _ => 0,
        };
        args.extend(request.args_from(index).take(values + 1));
        index += values + 1;
    }
    if index >= request.argc() {
        return Err(error_reply::SYNTAX);
    }
    args.extend(request.args_from(index));
    let first = index + 1;
    let keys = (first..first + (request.argc() - first) / 2).map(|index| request.arg_bytes(index)).collect();
    Ok(Form { timeout, family: Family::Stream, tries: vec![Try { request: Request::new(&args), keys, answer: Answer::Same }] })
}

fn is_one_of<const N: usize>(arg: &[u8], words: [&str; N]) -> bool {
    words.iter().any(|word| arg.eq_ignore_ascii_case(word.as_bytes()))
}

fn positive(arg: &[u8]) -> Option<i64> {
    integer(arg).filter(|&value| value > 0)
}

/// A time in seconds, perhaps with a fraction, as C reads it.
fn seconds(arg: &[u8]) -> Result<Option<Duration>, &'static str> {
    let text = std::str::from_utf8(arg).ok().filter(|text| !text.is_empty() && !text.starts_with(char::is_whitespace));
    let seconds = text.and_then(float).ok_or(error_reply::TIMEOUT_NOT_A_FLOAT)?;
    let milliseconds = seconds * 1000.0;
    match () {
        // What does not fit 63 bits has overflowed when Redis looks at its sign.
        () if !(0.0..i64::MAX as f64).contains(&milliseconds) => Err(error_reply::TIMEOUT_NEGATIVE),
        () => Ok(wait(milliseconds.ceil() as u64)),
    }
}

fn milliseconds(arg: &[u8]) -> Result<Option<Duration>, &'static str> {
    match integer(arg).ok_or(error_reply::TIMEOUT_NOT_AN_INTEGER)? {
        ..0 => Err(error_reply::TIMEOUT_NEGATIVE),
        milliseconds => Ok(wait(milliseconds.unsigned_abs())),
    }
}

fn wait(milliseconds: u64) -> Option<Duration> {
    (milliseconds > 0).then(|| Duration::from_millis(milliseconds))
}

fn float(text: &str) -> Option<f64> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => {
            let value = u64::from_str_radix(hex, 16).ok()? as f64;
            Some(if text.starts_with('-') { -value } else { value })
        }
        None => text.parse().ok().filter(|value: &f64| !value.is_nan()),
    }
}

/// `arg` as an integer in Redis's eyes: without a plus sign, leading zeros or spaces.
fn integer(arg: &[u8]) -> Option<i64> {
    let value: i64 = std::str::from_utf8(arg).ok()?.parse().ok()?;
    (itoa::Buffer::new().format(value).as_bytes() == arg).then_some(value)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn parse(line: &str) -> Result<Form, &'static str> {
        let args: Vec<&str> = line.split(' ').collect();
        form(&args[0].to_lowercase(), &Request::new(&args))
    }

    fn tries(line: &str) -> Vec<String> {
        let text = |request: &Request| request.args_from(0).map(String::from_utf8_lossy).collect::<Vec<_>>().join(" ");
        parse(line).unwrap().tries.iter().map(|each| text(&each.request)).collect()
    }

    #[test]
    fn each_command_is_tried_by_one_that_does_not_wait() {
        assert_eq!(tries("BLPOP a b 0"), ["LPOP a", "LPOP b"]);
        assert_eq!(tries("BZPOPMAX z 1.5"), ["ZPOPMAX z"]);
        assert_eq!(tries("BLMOVE a b left RIGHT 0"), ["LMOVE a b left RIGHT"]);
        assert_eq!(tries("BRPOPLPUSH a b 0"), ["LMOVE a b RIGHT LEFT"]);
        assert_eq!(tries("BLMPOP 0 2 a b LEFT COUNT 3"), ["LMPOP 1 a LEFT COUNT 3", "LMPOP 1 b LEFT COUNT 3"]);
        assert_eq!(tries("BZMPOP 0 1 z min"), ["ZMPOP 1 z min"]);
        assert_eq!(tries("XREAD COUNT 2 BLOCK 10 STREAMS a b 0 $"), ["XREAD COUNT 2 STREAMS a b 0 $"]);
        assert_eq!(tries("XREADGROUP GROUP BLOCK c BLOCK 5 STREAMS s >"), ["XREADGROUP GROUP BLOCK c STREAMS s >"]);
    }

    #[test]
    fn time_is_read_as_redis_reads_it() {
        let timeout = |text: &str| parse(&format!("BLPOP k {text}")).map(|form| form.timeout);
        assert_eq!(timeout("0"), Ok(None));
        assert_eq!(timeout("0.0001"), Ok(Some(Duration::from_millis(1))));
        assert_eq!(timeout("1.5"), Ok(Some(Duration::from_millis(1500))));
        assert_eq!(timeout("-1"), Err(error_reply::TIMEOUT_NEGATIVE));
        for text in ["x", "nan", "1 "] {
            assert_eq!(timeout(text), Err(error_reply::TIMEOUT_NOT_A_FLOAT), "{text}");
        }
        for text in ["inf", "1e30", "0x7FFFFFFFFFFFFFFF", "-0.1"] {
            assert_eq!(timeout(text), Err(error_reply::TIMEOUT_NEGATIVE), "{text}");
        }
        assert_eq!(parse("XREAD BLOCK 1.5 STREAMS s 0").unwrap_err(), error_reply::TIMEOUT_NOT_AN_INTEGER);
        assert_eq!(parse("XREAD BLOCK -1 STREAMS s 0").unwrap_err(), error_reply::TIMEOUT_NEGATIVE);
    }

    #[test]
    fn what_is_wrong_is_said_in_redis_words() {
        assert_eq!(parse("BLMPOP 0 0 k LEFT").unwrap_err(), error_reply::NUMKEYS);
        assert_eq!(parse("BLMPOP 0 1 k UP").unwrap_err(), error_reply::SYNTAX);
        assert_eq!(parse("BLMPOP 0 9 k LEFT").unwrap_err(), error_reply::SYNTAX);
        assert_eq!(parse("BLMPOP 0 1 k LEFT COUNT 0").unwrap_err(), error_reply::COUNT);
        assert_eq!(parse("BLMOVE a b UP LEFT x").unwrap_err(), error_reply::SYNTAX);
        assert_eq!(parse("XREAD BLOCK 1 k 0").unwrap_err(), error_reply::SYNTAX);
    }
}
