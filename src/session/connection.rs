//! The connection's own commands: from the session to the pure functions of `local`, and what they leave to be done.

use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::BytesMut;

use super::dispatch::Step;
use super::local::info::{self, Facts, Memory, Persistence, Sections, ShardsFacts, Statistics, aggregate_keyspace};
use super::local::{self, Call, LocalContext, LocalOutcome};
use super::{Context, Pending, Session};
use crate::command::{self, CommandSpec, Flags, Handling};
use crate::metrics::{Counter, ProcessUsage};
use crate::resp::{Proto, Request, Value};
use crate::topology::Mode;
use crate::txn::Habit;

impl Session {
    /// Answers a command that is about the connection, if no shard has to be asked.
    pub(super) fn local(&mut self, pending: Pending) -> Step {
        match self.answer(&pending) {
            LocalOutcome::Replied | LocalOutcome::Close | LocalOutcome::Reset => Step::Sent,
            LocalOutcome::Info(_)
            | LocalOutcome::Config
            | LocalOutcome::Tracking(_)
            | LocalOutcome::Monitor
            | LocalOutcome::Inquiry(_)
            | LocalOutcome::NotLocal => Step::Alone(pending),
        }
    }

    fn answer(&mut self, pending: &Pending) -> LocalOutcome {
        let context = Rc::clone(&self.context);
        // What was dispatched before belongs to the connection as it was: HELLO changes the form of replies.
        self.flush_runs();
        // A listing shows its own client as it is now, with the command in its hands.
        self.client.profile.buffered_input = pending.request.bytes().len();
        if let Some(terms) = &mut self.client.profile.tracking {
            terms.is_broken = self.tracked.is_broken();
        }
        self.client.publish();
        let shards = context.shards();
        let local = LocalContext {
            now: context.engine.now(),
            unix_time: unix_time(),
            settings: &context.settings,
            redis_version: &shards.redis_version,
            clients: &context.registry,
            waiting: &context.waiting,
        };
        let mut out = BytesMut::new();
        let call = Call { request: &pending.request, client: &mut self.client, context: &local, out: &mut out };
        let outcome = local::answer(pending.spec.name, call);
        self.client.profile.buffered_input = 0;
        match outcome {
            LocalOutcome::Close => self.closing = true,
            LocalOutcome::Reset => {
                self.leave_multi();
                self.watch = None;
                self.habit = Habit::default();
                self.subscriptions.clear();
                self.watching = None;
                self.tracked.end();
            }
            LocalOutcome::Replied
            | LocalOutcome::Info(_)
            | LocalOutcome::Config
            | LocalOutcome::Tracking(_)
            | LocalOutcome::Monitor
            | LocalOutcome::Inquiry(_)
            | LocalOutcome::NotLocal => {}
        }
        self.client.publish();
        self.subscriptions.set_proto(self.client.proto());
        if !out.is_empty() {
            self.window.reply(|buffer| buffer.extend_from_slice(&out));
        }
        outcome
    }

    /// Answers a command that is about the connection, or that any shard can answer, with nothing in flight.
    pub(super) async fn alone_local(&mut self, pending: Pending) {
        if pending.spec.handling == Handling::PubSub {
            return self.pubsub_alone(pending).await;
        }
        if pending.spec.name == "ping"
            && let Some(busy) = self.busy_anywhere().await
        {
            return self.deliver(Ok(busy));
        }
        match self.answer(&pending) {
            LocalOutcome::Replied | LocalOutcome::Close | LocalOutcome::Reset => {}
            LocalOutcome::Info(sections) => self.info(sections).await,
            LocalOutcome::Config if pending.spec.name == "config|set" => self.config_set(&pending.request).await,
            LocalOutcome::Config => self.config_get(&pending.request).await,
            LocalOutcome::Tracking(wish) => self.track(wish).await,
            LocalOutcome::Monitor => self.monitor().await,
            LocalOutcome::Inquiry(inquiry) => self.inquire(inquiry).await,
            LocalOutcome::NotLocal => {
                let engine = Rc::clone(&self.context.engine);
                let result = engine.any_shard(&pending.request, self.client.proto()).await;
                self.deliver(result);
            }
        }
    }

    async fn info(&mut self, sections: Sections) {
        let context = Rc::clone(&self.context);
        let keyspace = if sections.contains(Sections::KEYSPACE) { context.keyspace().await } else { String::new() };
        let told = async |flag, name| if sections.contains(flag) { context.infos(&["INFO", name]).await } else { Vec::new() };
        let memory = Memory::of_shards(&told(Sections::MEMORY, "memory").await);
        let persistence = Persistence::of_shards(&told(Sections::PERSISTENCE, "persistence").await);
        let statistics = match sections.intersects(Sections::ASKED_FOR_STATISTICS) {
            true => context.statistics().await,
            false => Statistics::default(),
        };
        let facts = Facts {
            server: &context.identity,
            shards: &context.shards(),
            connected_clients: context.registry.connected(),
            blocked_clients: context.waiting.blocked() + context.registry.pause().waiting(),
            tracking: context.tracker.totals().now(),
            cached_scripts: context.scripts.len(),
            metrics: &context.metrics.since_reset(),
            usage: ProcessUsage::read(),
            memory: &memory,
            persistence: &persistence,
            keyspace: &keyspace,
            statistics: &statistics,
            now: context.engine.now(),
            unix_time: unix_time(),
        };
        let proto = self.client.proto();
        self.window.reply(|out| info::reply(out, proto, sections, &facts));
    }
}

impl Context {
    /// What the shards say of themselves; what none has said yet is what weft was written for.
    fn shards(&self) -> ShardsFacts {
        let facts = self.topology.facts();
        let map = self.upstreams.map();
        let version = facts.values().map(|facts| facts.version).min();
        let policies = || facts.values().map(|facts| facts.maxmemory_policy.as_str()).filter(|policy| !policy.is_empty());
        ShardsFacts {
            redis_version: version.map_or_else(|| "7.0.0".to_owned(), |version| version.to_string()),
            maxmemory_policy: policies()
                .find(|policy| *policy != "noeviction")
                .or_else(|| policies().next())
                .unwrap_or("noeviction")
                .to_owned(),
            count: map.shards().len(),
            topology: if map.mode() == Mode::Cluster { "cluster" } else { "static" },
        }
    }

    /// The databases of all shards together; empty when a shard does not answer.
    async fn keyspace(&self) -> String {
        aggregate_keyspace(&self.infos(&["INFO", "keyspace"]).await)
    }

    /// What was called and what failed on all shards together, and what weft has counted.
    async fn statistics(&self) -> Statistics {
        let mut texts = Vec::new();
        // One after the other: servers before 7.0 take one section at a time.
        for section in ["commandstats", "errorstats"] {
            texts.extend(self.infos(&["INFO", section]).await);
        }
        let counted = |name: &str| command::all().any(|spec| spec.name == name && is_counted(spec));
        let counters = self.metrics.since_reset();
        let of_shards = Statistics::of_shards(&texts).without(&self.metrics.tries());
        of_shards.with_own(&self.metrics.calls(), counted).with_errors(counters.errors(), Counter::is_error_code)
    }

    /// What each shard says to `info`; nothing when one does not answer.
    async fn infos(&self, info: &[&str]) -> Vec<String> {
        let replies = self.engine.every_shard(&Request::new(info), 0, Proto::Resp2).await.unwrap_or_default();
        let text = |reply| Value::parse(reply).ok()?.text().map(|text| String::from_utf8_lossy(text).into_owned());
        replies.iter().filter_map(text).collect()
    }
}

/// Whether weft counts the calls of the command, because no shard sees it as it is, and as often as it is called.
pub(super) fn is_counted(spec: &CommandSpec) -> bool {
    !matches!(spec.handling, Handling::Keyed | Handling::Split(_) | Handling::Move) || spec.flags.contains(Flags::BLOCKING)
}

fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
