//! SWAPDB, where it can be right: two databases of one server change places in one step, those of several cannot. Whoever looks at two
//! shards in between would find the one swapped and the other not. So this is for a single static shard.
//!
//! Records and locks lie in the databases and would go with them. A resolver that does not find a record where it belongs takes the
//! transaction for one that was never prepared there, and aborts what is elsewhere. So nothing may be prepared at any database of the
//! shard, be it swapped or not; then every transaction is over at all of them, or has not begun. Like the batches under the [gate] the swap
//! goes as a MULTI on a connection that watches the gates and has seen them free.
//!
//! What is left are records of what is over. Those of committed transactions are not read again; the sweeper deletes them where they
//! are. A tombstone keeps out a prepare that was given up and may still arrive. A transaction would have to be given up, lose its
//! tombstone at each of its databases to swaps with others, and have every one of those prepares arrive after that, to be applied
//! although its client was told that it was not.
//!
//! All wefts before the shard have to offer the same databases, or one would have gates that the other does not look at.

use bytes::Bytes;
use tokio::time::Instant;

use super::attempt::Attempt;
use super::engine::Engine;
use super::error::ExecError;
use super::{gate, one_phase};
use crate::metrics::Counter;
use crate::resp::{Proto, Request, error_reply};
use crate::topology::{Mode, ShardId};

impl Engine {
    /// Carries out `request`, a SWAPDB, if one shard has all data, in its first `databases` databases.
    ///
    /// # Errors
    /// See [`ExecError`].
    pub async fn swap_databases(&self, request: &Request, databases: u16, proto: Proto) -> Result<Bytes, ExecError> {
        let shard = self.only_shard()?;
        let start = Instant::now();
        for tries in 0.. {
            if let Some(reply) = self.try_swap(shard, request, databases, proto).await? {
                return Ok(reply);
            }
            if start.elapsed() >= self.config.lock_wait_timeout {
                break;
            }
            self.pause(tries).await;
        }
        self.counts.count(Counter::LockTimeouts);
        Err(ExecError::LockWait)
    }

    fn only_shard(&self) -> Result<ShardId, ExecError> {
        let map = self.upstreams.map();
        let refusal = match (map.mode(), map.ids().next()) {
            (Mode::Static, Some(only)) if map.ids().count() == 1 => return Ok(only),
            (Mode::Static, _) => error_reply::refused("swapdb", "all shards would have to swap at the same instant"),
            (Mode::Cluster, _) => error_reply::SWAPDB_IN_CLUSTER.to_owned(),
        };
        Err(ExecError::Rejected(refusal))
    }

    /// The reply; `None` while something is prepared.
    async fn try_swap(&self, shard: ShardId, request: &Request, databases: u16, proto: Proto) -> Result<Option<Bytes>, ExecError> {
        let node = self.upstreams.primary(shard).ok_or(ExecError::Unreachable)?;
        let mut leased = node.lease(0, proto, self.config.lock_wait_timeout).await.map_err(|_| ExecError::Unreachable)?;
        leased.set_watching(true);
        let seen = leased.call(&looks(databases)).await.map_err(|_| ExecError::Unreachable)?;
        if let Some(error) = seen.iter().find(|reply| reply.first() == Some(&b'-')) {
            return Err(ExecError::Refused(error.clone()));
        }
        if seen.chunks_exact(LOOK).any(|replies| replies[LOOK - 1].as_ref() != b":0\r\n") {
            return Ok(None);
        }
        let swap = [Request::new(&["MULTI"]), request.clone(), Request::new(&["EXEC"])];
        let attempt = match leased.call(&swap).await {
            Ok(replies) => one_phase::native_replies(&replies, 1),
            Err(error) => one_phase::lost(error, true),
        };
        match attempt {
            Attempt::Done(mut replies) => {
                leased.set_watching(false);
                Ok(replies.pop())
            }
            Attempt::Locked(_) => {
                leased.set_watching(false);
                Ok(None)
            }
            Attempt::Redirected(_) => Err(ExecError::Unreachable),
            Attempt::Failed(error) => Err(error),
        }
    }
}

/// What watches the gate of each database, and looks at it. The connection is back in the first one then.
fn looks(databases: u16) -> Vec<Request> {
    let look = |db: u16| [Request::new(&["SELECT", &db.to_string()]), gate::watch(), gate::exists()];
    (0..databases).rev().flat_map(look).collect()
}

/// How many requests a look at one database is.
const LOOK: usize = 3;
