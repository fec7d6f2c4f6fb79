//! Meeting a lock: short jittered polls while its owner may be alive, resolving the owner when its lease is over (protocol §7).

use std::collections::BTreeSet;
use std::rc::Rc;

use bytes::Bytes;

use super::engine::Engine;
use super::id::TxnId;
use super::{fence, internal_keys, recovery};
use crate::resp::{Proto, Request, Value};
use crate::route::Place;
use crate::upstream::call;

impl Engine {
    /// Returns when it is worth looking at the locks of `keys` again: after a moment, or when an owner whose lease is over was resolved.
    pub(super) async fn wait_for_locks(&self, place: Place, proto: Proto, keys: &[Bytes], tries: u32) {
        self.metrics.lock_waits.add();
        // Most locks are gone after the round trip that their commit takes: only who met one twice asks whose it is.
        if tries % OWNER_LOOKS == 1 {
            for owner in self.owners(place, proto, keys).await {
                if self.is_overdue(place, proto, &owner).await {
                    recovery::resolve(self, &owner, place).await;
                    return;
                }
            }
        }
        self.pause(tries).await;
    }

    /// Who holds locks of `keys`, in either mode.
    async fn owners(&self, place: Place, proto: Proto, keys: &[Bytes]) -> BTreeSet<TxnId> {
        let Some(node) = self.upstreams.primary(place.shard) else { return BTreeSet::new() };
        let names = internal_keys::lock_names(place, keys);
        let requests: Vec<Request> = names
            .iter()
            .flat_map(|(exclusive, shared)| [Request::new(&[&b"GET"[..], exclusive]), Request::new(&[&b"SMEMBERS"[..], shared])])
            .collect();
        let conn: Rc<_> = node.shared(place.db, proto);
        let replies = call(&conn, &requests).await.unwrap_or_default();
        replies.iter().filter_map(|reply| Value::parse(reply).ok()).flat_map(texts).filter_map(|text| TxnId::parse(&text)).collect()
    }

    /// Whether the lease of `owner` is over by the clock of the shard that holds the lock; a lock without a record counts as overdue.
    async fn is_overdue(&self, place: Place, proto: Proto, owner: &TxnId) -> bool {
        let Some(node) = self.upstreams.primary(place.shard) else { return false };
        let conn = node.shared(place.db, proto);
        let request = fence::inspect_request(place, owner);
        match call(&conn, std::slice::from_ref(&request)).await {
            Ok(replies) => replies.first().and_then(|reply| fence::inspected(reply)).is_none_or(|record| record.age_ms >= record.lease_ms),
            Err(_) => false,
        }
    }
}

/// The strings in a reply that is one, or several.
fn texts(value: Value) -> Vec<Bytes> {
    match value {
        Value::Bulk(text) => vec![text],
        Value::Array(items) | Value::Set(items) => items.into_iter().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

/// Every how many looks at a lock its owner is asked for.
const OWNER_LOOKS: u32 = 4;
