//! The worker's switchboard: which of its clients listen to what, and on which shards the worker listens for them.
//!
//! Every proxy publishes and listens at one shard, the *post*: so messages on whatever channels have one order, that of one server, and
//! none depends on what the nodes of a cluster tell each other. What one shard cannot carry goes on shard channels (SPUBLISH), each of
//! which belongs to the shard that has the slot of its name.
//!
//! Notifications about keys are published where the key is, and told to nobody: what begins with `__key`, and a pattern that such a name
//! may match, is listened to on every shard. Of all else that such a pattern hears the post alone is believed.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Poll, Waker};

use bytes::Bytes;

use super::census::Census;
use crate::resp::{Proto, elements};
use crate::route::INTERNAL_PREFIX;
use crate::session::window::Window;
use crate::slot::Slot;
use crate::topology::Topology;
use crate::upstream::{MessageSink, Subscriber, Topic, TopicKind, Upstreams};

/// Everything that one worker's clients listen to.
pub struct Hub {
    me: Weak<Self>,
    upstreams: Rc<Upstreams>,
    topology: Topology,
    census: Arc<Census>,
    /// A client that has more than this to read is sent away.
    output_bytes_max: usize,
    entries: RefCell<HashMap<Topic, Entry>>,
    /// Sessions that wait for a subscription to be confirmed.
    waiting: RefCell<Vec<Waker>>,
}

/// One topic that somebody listens to, or is about to.
#[derive(Default)]
struct Entry {
    /// How many hold it; it is listened to as long as somebody does.
    holders: usize,
    listeners: Vec<Rc<Listener>>,
    homes: Vec<Rc<Subscriber>>,
    /// The one home that is believed, but for notifications about keys.
    post: Option<Rc<Subscriber>>,
}

/// A client as those know it who tell it something: its session holds the other end.
pub(in crate::session) struct Listener {
    pub(in crate::session) window: Rc<Window>,
    pub(in crate::session) proto: Cell<Proto>,
    /// It is subscribed to something.
    pub(in crate::session) listens: Cell<bool>,
}

impl Hub {
    /// A hub without listeners.
    pub fn new(upstreams: Rc<Upstreams>, topology: Topology, census: Arc<Census>, output_bytes_max: usize) -> Rc<Self> {
        Rc::new_cyclic(|me| Self {
            me: me.clone(),
            upstreams,
            topology,
            census,
            output_bytes_max,
            entries: RefCell::default(),
            waiting: RefCell::default(),
        })
    }

    /// Who listens to what in all workers.
    pub(super) fn census(&self) -> &Census {
        &self.census
    }

    /// Has the worker listen to `topic`, once more than before.
    pub(super) fn hold(&self, topic: &Topic) {
        let mut entries = self.entries.borrow_mut();
        let entry = entries.entry(topic.clone()).or_default();
        entry.holders += 1;
        if entry.holders == 1 {
            self.census.workers(topic, 1);
            (entry.homes, entry.post) = self.subscribers(topic);
            entry.homes.iter().for_each(|home| home.listen(topic));
        }
    }

    /// Takes a [`hold`](Self::hold) back.
    pub(super) fn release(&self, topic: &Topic) {
        let mut entries = self.entries.borrow_mut();
        let Some(entry) = entries.get_mut(topic) else { return };
        entry.holders -= 1;
        if entry.holders == 0 {
            self.census.workers(topic, -1);
            entry.homes.iter().for_each(|home| home.ignore(topic));
            entries.remove(topic);
        }
    }

    /// Messages on `topic`, which must be held, go to `listener` from now on.
    pub(super) fn join(&self, topic: &Topic, listener: &Rc<Listener>) {
        if let Some(entry) = self.entries.borrow_mut().get_mut(topic) {
            entry.listeners.push(Rc::clone(listener));
            self.census.clients(topic, 1);
        }
    }

    /// Messages on `topic` no longer go to `listener`, which gives its hold up.
    pub(super) fn leave(&self, topic: &Topic, listener: &Rc<Listener>) {
        if let Some(entry) = self.entries.borrow_mut().get_mut(topic) {
            entry.listeners.retain(|other| !Rc::ptr_eq(other, listener));
            self.census.clients(topic, -1);
        }
        self.release(topic);
    }

    /// Ready when every shard that `topics` belong to has confirmed them.
    pub(super) async fn confirmed(&self, topics: &[Topic]) {
        poll_fn(|cx| {
            let entries = self.entries.borrow();
            let is_ready = |topic| entries.get(topic).is_some_and(|entry| entry.homes.iter().all(|home| home.is_listening(topic)));
            if topics.iter().all(is_ready) {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Ready when the shards have confirmed that nobody listens to `topics` any more, as far as nobody does, or cannot be asked.
    pub(super) async fn settled(&self, topics: &[Topic]) {
        poll_fn(|cx| {
            let is_settled = |topic| self.subscribers(topic).0.iter().all(|home| home.is_settled(topic));
            if topics.iter().all(is_settled) {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Listens elsewhere to what belongs elsewhere under the current topology.
    pub fn follow_topology(&self) {
        for (topic, entry) in &mut *self.entries.borrow_mut() {
            let (homes, post) = self.subscribers(topic);
            let is_in = |homes: &[Rc<Subscriber>], home| homes.iter().any(|other| Rc::ptr_eq(other, home));
            entry.homes.iter().filter(|home| !is_in(&homes, home)).for_each(|home| home.ignore(topic));
            homes.iter().filter(|home| !is_in(&entry.homes, home)).for_each(|home| home.listen(topic));
            (entry.homes, entry.post) = (homes, post);
        }
        self.wake();
    }

    /// Where to listen to `topic`, and the post if others are listened to as well.
    fn subscribers(&self, topic: &Topic) -> (Vec<Rc<Subscriber>>, Option<Rc<Subscriber>>) {
        let Some(me) = self.me.upgrade() else { return Default::default() };
        let sink: Rc<dyn MessageSink> = me;
        let home = self.upstreams.map().owner(home_slot(topic)).and_then(|shard| self.upstreams.primary(shard));
        let home = home.map(|node| node.subscriber(&sink));
        if may_be_notified(topic) {
            (self.upstreams.primaries().iter().map(|node| node.subscriber(&sink)).collect(), home)
        } else {
            (home.into_iter().collect(), None)
        }
    }

    fn wake(&self) {
        self.waiting.take().into_iter().for_each(Waker::wake);
    }
}

/// The slot whose owner is the shard at which `topic` is published.
pub(super) fn home_slot(topic: &Topic) -> Slot {
    match topic.kind {
        TopicKind::Channel | TopicKind::Pattern => Slot::FIRST,
        TopicKind::Shard => Slot::of(&topic.name),
    }
}

/// Whether servers may tell of changes of their keys on `topic`.
fn may_be_notified(topic: &Topic) -> bool {
    match topic.kind {
        TopicKind::Channel => topic.name.starts_with(NOTIFICATIONS),
        TopicKind::Pattern => may_match_notifications(&topic.name),
        TopicKind::Shard => false,
    }
}

/// What the channels begin with on which a server tells of changes of its keys.
const NOTIFICATIONS: &[u8] = b"__key";

/// Whether what `pattern` says before its first wildcard allows for it.
fn may_match_notifications(pattern: &[u8]) -> bool {
    let wildcard = pattern.iter().position(|byte| b"*?[\\".contains(byte));
    let literal = &pattern[..wildcard.unwrap_or(pattern.len())];
    literal.starts_with(NOTIFICATIONS) || (wildcard.is_some() && NOTIFICATIONS.starts_with(literal))
}

impl Entry {
    /// Whether what `from` heard is news: not if the post tells it too.
    fn believes(&self, from: &Subscriber, frame: &Bytes) -> bool {
        let Some(post) = &self.post else { return true };
        let is_notification = || {
            let parts = elements(frame).ok().flatten().unwrap_or_default();
            let channel = parts.get(2).and_then(|channel| channel.splitn(2, |byte| *byte == b'\n').nth(1));
            channel.is_some_and(|channel| channel.starts_with(NOTIFICATIONS))
        };
        std::ptr::eq(Rc::as_ptr(post), from) || is_notification()
    }
}

impl MessageSink for Hub {
    fn message(&self, from: &Subscriber, topic: &Topic, frame: &Bytes) {
        // Notifications about weft's own keys; anything else that holds these bytes is looked at twice, and passed on.
        if memchr::memmem::find(frame, INTERNAL_PREFIX).is_some() && memchr::memmem::find(frame, b"__key").is_some() {
            return;
        }
        if let Some(entry) = self.entries.borrow().get(topic).filter(|entry| entry.believes(from, frame)) {
            for listener in &entry.listeners {
                listener.window.message(listener.proto.get(), frame, self.output_bytes_max);
            }
        }
    }

    fn confirmed(&self) {
        self.wake();
    }

    fn refused(&self) {
        self.topology.request_refresh();
    }
}

#[cfg(test)]
mod tests {
    use super::may_match_notifications;

    #[test]
    fn patterns_that_notifications_may_match_are_told_from_others() {
        for pattern in ["*", "_*", "__key*", "__keyspace@0__:*", "__keyevent@0__:set", "?_key", "[_]x", "\\__key*", "__k*"] {
            assert!(may_match_notifications(pattern.as_bytes()), "{pattern}");
        }
        for pattern in ["news.*", "__kex*", "__", "", "_news*"] {
            assert!(!may_match_notifications(pattern.as_bytes()), "{pattern}");
        }
    }
}
