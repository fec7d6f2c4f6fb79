//! MULTI to EXEC as the client sees it: what is queued, what spoils the queue, and how EXEC's array is put together.
//!
//! The queue holds what Redis would hold. A command over several participants is queued as one piece for each, whose replies are put
//! together again; what weft answers itself (PING, SELECT, CLIENT …), or asks all shards (KEYS, DBSIZE …), runs when EXEC comes, its reply in its
//! place. SELECT takes effect on the
//! routing of what is queued behind it.

use std::rc::Rc;

use bytes::Bytes;

use super::client::Queued;
use super::dispatch::Step;
use super::monitor::Shown;
use super::{Mode, Pending, Session, blocking, local, pause, rescue, split};
use crate::command::{CommandSpec, Flags, Handling, KeyError, Sort, SplitKind};
use crate::metrics::Counter;
use crate::resp::{Proto, Request, error_reply};
use crate::route::{self, Place, Route, RouteError, Routed};
use crate::topology::ShardId;
use crate::txn::compute::Spread;
use crate::txn::watch::Watch;
use crate::txn::{ExecError, Executed};

/// What was queued since MULTI.
pub(super) struct Queue {
    elements: Vec<Element>,
    /// Of the requests, for the limit.
    bytes: usize,
    /// A command was refused: EXEC will refuse too.
    spoiled: bool,
    /// The database that the next command is queued for.
    db: u32,
    /// The protocol version that its reply will be in.
    proto: Proto,
    /// What was queued while somebody watched.
    shown: Vec<Shown>,
}

/// One queued command.
enum Element {
    /// Answered when EXEC comes, by weft or by whichever shards it asks.
    Local(Pending),
    /// For one participant.
    Single(Routed),
    /// For several, each of which does its part.
    Split(split::Plan),
    /// For several, and computed where copies of all keys are.
    Spread(Spread),
    /// HELLO that changes the protocol version: of the replies behind it too, so a server has to hear of it as well.
    Greeting(Pending),
    /// UNWATCH, which comes too late to change anything.
    Unwatch,
    /// Its arguments are wrong in a way that shows when EXEC comes: the error in its place.
    Wrong(String),
}

impl Queue {
    /// Whether one of its commands counts as a write for CLIENT PAUSE.
    pub(super) fn may_replicate(&self) -> bool {
        self.elements.iter().any(|element| match element {
            Element::Local(pending) | Element::Greeting(pending) => pause::may_replicate(pending.spec),
            Element::Single(routed) => pause::may_replicate(routed.spec),
            Element::Split(plan) => plan.writes(),
            Element::Spread(spread) => spread.writes(),
            Element::Unwatch | Element::Wrong(_) => false,
        })
    }

    fn new(db: u32, proto: Proto) -> Self {
        Self { elements: Vec::new(), bytes: 0, spoiled: false, db, proto, shown: Vec::new() }
    }

    /// What EXEC would carry out.
    pub(super) fn commands(&self) -> impl Iterator<Item = (&'static CommandSpec, &Request)> {
        self.elements.iter().flat_map(|element| {
            let other = match element {
                Element::Local(pending) | Element::Greeting(pending) => Some((pending.spec, &pending.request)),
                Element::Spread(spread) => Some((spread.spec, &spread.request)),
                Element::Single(_) | Element::Split(_) | Element::Unwatch | Element::Wrong(_) => None,
            };
            other.into_iter().chain(element.commands().iter().map(|command| (command.spec, &command.request)))
        })
    }

    /// Whether no participant can carry out its part for itself.
    fn is_computed(&self) -> bool {
        let any = |is: fn(&Element) -> bool| self.elements.iter().any(is);
        any(|element| matches!(element, Element::Spread(_)))
            || (any(|element| matches!(element, Element::Greeting(_))) && any(|element| !element.commands().is_empty()))
    }

    /// The database that the next command is queued for.
    pub(super) fn db(&self) -> u32 {
        self.db
    }

    /// `shown` is to be shown to those who watch when it is carried out.
    pub(super) fn note(&mut self, shown: Shown) {
        self.shown.push(shown);
    }

    /// How many bytes of requests it holds.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// EXEC will refuse.
    pub(super) fn spoil(&mut self) {
        self.spoiled = true;
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
        self.mode = Mode::Multi(Queue::new(self.client.profile.db, self.client.proto()));
        self.client.profile.queued = Some(Queued { commands: 0, bytes: 0 });
        self.ok()
    }

    fn ok(&self) -> Step {
        self.reply(|reply| reply.simple("OK"));
        Step::Sent
    }

    /// Back to carrying out each command; what was queued is handed over.
    pub(super) fn leave_multi(&mut self) -> Option<Queue> {
        self.client.profile.queued = None;
        match std::mem::replace(&mut self.mode, Mode::Plain) {
            Mode::Multi(queue) => Some(queue),
            Mode::Plain => None,
        }
    }

    /// Queues `pending`, or says why not.
    pub(super) fn enqueue(&mut self, Pending { spec, request }: Pending) -> Step {
        match self.element(Pending { spec, request: request.detached() }) {
            Ok(element) => {
                let Mode::Multi(queue) = &mut self.mode else { return Step::Sent };
                queue.elements.push(element);
                self.client.profile.queued = Some(Queued { commands: queue.elements.len() as u32, bytes: queue.bytes });
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
        let Pending { spec, request } = &pending;
        let (limits, settings) = (&self.context.config.transactions, &self.context.settings);
        queue.bytes += request.bytes().len();
        if queue.elements.len() >= limits.queue_commands_max {
            return Err(error_reply::queue_limit("queue_commands_max", limits.queue_commands_max));
        }
        if queue.bytes > limits.queue_bytes_max {
            return Err(error_reply::queue_limit("queue_bytes_max", limits.queue_bytes_max));
        }
        if spec.flags.contains(Flags::NO_MULTI) {
            return Err(error_reply::NOT_IN_TRANSACTION.to_owned());
        }
        match spec.handling {
            Handling::Everywhere if spec.flags.contains(Flags::BLOCKING) => return Err(error_reply::NOT_IN_TRANSACTION.to_owned()),
            Handling::Everywhere if spec.is_write() => return Err(error_reply::everywhere_in_multi(spec.name)),
            Handling::Local | Handling::PubSub | Handling::AnyShard | Handling::Everywhere | Handling::Keyspace(_) => {
                if spec.name == "select" {
                    queue.db = local::selected(request, settings.databases).unwrap_or(queue.db);
                }
                if spec.name == "hello"
                    && let Some(proto) = local::greeted(request, settings).filter(|proto| *proto != queue.proto)
                {
                    queue.proto = proto;
                    return Ok(Element::Greeting(pending));
                }
                if spec.name == "monitor" {
                    return Ok(Element::Wrong(error_reply::MONITOR_IN_TRANSACTION.to_owned()));
                }
                return Ok(Element::Local(pending));
            }
            Handling::Transaction => return Ok(Element::Unwatch),
            Handling::Disabled(text) => return Err(text.to_owned()),
            Handling::Refused(reason) => return Err(error_reply::refused(spec.name, reason)),
            Handling::Later(_) => return Err(error_reply::not_supported(spec.name)),
            // What would wait outside of a transaction does not wait in here.
            Handling::Keyed | Handling::Split(_) | Handling::Move | Handling::Blocking | Handling::Script => {}
        }
        let map = self.context.upstreams.map();
        match (route::route(&map, queue.db, spec, request), spec.handling) {
            (Ok(Route::One(routed)), _) => Ok(Element::Single(routed)),
            (Ok(Route::Several(keys)), Handling::Split(kind)) if kind != SplitKind::PairsIfAbsent => {
                let plan = split::divide(kind, spec, request, &keys);
                Ok(plan.map_or_else(|| Element::Wrong(error_reply::wrong_arity(spec.name)), Element::Split))
            }
            (Ok(Route::Several(keys)), _) => self.context.spread(spec, request, queue.db, &keys).map(Element::Spread),
            (Err(RouteError::Keys(KeyError::OtherDatabase)), _) => match self.context.spread_over_databases(spec, request, queue.db) {
                Ok(spread) => Ok(Element::Spread(spread)),
                // What is wrong with its arguments a server says when it runs it.
                Err(text) => Ok(Element::Wrong(text)),
            },
            (Err(RouteError::Keys(KeyError::Pattern | KeyError::Get)), _) => match Sort::parse(spec, request) {
                Ok(_) => self.context.spread_sort(spec, request, queue.db).map(Element::Spread),
                Err(text) => Ok(Element::Wrong(text.to_owned())),
            },
            (Err(RouteError::Keys(error)), _) if rescue::is_the_shards_to_tell(error) => {
                let routed = route::anywhere(&map, spec, request.clone());
                routed.map(Element::Single).ok_or_else(|| error_reply::CLUSTERDOWN_SLOT.to_owned())
            }
            (Err(error), _) => Err(rescue::route(&error, spec)),
        }
    }

    /// Carries out EXEC.
    pub(super) async fn exec(&mut self, request: &Request) {
        let Some(mut queue) = self.leave_multi() else { return };
        let shown = std::mem::take(&mut queue.shown);
        let carried_out = self.carry_out_queue(queue).await;
        self.show_transaction(if carried_out { &shown } else { &[] }, request);
    }

    /// Carries out what was queued, and answers EXEC; whether it came to that.
    async fn carry_out_queue(&mut self, queue: Queue) -> bool {
        let watch = self.watch.take();
        let context = Rc::clone(&self.context);
        if let Some(busy) = self.busy(queue.elements.iter().flat_map(Element::shards)).await {
            self.reply(|reply| rescue::transaction(reply, &ExecError::Refused(busy)));
            return false;
        }
        if queue.spoiled {
            self.reply(|reply| reply.error(error_reply::EXECABORT));
            return false;
        }
        let habit = watch.as_ref().map(|watch| context.engine.habit(watch, queue.elements.iter().flat_map(Element::written)));
        let executed = if queue.is_computed() {
            let commands = queue.elements.iter().flat_map(Element::spread).collect();
            context.compute(commands, watch, self.client.proto()).await
        } else {
            self.exec_queued(&queue, watch).await
        };
        if let Some(mut habit) = habit {
            habit.set_broken(matches!(executed, Ok(Executed::WatchBroken)));
            self.habit = habit;
        }
        let carried_out = matches!(executed, Ok(Executed::Replies(_)) | Err(ExecError::Unconfirmed));
        match executed {
            Ok(Executed::Replies(replies)) => {
                self.exec_replies(queue, replies).await;
            }
            Ok(Executed::WatchBroken) => {
                context.counts.count(Counter::WatchAborts);
                self.reply(|reply| reply.null_array());
            }
            Err(error) => {
                self.reply(|reply| rescue::transaction(reply, &error));
            }
        }
        carried_out
    }

    /// Carries out what `queue` holds where its keys are.
    async fn exec_queued(&self, queue: &Queue, watch: Option<Watch>) -> Result<Executed, ExecError> {
        let context = &self.context;
        let queued = || queue.elements.iter().flat_map(Element::commands);
        let mut commands: Vec<Routed> = queued().cloned().collect();
        let brought = self.bring_scripts(&mut commands).await?;
        context.let_look(queued().flat_map(blocking::taken)).await;
        let underway = context.set_out(queued().flat_map(blocking::brought));
        let mut executed = context.engine.exec(commands, watch, self.client.proto()).await;
        if let Ok(Executed::Replies(replies)) = &mut executed {
            brought.read(replies);
        }
        if matches!(executed, Ok(Executed::Replies(_)) | Err(ExecError::Unconfirmed)) {
            context.serve(underway, queued().flat_map(blocking::brought)).await;
            queued().for_each(|command| context.scripts.note(command.spec.name, &command.request));
        }
        executed
    }

    /// Writes EXEC's array: `replies` are those of the commands in the order in which the elements named them.
    async fn exec_replies(&mut self, queue: Queue, replies: Vec<Bytes>) {
        let mut replies = replies.into_iter();
        // Messages that come meanwhile go behind the array.
        let _messages = self.window.withhold();
        self.reply(|reply| reply.array(queue.elements.len()));
        for element in queue.elements {
            match element {
                Element::Local(pending) => {
                    // Nothing that may wait is queued as local.
                    Box::pin(self.carry_out_now(pending)).await;
                }
                Element::Greeting(pending) => {
                    // The server's answer tells of itself.
                    let _ = replies.next();
                    Box::pin(self.carry_out_now(pending)).await;
                }
                Element::Unwatch => self.reply(|reply| reply.simple("OK")),
                Element::Wrong(text) => self.reply(|reply| reply.error(&text)),
                Element::Single(_) | Element::Spread(_) => {
                    self.window.reply_with(replies.next());
                }
                Element::Split(plan) => {
                    let parts: Vec<Bytes> = replies.by_ref().take(plan.commands.len()).collect();
                    self.window.reply_with(split::merge(&plan, &parts, self.client.proto()));
                }
            }
        }
    }
}

impl Element {
    fn commands(&self) -> &[Routed] {
        match self {
            Self::Single(command) => std::slice::from_ref(command),
            Self::Split(plan) => &plan.commands,
            Self::Local(_) | Self::Greeting(_) | Self::Unwatch | Self::Wrong(_) | Self::Spread(_) => &[],
        }
    }

    /// Where its keys are.
    fn shards(&self) -> Vec<ShardId> {
        match self {
            Self::Spread(spread) => spread.keys.iter().map(|(_, place)| place.shard).collect(),
            other => other.commands().iter().map(|command| command.place.shard).collect(),
        }
    }

    /// The keys that it may write.
    fn written(&self) -> Vec<(&Place, &[u8])> {
        match self {
            Self::Spread(spread) => spread.written().collect(),
            other => other.commands().iter().flat_map(Routed::written).collect(),
        }
    }

    /// Its commands, for a transaction that is computed in one place.
    fn spread(&self) -> Vec<Spread> {
        match self {
            Self::Spread(spread) => vec![spread.clone()],
            Self::Greeting(Pending { spec, request }) => vec![Spread::hello(request, spec)],
            other => other.commands().iter().cloned().map(Spread::from).collect(),
        }
    }
}
