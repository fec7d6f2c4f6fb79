//! The worker's switchboard: which of its clients listen to what, and on which shards the worker listens for them.
//!
//! A channel belongs to the shard that has the slot of its name, so that every proxy publishes and listens at the same place. On static
//! shards a pattern is listened to everywhere, since channels that match it may be anywhere; each message is published on one shard, and
//! so arrives once. The nodes of a cluster tell each other of messages; there one node is enough. Notifications about keys are
//! published where the key is, and told to nobody: what begins with `__key`, and a pattern that such a name may match, is listened to on
//! every shard in either mode. Of all else that such a pattern hears in a cluster one node is believed, its *teller*.

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
use crate::topology::{Mode, ShardId, SlotMap, Topology};
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
    /// The one home that tells of what all of them hear.
    teller: Option<Rc<Subscriber>>,
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
            (entry.homes, entry.teller) = self.subscribers(topic);
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

    /// Listens elsewhere to what belongs elsewhere under the current topology.
    pub fn follow_topology(&self) {
        for (topic, entry) in &mut *self.entries.borrow_mut() {
            let (homes, teller) = self.subscribers(topic);
            let is_in = |homes: &[Rc<Subscriber>], home| homes.iter().any(|other| Rc::ptr_eq(other, home));
            entry.homes.iter().filter(|home| !is_in(&homes, home)).for_each(|home| home.ignore(topic));
            homes.iter().filter(|home| !is_in(&entry.homes, home)).for_each(|home| home.listen(topic));
            (entry.homes, entry.teller) = (homes, teller);
        }
        self.wake();
    }

    /// Where to listen to `topic`, and the teller if it needs one.
    fn subscribers(&self, topic: &Topic) -> (Vec<Rc<Subscriber>>, Option<Rc<Subscriber>>) {
        let Some(me) = self.me.upgrade() else { return Default::default() };
        let sink: Rc<dyn MessageSink> = me;
        let map = self.upstreams.map();
        let subscriber = |shard| Some(self.upstreams.primary(shard)?.subscriber(&sink));
        match home(&map, topic) {
            Some(shard) => (subscriber(shard).into_iter().collect(), None),
            None => {
                let homes = self.upstreams.primaries().iter().map(|node| node.subscriber(&sink)).collect();
                let tells = map.mode() == Mode::Cluster && !topic.name.starts_with(NOTIFICATIONS);
                (homes, map.owner(Slot::of(&topic.name)).filter(|_| tells).and_then(subscriber))
            }
        }
    }

    fn wake(&self) {
        self.waiting.take().into_iter().for_each(Waker::wake);
    }
}

/// The shard at which `topic` is published and listened to; `None` where it is listened to on every shard.
pub(super) fn home(map: &SlotMap, topic: &Topic) -> Option<ShardId> {
    let everywhere = match topic.kind {
        TopicKind::Channel => topic.name.starts_with(NOTIFICATIONS),
        TopicKind::Pattern => map.mode() == Mode::Static || may_match_notifications(&topic.name),
        TopicKind::Shard => false,
    };
    if everywhere { None } else { map.owner(Slot::of(&topic.name)) }
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
    /// Whether what `from` heard is news: not if the teller tells it too.
    fn believes(&self, from: &Subscriber, frame: &Bytes) -> bool {
        let Some(teller) = &self.teller else { return true };
        let is_notification = || {
            let parts = elements(frame).ok().flatten().unwrap_or_default();
            let channel = parts.get(2).and_then(|channel| channel.splitn(2, |byte| *byte == b'\n').nth(1));
            channel.is_some_and(|channel| channel.starts_with(NOTIFICATIONS))
        };
        std::ptr::eq(Rc::as_ptr(teller), from) || is_notification()
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
