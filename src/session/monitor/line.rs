//! A line of MONITOR, as Redis writes it (`replicationFeedMonitors`, `sdscatrepr`).

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{BufMut, BytesMut};

use crate::resp::Request;

/// Appends the line for `request`, which came at `time` from the client at `from` for database `db`.
pub(super) fn write(out: &mut BytesMut, time: Duration, db: u32, from: SocketAddr, request: &Request) {
    // Writing to a BytesMut cannot fail.
    let _ = write!(out, "+{}.{:06} [{db} {from}]", time.as_secs(), time.subsec_micros());
    for (index, arg) in request.args_from(0).enumerate() {
        out.put_u8(b' ');
        quote(out, if is_secret(request, index) { REDACTED } else { arg });
    }
    out.put_slice(b"\r\n");
}

/// Whether the argument at `index` is a name or a password of AUTH, or of HELLO's option of that name.
fn is_secret(request: &Request, index: usize) -> bool {
    let is = |index: usize, word: &[u8]| request.arg(index).eq_ignore_ascii_case(word);
    let behind = |distance: usize| index.checked_sub(distance).is_some_and(|at| at >= 2 && is(at, b"auth"));
    index > 0 && (is(0, b"auth") || (is(0, b"hello") && (behind(1) || behind(2))))
}

fn quote(out: &mut BytesMut, arg: &[u8]) {
    out.put_u8(b'"');
    for &byte in arg {
        match byte {
            b'\\' | b'"' => out.put_slice(&[b'\\', byte]),
            b'\n' => out.put_slice(b"\\n"),
            b'\r' => out.put_slice(b"\\r"),
            b'\t' => out.put_slice(b"\\t"),
            0x07 => out.put_slice(b"\\a"),
            0x08 => out.put_slice(b"\\b"),
            b' '..=b'~' => out.put_u8(byte),
            _ => {
                let _ = write!(out, "\\x{byte:02x}");
            }
        }
    }
    out.put_u8(b'"');
}

const REDACTED: &[u8] = b"(redacted)";

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn line(args: &[&[u8]]) -> String {
        let mut out = BytesMut::new();
        write(&mut out, Duration::new(1795297901, 5299999), 3, "127.0.0.1:38614".parse().unwrap(), &Request::new(args));
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn lines_are_those_of_redis() {
        assert_eq!(line(&[b"SELECT", b"3"]), "+1795297901.005299 [3 127.0.0.1:38614] \"SELECT\" \"3\"\r\n");
        let odd = line(&[b"set", b"", b"\x00\"\\\n\xff\xc3\xa9 \x07\x08\t\r"]);
        assert!(odd.ends_with(concat!(r#"] "set" "" "\x00\"\\\n\xff\xc3\xa9 \a\b\t\r""#, "\r\n")), "{odd}");
    }

    #[test]
    fn no_password_is_shown() {
        assert!(line(&[b"Auth", b"secret"]).ends_with("] \"Auth\" \"(redacted)\"\r\n"));
        assert!(line(&[b"AUTH", b"user", b"secret"]).ends_with("] \"AUTH\" \"(redacted)\" \"(redacted)\"\r\n"));
        let hello = line(&[b"HELLO", b"3", b"auth", b"user", b"secret", b"SETNAME", b"name"]);
        assert!(hello.ends_with("] \"HELLO\" \"3\" \"auth\" \"(redacted)\" \"(redacted)\" \"SETNAME\" \"name\"\r\n"));
        assert!(line(&[b"GET", b"auth", b"x"]).ends_with("] \"GET\" \"auth\" \"x\"\r\n"));
    }
}
