//! Valid traffic, and ways to spoil it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use fastrand::Rng;

use crate::support::{PATIENCE, encode};

/// What a client may send, in its own part of the keyspace.
const COMMANDS: &[&str] = &[
    "GET attack1",
    "SET attack2 value EX 10",
    "MGET attack1 attack2 attack3 {x}attack",
    "MSET attack1 a attack2 b attack3 c",
    "DEL attack1 attack2",
    "INCR attack4",
    "APPEND attack5 more",
    "LPUSH attack6 a b c",
    "LPOP attack6 2",
    "BLPOP attack7 attack6 0.01",
    "ZADD attack8 1 a 2 b",
    "XADD attack9 MAXLEN 10 * field value",
    "XREAD BLOCK 5 STREAMS attack9 $",
    "WATCH attack1 attack2",
    "UNWATCH",
    "MULTI",
    "EXEC",
    "DISCARD",
    "EVAL return{KEYS[1],ARGV[1]} 1 attack1 x",
    "EVALSHA ffffffffffffffffffffffffffffffffffffffff 1 attack1",
    "SUBSCRIBE attack",
    "UNSUBSCRIBE attack",
    "PUBLISH attack message",
    "HELLO 3",
    "HELLO 2 SETNAME attacker",
    "CLIENT REPLY SKIP",
    "CLIENT REPLY OFF",
    "CLIENT SETNAME attacker",
    "SELECT 1",
    "RESET",
    "PING",
    "ECHO hello",
    "SCAN 0 MATCH attack* COUNT 5",
    "OBJECT ENCODING attack1",
    "COMMAND DOCS get",
    "INFO server",
    "CONFIG GET maxmemory",
    "GET __weft:x:attack1",
    "QUIT",
];

/// What is put in the way of a parser.
const TOKENS: &[&[u8]] = &[
    b"*2147483647\r\n",
    b"*-1\r\n",
    b"*0\r\n",
    b"*18446744073709551615\r\n",
    b"*1\r\n*1\r\n*1\r\n$4\r\nPING\r\n",
    b"$536870912\r\n",
    b"$-1\r\n",
    b"$9223372036854775807\r\n",
    b"$00000003\r\nabc\r\n",
    b"*1\r\n$-0\r\n",
    b"\0",
    b"\r",
    b"\n",
    b"\r\n\r\n",
    b"\xff\xfe\x80",
    b"SET attack1 \"a\\x00\\n\" 'b\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST / HTTP/1.1\r\n",
    b">1\r\n+x\r\n",
    b"*3\r\n$3\r\nSET\r\n$7\r\nattack1\r\n$0\r\n\r\n",
];

/// One connection that sends a spoilt pipeline. Now and then it is gone at once; else it reads whatever comes, so that weft is not given
/// more to do than it gets done.
pub(super) fn attack(address: SocketAddr, rng: &mut Rng) {
    let Ok(mut stream) = TcpStream::connect(address) else { return };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = pipeline(rng);
    for _ in 0..rng.usize(0..4) {
        spoil(&mut bytes, rng);
    }
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let (now, later) = rest.split_at(if rng.bool() { rest.len() } else { rng.usize(1..=rest.len()) });
        if stream.write_all(now).is_err() {
            return;
        }
        rest = later;
    }
    if rng.u8(..6) > 0 && stream.shutdown(Shutdown::Write).is_ok() {
        let mut chunk = [0; 16 * 1024];
        while matches!(stream.read(&mut chunk), Ok(1..)) {}
    }
}

/// Some commands, inline and not.
fn pipeline(rng: &mut Rng) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..rng.usize(1..30) {
        let command = COMMANDS[rng.usize(..COMMANDS.len())];
        if rng.u8(..5) == 0 {
            bytes.extend_from_slice(format!("{command}\r\n").as_bytes());
        } else if rng.u8(..20) == 0 {
            let long = vec![b'x'; rng.usize(..100_000)];
            bytes.extend(encode(&[b"SET", &b"attack1"[..], &long]));
        } else {
            bytes.extend(encode(command));
        }
    }
    bytes
}

/// Changes `bytes` in one place.
fn spoil(bytes: &mut Vec<u8>, rng: &mut Rng) {
    let at = rng.usize(..=bytes.len());
    let end = rng.usize(at..=bytes.len().min(at + 200));
    match rng.u8(..7) {
        0 if at < bytes.len() => bytes[at] = rng.u8(..),
        1 => drop(bytes.drain(at..end)),
        2 => bytes.truncate(at),
        3 => {
            let again = bytes[at..end].to_vec();
            drop(bytes.splice(end..end, again));
        }
        // A length or a count that is wrong by a little.
        4 => {
            if let Some(digit) = bytes[at..].iter_mut().find(|byte| byte.is_ascii_digit()) {
                *digit = b'0' + rng.u8(..10);
            }
        }
        _ => drop(bytes.splice(at..at, TOKENS[rng.usize(..TOKENS.len())].iter().copied())),
    }
}

/// What is slipped in before a reply. No valid reply is among them: nobody could tell whose it is.
const GARBAGE: &[&[u8]] = &[
    b"\0\0",
    b"$-7\r\n",
    b"*-5\r\n",
    b":12a\r\n",
    b"$99999999999999999999\r\n",
    b"$3000000000\r\n",
    b"*4000000000\r\n",
    b"%4000000000\r\n",
    b"@weird\r\n",
    b"HTTP/1.1 400 Bad Request\r\n",
    b"\r\n",
    b"+O\nK\r\n",
    b"=3\r\ntxt\r\n",
    b"#x\r\n",
];

/// A piece of what a shard replies, spoilt now and then so that one can tell. Where something is missing, nothing may follow.
pub(super) fn mangled(chunk: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = chunk.to_vec();
    match rng.u16(..120) {
        0 | 1 => bytes.truncate(rng.usize(..bytes.len())),
        2..=6 => drop(bytes.splice(0..0, GARBAGE[rng.usize(..GARBAGE.len())].iter().copied())),
        7 => bytes.extend_from_slice(GARBAGE[rng.usize(..GARBAGE.len())]),
        8 => drop(bytes.splice(0..0, b"*1\r\n".repeat(10_000))),
        9 => bytes[0] = b'@',
        10 => {
            let line_ends: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at] == b'\r').collect();
            bytes[line_ends[rng.usize(..line_ends.len())]] = b'X';
        }
        _ => {}
    }
    bytes
}
