//! Hot path: the shared connection to a shard, pipelining the requests of all sessions of a worker.
//!
//! One task owns the socket. Sessions append their requests to its output buffer and wake it; whatever gathered until it runs goes out
//! in one write. A connection with [`Pace::Gathering`] first lets the worker look once at what its other sockets have brought, where that
//! has brought others of late (see `company`): nearly twice as many requests leave together where many clients send one each, and the
//! shard reads and answers them at once.
//!
//! Replies are handed to their sinks in order: small ones as slices of the read buffer, large ones cut out of it, so that nothing is copied
//! and nothing stays. The task connects when the first request comes, and again after a failure; a request is never sent a second time.
//!
//! Requests that owe a check of the participant's gate (see `txn::gate`) share one: the first of them puts it into the output, and
//! those that follow are covered by it as long as none of its bytes was sent. Once it is on its way, the next one brings its own: the
//! shard may have answered the check before that request was made.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;

use self::company::Company;
use self::gate::Gate;
use super::error::UpstreamError;
use super::node::{Link, connect};
use super::run::Run;
use crate::metrics::Counter;
use crate::resp::ReplyScanner;

mod company;
mod gate;
#[cfg(test)]
mod tests;

/// Where replies go. Called from the connection's task: an implementation stores what it gets and wakes somebody.
pub trait ReplySink {
    /// The next frame that answers the request behind `ticket`.
    fn frame(&self, ticket: u64, frame: &[u8]);
    /// The same for a large frame, whose memory is the sink's from now on.
    fn large_frame(&self, ticket: u64, frame: Bytes) {
        self.frame(ticket, &frame);
    }
    /// No (further) frame will come for `ticket`.
    fn failed(&self, ticket: u64, error: UpstreamError);
    /// The request behind `ticket` was not carried out, or what it read does not count: the gate was not free. No frame will come.
    fn gated(&self, ticket: u64);
}

/// When a connection sends what has gathered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As soon as its task runs.
    Prompt,
    /// When those have had their turn as well whose sockets had something to read by then, unless there are many requests already, or
    /// that was in vain of late.
    Gathering,
}

/// A pipelined connection; cheap to share inside its worker.
pub struct SharedConn {
    pace: Pace,
    state: RefCell<State>,
}

struct State {
    /// Bytes to be written, whole requests only; its first byte is number `written` of the stream.
    out: BytesMut,
    written: u64,
    /// What is expected, in the order in which it was sent.
    pending: VecDeque<Pending>,
    /// How often the connection was lost: what lived in it (a watch) is gone when this has changed.
    losses: u64,
    gate: Gate,
    /// How many requests have gathered, and whether they wait for others.
    gathered: usize,
    company: Company,
    /// Of the connection's task; none while others have their turn: it runs after them in any case.
    waker: Option<Waker>,
    /// Bytes that gather elsewhere and will be appended.
    behind: usize,
    /// Sessions that wait for room in `out`.
    room: Vec<Waker>,
    /// Replies received, and parts of large ones, and when a look at it last found it changed: the time-out needs no clock for each request.
    answered: u64,
    seen: (u64, Option<Instant>),
    /// Set by the watchdog: the connection is to be given up.
    stalled: bool,
    closed: bool,
    /// Whom it leads to, while it is connected and the last sink has not been told otherwise.
    run: Option<Run>,
}

struct Pending {
    due: Due,
    frames: u32,
    /// The stream offset of the request's first byte.
    start: u64,
}

/// What a frame that is expected will be.
enum Due {
    /// The answer to a check of the gate.
    Gate,
    /// A frame for `ticket`, which is worth something only if the gate was free or need not be.
    Frame { sink: Rc<dyn ReplySink>, ticket: u64, gated: bool },
}

impl SharedConn {
    /// A connection along `link`, whose task ends after [`close`](Self::close).
    pub fn open(link: Link, pace: Pace) -> Rc<Self> {
        let conn = Rc::new(Self {
            pace,
            state: RefCell::new(State {
                out: BytesMut::new(),
                written: 0,
                pending: VecDeque::new(),
                losses: 0,
                gate: Gate::default(),
                waker: None,
                gathered: 0,
                company: Company::default(),
                behind: 0,
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
        state.gathered += 1;
        state.append(Due::Frame { sink, ticket, gated: false }, frames, write);
        if let Some(waker) = state.waker.take() {
            drop(state);
            waker.wake();
        }
    }

    /// Sends what `write` appends, one request that changes nothing, behind a look at the gate by `check`, a request that is answered `:0`
    /// if the gate is free. Otherwise `sink` is told so in place of the reply.
    pub fn send_gated(&self, sink: Rc<dyn ReplySink>, ticket: u64, check: &[u8], write: impl FnOnce(&mut BytesMut)) {
        let mut state = self.state.borrow_mut();
        if state.closed {
            drop(state);
            return sink.failed(ticket, UpstreamError::NotSent);
        }
        let (written, end) = (state.written, state.end());
        if state.gate.owes_look(written, end) {
            state.append(Due::Gate, 1, |out| out.extend_from_slice(check));
        }
        state.gathered += 1;
        state.append(Due::Frame { sink, ticket, gated: true }, 1, write);
        if let Some(waker) = state.waker.take() {
            drop(state);
            waker.wake();
        }
    }

    /// Whether the next request had better rely on the gate. Where it was closed of late it is left alone for a while: what relied on
    /// it would have been in vain.
    pub fn trusts_gate(&self) -> bool {
        self.state.borrow_mut().gate.is_trusted()
    }

    /// How often the connection was lost. What the server remembers of it (a watch) holds only while this stays the same.
    pub fn losses(&self) -> u64 {
        self.state.borrow().losses
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
        if state.out.len() + state.behind < pending_bytes_max {
            return Poll::Ready(());
        }
        state.room.push(cx.waker().clone());
        Poll::Pending
    }

    /// `bytes` more gather elsewhere to be sent on this connection.
    pub(super) fn note_behind(&self, bytes: usize) {
        self.state.borrow_mut().behind += bytes;
    }

    /// `bytes` of them are sent now, or never.
    pub(super) fn forget_behind(&self, bytes: usize) {
        let room = {
            let mut state = self.state.borrow_mut();
            state.behind = state.behind.saturating_sub(bytes);
            std::mem::take(&mut state.room)
        };
        room.into_iter().for_each(Waker::wake);
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
            state.gathered = 0;
            state.seen = (state.answered, None);
            state.stalled = false;
            state.losses += 1;
            state.gate.forget();
            (std::mem::take(&mut state.pending), written, std::mem::take(&mut state.room))
        };
        for entry in pending {
            let error = if entry.start < written { UpstreamError::MaybeApplied } else { UpstreamError::NotSent };
            if let Due::Frame { sink, ticket, .. } = entry.due {
                sink.failed(ticket, error);
            }
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
        if !self.gathers(cx) {
            // Registered first: whoever sends from here on, be it a sink below, makes this task run again.
            self.register(cx);
            if self.poll_write(stream, cx).is_ready() {
                return Poll::Ready(());
            }
        }
        if self.poll_read(stream, input, cx).is_ready() {
            return Poll::Ready(());
        }
        let state = self.state.borrow();
        if state.closed || state.stalled { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Whether others have their turn first: then the task runs again when the worker has looked at its sockets.
    fn gathers(&self, cx: &mut Context<'_>) -> bool {
        let mut state = self.state.borrow_mut();
        let gathered = state.gathered;
        let gathers = self.pace == Pace::Gathering && state.company.is_awaited(gathered);
        if gathers {
            state.waker = None;
            // Pending, and runs the task again after the look.
            let _ = pin!(tokio::task::yield_now()).poll(cx);
        }
        gathers
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
        state.gathered = 0;
        // What was written counts as well: the buffer's capacity alone is only what lies behind it.
        if state.out.try_reclaim(KEPT_BYTES + 1) {
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
            let len = match input.scanner.scan(&input.buf[done..]) {
                Ok(Some(len)) => len,
                // The beginning of something that nobody has asked for would be taken for the next request's reply.
                Ok(None) if input.buf[done] != b'>' && self.state.borrow().pending.is_empty() => return Err(Desync),
                Ok(None) => {
                    self.state.borrow_mut().answered += 1;
                    break;
                }
                Err(error) => {
                    tracing::warn!(%error, "a shard sent a malformed reply");
                    return Err(Desync);
                }
            };
            if input.buf[done] == b'>' {
                done += len;
            } else if len < LARGE_FRAME_BYTES {
                self.hand_on(Frame::Small(&input.buf[done..done + len]))?;
                done += len;
            } else {
                input.buf.advance(std::mem::take(&mut done));
                let frame = input.buf.split_to(len).freeze();
                if input.buf.is_empty() {
                    // Or the frame's memory would stay as long as this buffer.
                    input.buf = BytesMut::new();
                }
                self.hand_on(Frame::Large(frame))?;
            }
        }
        input.buf.advance(done);
        if input.buf.is_empty() && input.buf.try_reclaim(KEPT_BYTES + 1) {
            input.buf = BytesMut::new();
        }
        Ok(())
    }

    /// Gives `frame` to whom it is for.
    fn hand_on(&self, frame: Frame<'_>) -> Result<(), Desync> {
        let (sink, ticket, counts) = {
            let mut state = self.state.borrow_mut();
            state.answered += 1;
            let State { pending, gate, .. } = &mut *state;
            let entry = pending.front_mut().ok_or(Desync)?;
            let whose = match &entry.due {
                Due::Gate => {
                    gate.answered(frame.bytes());
                    None
                }
                Due::Frame { sink, ticket, gated } => Some((Rc::clone(sink), *ticket, !gated || gate.is_free())),
            };
            entry.frames -= 1;
            if entry.frames == 0 {
                pending.pop_front();
            }
            match whose {
                Some(whose) => whose,
                None => return Ok(()),
            }
        };
        match frame {
            _ if !counts => sink.gated(ticket),
            Frame::Small(frame) => sink.frame(ticket, frame),
            Frame::Large(frame) => sink.large_frame(ticket, frame),
        }
        Ok(())
    }
}

impl State {
    /// The stream offset of what is appended next.
    fn end(&self) -> u64 {
        self.written + self.out.len() as u64
    }

    fn append(&mut self, due: Due, frames: u32, write: impl FnOnce(&mut BytesMut)) {
        let start = self.end();
        write(&mut self.out);
        self.pending.push_back(Pending { due, frames, start });
    }
}

/// The read side of a connection.
#[derive(Default)]
struct Input {
    buf: BytesMut,
    scanner: ReplyScanner,
}

/// A reply as it lies in the read buffer, or cut out of it.
enum Frame<'a> {
    Small(&'a [u8]),
    Large(Bytes),
}

impl Frame<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Small(frame) => frame,
            Self::Large(frame) => frame,
        }
    }
}

/// The connection's replies can no longer be told apart.
struct Desync;

/// How much is read at once.
const READ_BYTES: usize = 32 * 1024;

/// A buffer larger than this is given back when it is empty.
const KEPT_BYTES: usize = 1024 * 1024;

/// A reply from here on is cut out of the read buffer instead of being copied.
pub(super) const LARGE_FRAME_BYTES: usize = 64 * 1024;

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
