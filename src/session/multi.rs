//! MULTI to EXEC as the client sees it: what is queued, what spoils the queue, and how EXEC's array is put together.
//!
//! The queue holds what Redis would hold. A command over several participants is queued as one piece for each, whose replies are put
//! together again; what weft answers itself (PING, SELECT, CLIENT …) runs when EXEC comes, in its place. SELECT takes effect on the
//! routing of what is queued behind it.

use bytes::{Bytes, BytesMut};

use super::dispatch::Step;
use super::{Mode, Pending, Session, rescue, split};
use crate::command::{Flags, Handling};
use crate::resp::{ReplyWriter, error_reply};
use crate::route::{self, PlacedKeys};
use crate::txn::{Command, Executed};

/// What was queued since MULTI.
pub(super) struct Queue {
    elements: Vec<Element>,
    /// Of the requests, for the limit.
    bytes: usize,
    /// A command was refused: EXEC will refuse too.
    spoiled: bool,
    /// The database that the next command is queued for.
    db: u32,
}

/// One queued command.
enum Element {
    /// Answered by weft when EXEC comes.
    Local(Pending),
    /// For one participant.
    Single(Command),
    /// For several.
    Split(split::Plan),
    /// Its arguments are wrong in a way that Redis only tells when it runs.
    Failed(Bytes),
}

impl Queue {
    fn new(db: u32) -> Self {
        Self { elements: Vec::new(), bytes: 0, spoiled: false, db }
    }

    /// EXEC will refuse.
    pub(super) fn spoil(&mut self) {
        self.spoiled = true;
    }

    /// How many commands are queued.
    pub(super) fn len(&self) -> usize {
        self.elements.len()
    }
}

impl Session {
    /// MULTI, DISCARD, EXEC, WATCH, UNWATCH.
    pub(super) fn transaction(&mut self, pending: Pending) -> Step {
        match pending.spec.name {
            "multi" => self.multi(),
            "discard" if !matches!(self.mode, Mode::Multi(_)) => self.refuse(error_reply::DISCARD_WITHOUT_MULTI),
            "exec" if !matches!(self.mode, Mode::Multi(_)) => self.refuse(error_reply::EXEC_WITHOUT_MULTI),
            "watch" if matches!(self.mode, Mode::Multi(_)) => self.refuse(error_reply::WATCH_INSIDE_MULTI),
            "discard" => {
                self.leave_multi();
                self.watch = None;
                self.ok()
            }
            "unwatch" => {
                self.watch = None;
                self.ok()
            }
            _ => Step::Alone(pending),
        }
    }

    fn multi(&mut self) -> Step {
        if matches!(self.mode, Mode::Multi(_)) {
            return self.refuse(error_reply::NESTED_MULTI);
        }
        self.mode = Mode::Multi(Queue::new(self.client.db()));
        self.client.profile.multi = Some(0);
        self.ok()
    }

    fn ok(&self) -> Step {
        self.reply(|reply| reply.simple("OK"));
        Step::Sent
    }

    /// Back to carrying out each command; what was queued is handed over.
    pub(super) fn leave_multi(&mut self) -> Option<Queue> {
        self.client.profile.multi = None;
        match std::mem::replace(&mut self.mode, Mode::Plain) {
            Mode::Multi(queue) => Some(queue),
            Mode::Plain => None,
        }
    }

    /// Queues `pending`, or says why not.
    pub(super) fn enqueue(&mut self, pending: Pending) -> Step {
        match self.element(pending) {
            Ok(element) => {
                let Mode::Multi(queue) = &mut self.mode else { return Step::Sent };
                queue.elements.push(element);
                self.client.profile.multi = Some(queue.len() as u32);
                self.reply(|reply| reply.simple("QUEUED"));
                Step::Sent
            }
            Err(text) => {
                self.spoil();
                self.refuse(&text)
            }
        }
    }

    fn element(&mut self, pending: Pending) -> Result<Element, String> {
        let Mode::Multi(queue) = &mut self.mode else { return Err(error_reply::EXEC_WITHOUT_MULTI.to_owned()) };
        let limits = &self.context.config.transactions;
        queue.bytes += pending.request.bytes().len();
        if queue.len() >= limits.queue_commands_max || queue.bytes > limits.queue_bytes_max {
            return Err(error_reply::queue_limit(limits.queue_commands_max, limits.queue_bytes_max));
        }
        if pending.spec.flags.contains(Flags::NO_MULTI) {
            return Err(error_reply::NOT_IN_MULTI.to_owned());
        }
        match pending.spec.handling {
            Handling::Local | Handling::AnyShard => {
                if pending.spec.name == "select" {
                    queue.db = super::local::select_target(&pending.request).unwrap_or(queue.db);
                }
                return Ok(Element::Local(pending));
            }
            Handling::Refused(reason) => return Err(error_reply::refused(pending.spec.name, reason)),
            Handling::Later(reason) if pending.spec.keys.is_empty() => return Err(error_reply::not_supported_yet(pending.spec.name, reason)),
            _ => {}
        }
        let db = queue.db;
        let map = self.context.upstreams.map();
        match route::place(&map, db, pending.spec, &pending.request) {
            Ok(keys) => self.keyed(pending, keys, db),
            Err(error) if rescue::is_late(&error) => {
                let mut text = BytesMut::new();
                rescue::route(&mut ReplyWriter::new(&mut text, self.client.proto()), &error, pending.spec);
                Ok(Element::Failed(text.freeze()))
            }
            Err(error) => Err(rescue::route_text(&error, pending.spec)),
        }
    }

    fn keyed(&self, pending: Pending, keys: PlacedKeys, db: u32) -> Result<Element, String> {
        let Pending { spec, request } = pending;
        match (route::common(&keys), spec.handling) {
            (Some(_), _) => Ok(Element::Single(Command { spec, request, keys })),
            (None, _) if keys.is_empty() => Ok(Element::Single(Command { spec, request, keys: self.anywhere(db) })),
            (None, Handling::Split(kind)) => {
                split::plan(kind, spec, &request, &keys).map(Element::Split).ok_or_else(|| error_reply::cross_shard_in_multi(spec.name))
            }
            (None, _) => Err(error_reply::cross_shard_later(spec.name)),
        }
    }

    /// Carries out EXEC.
    pub(super) async fn exec(&mut self) {
        let Some(queue) = self.leave_multi() else { return };
        let watch = self.watch.take();
        if queue.spoiled {
            drop(watch);
            return self.reply(|reply| reply.error(error_reply::EXECABORT));
        }
        let commands: Vec<Command> = queue.elements.iter().flat_map(Element::commands).cloned().collect();
        let context = std::rc::Rc::clone(&self.context);
        match context.engine.exec(commands, watch, self.client.proto()).await {
            Ok(Executed::Replies(replies)) => self.exec_replies(queue, replies).await,
            Ok(Executed::WatchBroken) => {
                context.metrics.watch_aborts.add();
                self.reply(ReplyWriter::null_array);
            }
            Err(error) => self.reply(|reply| rescue::exec(reply, &error)),
        }
    }

    /// Writes EXEC's array: `replies` are those of the commands in the order in which the elements named them.
    async fn exec_replies(&mut self, queue: Queue, replies: Vec<Bytes>) {
        let mut replies = replies.into_iter();
        self.reply(|reply| reply.array(queue.elements.len()));
        for element in queue.elements {
            match element {
                Element::Local(pending) => self.alone_local(pending).await,
                Element::Failed(text) => self.window.reply(|out| out.extend_from_slice(&text)),
                Element::Single(_) => self.window.reply(|out| replies.next().iter().for_each(|reply| out.extend_from_slice(reply))),
                Element::Split(plan) => {
                    let parts: Vec<Bytes> = replies.by_ref().take(plan.commands.len()).collect();
                    let proto = self.client.proto();
                    self.window.reply(|out| split::merge(&plan, &parts, out, proto));
                }
            }
        }
    }
}

impl Element {
    fn commands(&self) -> &[Command] {
        match self {
            Self::Single(command) => std::slice::from_ref(command),
            Self::Split(plan) => &plan.commands,
            Self::Local(_) | Self::Failed(_) => &[],
        }
    }
}
