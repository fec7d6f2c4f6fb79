//! The sweeper (protocol §4): finds the records that no lock leads anyone to, and deletes those that nobody needs any more.
//!
//! Every proxy has one, because any may be the last. A round looks through the keys of every primary in small steps with pauses between
//! them, so that a shard spends a few thousandths of its time on it however many keys it has; what is found is
//!
//! | what | at the age of | becomes |
//! |---|---|---|
//! | a prepared record | `prepared_age` | resolved: its coordinator has died or lost its way |
//! | a committed one | `committed_age` | deleted, unless a participant is still prepared: then that one is resolved first |
//! | an aborted one, a tombstone | `aborted_age` | deleted |
//! | a lock without a record | `prepared_age` | taken away ([`unlock`](super::unlock)) |
//!
//! Ages are by the shard's clock. A committed record is what tells a resolver that the others must commit too, so it must outlive every
//! prepared one: that is looked up, not assumed. Sweepers of several proxies may meet over a record; each step tolerates it.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;

use super::batch::{KeyLock, LockMode};
use super::engine::Engine;
use super::fence::{self, Record};
use super::forget::{self, Age};
use super::participant::Participant;
use super::walk::{self, Met, Walk};
use super::{Script, State, TxnId, internal_keys, recovery};
use crate::config::SweepConfig;
use crate::metrics::Counter;
use crate::resp::{Proto, Request, Value};
use crate::topology::ShardId;

impl Engine {
    /// Sweeps round after round, for ever.
    pub async fn sweep(&self, config: &SweepConfig) {
        loop {
            // Never in step with the other proxies.
            tokio::time::sleep(config.interval.mul_f64(0.5 + fastrand::f64())).await;
            let shards: Vec<ShardId> = self.upstreams.map().ids().collect();
            join_all(shards.into_iter().map(|shard| self.sweep_shard(config, shard))).await;
        }
    }

    /// Looks through one primary. What cannot be asked now is left to the next round.
    async fn sweep_shard(&self, config: &SweepConfig, shard: ShardId) {
        let visit = async |met: Vec<Met>| {
            for Met { key, at } in met {
                if let Some(tid) = internal_keys::tid_of(&key) {
                    self.tend(config, tid, &at).await;
                } else if let Some(lock) = internal_keys::locked_by(&key) {
                    self.tend_lock(config, &key, lock, &at).await;
                }
            }
            Walk::On
        };
        let _ = self.walk(shard, walk::ANY, PAGE_PAUSE, visit).await;
    }

    /// Sees to it that a lock which should be gone long since belongs to somebody: resolving its owner takes it away if it does not.
    async fn tend_lock(&self, config: &SweepConfig, key: &Bytes, lock: KeyLock, at: &Participant) -> Option<()> {
        let question = match lock.mode {
            LockMode::Shared => Request::new(&[&b"HKEYS"[..], key]),
            LockMode::Exclusive | LockMode::ExclusiveAbsent => Request::new(&[&b"GET"[..], key]),
        };
        let reply = self.target(at, None)?.call(Proto::Resp2, &[question]).await.ok()?.pop()?;
        let reply = Value::parse(&reply).ok()?;
        for holder in reply.items().unwrap_or(std::slice::from_ref(&reply)).iter().filter_map(Value::text) {
            let tid: Option<TxnId> = std::str::from_utf8(holder).ok()?.split(' ').next()?.parse().ok();
            if let Some(tid) = tid.filter(|tid| self.is_older(*tid, config.prepared_age)) {
                recovery::resolve(self, tid, at, vec![lock.clone()]).await;
            }
        }
        Some(())
    }

    /// Whether `tid` may have been prepared `age` ago.
    fn is_older(&self, tid: TxnId, age: Duration) -> bool {
        self.unix_ms() >= tid.start_ms.saturating_add(age.as_millis() as u64)
    }

    /// Does what the record of `tid` at `at` is old enough for.
    async fn tend(&self, config: &SweepConfig, tid: TxnId, at: &Participant) -> Option<()> {
        let least = config.prepared_age.min(config.committed_age).min(config.aborted_age);
        if !self.is_older(tid, least) {
            return None;
        }
        let record = self.inspect(tid, at).await?;
        let age = Duration::from_millis(record.age_ms.try_into().ok()?);
        match &record.state {
            State::Prepared if age >= config.prepared_age => {
                recovery::resolve(self, tid, at, Vec::new()).await;
            }
            State::Committed(_) if age >= config.committed_age && self.is_over(tid, at, &record).await? => {
                self.forget_old(tid, at, Age::OldCommitted(config.committed_age)).await;
            }
            State::Aborted if age >= config.aborted_age => self.forget_old(tid, at, Age::OldTombstone(config.aborted_age)).await,
            State::Prepared | State::Committed(_) | State::Aborted | State::Gone => {}
        }
        Some(())
    }

    /// Whether no participant of `tid`, which is committed at `home`, is still prepared. The one that is gets resolved.
    async fn is_over(&self, tid: TxnId, home: &Participant, record: &Record) -> Option<bool> {
        for participant in record.staged.as_ref()?.participants.iter().filter(|participant| *participant != home) {
            if self.inspect(tid, participant).await?.state == State::Prepared {
                recovery::resolve(self, tid, home, Vec::new()).await;
                return Some(false);
            }
        }
        Some(true)
    }

    async fn inspect(&self, tid: TxnId, at: &Participant) -> Option<Record> {
        let target = self.target(at, None)?;
        let reply = target.eval(Proto::Resp2, Script::Inspect, &fence::inspect(tid, at)).await.ok()?;
        fence::answer(&reply).ok()
    }

    async fn forget_old(&self, tid: TxnId, at: &Participant, age: Age) {
        let Some(target) = self.target(at, None) else { return };
        // What is not deleted now is met again in the next round.
        let reply = target.eval(Proto::Resp2, Script::Forget, &forget::request(&[tid], at, age)).await;
        let counter = if matches!(age, Age::OldTombstone(_)) { Counter::SweptAborted } else { Counter::SweptCommitted };
        self.counts.add(counter, reply.ok().and_then(|reply| forget::answer(&reply).ok()).unwrap_or(0));
    }
}

/// The pause between two steps.
const PAGE_PAUSE: Duration = Duration::from_millis(100);
