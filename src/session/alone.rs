//! Requests that are carried out with nothing else of the session in flight: they wait for locks, for several participants, or for a
//! connection of their own.

use std::rc::Rc;

use bytes::Bytes;

use super::dispatch::Step;
use super::{Mode, Pending, Session, rescue, split};
use crate::command::{Handling, SplitKind};
use crate::config::MultiKey;
use crate::resp::{ReplyWriter, Request, error_reply};
use crate::route::{self, PlacedKeys};
use crate::txn::{Command, ExecError, Executed};

impl Session {
    /// Carries out `pending` and appends its reply, unless the client does not want to hear it.
    pub(super) async fn alone(&mut self, pending: Pending) {
        let silent = self.client.is_silent();
        let before = self.window.out_len();
        self.carry_out(pending).await;
        if silent {
            self.window.with_out(|out| out.truncate(before));
        }
    }

    async fn carry_out(&mut self, pending: Pending) {
        if self.client.is_silent() || matches!(self.mode, Mode::Multi(_)) {
            match self.dispatch_aloud(pending) {
                Step::Sent => return self.settle().await,
                Step::Stalled(pending) | Step::Alone(pending) => return self.carry_out_now(pending).await,
            }
        }
        self.carry_out_now(pending).await;
    }

    async fn carry_out_now(&mut self, pending: Pending) {
        match pending.spec.handling {
            Handling::Transaction if pending.spec.name == "exec" => self.exec().await,
            Handling::Transaction => self.watch(pending).await,
            Handling::Local | Handling::AnyShard => self.alone_local(pending).await,
            _ => self.keyed_alone(pending).await,
        }
    }

    /// Sends a request of the window again.
    pub(super) async fn again(&mut self, request: Request) {
        match crate::command::lookup(&request) {
            Ok(spec) => self.keyed_alone(Pending { spec, request }).await,
            Err(error) => self.reply(|reply| rescue::lookup(reply, &error, &request)),
        }
    }

    /// A command with keys.
    async fn keyed_alone(&mut self, pending: Pending) {
        let Pending { spec, request } = pending;
        let map = self.context.upstreams.map();
        let keys = match route::place(&map, self.client.db(), spec, &request) {
            Ok(keys) if keys.is_empty() => self.anywhere(self.client.db()),
            Ok(keys) => keys,
            Err(error) => return self.reply(|reply| reply.error(&rescue::route_text(&error, spec))),
        };
        if spec.blocks(&request) {
            return self.reply(|reply| reply.error(&error_reply::not_supported_yet(spec.name, "blocking commands")));
        }
        let context = Rc::clone(&self.context);
        let (proto, strict) = (self.client.proto(), context.is_strict());
        match (route::common(&keys), spec.handling) {
            (Some(place), _) => {
                let result = context.engine.single(place, Command { spec, request, keys }, proto, strict).await;
                self.deliver(result);
            }
            (None, Handling::Split(kind)) => self.split(Pending { spec, request }, kind, &keys).await,
            (None, _) => self.reply(|reply| reply.error(&error_reply::cross_shard_later(spec.name))),
        }
    }

    fn deliver(&self, result: Result<Bytes, ExecError>) {
        match result {
            Ok(reply) => self.window.reply(|out| out.extend_from_slice(&reply)),
            Err(error) => self.reply(|reply| rescue::exec(reply, &error)),
        }
    }

    /// A command over several participants.
    async fn split(&mut self, pending: Pending, kind: SplitKind, keys: &PlacedKeys) {
        let Pending { spec, request } = pending;
        let context = Rc::clone(&self.context);
        let plan = split::divide(kind, spec, &request, keys);
        let proto = self.client.proto();
        let result = match context.config.transactions.multi_key {
            MultiKey::Reject => return self.reply(|reply| reply.error(error_reply::CROSSSLOT)),
            MultiKey::Split if kind != SplitKind::PairsIfAbsent => context.engine.scatter(plan.commands.clone(), proto).await,
            _ if !spec.is_write() => context.engine.snapshot(plan.commands.clone(), proto).await,
            _ if kind == SplitKind::PairsIfAbsent => match context.engine.exec_if_absent(plan.commands.clone(), proto).await {
                Ok(Some(replies)) => Ok(replies),
                Ok(None) => return self.reply(|reply| reply.integer(0)),
                Err(error) => Err(error),
            },
            _ => match context.engine.exec(plan.commands.clone(), None, proto).await {
                Ok(Executed::Replies(replies)) => Ok(replies),
                Ok(Executed::WatchBroken) => Ok(Vec::new()),
                Err(error) => Err(error),
            },
        };
        match result {
            Ok(replies) => self.window.reply(|out| split::merge(&plan, &replies, out, proto)),
            Err(error) => self.reply(|reply| rescue::exec(reply, &error)),
        }
    }

    /// WATCH: nothing later in the session is sent before every participant has answered.
    async fn watch(&mut self, pending: Pending) {
        let Pending { spec, request } = pending;
        let map = self.context.upstreams.map();
        let keys = match route::place(&map, self.client.db(), spec, &request) {
            Ok(keys) => keys,
            Err(error) => return self.reply(|reply| reply.error(&rescue::route_text(&error, spec))),
        };
        let watched = self.watch.as_ref().map_or(0, crate::txn::watch::Watch::len);
        let limit = self.context.config.transactions.watch_keys_max;
        if watched + keys.len() > limit {
            return self.reply(|reply| reply.error(&error_reply::watch_limit(limit)));
        }
        let context = Rc::clone(&self.context);
        let result = context.engine.watch(&mut self.watch, &Command { spec, request, keys }, self.client.proto()).await;
        match result {
            Ok(()) => self.reply(|reply| reply.simple("OK")),
            Err(error) => self.reply(|reply: &mut ReplyWriter<'_>| rescue::exec(reply, &error)),
        }
    }

    /// Waits until everything in flight is answered.
    async fn settle(&mut self) {
        self.flush_runs();
        std::future::poll_fn(|cx| {
            self.window.register(cx);
            if self.window.is_settled() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
        while let Some(request) = self.window.take_again() {
            self.again_boxed(request).await;
        }
    }
}
