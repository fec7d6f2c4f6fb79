//! The connection on which a worker listens to one server's channels, for all of its clients.
//!
//! It carries subscriptions and nothing else: a server may tear a message apart on a connection that also publishes to the channel. It
//! is made when the first topic is wanted, asked for a sign of life while nothing happens, and made anew when it is lost; what is
//! wanted is then subscribed to again. What was published in between is gone, as it is for any subscriber that loses its connection.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;

use super::node::{Link, connect};
use crate::resp::{ReplyScanner, Request, elements};

/// The three separate worlds of names that can be subscribed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TopicKind {
    /// SUBSCRIBE: a channel.
    Channel,
    /// PSUBSCRIBE: all channels whose names match.
    Pattern,
    /// SSUBSCRIBE: a channel of the shard that has the name's slot.
    Shard,
}

/// Something to listen to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic {
    /// Which kind of name it is.
    pub kind: TopicKind,
    /// The name.
    pub name: Bytes,
}

/// Who is told what the connection hears. Called from the connection's task.
pub trait MessageSink {
    /// A message on `topic` that `from` heard, in the form of RESP2: an array of `message`, channel, text, or of `pmessage`, pattern,
    /// channel, text.
    fn message(&self, from: &Subscriber, topic: &Topic, frame: &Bytes);
    /// The server has confirmed a subscription.
    fn confirmed(&self);
    /// The server has refused a subscription, or given one up: its topology has changed, or it lacks a permission.
    fn refused(&self);
}

/// A connection that listens; cheap to share inside its worker.
pub struct Subscriber {
    sink: Rc<dyn MessageSink>,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    out: BytesMut,
    /// What is to be listened to, or was until a moment ago.
    topics: HashMap<Topic, Wish>,
    connected: bool,
    /// Of the connection's task.
    waker: Option<Waker>,
    /// Since when nothing was heard, as far as anybody looked, and whether a sign of life was asked for.
    quiet: Option<Instant>,
    pinged: bool,
    stalled: bool,
    closed: bool,
}

/// What is known of one topic.
#[derive(Default)]
struct Wish {
    wanted: bool,
    /// Requests about it that the server has not confirmed yet.
    outstanding: u32,
}

impl Subscriber {
    /// A connection along `link`, made when it is needed, whose task ends after [`close`](Self::close).
    pub fn open(link: Link, sink: Rc<dyn MessageSink>) -> Rc<Self> {
        let this = Rc::new(Self { sink, state: RefCell::default() });
        tokio::task::spawn_local(run(Rc::clone(&this), link));
        this
    }

    /// Subscribes to `topic`.
    pub fn listen(&self, topic: &Topic) {
        self.wish(topic, true);
    }

    /// Unsubscribes from `topic`.
    pub fn ignore(&self, topic: &Topic) {
        self.wish(topic, false);
    }

    /// Whether the server has confirmed the subscription to `topic`.
    pub fn is_listening(&self, topic: &Topic) -> bool {
        let state = self.state.borrow();
        state.connected && state.topics.get(topic).is_some_and(|wish| wish.wanted && wish.outstanding == 0)
    }

    /// Ends the connection for good.
    pub fn close(&self) {
        self.state.borrow_mut().closed = true;
        self.wake();
    }

    /// Asks for a sign of life when nothing was heard for a while, and gives the connection up when none comes within `limit`. To be
    /// called now and then.
    pub fn watch(&self, now: Instant, limit: Duration) {
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

    fn wish(&self, topic: &Topic, wanted: bool) {
        let mut state = self.state.borrow_mut();
        let State { topics, out, connected, .. } = &mut *state;
        let wish = topics.entry(topic.clone()).or_default();
        if std::mem::replace(&mut wish.wanted, wanted) == wanted {
            return;
        }
        if *connected {
            wish.outstanding += 1;
            out.extend_from_slice(topic.request(wanted).bytes());
        } else if !wanted {
            topics.remove(topic);
        }
        drop(state);
        self.wake();
    }

    fn wake(&self) {
        let waker = self.state.borrow_mut().waker.take();
        waker.into_iter().for_each(Waker::wake);
    }

    /// A fresh connection: everything that is wanted is subscribed to.
    fn begin(&self) {
        let mut state = self.state.borrow_mut();
        *state = State { topics: std::mem::take(&mut state.topics), connected: true, closed: state.closed, ..State::default() };
        let State { topics, out, .. } = &mut *state;
        topics.retain(|_, wish| wish.wanted);
        for (topic, wish) in topics {
            wish.outstanding = 1;
            out.extend_from_slice(topic.request(true).bytes());
        }
    }

    fn poll_wanted(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state.borrow_mut();
        state.waker = Some(cx.waker().clone());
        if state.closed || state.topics.values().any(|wish| wish.wanted) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Moves bytes both ways; ready when the connection has ended.
    fn poll_serve(&self, stream: &mut TcpStream, input: &mut BytesMut, scanner: &mut ReplyScanner, cx: &mut Context<'_>) -> Poll<()> {
        loop {
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
        if state.closed || state.stalled { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Takes in every complete frame; false when there is no point in listening on.
    fn hear(&self, input: &mut BytesMut, scanner: &mut ReplyScanner) -> bool {
        loop {
            match scanner.scan(input) {
                Ok(Some(len)) => {
                    let frame = input.split_to(len).freeze();
                    if !self.frame(&frame) {
                        tracing::warn!(reply = %String::from_utf8_lossy(&frame).trim_end(), "a shard refuses a subscription");
                        self.sink.refused();
                        return false;
                    }
                }
                Ok(None) => return true,
                Err(error) => {
                    tracing::warn!(%error, "a shard sent a malformed message");
                    return false;
                }
            }
        }
    }

    /// Takes in one frame; false when it is none that a subscriber understands.
    fn frame(&self, frame: &Bytes) -> bool {
        {
            let mut state = self.state.borrow_mut();
            (state.quiet, state.pinged) = (None, false);
        }
        let Ok(Some(parts)) = elements(frame) else { return false };
        let (Some(word), Some(name)) = (parts.first().and_then(text), parts.get(1).and_then(text)) else { return false };
        let heard = |kind| Topic { kind, name: name.clone() };
        match &word[..] {
            b"message" => self.sink.message(self, &heard(TopicKind::Channel), frame),
            b"pmessage" => self.sink.message(self, &heard(TopicKind::Pattern), frame),
            b"smessage" => self.sink.message(self, &heard(TopicKind::Shard), frame),
            b"subscribe" | b"unsubscribe" => return self.confirm(&heard(TopicKind::Channel)),
            b"psubscribe" | b"punsubscribe" => return self.confirm(&heard(TopicKind::Pattern)),
            b"ssubscribe" | b"sunsubscribe" => return self.confirm(&heard(TopicKind::Shard)),
            b"pong" => {}
            _ => return false,
        }
        true
    }

    /// The server has carried out a request about `topic`; false when nobody asked: a slot that moves away ends its subscriptions.
    fn confirm(&self, topic: &Topic) -> bool {
        let mut state = self.state.borrow_mut();
        let Some(wish) = state.topics.get_mut(topic) else { return false };
        let Some(outstanding) = wish.outstanding.checked_sub(1) else { return false };
        wish.outstanding = outstanding;
        if outstanding == 0 && !wish.wanted {
            state.topics.remove(topic);
        }
        drop(state);
        self.sink.confirmed();
        true
    }
}

impl Topic {
    fn request(&self, wanted: bool) -> Request {
        let command = match (self.kind, wanted) {
            (TopicKind::Channel, true) => "SUBSCRIBE",
            (TopicKind::Channel, false) => "UNSUBSCRIBE",
            (TopicKind::Pattern, true) => "PSUBSCRIBE",
            (TopicKind::Pattern, false) => "PUNSUBSCRIBE",
            (TopicKind::Shard, true) => "SSUBSCRIBE",
            (TopicKind::Shard, false) => "SUNSUBSCRIBE",
        };
        Request::new(&[command.as_bytes(), &self.name])
    }
}

/// The text of a bulk string.
fn text(frame: &Bytes) -> Option<Bytes> {
    let start = memchr::memchr(b'\n', frame)? + 1;
    (frame.first() == Some(&b'$') && frame.len() >= start + 2).then(|| frame.slice(start..frame.len() - 2))
}

/// How long nothing may be heard before a sign of life is asked for.
const QUIET_MAX: Duration = Duration::from_secs(1);

const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

const READ_BYTES: usize = 8 * 1024;
const READ_BYTES_MAX: usize = 1024 * 1024;

/// The pause after a connection has failed, doubled up to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// The connection's task: connects when something is to be listened to, listens, and starts over, until it is closed.
async fn run(subscriber: Rc<Subscriber>, link: Link) {
    let mut pause = BACKOFF.0;
    loop {
        poll_fn(|cx| subscriber.poll_wanted(cx)).await;
        if subscriber.state.borrow().closed {
            return;
        }
        match connect(&link).await {
            Ok((mut stream, _)) => {
                subscriber.begin();
                let (mut input, mut scanner, start) = (BytesMut::new(), ReplyScanner::default(), Instant::now());
                poll_fn(|cx| subscriber.poll_serve(&mut stream, &mut input, &mut scanner, cx)).await;
                subscriber.state.borrow_mut().connected = false;
                if start.elapsed() > BACKOFF.1 {
                    pause = BACKOFF.0;
                }
            }
            Err(error) => tracing::warn!(shard = %link.address(), %error, "cannot connect to listen"),
        }
        if !subscriber.state.borrow().closed {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(BACKOFF.1);
        }
    }
}
