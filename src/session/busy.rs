//! Scripts that run for long, and what the clients of a single Redis would see of them.
//!
//! There, a script stops everything: other commands wait, and once it has run for longer than `busy-reply-threshold` they are answered
//! `BUSY`. Behind weft it stops one shard, whose commands get that answer from the shard itself; the others work on, and should. Two
//! things would be missed though. PING is how monitors find out that a server is stuck. And a transaction refuses, on a single
//! Redis, what is queued or carried out meanwhile, so that no half of it is queued: so does one here whose keys are on the shard of the
//! script, or any if the script names no key, since it may then mean each of them.
//!
//! Whether a script is overdue the shard decides: it is sent a PING, which it answers, late or with `BUSY`, as it answers all others. While
//! no script has been running for longer than [`LONG`], all this costs the reading of one number.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Pending, Session};
use crate::command::Flags;
use crate::resp::{Proto, Request};
use crate::route::{self, Route};
use crate::topology::ShardId;

/// The users' scripts that are running, of all workers.
#[derive(Debug, Default)]
pub(crate) struct Running {
    count: AtomicUsize,
    calls: Mutex<Vec<Call>>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Call {
    shard: ShardId,
    names_keys: bool,
    since: Instant,
}

/// A shorter one is waited for, as any command is.
const LONG: Duration = Duration::from_millis(20);

impl Running {
    /// Takes note that a script runs at `shard` until what it returns is dropped.
    pub(super) fn begin(&self, shard: ShardId, names_keys: bool) -> Guard<'_> {
        let call = Call { shard, names_keys, since: Instant::now() };
        self.lock().push(call);
        self.count.fetch_add(1, Ordering::Relaxed);
        Guard { running: self, call }
    }

    /// Whether any runs at all.
    pub(super) fn is_any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// The shards whose scripts concern what `shards` have, and have been running for long.
    fn concerning(&self, shards: &[ShardId]) -> Vec<ShardId> {
        let concerns = |call: &Call| (!call.names_keys || shards.contains(&call.shard)) && call.since.elapsed() > LONG;
        let mut found: Vec<ShardId> = self.lock().iter().filter(|call| concerns(call)).map(|call| call.shard).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Call>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A script that runs.
pub(super) struct Guard<'a> {
    running: &'a Running,
    call: Call,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let mut calls = self.running.lock();
        if let Some(index) = calls.iter().position(|call| *call == self.call) {
            calls.swap_remove(index);
            self.running.count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Session {
    /// What a shard says that a PING has to be answered with instead, because of a script anywhere.
    pub(super) async fn busy_anywhere(&self) -> Option<Bytes> {
        let map = self.context.upstreams.map();
        self.busy(map.ids()).await
    }

    /// Likewise for a command that is to be queued.
    pub(super) async fn busy_with(&self, Pending { spec, request }: &Pending) -> Option<Bytes> {
        if spec.flags.contains(Flags::ALLOW_BUSY) {
            return None;
        }
        let shards = match route::route(&self.context.upstreams.map(), self.client.profile.db, spec, request) {
            Ok(Route::One(routed)) => vec![routed.place.shard],
            Ok(Route::Several(keys)) => keys.iter().map(|(_, place)| place.shard).collect(),
            Err(_) => Vec::new(),
        };
        self.busy(shards).await
    }

    /// Likewise for a transaction on `shards`.
    pub(super) async fn busy(&self, shards: impl IntoIterator<Item = ShardId>) -> Option<Bytes> {
        let running = &self.context.scripts.running;
        if !running.is_any() {
            return None;
        }
        let shards: Vec<ShardId> = shards.into_iter().collect();
        for shard in running.concerning(&shards) {
            let reply = self.context.engine.one_shard(shard, &Request::new(&["PING"]), 0, Proto::Resp2).await.ok();
            if let Some(reply) = reply.filter(|reply| reply.starts_with(b"-BUSY")) {
                return Some(reply);
            }
        }
        None
    }
}
