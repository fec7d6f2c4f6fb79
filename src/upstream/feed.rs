//! The connection on which a worker hears which keys change on one server, whoever changes them.
//!
//! It asks for `CLIENT TRACKING ON BCAST`, and from then on the server names every key that is written, expires or is evicted, in the
//! order in which that happens. From the server's `OK` on until the connection is lost nothing is left out: that is what *armed* means,
//! and a feed that ceases to be armed tells its sink, because what changes then is never told. While nothing happens the server is
//! asked for a sign of life, so that a connection that hangs is found out.

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
use crate::resp::{ReplyScanner, Value};

/// Who is told what a feed hears. Called from the connection's task.
pub trait FeedSink {
    /// These keys were written, have expired or were evicted.
    fn changed(&self, keys: Vec<Bytes>);
    /// Any key may have changed: the server was flushed, or the feed is no longer armed.
    fn flushed(&self);
    /// The feed is armed.
    fn armed(&self);
}

/// A connection that hears of changes; cheap to share inside its worker.
pub struct Feed {
    sink: Rc<dyn FeedSink>,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    out: BytesMut,
    armed: bool,
    /// Of the connection's task.
    waker: Option<Waker>,
    /// Since when nothing was heard, as far as anybody looked, and whether a sign of life was asked for.
    quiet: Option<Instant>,
    pinged: bool,
    stalled: bool,
    closed: bool,
}

impl Feed {
    /// A connection along `link`, which speaks RESP3, whose task ends after [`close`](Self::close).
    pub fn open(link: Link, sink: Rc<dyn FeedSink>) -> Rc<Self> {
        let this = Rc::new(Self { sink, state: RefCell::default() });
        tokio::task::spawn_local(run(Rc::clone(&this), link));
        this
    }

    /// Whether every change is heard of from now on, as long as the sink is not told otherwise.
    pub fn is_armed(&self) -> bool {
        self.state.borrow().armed
    }

    /// Ends the connection for good; the sink hears nothing any more.
    pub fn close(&self) {
        let mut state = self.state.borrow_mut();
        (state.closed, state.armed) = (true, false);
        drop(state);
        self.wake();
    }

    /// Asks for a sign of life when nothing was heard for a while, and gives the connection up when none comes within `limit`. To be
    /// called now and then.
    pub fn watch(&self, now: Instant, limit: Duration) {
        let mut state = self.state.borrow_mut();
        let quiet = now.duration_since(*state.quiet.get_or_insert(now));
        if quiet >= QUIET_MAX + limit {
            state.stalled = true;
        } else if state.armed && quiet >= QUIET_MAX && !std::mem::replace(&mut state.pinged, true) {
            state.out.extend_from_slice(PING);
        } else {
            return;
        }
        drop(state);
        self.wake();
    }

    fn wake(&self) {
        let waker = self.state.borrow_mut().waker.take();
        waker.into_iter().for_each(Waker::wake);
    }

    fn is_closed(&self) -> bool {
        self.state.borrow().closed
    }

    /// A fresh connection.
    fn begin(&self) {
        let mut state = self.state.borrow_mut();
        *state = State { out: BytesMut::from(TRACK), closed: state.closed, ..State::default() };
    }

    /// The connection is no more.
    fn end(&self) {
        if std::mem::replace(&mut self.state.borrow_mut().armed, false) {
            self.sink.flushed();
        }
    }

    /// Moves bytes both ways; ready when the connection has ended.
    fn poll_serve(&self, stream: &mut TcpStream, input: &mut BytesMut, scanner: &mut ReplyScanner, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.is_closed() {
                return Poll::Ready(());
            }
            input.reserve(READ_BYTES.max(scanner.needed().min(READ_BYTES_MAX)));
            match pin!(stream.read_buf(input)).poll(cx) {
                Poll::Ready(Ok(received)) if received > 0 => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => break,
            }
            if !self.hear(input, scanner) {
                return Poll::Ready(());
            }
        }
        let mut state = self.state.borrow_mut();
        state.waker = Some(cx.waker().clone());
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
    fn hear(&self, input: &mut BytesMut, scanner: &mut ReplyScanner) -> bool {
        loop {
            let frame = match scanner.scan(input) {
                Ok(Some(len)) => input.split_to(len).freeze(),
                Ok(None) => return true,
                Err(_) => return false,
            };
            if !self.frame(&frame) {
                tracing::warn!(reply = %String::from_utf8_lossy(&frame).trim_end(), "a shard does not tell what changes");
                return false;
            }
        }
    }

    /// Takes in one frame; false when it is none that belongs here.
    fn frame(&self, frame: &Bytes) -> bool {
        let armed = {
            let mut state = self.state.borrow_mut();
            (state.quiet, state.pinged) = (None, false);
            std::mem::replace(&mut state.armed, true)
        };
        match Value::parse(frame) {
            Ok(Value::Simple(word)) if !armed && word == "OK" => self.sink.armed(),
            Ok(Value::Simple(_)) if armed => {}
            Ok(Value::Push(parts)) if armed => match &parts[..] {
                [word, Value::Array(keys)] if is_invalidation(word) => {
                    self.sink.changed(keys.iter().filter_map(Value::text).cloned().collect());
                }
                [word, Value::Null] if is_invalidation(word) => self.sink.flushed(),
                _ => return false,
            },
            _ => {
                // What was refused has armed nothing.
                self.state.borrow_mut().armed = armed;
                return false;
            }
        }
        true
    }
}

fn is_invalidation(word: &Value) -> bool {
    word.text().is_some_and(|word| word == "invalidate")
}

/// How long nothing may be heard before a sign of life is asked for.
const QUIET_MAX: Duration = Duration::from_secs(1);

const TRACK: &[u8] = b"*4\r\n$6\r\nCLIENT\r\n$8\r\nTRACKING\r\n$2\r\nON\r\n$5\r\nBCAST\r\n";
const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

const READ_BYTES: usize = 8 * 1024;
const READ_BYTES_MAX: usize = 1024 * 1024;

/// The pause after a connection has failed, doubled up to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// The connection's task: connects, listens, and starts over, until it is closed.
async fn run(feed: Rc<Feed>, link: Link) {
    let mut pause = BACKOFF.0;
    while !feed.is_closed() {
        match connect(&link).await {
            Ok((mut stream, _)) => {
                feed.begin();
                let (mut input, mut scanner, start) = (BytesMut::new(), ReplyScanner::default(), Instant::now());
                poll_fn(|cx| feed.poll_serve(&mut stream, &mut input, &mut scanner, cx)).await;
                feed.end();
                if start.elapsed() > BACKOFF.1 {
                    pause = BACKOFF.0;
                }
            }
            Err(error) => tracing::warn!(shard = %link.address(), %error, "cannot connect to hear what changes"),
        }
        if !feed.is_closed() {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(BACKOFF.1);
        }
    }
}
