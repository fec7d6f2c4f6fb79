//! Hot path: the shared connection to a shard, pipelining the requests of all sessions of a worker.
//!
//! One task owns the socket. Sessions append their requests to its output buffer and wake it; whatever gathered until it runs goes out
//! in one write. Replies are cut out of the read buffer and handed to their sinks as borrowed slices, in order. It connects when the
//! first request comes, and again after a failure; a request is never sent a second time.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;

use super::error::UpstreamError;
use super::node::{Link, connect};
use super::run::Run;
use crate::metrics::Counter;
use crate::resp::ReplyScanner;

/// Where replies go. Called from the connection's task: an implementation stores what it gets and wakes somebody.
pub trait ReplySink {
    /// The next frame that answers the request behind `ticket`.
    fn frame(&self, ticket: u64, frame: &[u8]);
    /// No (further) frame will come for `ticket`.
    fn failed(&self, ticket: u64, error: UpstreamError);
}

/// A pipelined connection; cheap to share inside its worker.
pub struct SharedConn {
    state: RefCell<State>,
}

struct State {
    /// Bytes to be written, whole requests only; its first byte is number `written` of the stream.
    out: BytesMut,
    written: u64,
    /// What is expected, in the order in which it was sent.
    pending: VecDeque<Pending>,
    /// Of the connection's task.
    waker: Option<Waker>,
    /// Sessions that wait for room in `out`.
    room: Vec<Waker>,
    /// Replies received, and when a look at it last found it changed: the time-out needs no clock for each request.
    answered: u64,
    seen: (u64, Option<Instant>),
    /// Set by the watchdog: the connection is to be given up.
    stalled: bool,
    closed: bool,
    /// Whom it leads to, while it is connected and the last sink has not been told otherwise.
    run: Option<Run>,
}

struct Pending {
    sink: Rc<dyn ReplySink>,
    ticket: u64,
    frames: u32,
    /// The stream offset of the request's first byte.
    start: u64,
}

impl SharedConn {
    /// A connection along `link`, whose task ends after [`close`](Self::close).
    pub fn open(link: Link) -> Rc<Self> {
        let conn = Rc::new(Self {
            state: RefCell::new(State {
                out: BytesMut::new(),
                written: 0,
                pending: VecDeque::new(),
                waker: None,
                room: Vec::new(),
                answered: 0,
                seen: (0, None),
                stalled: false,
                closed: false,
                run: None,
            }),
        });
        tokio::task::spawn_local(run(Rc::clone(&conn), link));
        conn
    }

    /// Sends what `write` appends, whole requests that will be answered by `frames` frames in all, each given to `sink` with `ticket`.
    pub fn send(&self, sink: Rc<dyn ReplySink>, ticket: u64, frames: u32, write: impl FnOnce(&mut BytesMut)) {
        let mut state = self.state.borrow_mut();
        if state.closed {
            drop(state);
            return sink.failed(ticket, UpstreamError::NotSent);
        }
        let start = state.written + state.out.len() as u64;
        write(&mut state.out);
        state.pending.push_back(Pending { sink, ticket, frames, start });
        if let Some(waker) = state.waker.take() {
            drop(state);
            waker.wake();
        }
    }

    /// Whom the connection leads to; to a sink that is just being told of a frame or of a failure, whom its request was sent to.
    pub(super) fn run(&self) -> Option<Run> {
        self.state.borrow().run.clone()
    }

    /// Ends the connection: what is still expected fails, and so does what is sent later.
    pub fn close(&self) {
        let mut state = self.state.borrow_mut();
        state.closed = true;
        if let Some(waker) = state.waker.take() {
            drop(state);
            waker.wake();
        }
    }

    /// Ready when fewer than `pending_bytes_max` bytes wait to be written; else `cx` is woken when that may have changed.
    pub fn poll_room(&self, cx: &Context<'_>, pending_bytes_max: usize) -> Poll<()> {
        let mut state = self.state.borrow_mut();
        if state.out.len() < pending_bytes_max {
            return Poll::Ready(());
        }
        state.room.push(cx.waker().clone());
        Poll::Pending
    }

    /// Gives the connection up when nothing was answered for `limit` although something is expected. To be called now and then.
    pub fn watch(&self, now: Instant, limit: Duration) {
        let mut state = self.state.borrow_mut();
        let (answered, since) = state.seen;
        match since {
            _ if state.pending.is_empty() => state.seen = (state.answered, None),
            Some(since) if answered == state.answered => state.stalled |= now.duration_since(since) >= limit,
            _ => state.seen = (state.answered, Some(now)),
        }
        if state.stalled
            && let Some(waker) = state.waker.take()
        {
            drop(state);
            waker.wake();
        }
    }

    /// Fails everything that is expected and empties the buffers.
    fn fail_all(&self) {
        let (pending, written, room) = {
            let mut state = self.state.borrow_mut();
            let written = state.written;
            state.written += state.out.len() as u64;
            state.out.clear();
            state.seen = (state.answered, None);
            state.stalled = false;
            (std::mem::take(&mut state.pending), written, std::mem::take(&mut state.room))
        };
        for entry in pending {
            let error = if entry.start < written { UpstreamError::MaybeApplied } else { UpstreamError::NotSent };
            entry.sink.failed(entry.ticket, error);
        }
        self.state.borrow_mut().run = None;
        room.into_iter().for_each(Waker::wake);
    }

    fn poll_wanted(&self, cx: &Context<'_>) -> Poll<()> {
        self.register(cx);
        let state = self.state.borrow();
        if state.closed || !state.out.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Moves bytes both ways until neither side can go on; ready when the connection has ended.
    fn poll_serve(&self, stream: &mut TcpStream, input: &mut Input, cx: &mut Context<'_>) -> Poll<()> {
        // Registered first: whoever sends from here on, be it a sink below, makes this task run again.
        self.register(cx);
        if self.poll_write(stream, cx).is_ready() || self.poll_read(stream, input, cx).is_ready() {
            return Poll::Ready(());
        }
        let state = self.state.borrow();
        if state.closed || state.stalled { Poll::Ready(()) } else { Poll::Pending }
    }

    fn register(&self, cx: &Context<'_>) {
        let mut state = self.state.borrow_mut();
        if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            state.waker = Some(cx.waker().clone());
        }
    }

    fn poll_write(&self, stream: &mut TcpStream, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.borrow_mut();
        while !state.out.is_empty() {
            match Pin::new(&mut *stream).poll_write(cx, &state.out) {
                Poll::Ready(Ok(sent)) if sent > 0 => {
                    state.out.advance(sent);
                    state.written += sent as u64;
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
        if state.out.capacity() > KEPT_BYTES {
            state.out = BytesMut::new();
        }
        let room = std::mem::take(&mut state.room);
        drop(state);
        room.into_iter().for_each(Waker::wake);
        Poll::Pending
    }

    fn poll_read(&self, stream: &mut TcpStream, input: &mut Input, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            input.buf.reserve(READ_BYTES.max(input.scanner.needed().min(KEPT_BYTES)));
            match pin!(stream.read_buf(&mut input.buf)).poll(cx) {
                Poll::Ready(Ok(received)) if received > 0 => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
            if self.deliver(input).is_err() {
                return Poll::Ready(());
            }
        }
    }

    /// Hands on every complete frame in the read buffer.
    fn deliver(&self, input: &mut Input) -> Result<(), Desync> {
        let mut done = 0;
        while done < input.buf.len() {
            let frame = match input.scanner.scan(&input.buf[done..]) {
                Ok(Some(len)) => &input.buf[done..done + len],
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(%error, "a shard sent a malformed reply");
                    return Err(Desync);
                }
            };
            done += frame.len();
            if frame.first() == Some(&b'>') {
                continue;
            }
            let (sink, ticket) = self.expected().ok_or(Desync)?;
            sink.frame(ticket, frame);
        }
        input.buf.advance(done);
        if input.buf.is_empty() && input.buf.capacity() > KEPT_BYTES {
            input.buf = BytesMut::new();
        }
        Ok(())
    }

    /// Whose the next frame is.
    fn expected(&self) -> Option<(Rc<dyn ReplySink>, u64)> {
        let mut state = self.state.borrow_mut();
        state.answered += 1;
        let entry = state.pending.front_mut()?;
        if entry.frames > 1 {
            entry.frames -= 1;
            return Some((Rc::clone(&entry.sink), entry.ticket));
        }
        state.pending.pop_front().map(|entry| (entry.sink, entry.ticket))
    }
}

/// The read side of a connection.
#[derive(Default)]
struct Input {
    buf: BytesMut,
    scanner: ReplyScanner,
}

/// The connection's replies can no longer be told apart.
struct Desync;

/// How much is read at once.
const READ_BYTES: usize = 32 * 1024;

/// A buffer larger than this is given back when it is empty.
const KEPT_BYTES: usize = 1024 * 1024;

/// The pause after a failed attempt to connect, doubled up to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// The connection's task: connects when something is to be sent, serves, and starts over, until the connection is closed.
async fn run(conn: Rc<SharedConn>, link: Link) {
    let mut pause = BACKOFF.0;
    loop {
        poll_fn(|cx| conn.poll_wanted(cx)).await;
        if conn.state.borrow().closed {
            return conn.fail_all();
        }
        match connect(&link).await {
            Ok((mut stream, run)) => {
                pause = BACKOFF.0;
                conn.state.borrow_mut().run = run;
                let mut input = Input::default();
                poll_fn(|cx| conn.poll_serve(&mut stream, &mut input, cx)).await;
                link.counts.count(Counter::UpstreamLost);
                conn.fail_all();
            }
            Err(error) => {
                tracing::warn!(shard = %link.address(), %error, "cannot connect");
                conn.fail_all();
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(BACKOFF.1);
            }
        }
    }
}
