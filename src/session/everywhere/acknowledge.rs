//! WAIT and WAITAOF: how far every shard's replicas have come.
//!
//! A server counts the replicas that have acknowledged what *this connection* last wrote. A client's writes reach a shard on connections
//! that many share, so weft takes one for itself, writes something there that leaves no trace, and waits behind that: replication is in
//! order, so a replica that has it has everything before. The reply is the least of all shards.
//!
//! A primary that took the place of another after the client wrote may never have had what was written. A client of Redis knows that
//! from its broken connection; weft's lives on, so such a shard counts no replica until the client has written again.
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
use crate::txn::{self, ExecError, Participant};

impl Session {
    /// The reply of each shard to `request`, whose last argument is how many milliseconds to wait.
    pub(super) async fn acknowledged(&mut self, request: &Request) -> Result<Vec<Bytes>, ExecError> {
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
        let replies = {
            let (this, map, request) = (&*self, &*map, &request);
            let ask = async |(shard, trace)| {
                let reply = this.acknowledged_by(shard, trace, request).await?;
                let kept = this.writes.may_be_had_by(this.context.upstreams.primary_since(shard));
                Ok(if kept || reply.starts_with(b"-") { reply } else { nobody(&reply) })
            };
            // Nobody has written to a shard without slots.
            join_all(map.ids().filter_map(|shard| Some((shard, trace(shard, map)?))).map(ask)).await
        };
        self.writes.waited = true;
        replies.into_iter().collect()
    }

    async fn acknowledged_by(&self, shard: ShardId, trace: Request, request: &Request) -> Result<Bytes, ExecError> {
        let context = Rc::clone(&self.context);
        let node = context.upstreams.primary(shard).ok_or(ExecError::Unreachable)?;
        let requests = [trace, request.clone()];
        let wait = context.config.transactions.lock_wait_timeout;
        let mut leased = node.lease(0, Proto::Resp2, wait).await.map_err(|_| ExecError::Unreachable)?;
        let replies = leased.call(&requests).await.map_err(|_| ExecError::Unreachable)?;
        match &replies[..] {
            [traced, reply] if traced.first() == Some(&b':') => Ok(reply.clone()),
            // A slot that moves, a primary that is none any more.
            [traced, _] => Ok(traced.clone()),
            _ => Err(ExecError::Unreachable),
        }
    }
}

/// What WAIT has to know of a client's writes.
#[derive(Default)]
pub(in crate::session) struct Writes {
    /// The version of the topology when the first write was sent that no WAIT has followed yet, or else the first before the last WAIT.
    first: Option<u64>,
    /// A WAIT has followed.
    waited: bool,
}

impl Writes {
    /// Something is sent that may write, at `version` of the topology.
    pub(in crate::session) fn note(&mut self, version: u64) {
        if self.first.is_none() || std::mem::take(&mut self.waited) {
            self.first = Some(version);
        }
    }

    /// Whether all of it was sent to a primary that is one since version `since`, or was not sent there at all.
    fn may_be_had_by(&self, since: u64) -> bool {
        self.first.is_none_or(|first| since <= first)
    }
}

/// `reply` with every count in it zero.
fn nobody(reply: &Bytes) -> Bytes {
    Bytes::from_static(if reply.starts_with(b"*") { b"*2\r\n:0\r\n:0\r\n" } else { b":0\r\n" })
}

/// A write without a trace on `shard`; in a cluster, in any of its slots.
fn trace(shard: ShardId, map: &SlotMap) -> Option<Request> {
    let participant = match map.mode() {
        Mode::Static => Participant::Shard { name: map.shard(shard)?.name.as_str().into(), db: 0 },
        Mode::Cluster => Participant::Slot((0..SLOT_COUNT).filter_map(Slot::new).find(|slot| map.owner(*slot) == Some(shard))?),
    };
    Some(txn::trace(&participant))
}
