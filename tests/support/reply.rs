//! Replies as tests compare them, and a decoder of its own: what weft says is not judged by weft's own code.

/// A reply of RESP2 or RESP3.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reply {
    /// `+OK`
    Simple(String),
    /// `-ERR …`, and RESP3's bulk errors.
    Error(String),
    /// `:1`
    Integer(i64),
    /// `$…`
    Bulk(Vec<u8>),
    /// `$-1`, or RESP3's `_`.
    Nil,
    /// `*-1`
    NilArray,
    /// `*…`
    Array(Vec<Reply>),
    /// `%…`
    Map(Vec<(Reply, Reply)>),
    /// `~…`
    Set(Vec<Reply>),
    /// `>…`
    Push(Vec<Reply>),
    /// `,…`, as it was written.
    Double(String),
    /// `#t` or `#f`
    Boolean(bool),
    /// `(…`
    BigNumber(String),
    /// `=…`: the three letters of its format, and the text.
    Verbatim(String, Vec<u8>),
}

impl Reply {
    /// `+OK`
    pub(crate) fn ok() -> Self {
        Self::Simple("OK".to_owned())
    }

    /// An array of whatever converts: `Reply::array(["a", "b"])`.
    pub(crate) fn array(items: impl IntoIterator<Item = impl Into<Reply>>) -> Self {
        Self::Array(items.into_iter().map(Into::into).collect())
    }

    /// The text of a simple string, an error or a bulk string.
    pub(crate) fn text(&self) -> Option<String> {
        match self {
            Self::Simple(text) | Self::Error(text) => Some(text.clone()),
            Self::Bulk(bytes) | Self::Verbatim(_, bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            _ => None,
        }
    }

    /// The elements of an array, set or push.
    pub(crate) fn items(&self) -> Option<&[Reply]> {
        match self {
            Self::Array(items) | Self::Set(items) | Self::Push(items) => Some(items),
            _ => None,
        }
    }
}

impl From<&str> for Reply {
    fn from(text: &str) -> Self {
        Self::Bulk(text.as_bytes().to_vec())
    }
}

impl From<i64> for Reply {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

/// Decodes the reply at the start of `bytes`; also gives its length. `None` while it is incomplete; panics on what no server may send.
pub(crate) fn decode(bytes: &[u8]) -> Option<(Reply, usize)> {
    let mut cursor = Cursor { bytes, at: 0 };
    let reply = cursor.reply()?;
    Some((reply, cursor.at))
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn reply(&mut self) -> Option<Reply> {
        let kind = *self.bytes.get(self.at)?;
        let line = self.line()?;
        Some(match kind {
            b'+' => Reply::Simple(line),
            b'-' => Reply::Error(line),
            b':' => Reply::Integer(number(&line)),
            b'_' => Reply::Nil,
            b',' => Reply::Double(line),
            b'(' => Reply::BigNumber(line),
            b'#' => Reply::Boolean(line == "t"),
            b'$' if line == "-1" => Reply::Nil,
            b'$' => Reply::Bulk(self.bulk(&line)?),
            b'!' => Reply::Error(String::from_utf8_lossy(&self.bulk(&line)?).into_owned()),
            b'=' => {
                let mut text = self.bulk(&line)?;
                let rest = text.split_off(4);
                Reply::Verbatim(String::from_utf8_lossy(&text[..3]).into_owned(), rest)
            }
            b'*' if line == "-1" => Reply::NilArray,
            b'*' => Reply::Array(self.items(number(&line))?),
            b'~' => Reply::Set(self.items(number(&line))?),
            b'>' => Reply::Push(self.items(number(&line))?),
            b'%' => {
                let pairs = (0..number(&line)).map(|_| Some((self.reply()?, self.reply()?)));
                Reply::Map(pairs.collect::<Option<_>>()?)
            }
            other => panic!("no reply begins with {:?} in {:?}", char::from(other), String::from_utf8_lossy(self.bytes)),
        })
    }

    /// The rest of the line after its first byte.
    fn line(&mut self) -> Option<String> {
        let rest = &self.bytes[self.at + 1..];
        let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
        self.at += 1 + end + 2;
        Some(String::from_utf8_lossy(&rest[..end]).into_owned())
    }

    fn bulk(&mut self, length: &str) -> Option<Vec<u8>> {
        let length = usize::try_from(number(length)).expect("a length is not negative");
        let frame = self.bytes.get(self.at..self.at + length + 2)?;
        assert!(frame.ends_with(b"\r\n"), "a bulk string ends with CRLF: {:?}", String::from_utf8_lossy(frame));
        self.at += length + 2;
        Some(frame[..length].to_vec())
    }

    fn items(&mut self, count: i64) -> Option<Vec<Reply>> {
        (0..count).map(|_| self.reply()).collect()
    }
}

fn number(text: &str) -> i64 {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is not a number"))
}
