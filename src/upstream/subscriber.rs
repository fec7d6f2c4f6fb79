//! The connection on which a worker listens to one server's channels, for all of its clients.
//!
//! It carries subscriptions and nothing else: a server may tear a message apart on a connection that also publishes to the channel. It
//! is made when the first topic is wanted, and anew when it is lost; what is wanted is then subscribed to again. What was published in between is gone, as it is for any subscriber that loses its connection.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::node::Link;
use super::wire::{self, Listens, Wire};
use crate::resp::{Request, elements};

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
    /// The server has confirmed a subscription or its end, or the connection is lost and what it was to confirm with it.
    fn confirmed(&self);
    /// The server has refused a subscription, or given one up: its topology has changed, or it lacks a permission.
    fn refused(&self);
}

/// A connection that listens; cheap to share inside its worker.
pub struct Subscriber {
    sink: Rc<dyn MessageSink>,
    wire: Wire,
    /// What is to be listened to, or was until a moment ago.
    topics: RefCell<HashMap<Topic, Wish>>,
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
        let this = Rc::new(Self { sink, wire: Wire::default(), topics: RefCell::default() });
        tokio::task::spawn_local(wire::run(Rc::clone(&this), link));
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
        let topics = self.topics.borrow();
        self.wire.is_connected() && topics.get(topic).is_some_and(|wish| wish.wanted && wish.outstanding == 0)
    }

    /// Whether the server has confirmed everything that it was asked about `topic`, or no longer can.
    pub fn is_settled(&self, topic: &Topic) -> bool {
        !self.wire.is_connected() || self.topics.borrow().get(topic).is_none_or(|wish| wish.outstanding == 0)
    }

    /// Ends the connection for good.
    pub fn close(&self) {
        self.wire.close();
    }

    /// Asks for a sign of life when nothing was heard for a while, and gives the connection up when none comes within `limit`. To be
    /// called now and then.
    pub fn watch(&self, now: Instant, limit: Duration) {
        self.wire.watch(now, limit);
    }

    fn wish(&self, topic: &Topic, wanted: bool) {
        let mut topics = self.topics.borrow_mut();
        let wish = topics.entry(topic.clone()).or_default();
        if std::mem::replace(&mut wish.wanted, wanted) == wanted {
            return;
        }
        if self.wire.is_connected() {
            wish.outstanding += 1;
            self.wire.send(topic.request(wanted).bytes());
        } else if !wanted {
            topics.remove(topic);
        }
        drop(topics);
        self.wire.wake();
    }

    /// The server has carried out a request about `topic`; false when nobody asked: a slot that moves away ends its subscriptions.
    fn confirm(&self, topic: &Topic) -> bool {
        let mut topics = self.topics.borrow_mut();
        let Some(wish) = topics.get_mut(topic) else { return false };
        let Some(outstanding) = wish.outstanding.checked_sub(1) else { return false };
        wish.outstanding = outstanding;
        if outstanding == 0 && !wish.wanted {
            topics.remove(topic);
        }
        drop(topics);
        self.sink.confirmed();
        true
    }

    /// Takes in one frame; false when it is none that a subscriber understands.
    fn understands(&self, frame: &Bytes) -> bool {
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
}

impl Listens for Subscriber {
    fn wire(&self) -> &Wire {
        &self.wire
    }

    fn poll_wanted(&self, cx: &Context<'_>) -> Poll<()> {
        self.wire.register(cx);
        if self.topics.borrow().values().any(|wish| wish.wanted) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Subscribes to everything that is wanted.
    fn begin(&self) {
        let mut topics = self.topics.borrow_mut();
        topics.retain(|_, wish| wish.wanted);
        for (topic, wish) in topics.iter_mut() {
            wish.outstanding = 1;
            self.wire.send(topic.request(true).bytes());
        }
    }

    fn frame(&self, frame: &Bytes) -> bool {
        let understood = self.understands(frame);
        if !understood {
            tracing::warn!(reply = %String::from_utf8_lossy(frame).trim_end(), "a shard refuses a subscription");
            self.sink.refused();
        }
        understood
    }

    fn end(&self) {
        self.sink.confirmed();
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
