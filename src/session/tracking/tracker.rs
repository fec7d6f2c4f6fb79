//! The worker's ledger of client-side caches: who is to be told of which keys, and the feeds from which the worker learns of changes.
//!
//! One feed to each primary, made when the first client of the worker wants to be told and closed soon after the last one left.
//! Whenever a feed breaks, or the primaries become others, every client is told that any key may have changed.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::mail::{Mailbox, News};
use super::table::Table;
use super::terms::{Kind, Terms};
use super::totals::{Totals, TrackingTotals};
use crate::resp::{Proto, ReplyWriter};
use crate::route;
use crate::session::ClientRegistry;
use crate::session::pubsub::hub::Listener;
use crate::upstream::{Feed, FeedSink, Node, Upstreams};

/// Which clients of one worker are told of changes, and of which.
pub struct Tracker {
    me: Weak<Self>,
    upstreams: Rc<Upstreams>,
    registry: Arc<ClientRegistry>,
    totals: Arc<TrackingTotals>,
    mailbox: Arc<Mailbox>,
    /// A client that has more than this to read is sent away.
    output_bytes_max: usize,
    feeds: RefCell<Vec<(Rc<Node>, Rc<Feed>)>>,
    /// Sessions that wait for the feeds to be armed.
    waiting: RefCell<Vec<Waker>>,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    /// All clients of the worker: any of them may be told in another's place.
    listeners: HashMap<u64, Rc<Listener>>,
    /// What is for clients that are on their way to this worker.
    early: HashMap<u64, Vec<News>>,
    /// Those that are told of changes, or have others told.
    clients: HashMap<u64, Client>,
    table: Table,
    /// Who is told of keys with which prefix.
    prefixes: BTreeMap<Bytes, HashSet<u64>>,
    /// What the process's totals include of this worker.
    told: Totals,
}

struct Client {
    terms: Terms,
    /// It may have cached something since it was last told that any key may have changed.
    owed: bool,
    /// While a command is carried out alone: what the client is told behind the reply.
    held: Option<Held>,
}

#[derive(Default)]
struct Held {
    keys: BTreeSet<Bytes>,
    all: bool,
}

impl Held {
    fn add(&mut self, news: &News) {
        match news {
            News::Keys(keys) if !self.all => self.keys.extend(keys.iter().cloned()),
            News::Keys(_) => {}
            News::All => self.all = true,
        }
        if self.all || self.keys.len() > HELD_KEYS_MAX {
            (self.all, self.keys) = (true, BTreeSet::new());
        }
    }
}

/// With more to tell behind one reply, the client is told that any key may have changed.
const HELD_KEYS_MAX: usize = 65536;

impl Tracker {
    /// A ledger without clients. `mailbox` is the worker's.
    pub fn new(
        upstreams: Rc<Upstreams>,
        registry: Arc<ClientRegistry>,
        totals: Arc<TrackingTotals>,
        mailbox: Arc<Mailbox>,
        output_bytes_max: usize,
    ) -> Rc<Self> {
        Rc::new_cyclic(|me| Self {
            me: me.clone(),
            upstreams,
            registry,
            totals,
            mailbox,
            output_bytes_max,
            feeds: RefCell::default(),
            waiting: RefCell::default(),
            state: RefCell::default(),
        })
    }

    /// What all workers have in their ledgers.
    pub fn totals(&self) -> &TrackingTotals {
        &self.totals
    }

    /// Client `id` of this worker is connected.
    pub(super) fn connect(&self, id: u64, listener: Rc<Listener>) {
        let early = self.state.borrow_mut().early.remove(&id).unwrap_or_default();
        early.iter().for_each(|news| self.send(&listener, news, true));
        self.state.borrow_mut().listeners.insert(id, listener);
    }

    /// Client `id` is gone.
    pub(super) fn disconnect(&self, id: u64) {
        self.end(id);
        self.state.borrow_mut().listeners.remove(&id);
    }

    /// From now on client `id` is told of changes on these terms.
    pub(super) fn begin(&self, id: u64, terms: Terms, prefixes: &[Bytes]) {
        let mut state = self.state.borrow_mut();
        let client = state.clients.entry(id).or_insert(Client { terms, owed: false, held: None });
        client.terms = terms;
        for prefix in prefixes {
            state.prefixes.entry(prefix.clone()).or_default().insert(id);
        }
        self.count(&mut state);
        drop(state);
        self.follow();
    }

    /// Client `id` is no longer told of changes.
    pub(super) fn end(&self, id: u64) {
        let mut state = self.state.borrow_mut();
        if state.clients.remove(&id).is_some_and(|client| client.terms.kind == Kind::Broadcast) {
            state.prefixes.retain(|_, clients| {
                clients.remove(&id);
                !clients.is_empty()
            });
        }
        self.count(&mut state);
    }

    /// Whether the client that is told in place of `id` was gone when it was to be told.
    pub(super) fn is_broken(&self, id: u64) -> bool {
        self.state.borrow().clients.get(&id).is_some_and(|client| client.terms.is_broken)
    }

    /// Whether every change is heard of from now on.
    pub(super) fn is_armed(&self) -> bool {
        let feeds = self.feeds.borrow();
        !feeds.is_empty() && feeds.iter().all(|(_, feed)| feed.is_armed())
    }

    /// Ready when every change is heard of.
    pub(super) async fn armed(&self) {
        poll_fn(|cx| {
            if self.is_armed() {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Client `id` is about to read `keys`.
    pub(super) fn remember(&self, id: u64, keys: &[Bytes]) {
        let mut state = self.state.borrow_mut();
        let State { clients, table, .. } = &mut *state;
        let Some(client) = clients.get_mut(&id).filter(|_| !keys.is_empty()) else { return };
        client.owed = true;
        keys.iter().for_each(|key| table.insert(key, id));
        self.count(&mut state);
    }

    /// Keeps the table within its bounds: whoever has read a key that has to go is told as if it had changed. Not to be called between
    /// [`remember`](Self::remember) and the sending of what reads the keys.
    pub(super) fn make_room(&self) {
        let mut state = self.state.borrow_mut();
        while self.totals.is_over()
            && let Some(key) = state.table.pick(|count| fastrand::usize(..count))
        {
            self.tell_readers(&mut state, &key);
            self.count(&mut state);
        }
    }

    /// Client `id` has itself changed `keys`: it is told as far as it was to be.
    pub(super) fn changed_by(&self, id: u64, keys: &[Bytes]) {
        let mut state = self.state.borrow_mut();
        for key in keys {
            if state.table.take_one(key, id) {
                self.tell(&mut state, id, &News::Keys([key.clone()].into()));
            }
        }
        self.count(&mut state);
    }

    /// Client `id` knows better than anybody else what is in `keys` now.
    pub(super) fn excuse(&self, id: u64, keys: &[Bytes]) {
        let mut state = self.state.borrow_mut();
        for key in keys {
            state.table.take_one(key, id);
            if let Some(held) = state.clients.get_mut(&id).and_then(|client| client.held.as_mut()) {
                held.keys.remove(key);
            }
        }
        self.count(&mut state);
    }

    /// Nobody would hear of changes to `keys`, which client `id` has read: it is told at once that it cannot keep them.
    pub(super) fn disown(&self, id: u64, keys: &[Bytes]) {
        let mut state = self.state.borrow_mut();
        keys.iter().for_each(|key| {
            state.table.take_one(key, id);
        });
        match state.clients.get(&id).map(|client| client.terms.kind) {
            Some(Kind::Broadcast) => {
                for (prefix, matching) in by_prefix(&state.prefixes, keys) {
                    if state.prefixes[&prefix].contains(&id) {
                        self.tell(&mut state, id, &News::Keys(matching));
                    }
                }
            }
            _ => keys.iter().for_each(|key| self.tell(&mut state, id, &News::Keys([key.clone()].into()))),
        }
        self.count(&mut state);
    }

    /// Tells client `id` that any key may have changed.
    pub(super) fn doubt(&self, id: u64) {
        self.tell(&mut self.state.borrow_mut(), id, &News::All);
    }

    /// What client `id` is to be told waits until [`release`](Self::release). False if it does so already, or is not told anything.
    pub(super) fn hold(&self, id: u64) -> bool {
        let mut state = self.state.borrow_mut();
        let Some(client) = state.clients.get_mut(&id).filter(|client| client.held.is_none()) else { return false };
        client.held = Some(Held::default());
        true
    }

    /// Client `id` is told what has waited.
    pub(super) fn release(&self, id: u64) {
        let mut state = self.state.borrow_mut();
        let Some(client) = state.clients.get_mut(&id) else { return };
        let (Some(held), kind) = (client.held.take(), client.terms.kind) else { return };
        let keys: Vec<Bytes> = held.keys.into_iter().collect();
        match kind {
            _ if held.all => self.tell(&mut state, id, &News::All),
            Kind::Broadcast => {
                for (prefix, matching) in by_prefix(&state.prefixes, &keys) {
                    if state.prefixes[&prefix].contains(&id) {
                        self.tell(&mut state, id, &News::Keys(matching));
                    }
                }
            }
            Kind::Read | Kind::OptIn | Kind::OptOut => {
                keys.into_iter().for_each(|key| self.tell(&mut state, id, &News::Keys([key].into())));
            }
        }
    }

    /// Hears the primaries that there are under the current topology.
    pub fn follow_topology(&self) {
        if self.follow() {
            self.forget_all();
        }
    }

    /// Gives up feeds that do not answer within `limit`, and all when nobody needs them; keeps the table within its bounds. To be called
    /// now and then.
    pub fn watch(&self, now: Instant, limit: Duration) {
        self.follow();
        self.feeds.borrow().iter().for_each(|(_, feed)| feed.watch(now, limit));
        self.make_room();
    }

    /// Hands on what comes from other workers, for ever.
    pub async fn deliver(&self) {
        loop {
            for (id, letters) in self.mailbox.take().await {
                let listener = self.state.borrow().listeners.get(&id).cloned();
                match listener {
                    Some(listener) => letters.iter().for_each(|news| self.send(&listener, news, true)),
                    None => self.send_on(id, letters),
                }
            }
        }
    }

    /// Hands on what is for a client that has moved, or keeps it for one that is about to arrive.
    fn send_on(&self, id: u64, letters: Vec<News>) {
        match self.registry.mailbox(id) {
            Some(mailbox) if Arc::ptr_eq(&mailbox, &self.mailbox) => {
                let mut state = self.state.borrow_mut();
                state.early.retain(|id, _| self.registry.is_connected(*id));
                state.early.entry(id).or_default().extend(letters);
            }
            Some(mailbox) => letters.into_iter().for_each(|news| mailbox.put(id, news)),
            None => {}
        }
    }

    /// Opens and closes feeds until there is one for each primary, if anybody is to be told of anything. Whether any was there that is
    /// no more, or was not while others were.
    fn follow(&self) -> bool {
        let Some(me) = self.me.upgrade() else { return false };
        let wanted = if self.state.borrow().clients.is_empty() { Vec::new() } else { self.upstreams.primaries() };
        let mut feeds = self.feeds.borrow_mut();
        let before = feeds.len();
        feeds.retain(|(node, feed)| {
            let stays = wanted.iter().any(|other| Rc::ptr_eq(node, other));
            if !stays {
                feed.close();
            }
            stays
        });
        let left = feeds.len();
        for node in wanted {
            if !feeds.iter().any(|(other, _)| Rc::ptr_eq(other, &node)) {
                let sink: Rc<dyn FeedSink> = Rc::<Self>::clone(&me);
                let feed = node.feed(sink);
                feeds.push((node, feed));
            }
        }
        if feeds.is_empty() && before > 0 {
            let mut state = self.state.borrow_mut();
            state.table = Table::default();
            self.count(&mut state);
        }
        left < before || feeds.len() > left
    }

    /// Tells every client that any key may have changed.
    fn forget_all(&self) {
        let mut state = self.state.borrow_mut();
        state.table = Table::default();
        let owed: Vec<u64> = state
            .clients
            .iter_mut()
            .filter_map(|(id, client)| (std::mem::take(&mut client.owed) || client.terms.kind == Kind::Broadcast).then_some(*id))
            .collect();
        owed.into_iter().for_each(|id| self.tell(&mut state, id, &News::All));
        self.count(&mut state);
    }

    fn tell_readers(&self, state: &mut State, key: &Bytes) {
        for id in state.table.take(key) {
            // Who has turned to prefixes meanwhile has its keys told by them.
            if state.clients.get(&id).is_some_and(|client| client.terms.kind != Kind::Broadcast) {
                self.tell(state, id, &News::Keys([key.clone()].into()));
            }
        }
    }

    /// Tells `news` to client `id`, or to whom it wants told.
    fn tell(&self, state: &mut State, id: u64, news: &News) {
        let Some(client) = state.clients.get_mut(&id) else { return };
        if let Some(held) = &mut client.held {
            return held.add(news);
        }
        let Some(listener) = state.listeners.get(&id) else { return };
        let Some(other) = client.terms.redirect else { return self.send(listener, news, false) };
        if let Some(mailbox) = self.registry.mailbox(other) {
            return mailbox.put(other, news.clone());
        }
        client.terms.is_broken = true;
        if listener.proto.get() == Proto::Resp3 {
            self.write(listener, |reply| {
                reply.push(2);
                reply.bulk(b"tracking-redir-broken");
                reply.integer(other as i64);
            });
        }
    }

    /// Writes `news` to `listener`. One that reads RESP2 can only be told `instead` of another, and only while it listens to something.
    fn send(&self, listener: &Listener, news: &News, instead: bool) {
        match listener.proto.get() {
            Proto::Resp3 => self.write(listener, |reply| {
                reply.push(2);
                reply.bulk(b"invalidate");
                write_news(reply, news);
            }),
            Proto::Resp2 if instead && listener.listens.get() => self.write(listener, |reply| {
                reply.array(3);
                reply.bulk(b"message");
                reply.bulk(b"__redis__:invalidate");
                write_news(reply, news);
            }),
            Proto::Resp2 => {}
        }
    }

    fn write(&self, listener: &Listener, write: impl FnOnce(&mut ReplyWriter<'_>)) {
        let mut frame = BytesMut::new();
        write(&mut ReplyWriter::new(&mut frame, listener.proto.get()));
        listener.window.message_behind(frame.freeze(), self.output_bytes_max);
    }

    /// Brings the process's totals up to date.
    fn count(&self, state: &mut State) {
        let now =
            Totals { clients: state.clients.len(), keys: state.table.len(), items: state.table.items(), prefixes: state.prefixes.len() };
        self.totals.replace(std::mem::replace(&mut state.told, now), now);
    }
}

impl FeedSink for Tracker {
    fn changed(&self, mut keys: Vec<Bytes>) {
        keys.retain(|key| !route::is_internal(key));
        let mut state = self.state.borrow_mut();
        keys.iter().for_each(|key| self.tell_readers(&mut state, key));
        for (prefix, matching) in by_prefix(&state.prefixes, &keys) {
            let clients: Vec<u64> = state.prefixes[&prefix].iter().copied().collect();
            clients.into_iter().for_each(|id| self.tell(&mut state, id, &News::Keys(Arc::clone(&matching))));
        }
        self.count(&mut state);
    }

    fn flushed(&self) {
        self.forget_all();
    }

    fn armed(&self) {
        self.waiting.take().into_iter().for_each(Waker::wake);
    }
}

/// For each of `prefixes`, those of `keys` that begin with it, if there are any.
fn by_prefix(prefixes: &BTreeMap<Bytes, HashSet<u64>>, keys: &[Bytes]) -> Vec<(Bytes, Arc<[Bytes]>)> {
    let matching = |prefix: &Bytes| keys.iter().filter(|key| key.starts_with(prefix)).cloned().collect::<Arc<[Bytes]>>();
    prefixes.keys().map(|prefix| (prefix.clone(), matching(prefix))).filter(|(_, keys)| !keys.is_empty()).collect()
}

fn write_news(reply: &mut ReplyWriter<'_>, news: &News) {
    match news {
        News::Keys(keys) => {
            reply.array(keys.len());
            keys.iter().for_each(|key| reply.bulk(key));
        }
        News::All => reply.null(),
    }
}
