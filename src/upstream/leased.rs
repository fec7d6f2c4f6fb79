//! Leased connections: one holder at a time, because WATCH and MULTI live in the connection.
//!
//! A connection goes back to the pool only when all its replies have been read; it is UNWATCHed on the way. One whose exchange was
//! cancelled, timed out or broke is closed instead.

use std::io;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use super::error::UpstreamError;
use super::node::{Link, Node, connect};
use super::run::Run;
use crate::resp::{Frame, Proto, ReplyScanner};

/// A connection on loan; dropping it gives it back.
pub struct Leased {
    /// Empty only while it is being dropped.
    conn: Option<LeasedConn>,
    node: Rc<Node>,
    /// Holds the place among the node's `leased_connections_max`.
    _permit: OwnedSemaphorePermit,
}

impl Leased {
    pub(super) fn new(conn: LeasedConn, node: Rc<Node>, permit: OwnedSemaphorePermit) -> Self {
        Self { conn: Some(conn), node, _permit: permit }
    }

    /// Sends `requests` adjacent to each other and returns the reply frame of each.
    ///
    /// # Errors
    /// When the connection is or gets lost; it then stays lost, and so does whatever it watched.
    pub async fn call(&mut self, requests: &[impl Frame]) -> Result<Vec<Bytes>, UpstreamError> {
        match &mut self.conn {
            Some(conn) => conn.call(requests).await,
            None => Err(UpstreamError::NotSent),
        }
    }

    /// The node that the connection leads to.
    pub fn node(&self) -> &Rc<Node> {
        &self.node
    }

    /// Whom the connection leads to, if that is known.
    pub fn run(&self) -> Option<Run> {
        self.conn.as_ref()?.run.clone()
    }

    /// Says that the connection watches keys, or no longer does.
    pub fn set_watching(&mut self, watching: bool) {
        if let Some(conn) = &mut self.conn {
            conn.watching = watching;
        }
    }

    /// Says that the connection carries state that UNWATCH does not clear: it will not be used again.
    pub fn poison(&mut self) {
        if let Some(conn) = &mut self.conn {
            conn.clean = false;
        }
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        let Some(mut conn) = self.conn.take() else { return };
        if conn.clean && conn.unwatch() {
            self.node.give_back(conn);
        }
    }
}

/// A connection of the pool.
pub struct LeasedConn {
    link: Link,
    run: Option<Run>,
    wire: Wire,
    /// Every reply has been read and no other state than watches is left.
    clean: bool,
    watching: bool,
    /// Replies to come that nobody wants.
    ignored: usize,
}

impl LeasedConn {
    pub(super) async fn connect(link: Link) -> Result<Self, UpstreamError> {
        match connect(&link).await {
            Ok((stream, run)) => Ok(Self { link, run, wire: Wire::new(stream), clean: true, watching: false, ignored: 0 }),
            Err(error) => {
                tracing::warn!(shard = %link.address(), %error, "cannot connect");
                Err(UpstreamError::NotSent)
            }
        }
    }

    pub(super) fn db(&self) -> u32 {
        self.link.db
    }

    pub(super) fn proto(&self) -> Proto {
        self.link.proto
    }

    /// Whether the server has neither closed the connection while it was idle, nor sent anything that it was not asked for: from then on
    /// nobody could tell which reply belongs to which request.
    pub(super) fn is_alive(&mut self) -> bool {
        let read = self.wire.stream.try_read_buf(&mut self.wire.input);
        let open = matches!(read, Ok(received) if received > 0) || matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        open && self.wire.skip(&mut self.ignored)
    }

    async fn call(&mut self, requests: &[impl Frame]) -> Result<Vec<Bytes>, UpstreamError> {
        if !std::mem::replace(&mut self.clean, false) {
            return Err(UpstreamError::NotSent);
        }
        let limit = self.link.config.reply_timeout;
        let exchange = self.wire.exchange_after(self.ignored, requests);
        match tokio::time::timeout(limit, exchange).await {
            Ok(Ok(replies)) => {
                self.ignored = 0;
                self.clean = true;
                Ok(replies)
            }
            Ok(Err(_)) | Err(_) => Err(UpstreamError::MaybeApplied),
        }
    }

    /// Clears the watches without waiting for the reply; false when the connection is of no more use.
    fn unwatch(&mut self) -> bool {
        if !std::mem::replace(&mut self.watching, false) {
            return true;
        }
        self.ignored += 1;
        matches!(self.wire.stream.try_write(UNWATCH), Ok(sent) if sent == UNWATCH.len())
    }
}

const UNWATCH: &[u8] = b"*1\r\n$7\r\nUNWATCH\r\n";

/// A socket with the replies cut out of what it receives.
pub(super) struct Wire {
    stream: TcpStream,
    input: BytesMut,
    scanner: ReplyScanner,
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, input: BytesMut::new(), scanner: ReplyScanner::default() }
    }

    /// The socket alone; `None` if it has received what nobody asked for.
    pub(super) fn into_stream(self) -> Option<TcpStream> {
        self.input.is_empty().then_some(self.stream)
    }

    /// Sends `requests` and reads one reply for each.
    pub(super) async fn exchange(&mut self, requests: &[impl Frame]) -> io::Result<Vec<Bytes>> {
        self.exchange_after(0, requests).await
    }

    async fn exchange_after(&mut self, ignored: usize, requests: &[impl Frame]) -> io::Result<Vec<Bytes>> {
        let pieces = || requests.iter().flat_map(Frame::pieces);
        let small = |piece: &&Bytes| piece.len() < LARGE_BYTES;
        let mut out = BytesMut::with_capacity(pieces().filter(small).map(Bytes::len).sum());
        for piece in pieces() {
            if small(&piece) {
                out.extend_from_slice(piece);
            } else {
                self.stream.write_all(&out.split()).await?;
                self.stream.write_all(piece).await?;
            }
        }
        self.stream.write_all(&out).await?;
        for _ in 0..ignored {
            self.reply().await?;
        }
        let mut replies = Vec::with_capacity(requests.len());
        while replies.len() < requests.len() {
            replies.push(self.reply().await?);
        }
        if self.input.is_empty() && replies.iter().any(|reply| reply.len() >= LARGE_BYTES) {
            // Or the reply's memory would stay as long as the connection.
            self.input = BytesMut::new();
        }
        if self.skip(&mut 0) { Ok(replies) } else { Err(io::Error::new(io::ErrorKind::InvalidData, "more replies than requests")) }
    }

    /// Drops up to `ignored` replies that have been received, and pushes; false if anything else has.
    fn skip(&mut self, ignored: &mut usize) -> bool {
        loop {
            match self.scanner.scan(&self.input) {
                Ok(Some(len)) => match self.input.split_to(len).first() {
                    Some(b'>') => {}
                    _ if *ignored > 0 => *ignored -= 1,
                    _ => return false,
                },
                Ok(None) => return *ignored > 0 || matches!(self.input.first(), None | Some(b'>')),
                Err(_) => return false,
            }
        }
    }

    async fn reply(&mut self) -> io::Result<Bytes> {
        loop {
            match self.scanner.scan(&self.input) {
                Ok(Some(len)) => {
                    let frame = self.input.split_to(len).freeze();
                    if frame.first() != Some(&b'>') {
                        return Ok(frame);
                    }
                }
                Ok(None) => {
                    self.input.reserve(READ_BYTES.max(self.scanner.needed().min(READ_BYTES_MAX)));
                    if self.stream.read_buf(&mut self.input).await? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
        }
    }
}

/// What is not copied: a piece of a request from here on is written by itself, and the buffer into which a reply was read is not kept.
const LARGE_BYTES: usize = 64 * 1024;

const READ_BYTES: usize = 8 * 1024;
const READ_BYTES_MAX: usize = 1024 * 1024;
