//! Requests that are carried out with nothing else of the session in flight: they wait for locks, for several participants, or for a
//! connection of their own.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;

use super::blocking::Blocked;
use super::client::ReplyMode;
use super::dispatch::Step;
use super::tracking::Turn;
use super::{Mode, Pending, Session, blocking, dispatch, pubsub, rescue, split};
use crate::command::{self, CommandSpec, Handling, KeyError, KeyRef, SplitKind};
use crate::config::MultiKey;
use crate::resp::{Request, error_reply};
use crate::route::{self, Place, Route, RouteError};
use crate::txn::watch::Watch;
use crate::txn::{ExecError, Executed};

impl Session {
    /// Carries out `pending` and appends its reply, unless the client does not want to hear it.
    ///
    /// A client that has to wait for something comes back as [`Blocked`], to be looked after by the session's task.
    pub(super) async fn alone(&mut self, pending: Pending) -> Option<Blocked> {
        // What is muted is taken back below; messages that come meanwhile are not.
        let _messages = (self.client.reply_mode != ReplyMode::On).then(|| self.window.withhold());
        let before = self.window.out_len();
        let heard = self.client.reply_mode == ReplyMode::On;
        // As in Redis a client that mutes replies still hears what it listens to.
        let confirms = pubsub::is_confirmed(pending.spec) && matches!(self.mode, Mode::Plain);
        let (mut turn, spec) = (self.begin_turn(&pending), pending.spec);
        let mut blocked = self.carry_out(pending).await;
        let muted = self.client.reply_mode.mutes() && !confirms;
        if !heard {
            self.client.reply_mode = self.client.reply_mode.next();
        }
        if muted {
            self.window.with_out(|out| out.truncate(before));
        }
        if let Some(blocked) = &mut blocked {
            blocked.muted = muted;
            blocked.touched = turn.as_mut().map(Turn::put_off).unwrap_or_default();
        }
        match turn {
            Some(turn) => self.end_turn(Some(turn), before),
            // It may have begun to be told of changes between MULTI and EXEC: what else it has read there nobody has noted.
            None if spec.name == "exec" => self.doubt(),
            None => {}
        }
        self.forget_caching(spec);
        blocked
    }

    async fn carry_out(&mut self, pending: Pending) -> Option<Blocked> {
        if matches!(self.mode, Mode::Multi(_)) && !dispatch::acts_at_once(pending.spec.name) {
            match self.busy_with(&pending).await {
                Some(busy) => {
                    self.spoil();
                    self.deliver(Ok(busy));
                }
                None => drop(self.enqueue(pending)),
            }
            return None;
        }
        if self.client.reply_mode != ReplyMode::On || matches!(self.mode, Mode::Multi(_)) {
            match self.dispatch_aloud(pending) {
                Step::Sent => {
                    self.settle().await;
                    return None;
                }
                Step::Stalled(pending) | Step::Alone(pending) => return self.carry_out_now(pending).await,
            }
        }
        self.carry_out_now(pending).await
    }

    pub(super) async fn carry_out_now(&mut self, pending: Pending) -> Option<Blocked> {
        match pending.spec.handling {
            Handling::Blocking => return self.block(pending).await,
            Handling::Keyed if command::may_wait(pending.spec, &pending.request) => return self.block(pending).await,
            Handling::Transaction if pending.spec.name == "exec" => self.exec(&pending.request).await,
            Handling::Transaction => self.watch(pending).await,
            Handling::Local | Handling::PubSub | Handling::AnyShard => self.alone_local(pending).await,
            Handling::Everywhere | Handling::Keyspace(_) => self.everywhere(pending).await,
            Handling::Disabled(text) => self.reply(|reply| reply.error(text)),
            _ => self.keyed_alone(pending).await,
        }
        None
    }

    /// Sends a request of the window again.
    pub(super) async fn again(&mut self, request: Request) {
        match crate::command::lookup(&request) {
            Ok(spec) => {
                let pending = Pending { spec, request };
                let (turn, before) = (self.begin_turn(&pending), self.window.out_len());
                match spec.handling {
                    Handling::PubSub => self.pubsub_alone(pending).await,
                    _ => self.keyed_alone(pending).await,
                }
                self.end_turn(turn, before);
            }
            Err(error) => self.reply(|reply| rescue::lookup(reply, &error, &request)),
        }
    }

    /// A command with keys.
    async fn keyed_alone(&mut self, Pending { spec, request }: Pending) {
        let context = Rc::clone(&self.context);
        let map = context.upstreams.map();
        let (proto, strict) = (self.client.proto(), context.is_strict());
        let routed = match (route::route(&map, self.client.profile.db, spec, &request), spec.handling) {
            (Ok(Route::One(routed)), Handling::Script) => return self.script_alone(routed).await,
            (Ok(Route::One(routed)), _) => Some(routed),
            (Ok(Route::Several(keys)), Handling::Split(kind)) => {
                context.let_look(blocking::written(&request, &keys)).await;
                return match split::divide(kind, spec, &request, &keys) {
                    Some(plan) => self.split(plan, kind, spec).await,
                    None => self.reply(|reply| reply.error(&error_reply::wrong_arity(spec.name))),
                };
            }
            (Ok(Route::Several(keys)), Handling::Move) => {
                let underway = context.set_out(blocking::written(&request, &keys));
                let result = context.transfer(&request, &keys, proto).await;
                context.serve(underway, blocking::written(&request, &keys)).await;
                return self.deliver(result);
            }
            (Ok(Route::Several(keys)), _) if matches!(spec.name, "xread" | "xreadgroup") => {
                return self.deliver(context.read_streams(spec, &request, &keys, proto).await);
            }
            (Ok(Route::Several(keys)), _) => {
                return self.compute_alone(context.spread(spec, &request, self.client.profile.db, &keys)).await;
            }
            (Err(RouteError::Keys(KeyError::OtherDatabase)), _) => {
                return self.compute_alone(context.spread_over_databases(spec, &request, self.client.profile.db)).await;
            }
            (Err(RouteError::Keys(KeyError::Pattern | KeyError::Get)), _) => return self.sort_alone(spec, &request).await,
            (Err(RouteError::Keys(error)), _) if rescue::is_the_shards_to_tell(error) => route::anywhere(&map, spec, request),
            (Err(error), _) => return self.reply(|reply| reply.error(&rescue::route(&error, spec))),
        };
        let result = match routed {
            Some(routed) => {
                context.let_look(blocking::taken(&routed)).await;
                let underway = context.set_out(blocking::brought(&routed));
                let result = context.engine.single(routed.clone(), proto, strict).await;
                context.serve(underway, blocking::brought(&routed)).await;
                result
            }
            None => Err(ExecError::Unreachable),
        };
        self.deliver(result);
    }

    pub(super) fn deliver(&self, result: Result<Bytes, ExecError>) {
        match result {
            Ok(reply) | Err(ExecError::Refused(reply)) => self.window.reply_with([reply]),
            Err(error) => self.reply(|reply| rescue::exec(reply, &error)),
        }
    }

    /// A command over several participants.
    async fn split(&mut self, plan: split::Plan, kind: SplitKind, spec: &'static CommandSpec) {
        let engine = Rc::clone(&self.context.engine);
        let proto = self.client.proto();
        let commands = plan.commands.clone();
        let result = match self.context.multi_key(spec) {
            MultiKey::Reject => return self.reply(|reply| reply.error(error_reply::CROSSSLOT)),
            MultiKey::Split if kind != SplitKind::PairsIfAbsent => engine.scatter(commands, proto).await,
            MultiKey::Split | MultiKey::Atomic if !spec.is_write() => engine.snapshot(commands, proto).await,
            MultiKey::Split | MultiKey::Atomic if kind == SplitKind::PairsIfAbsent => match engine.exec_if_absent(commands, proto).await {
                Ok(Some(replies)) => Ok(replies),
                Ok(None) => return self.reply(|reply| reply.integer(0)),
                Err(error) => Err(error),
            },
            MultiKey::Split | MultiKey::Atomic => match engine.exec(commands, None, proto).await {
                Ok(Executed::Replies(replies)) => Ok(replies),
                // Nothing is watched.
                Ok(Executed::WatchBroken) => Err(ExecError::Unreachable),
                Err(error) => Err(error),
            },
        };
        match result {
            Ok(replies) => self.window.reply_with(split::merge(&plan, &replies, proto)),
            Err(error) => self.deliver(Err(error)),
        }
    }

    /// WATCH: nothing later in the session is sent before every participant has answered. A client that goes away while it stands in line
    /// is found to be gone when its turn comes.
    async fn watch(&mut self, Pending { spec, request }: Pending) {
        let context = Rc::clone(&self.context);
        let request = request.detached();
        let keys = match route::route(&context.upstreams.map(), self.client.profile.db, spec, &request) {
            Ok(Route::One(routed)) => vec![(routed.place, routed.keys.iter().map(|key| request.arg_bytes(key.index as usize)).collect())],
            Ok(Route::Several(keys)) => by_place(&request, &keys),
            Err(error) => return self.reply(|reply| reply.error(&rescue::route(&error, spec))),
        };
        let watched = self.watch.as_ref().map_or(0, Watch::len);
        let limit = context.config.transactions.watch_keys_max;
        if watched + request.argc() - 1 > limit {
            return self.reply(|reply| reply.error(&error_reply::watch_limit("watch_keys_max", limit)));
        }
        match context.engine.watch(&mut self.watch, keys, &self.habit, self.client.proto()).await {
            Ok(()) => self.reply(|reply| reply.simple("OK")),
            Err(error) => self.deliver(Err(error)),
        }
        self.client.profile.watching = self.watch.as_ref().map_or(0, Watch::len) as u32;
    }

    /// Waits until everything in flight is answered.
    async fn settle(&mut self) {
        self.flush_runs();
        poll_fn(|cx| {
            self.window.register(cx);
            if self.window.is_settled() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        while let Some(request) = self.window.take_again() {
            Box::pin(self.again(request)).await;
        }
    }
}

/// The keys of a request by their places.
fn by_place(request: &Request, keys: &[(KeyRef, Place)]) -> Vec<(Place, Vec<Bytes>)> {
    let mut places: Vec<(Place, Vec<Bytes>)> = Vec::new();
    for (key, place) in keys {
        let name = request.arg_bytes(key.index as usize);
        match places.iter_mut().find(|(other, _)| other == place) {
            Some((_, names)) => names.push(name),
            None => places.push((*place, vec![name])),
        }
    }
    places
}
