//! SAVE, and what the replies of all shards to BGSAVE, BGREWRITEAOF and LASTSAVE come to: each shard writes its own files.
//!
//! Guarantee: after SAVE is answered OK, what was acknowledged before it is in the snapshots of all primaries. It does not stop the servers,
//! as Redis's own does; they save in the background, and its client alone waits.
//!
//! No guarantee: the snapshots are not of one instant, no more than those that shards take by themselves. Each is for the restart of its
//! own shard; put back together, one may have its part of a transaction and another not.

use std::time::Duration;

use bytes::Bytes;
use futures::future::try_join_all;

use crate::command::{CommandSpec, ResponsePolicy};
use crate::resp::{Proto, Request, Value, error_reply};
use crate::route;
use crate::session::Session;
use crate::topology::ShardId;
use crate::txn::ExecError;

impl Session {
    /// The reply of each shard to SAVE.
    pub(super) async fn saved(&self) -> Result<Vec<Bytes>, ExecError> {
        let begun = self.context.engine.every_shard(&Request::new(&["BGSAVE"]), 0, Proto::Resp2).await?;
        if begun.iter().any(|reply| route::is_error(reply)) {
            return Ok(begun);
        }
        try_join_all(self.context.upstreams.map().ids().map(|shard| self.saved_by(shard))).await
    }

    /// Waits until `shard` has finished.
    async fn saved_by(&self, shard: ShardId) -> Result<Bytes, ExecError> {
        loop {
            let reply = self.context.engine.one_shard(shard, &Request::new(&["INFO", "persistence"]), 0, Proto::Resp2).await?;
            let info = Value::parse(&reply).ok();
            let info = info.as_ref().and_then(Value::text).map(|text| String::from_utf8_lossy(text)).unwrap_or_default();
            let says = |field: &str| info.lines().any(|line| line == field);
            if !says("rdb_bgsave_in_progress:1") {
                let done = says("rdb_last_bgsave_status:ok");
                return if done { Ok(Bytes::from_static(b"+OK\r\n")) } else { super::error(error_reply::SAVE_FAILED) };
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// How the replies of all shards to `spec` become one. Where Redis's command tips are silent, since no client of a cluster is told to ask all
/// nodes, it is said here.
pub(super) fn response_policy(spec: &CommandSpec) -> ResponsePolicy {
    match spec.name {
        "save" | "bgsave" | "bgrewriteaof" => ResponsePolicy::AllSucceeded,
        "lastsave" => ResponsePolicy::AggMin,
        _ => spec.tips.response_policy,
    }
}

/// Between two looks at a shard that saves.
const PAUSE: Duration = Duration::from_millis(10);
