//! WAIT and WAITAOF: how far every shard's replicas have come.
//!
//! A server counts the replicas that have acknowledged what *this connection* last wrote. A client's writes reach a shard on connections
//! that many share, so weft takes one for itself, writes something there that leaves no trace, and waits behind that: replication is in
//! order, so a replica that has it has everything before. The reply is the least of all shards.
//!
//! The wait ends after most of `reply_timeout_ms` even if the client would wait longer: the connection is one of a limited number. As with
//! Redis, the reply is a count that the caller compares, not a promise.

use std::rc::Rc;

use bytes::Bytes;
use futures::future::join_all;

use crate::resp::{Proto, Request};
use crate::session::Session;
use crate::slot::{SLOT_COUNT, Slot};
use crate::topology::{Mode, ShardId, SlotMap};
use crate::txn::{ExecError, Participant, internal_keys};

impl Session {
    /// The reply of each shard to `request`, whose last argument is how many milliseconds to wait.
    pub(super) async fn acknowledged(&self, request: &Request) -> Result<Vec<Bytes>, ExecError> {
        let timeout = request.args_from(request.argc() - 1).next().unwrap_or_default();
        let Some(timeout) = std::str::from_utf8(timeout).ok().and_then(|text| text.parse::<u64>().ok()) else {
            // A shard finds the words for it.
            return self.context.engine.any_shard(request, self.client.proto()).await.map(|reply| vec![reply]);
        };
        let longest = self.context.upstreams.config().reply_timeout.as_millis() as u64 * 4 / 5;
        let timeout = if timeout == 0 { longest } else { timeout.min(longest) }.max(1).to_string();
        let mut words: Vec<&[u8]> = request.args_from(0).collect();
        words.pop();
        words.push(timeout.as_bytes());
        let request = Request::new(&words);
        let map = self.context.upstreams.map();
        join_all(map.ids().map(|shard| self.acknowledged_by(shard, &map, &request))).await.into_iter().collect()
    }

    async fn acknowledged_by(&self, shard: ShardId, map: &SlotMap, request: &Request) -> Result<Bytes, ExecError> {
        let context = Rc::clone(&self.context);
        let node = context.upstreams.primary(shard).ok_or(ExecError::Unreachable)?;
        let trace = trace(shard, map).ok_or(ExecError::Unreachable)?;
        let requests = [
            Request::new(&["MULTI"]),
            Request::new(&[&b"SET"[..], &trace, b""]),
            Request::new(&[&b"DEL"[..], &trace]),
            Request::new(&["EXEC"]),
            request.clone(),
        ];
        let wait = context.config.transactions.lock_wait_timeout;
        let mut leased = node.lease(0, Proto::Resp2, wait).await.map_err(|_| ExecError::Unreachable)?;
        let replies = leased.call(&requests).await.map_err(|_| ExecError::Unreachable)?;
        match &replies[..] {
            [.., executed, reply] if executed.first() == Some(&b'*') => Ok(reply.clone()),
            // A full memory, a slot that moves, a primary that is none any more.
            [.., executed, _] => Ok(executed.clone()),
            _ => Err(ExecError::Unreachable),
        }
    }
}

/// A key of weft's own on `shard`; in a cluster, in any of its slots.
fn trace(shard: ShardId, map: &SlotMap) -> Option<Bytes> {
    let participant = match map.mode() {
        Mode::Static => Participant::Shard { name: map.shard(shard)?.name.as_str().into(), db: 0 },
        Mode::Cluster => Participant::Slot((0..SLOT_COUNT).filter_map(Slot::new).find(|slot| map.owner(*slot) == Some(shard))?),
    };
    Some(internal_keys::trace(&participant))
}
