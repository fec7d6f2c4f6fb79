//! A thin blocking client: one TCP connection, exact bytes where they matter, verbs that assert where they do not.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::{PATIENCE, Reply, decode};

/// What a command may be written as: a line whose words are the arguments, or the arguments themselves.
pub(crate) trait Args {
    /// The arguments.
    fn args(&self) -> Vec<Vec<u8>>;
}

impl Args for str {
    fn args(&self) -> Vec<Vec<u8>> {
        self.split_whitespace().map(|word| word.as_bytes().to_vec()).collect()
    }
}

impl Args for String {
    fn args(&self) -> Vec<Vec<u8>> {
        self.as_str().args()
    }
}

impl<A: AsRef<[u8]>> Args for [A] {
    fn args(&self) -> Vec<Vec<u8>> {
        self.iter().map(|arg| arg.as_ref().to_vec()).collect()
    }
}

impl<A: AsRef<[u8]>, const N: usize> Args for [A; N] {
    fn args(&self) -> Vec<Vec<u8>> {
        self.as_slice().args()
    }
}

/// One connection. Every wait for bytes ends within [`PATIENCE`], or what [`Self::set_patience`] says.
pub(crate) struct Client {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Client {
    /// Connects to `address`.
    #[track_caller]
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap_or_else(|error| panic!("connecting to {address}: {error}"))
    }

    /// Connects, and asks for RESP3.
    #[track_caller]
    pub(crate) fn connect_resp3(address: SocketAddr) -> Self {
        let mut client = Self::connect(address);
        let hello = client.call("HELLO 3");
        assert!(matches!(hello, Reply::Map(_)), "HELLO 3: {hello:?}");
        client
    }

    /// Connects to an address where perhaps nobody listens.
    pub(crate) fn try_connect(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, received: Vec::new() })
    }

    /// How long a reply may take from now on.
    pub(crate) fn set_patience(&mut self, patience: Duration) {
        self.stream.set_read_timeout(Some(patience)).unwrap();
    }

    /// The connection, for those who write without waiting.
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// This side's address, as CLIENT LIST shows it.
    pub(crate) fn local_address(&self) -> SocketAddr {
        self.stream.local_addr().unwrap()
    }

    /// Whether the server answers a PING, be it by asking for a password, without failing if it does not.
    pub(crate) fn answers(&mut self) -> bool {
        let answer = self.stream.write_all(&encode("PING")).and_then(|()| self.try_receive());
        matches!(answer, Ok(Reply::Simple(text) | Reply::Error(text)) if text == "PONG" || text.starts_with("NOAUTH"))
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub(crate) fn send_raw(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("sending");
    }

    /// Sends bytes as they are, or tells why they cannot be sent.
    pub(crate) fn try_send_raw(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Sends a command without waiting for its reply.
    #[track_caller]
    pub(crate) fn send(&mut self, command: &(impl Args + ?Sized)) {
        self.send_raw(encode(command));
    }

    /// The next reply.
    #[track_caller]
    pub(crate) fn receive(&mut self) -> Reply {
        self.try_receive().unwrap_or_else(|error| panic!("waiting for a reply: {error}"))
    }

    /// The next reply, or why there is none.
    pub(crate) fn try_receive(&mut self) -> std::io::Result<Reply> {
        let (reply, length) = self.next()?;
        self.received.drain(..length);
        Ok(reply)
    }

    /// The bytes of the next reply.
    #[track_caller]
    pub(crate) fn receive_frame(&mut self) -> Vec<u8> {
        let (_, length) = self.next().unwrap_or_else(|error| panic!("waiting for a reply: {error}"));
        self.received.drain(..length).collect()
    }

    /// The next reply and its length; it stays in the buffer.
    fn next(&mut self) -> std::io::Result<(Reply, usize)> {
        loop {
            if let Some(next) = decode(&self.received) {
                return Ok(next);
            }
            self.fill()?;
        }
    }

    /// Sends a command and waits for its reply.
    #[track_caller]
    pub(crate) fn call(&mut self, command: &(impl Args + ?Sized)) -> Reply {
        self.send(command);
        self.receive()
    }

    /// Half-closes: the server sees the end of the input, replies still arrive.
    pub(crate) fn finish_sending(&mut self) {
        self.stream.shutdown(std::net::Shutdown::Write).unwrap();
    }

    fn fill(&mut self) -> std::io::Result<()> {
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(length) => {
                self.received.extend_from_slice(&chunk[..length]);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

/// The verbs.
impl Client {
    /// The reply is exactly `expected`.
    #[track_caller]
    pub(crate) fn must_reply(&mut self, command: &(impl Args + ?Sized), expected: impl Into<Reply>) {
        let reply = self.call(command);
        assert_eq!(reply, expected.into(), "reply to {}", shown(command));
    }

    /// The reply is `+OK`.
    #[track_caller]
    pub(crate) fn must_ok(&mut self, command: &(impl Args + ?Sized)) {
        self.must_reply(command, Reply::ok());
    }

    /// The reply is `+QUEUED`.
    #[track_caller]
    pub(crate) fn must_queue(&mut self, command: &(impl Args + ?Sized)) {
        self.must_reply(command, Reply::Simple("QUEUED".to_owned()));
    }

    /// The reply is this integer.
    #[track_caller]
    pub(crate) fn must_int(&mut self, command: &(impl Args + ?Sized), expected: i64) {
        self.must_reply(command, expected);
    }

    /// The reply is this bulk string.
    #[track_caller]
    pub(crate) fn must_bulk(&mut self, command: &(impl Args + ?Sized), expected: &str) {
        self.must_reply(command, expected);
    }

    /// The reply is a null bulk string (`EXEC` answers [`Reply::NilArray`]).
    #[track_caller]
    pub(crate) fn must_nil(&mut self, command: &(impl Args + ?Sized)) {
        self.must_reply(command, Reply::Nil);
    }

    /// The reply is an error whose text begins with `expected`; gives the whole text.
    #[track_caller]
    pub(crate) fn must_err(&mut self, command: &(impl Args + ?Sized), expected: &str) -> String {
        match self.call(command) {
            Reply::Error(text) if text.starts_with(expected) => text,
            other => panic!("reply to {}: {other:?} instead of an error {expected:?}", shown(command)),
        }
    }

    /// The next bytes are exactly these.
    #[track_caller]
    pub(crate) fn must_receive(&mut self, expected: impl AsRef<[u8]>) {
        let expected = expected.as_ref();
        while self.received.len() < expected.len() && expected.starts_with(&self.received) {
            if let Err(error) = self.fill() {
                panic!("{error} after {:?}, waiting for {:?}", lossy(&self.received), lossy(expected));
            }
        }
        let length = expected.len().min(self.received.len());
        let bytes: Vec<u8> = self.received.drain(..length).collect();
        assert!(bytes == expected, "received {:?} instead of {:?}", lossy(&bytes), lossy(expected));
    }

    /// Nothing more arrives, and the connection is closed by the other side.
    #[track_caller]
    pub(crate) fn must_be_closed(&mut self) {
        let end = loop {
            match self.fill() {
                Ok(()) => {}
                Err(error) => break error.kind(),
            }
        };
        assert!(self.received.is_empty(), "received {:?} before the end", lossy(&self.received));
        assert!(matches!(end, ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "not closed: {end}");
    }

    /// Nothing arrives for the time of `quiet`; the one place where waiting is the assertion.
    #[track_caller]
    pub(crate) fn must_stay_silent(&mut self, quiet: Duration) {
        self.set_patience(quiet);
        let end = self.fill().map_err(|error| error.kind());
        self.set_patience(PATIENCE);
        assert!(self.received.is_empty(), "received {:?}", lossy(&self.received));
        assert!(matches!(end, Err(ErrorKind::WouldBlock | ErrorKind::TimedOut)), "{end:?}");
    }
}

/// `command` as clients send it.
pub(crate) fn encode(command: &(impl Args + ?Sized)) -> Vec<u8> {
    let args = command.args();
    let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        bytes.extend_from_slice(&arg);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

fn shown(command: &(impl Args + ?Sized)) -> String {
    let words: Vec<_> = command.args().iter().map(|arg| lossy(arg)).collect();
    words.join(" ").chars().take(200).collect()
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
