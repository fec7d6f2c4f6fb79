//! CLIENT TRACKING: clients that keep what they have read, and are told when it changes.
//!
//! A worker with such clients hears every change from the shards, whoever made it ([`crate::upstream::Feed`]), and keeps the ledger of
//! who has read what ([`tracker`]). To the shards all of that is one more client each.
//!
//! **Guarantee**: after a client was given a value, any change of it brings an invalidation *behind* that value, from whichever proxy
//! the change came, and also when the key expires, is evicted or flushed. Feed and replies are different connections, so either may be
//! ahead of the other; it holds all the same, because
//!
//! 1. a key is put into the ledger before its read is sent, each time. So what changes after the shard has executed the read finds the key
//!    in there, unless an invalidation has taken it out meanwhile;
//! 2. an invalidation takes its place behind all that is in flight for the client at that moment: in the [window](super::window) as an
//!    entry of its own, or, while a command is carried out alone, behind that command's reply. So the one that has taken the key out comes
//!    behind the value, too.
//!
//! | what goes wrong | what clients are told |
//! |---|---|
//! | a feed is lost, or a primary becomes another | that any key may have changed, as after FLUSHALL |
//! | a feed is not there yet, or not again | values come with their invalidation: nobody keeps what nobody watches over |
//! | the ledger is full | that some key has changed |
//! | a read is sent again because of a lock or a redirect | perhaps that the key has changed, once too often |
//!
//! An invalidation too many costs a client another read; none is ever left out to save one. That decides what is otherwise open:
//!
//! - a client's own write is followed at once by the invalidation of what it had read, before the feed tells of it: it never finds in its
//!   cache what it has overwritten itself. With BCAST that comes from the feed alone, perhaps a moment later;
//! - NOLOOP spares a client the news of its own SET, MSET, SETEX and PSETEX, whose outcome does not depend on what was there. Of other
//!   writes the feed does not say whether somebody else wrote at the same moment; nor with BCAST;
//! - which keys a script has read, weft does not see: all that it declares count as read.
//!
//! A client that has another one told in its place (REDIRECT) reads two connections, whose order it must not rely on: as in Redis.

pub(super) mod mail;
mod table;
pub(super) mod terms;
pub(super) mod totals;
pub(super) mod tracker;

use std::rc::Rc;

use bytes::Bytes;

use self::terms::{Kind, Terms, Wish};
use self::tracker::Tracker;
use super::dispatch::{Step, acts_at_once};
use super::pubsub::hub::Listener;
use super::{Mode, Pending, Session};
use crate::command::{self, Access, CommandSpec, Flags, Handling, Keys};
use crate::resp::Request;

/// A client's place in the ledger. Dropping it gives it up.
pub(super) struct Tracked {
    tracker: Rc<Tracker>,
    id: u64,
}

impl Tracked {
    /// A place for client `id`, which is not told of anything yet.
    pub(super) fn new(tracker: Rc<Tracker>, id: u64, listener: Rc<Listener>) -> Self {
        tracker.connect(id, listener);
        Self { tracker, id }
    }

    /// The client is no longer told of changes.
    pub(super) fn end(&self) {
        self.tracker.end(self.id);
    }

    /// Whether the client that is told in this one's place was gone when it was to be told.
    pub(super) fn is_broken(&self) -> bool {
        self.tracker.is_broken(self.id)
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.tracker.disconnect(self.id);
    }
}

/// What a request does to keys.
#[derive(Clone, Default)]
pub(super) struct Touched {
    read: Vec<Bytes>,
    written: Vec<Bytes>,
    /// What was there makes no difference to what is there afterwards, provided that the reply is OK.
    replaces: bool,
}

/// A request that is carried out alone by a client that is told of changes.
pub(super) struct Turn {
    touched: Touched,
    /// Nobody would have heard of changes when it began.
    unarmed: bool,
    /// Whether it is this one's to let the client be told.
    holds: bool,
}

impl Session {
    /// Sends the request of a client that is told of changes on its way.
    pub(super) fn dispatch_tracked(&mut self, pending: Pending, terms: Terms) -> Step {
        if matches!(self.mode, Mode::Multi(_)) && !acts_at_once(pending.spec.name) {
            return self.dispatch_aloud(pending);
        }
        let touched = self.touched(&pending);
        let tracker = Rc::clone(&self.tracked.tracker);
        let unarmed = !touched.read.is_empty() && !tracker.is_armed();
        if unarmed || (terms.noloop && !touched.written.is_empty()) {
            return Step::Alone(pending);
        }
        let id = self.client.id();
        if terms.remembers() {
            tracker.remember(id, &touched.read);
        }
        let spec = pending.spec;
        let step = self.dispatch_aloud(pending);
        if matches!(step, Step::Sent) {
            // Whom else to tell does not wait for the reply; such a client is told by the feed.
            if terms.redirect.is_none() {
                tracker.changed_by(id, &touched.written);
            }
            self.forget_caching(spec);
        }
        tracker.make_room();
        step
    }

    /// Begins to carry out `pending` alone; `None` for a client that is not told of changes.
    pub(super) fn begin_turn(&mut self, pending: &Pending) -> Option<Turn> {
        self.client.profile.tracking?;
        let queued = matches!(self.mode, Mode::Multi(_)) && !acts_at_once(pending.spec.name);
        let touched = if queued { Touched::default() } else { self.touched(pending) };
        self.resume_turn(touched)
    }

    /// Begins once more what does `touched` to keys.
    pub(super) fn resume_turn(&mut self, touched: Touched) -> Option<Turn> {
        let terms = self.client.profile.tracking?;
        let (tracker, id) = (&self.tracked.tracker, self.client.id());
        let holds = tracker.hold(id);
        if terms.remembers() || self.queue_says_caching() {
            tracker.remember(id, &touched.read);
        }
        let unarmed = !touched.read.is_empty() && !tracker.is_armed();
        Some(Turn { touched, unarmed, holds })
    }

    /// Ends a turn whose reply, if the client hears it, was appended behind the first `before` bytes of the output.
    pub(super) fn end_turn(&mut self, turn: Option<Turn>, before: usize) {
        let Some(Turn { touched, unarmed, holds }) = turn else { return };
        let (tracker, id) = (Rc::clone(&self.tracked.tracker), self.client.id());
        if let Some(terms) = self.client.profile.tracking {
            let is_ok = self.window.with_out(|out| out.is_behind(before, b"+OK\r\n"));
            match terms.noloop {
                false => tracker.changed_by(id, &touched.written),
                true if touched.replaces && is_ok && terms.kind != Kind::Broadcast => tracker.excuse(id, &touched.written),
                true => {}
            }
            if unarmed {
                tracker.disown(id, &touched.read);
            }
        }
        tracker.make_room();
        if holds {
            tracker.release(id);
        }
    }

    /// Tells the client, if it is told of changes, that any key may have changed.
    pub(super) fn doubt(&self) {
        self.tracked.tracker.doubt(self.client.id());
    }

    /// CLIENT CACHING is about one command, or one transaction.
    pub(super) fn forget_caching(&mut self, spec: &CommandSpec) {
        if let Some(terms) = &mut self.client.profile.tracking
            && matches!(self.mode, Mode::Plain)
            && !spec.name.starts_with("client")
        {
            terms.caching = false;
        }
    }

    /// CLIENT TRACKING.
    pub(super) async fn track(&mut self, wish: Wish) {
        match wish {
            Wish::Off => {
                self.tracked.end();
                self.client.set_tracking(None, Vec::new());
            }
            Wish::On(terms, prefixes) => {
                let tracker = Rc::clone(&self.tracked.tracker);
                tracker.begin(self.client.id(), terms, &prefixes);
                self.client.set_tracking(Some(terms), prefixes);
                // Where a shard cannot be heard the client is told so with each value.
                let _ = tokio::time::timeout(self.context.config.upstream.connect_timeout, tracker.armed()).await;
            }
        }
        self.reply(|reply| reply.simple("OK"));
    }

    /// What `pending` does to keys, if it is carried out now.
    fn touched(&self, pending: &Pending) -> Touched {
        let mut touched = Touched { replaces: is_replacement(pending.spec), ..Touched::default() };
        match &self.mode {
            Mode::Multi(queue) if pending.spec.name == "exec" => {
                queue.commands().for_each(|(spec, request)| touched.add(spec, request));
            }
            _ => touched.add(pending.spec, &pending.request),
        }
        touched
    }

    /// Whether CLIENT CACHING was said between MULTI and EXEC, so that it is about a command behind it.
    fn queue_says_caching(&self) -> bool {
        let is_opt_in = self.client.profile.tracking.is_some_and(|terms| terms.kind == Kind::OptIn);
        is_opt_in && matches!(&self.mode, Mode::Multi(queue) if queue.commands().any(|(spec, _)| spec.name == "client|caching"))
    }
}

impl Turn {
    /// Nothing came of it yet: what it does to keys, for the next turn.
    pub(super) fn put_off(&mut self) -> Touched {
        std::mem::take(&mut self.touched)
    }
}

impl Touched {
    fn add(&mut self, spec: &CommandSpec, request: &Request) {
        let script = spec.handling == Handling::Script;
        let reads = spec.flags.contains(Flags::READONLY) || script;
        if !reads && !spec.is_write() {
            return;
        }
        let mut keys = Keys::new();
        // Those that could be found are enough: the command will be refused.
        let _ = command::keys(spec, request, &mut keys);
        for key in keys {
            let name = request.arg_bytes(key.index as usize);
            match key.access {
                _ if reads => self.read.push(name),
                Access::Write => self.written.push(name),
                Access::Read => {}
            }
        }
    }
}

/// Whether the command, if it is answered OK, leaves behind the value in its arguments and nothing else.
fn is_replacement(spec: &CommandSpec) -> bool {
    matches!(spec.name, "set" | "mset" | "setex" | "psetex")
}
