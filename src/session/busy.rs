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

use bytes::{Bytes, BytesMut};
use futures::future::join_all;

use super::{Context, Pending, Session};
use crate::command::{CommandSpec, Flags};
use crate::resp::{Proto, ReplyWriter, Request, elements, error_reply};
use crate::route::{self, Route};
use crate::topology::ShardId;
use crate::txn::ExecError;

/// The users' scripts that are running, of all workers.
#[derive(Debug, Default)]
pub(crate) struct Running {
    count: AtomicUsize,
    calls: Mutex<Vec<Call>>,
}

#[derive(Clone, Debug)]
struct Call {
    shard: ShardId,
    names_keys: bool,
    /// What called it if it is a function, which its shard takes for a script.
    function: Option<Request>,
    since: Instant,
}

/// A shorter one is waited for, as any command is.
const LONG: Duration = Duration::from_millis(20);

impl Running {
    /// Takes note that a script, or a function as one, runs at `shard` until what it returns is dropped.
    pub(super) fn begin(&self, shard: ShardId, names_keys: bool, function: Option<&Request>) -> Guard<'_> {
        let since = Instant::now();
        self.lock().push(Call { shard, names_keys, function: function.cloned(), since });
        self.count.fetch_add(1, Ordering::Relaxed);
        Guard { running: self, shard, since }
    }

    /// Whether any runs at all.
    pub(super) fn is_any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// Whether a function runs at `shard` as a script.
    fn has_function(&self, shard: ShardId) -> bool {
        self.lock().iter().any(|call| call.function.is_some() && call.shard == shard)
    }

    /// What called the function that runs as a script, and since when, if one has been running for long.
    fn long_function(&self) -> Option<(Request, Instant)> {
        let calls = self.lock();
        let long = calls.iter().filter(|call| call.function.is_some() && call.since.elapsed() > LONG);
        long.min_by_key(|call| call.since).and_then(|call| Some((call.function.clone()?, call.since)))
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
    shard: ShardId,
    since: Instant,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let mut calls = self.running.lock();
        if let Some(index) = calls.iter().position(|call| (call.shard, call.since) == (self.shard, self.since)) {
            calls.swap_remove(index);
            self.running.count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Context {
    /// The replies of all shards to SCRIPT KILL, or to FUNCTION KILL: what a shard takes for a script may be a function to the client.
    pub(super) async fn kill(&self, spec: &CommandSpec, proto: Proto) -> Result<Vec<Bytes>, ExecError> {
        let (script, wanted) = (Request::new(&["SCRIPT", "KILL"]), Request::new(&spec.name.split('|').collect::<Vec<_>>()));
        let map = self.upstreams.map();
        let killed = map.ids().map(async |shard| match (self.scripts.running.has_function(shard), spec.name) {
            (true, "script|kill") => Ok(Bytes::from(format!("-{}\r\n", error_reply::BUSY_FUNCTION))),
            (true, _) => self.engine.one_shard(shard, &script, 0, proto).await,
            (false, _) => self.engine.one_shard(shard, &wanted, 0, proto).await,
        });
        join_all(killed).await.into_iter().collect()
    }

    /// The replies to FUNCTION STATS. Where a function runs as a script its shard says that it is busy; another one tells all but that.
    pub(super) async fn function_stats(&self, request: &Request, proto: Proto) -> Result<Vec<Bytes>, ExecError> {
        let replies = self.engine.every_shard(request, 0, proto).await?;
        let engines = replies.iter().filter_map(|reply| elements(reply).ok().flatten()).find_map(|parts| parts.into_iter().nth(3));
        let (Some((call, since)), Some(engines)) = (self.scripts.running.long_function(), engines) else { return Ok(replies) };
        let mut out = BytesMut::new();
        let mut reply = ReplyWriter::new(&mut out, proto);
        reply.map(2);
        reply.bulk(b"running_script");
        reply.map(3);
        reply.bulk(b"name");
        reply.bulk(call.arg(1));
        reply.bulk(b"command");
        reply.array(call.argc());
        call.args_from(0).for_each(|word| reply.bulk(word));
        reply.bulk(b"duration_ms");
        reply.integer(i64::try_from(since.elapsed().as_millis()).unwrap_or(i64::MAX));
        reply.bulk(b"engines");
        out.extend_from_slice(&engines);
        Ok(vec![out.freeze()])
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
