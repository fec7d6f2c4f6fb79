//! Writing replies of weft's own in either version of the protocol.

use bytes::{BufMut, BytesMut};

/// The version of RESP a connection speaks; `HELLO` changes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Proto {
    /// RESP2, what a connection starts with.
    #[default]
    Resp2,
    /// RESP3.
    Resp3,
}

/// Appends replies to an output buffer, each in the form that the client's protocol version asks for.
#[derive(Debug)]
pub struct Reply<'a> {
    out: &'a mut BytesMut,
    proto: Proto,
}

impl<'a> Reply<'a> {
    /// A writer that appends to `out`.
    pub fn new(out: &'a mut BytesMut, proto: Proto) -> Self {
        Self { out, proto }
    }

    /// `+text`. `text` must hold no CR or LF.
    pub fn simple(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    /// `-text`; `text` begins with its code (`ERR …`). Line breaks become spaces, as in Redis.
    pub fn error(&mut self, text: &str) {
        self.out.put_u8(b'-');
        self.out.extend(text.bytes().map(|byte| if byte == b'\r' || byte == b'\n' { b' ' } else { byte }));
        self.out.put_slice(b"\r\n");
    }

    /// `:value`.
    pub fn integer(&mut self, value: i64) {
        self.header(b':', value);
    }

    /// A bulk string.
    pub fn bulk(&mut self, value: &[u8]) {
        self.header(b'$', value.len() as i64);
        self.out.put_slice(value);
        self.out.put_slice(b"\r\n");
    }

    /// A verbatim string in RESP3, a bulk string in RESP2; `format` is three letters (`txt`).
    pub fn verbatim(&mut self, format: &str, value: &[u8]) {
        match self.proto {
            Proto::Resp2 => self.bulk(value),
            Proto::Resp3 => {
                self.header(b'=', value.len() as i64 + 4);
                self.out.put_slice(format.as_bytes());
                self.out.put_u8(b':');
                self.out.put_slice(value);
                self.out.put_slice(b"\r\n");
            }
        }
    }

    /// Nothing where a string could stand.
    pub fn null(&mut self) {
        self.out.put_slice(match self.proto {
            Proto::Resp2 => b"$-1\r\n",
            Proto::Resp3 => b"_\r\n",
        });
    }

    /// Nothing where an array could stand: what EXEC answers when a watched key has changed.
    pub fn null_array(&mut self) {
        self.out.put_slice(match self.proto {
            Proto::Resp2 => b"*-1\r\n",
            Proto::Resp3 => b"_\r\n",
        });
    }

    /// The head of an array of `len` elements, which the caller appends.
    pub fn array(&mut self, len: usize) {
        self.header(b'*', len as i64);
    }

    /// The head of a map of `pairs` pairs: a flat array in RESP2.
    pub fn map(&mut self, pairs: usize) {
        match self.proto {
            Proto::Resp2 => self.header(b'*', pairs as i64 * 2),
            Proto::Resp3 => self.header(b'%', pairs as i64),
        }
    }

    /// The head of a set of `len` members: an array in RESP2.
    pub fn set(&mut self, len: usize) {
        match self.proto {
            Proto::Resp2 => self.header(b'*', len as i64),
            Proto::Resp3 => self.header(b'~', len as i64),
        }
    }

    /// The head of a message of `len` elements, which the caller appends: an array in RESP2.
    pub fn push(&mut self, len: usize) {
        match self.proto {
            Proto::Resp2 => self.header(b'*', len as i64),
            Proto::Resp3 => self.header(b'>', len as i64),
        }
    }

    fn header(&mut self, kind: u8, value: i64) {
        let mut digits = itoa::Buffer::new();
        self.line(kind, digits.format(value).as_bytes());
    }

    fn line(&mut self, kind: u8, text: &[u8]) {
        self.out.reserve(text.len() + 3);
        self.out.put_u8(kind);
        self.out.put_slice(text);
        self.out.put_slice(b"\r\n");
    }
}
