//! What the connections have in common on which a worker mostly listens: bytes both ways, a sign of life that is asked for while nothing is
//! heard, so that a connection that hangs is found out, and a new connection when one is lost.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;

use super::node::{Link, connect};
use crate::resp::ReplyScanner;

/// Who takes in what is heard.
pub(super) trait Listens {
    /// Its connection.
    fn wire(&self) -> &Wire;
    /// Ready when a connection is wanted.
    fn poll_wanted(&self, cx: &Context<'_>) -> Poll<()>;
    /// There is a fresh connection, which has said nothing yet.
    fn begin(&self);
    /// Takes in one frame; false when there is no point in listening on.
    fn frame(&self, frame: &Bytes) -> bool;
    /// The connection is no more.
    fn end(&self);
}

/// One such connection after the other, until it is closed.
#[derive(Default)]
pub(super) struct Wire {
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    out: BytesMut,
    connected: bool,
    /// Of the connection's task.
    waker: Option<Waker>,
    /// Since when nothing was heard, as far as anybody looked, and whether a sign of life was asked for.
    quiet: Option<Instant>,
    pinged: bool,
    stalled: bool,
    closed: bool,
}

impl Wire {
    pub(super) fn is_connected(&self) -> bool {
        self.state.borrow().connected
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.borrow().closed
    }

    /// Ends the connection for good.
    pub(super) fn close(&self) {
        self.state.borrow_mut().closed = true;
        self.wake();
    }

    /// Sends `bytes`, if there is a connection.
    pub(super) fn send(&self, bytes: &[u8]) {
        self.state.borrow_mut().out.extend_from_slice(bytes);
        self.wake();
    }

    /// Asks for a sign of life when nothing was heard for a while, and gives the connection up when none comes within `limit`. To be
    /// called now and then.
    pub(super) fn watch(&self, now: Instant, limit: Duration) {
        let mut state = self.state.borrow_mut();
        let quiet = now.duration_since(*state.quiet.get_or_insert(now));
        if !state.connected || quiet < QUIET_MAX {
            return;
        }
        if !std::mem::replace(&mut state.pinged, true) {
            state.out.extend_from_slice(PING);
        } else if quiet >= QUIET_MAX + limit {
            state.stalled = true;
        }
        drop(state);
        self.wake();
    }

    /// Has the task of `cx` woken by whatever is done to this.
    pub(super) fn register(&self, cx: &Context<'_>) {
        self.state.borrow_mut().waker = Some(cx.waker().clone());
    }

    pub(super) fn wake(&self) {
        let waker = self.state.borrow_mut().waker.take();
        waker.into_iter().for_each(Waker::wake);
    }

    fn begin(&self) {
        let mut state = self.state.borrow_mut();
        *state = State { connected: true, closed: state.closed, ..State::default() };
    }

    /// Moves bytes both ways; ready when the connection has ended.
    fn poll(&self, listener: &impl Listens, stream: &mut TcpStream, read: &mut Read, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.is_closed() {
                return Poll::Ready(());
            }
            read.input.reserve(READ_BYTES.max(read.scanner.needed().min(READ_BYTES_MAX)));
            match pin!(stream.read_buf(&mut read.input)).poll(cx) {
                Poll::Ready(Ok(received)) if received > 0 => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => break,
            }
            if !self.hear(listener, read) {
                return Poll::Ready(());
            }
        }
        self.register(cx);
        let mut state = self.state.borrow_mut();
        while !state.out.is_empty() {
            match Pin::new(&mut *stream).poll_write(cx, &state.out) {
                Poll::Ready(Ok(sent)) if sent > 0 => state.out.advance(sent),
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        if state.stalled { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Takes in every complete frame; false when there is no point in listening on.
    fn hear(&self, listener: &impl Listens, read: &mut Read) -> bool {
        loop {
            let frame = match read.scanner.scan(&read.input) {
                Ok(Some(len)) => read.input.split_to(len).freeze(),
                Ok(None) => return true,
                Err(error) => {
                    tracing::warn!(%error, "a shard sent a malformed message");
                    return false;
                }
            };
            let mut state = self.state.borrow_mut();
            (state.quiet, state.pinged) = (None, false);
            drop(state);
            if !listener.frame(&frame) {
                return false;
            }
        }
    }
}

/// What was read and not yet understood.
#[derive(Default)]
struct Read {
    input: BytesMut,
    scanner: ReplyScanner,
}

/// The task of a wire: connects along `link` when that is wanted, listens, and starts over, until it is closed.
pub(super) async fn run(listener: Rc<impl Listens>, link: Link) {
    let (wire, mut pause) = (listener.wire(), BACKOFF.0);
    loop {
        poll_fn(|cx| if wire.is_closed() { Poll::Ready(()) } else { listener.poll_wanted(cx) }).await;
        if wire.is_closed() {
            return;
        }
        match connect(&link).await {
            Ok((mut stream, _)) => {
                wire.begin();
                listener.begin();
                let (mut read, start) = (Read::default(), Instant::now());
                poll_fn(|cx| wire.poll(&*listener, &mut stream, &mut read, cx)).await;
                wire.state.borrow_mut().connected = false;
                listener.end();
                if start.elapsed() > BACKOFF.1 {
                    pause = BACKOFF.0;
                }
            }
            Err(error) => tracing::warn!(shard = %link.address(), %error, "cannot connect to listen"),
        }
        if !wire.is_closed() {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(BACKOFF.1);
        }
    }
}

/// How long nothing may be heard before a sign of life is asked for.
const QUIET_MAX: Duration = Duration::from_secs(1);

const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

const READ_BYTES: usize = 8 * 1024;
const READ_BYTES_MAX: usize = 1024 * 1024;

/// The pause after a connection has failed, doubled up to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));
