//! Looking through a shard for weft's own keys, in steps so small that its other clients do not notice.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::engine::Engine;
use super::participant::Participant;
use crate::resp::{Proto, Request, Value};
use crate::slot::Slot;
use crate::topology::{Mode, ShardId};
use crate::upstream::{self, Node};

/// One of weft's keys, and whose it is.
pub(super) struct Met {
    /// The key.
    pub(super) key: Bytes,
    /// The participant that it belongs to.
    pub(super) at: Participant,
}

impl Engine {
    /// Gives `visit` weft's keys on the primary of `shard` that match `pattern`, page by page with `pause` between two, until it says
    /// [`Walk::Enough`]. `None` when the shard does not answer.
    pub(super) async fn walk(
        &self,
        shard: ShardId,
        pattern: &str,
        pause: Duration,
        mut visit: impl AsyncFnMut(Vec<Met>) -> Walk,
    ) -> Option<()> {
        let node = self.upstreams.primary(shard)?;
        let map = self.upstreams.map();
        let databases = match map.mode() {
            Mode::Cluster => vec![0],
            Mode::Static => databases(&ask(&node, 0, &Request::new(&["INFO", "keyspace"])).await?),
        };
        for db in databases {
            let participant = |key: &[u8]| match map.mode() {
                Mode::Cluster => Some(Participant::Slot(Slot::of(key))),
                Mode::Static => Some(Participant::Shard { name: map.shard(shard)?.name.as_str().into(), db }),
            };
            let mut cursor = Bytes::from_static(b"0");
            loop {
                let scan = Request::new(&[&b"SCAN"[..], &cursor, b"MATCH", pattern.as_bytes(), b"COUNT", PAGE_KEYS]);
                let page = ask(&node, db, &scan).await?;
                let [next, keys] = page.items()? else { return None };
                let keys = keys.items()?.iter().filter_map(Value::text);
                let met = keys.filter_map(|key| Some(Met { key: key.clone(), at: participant(key)? })).collect();
                if visit(met).await == Walk::Enough {
                    return Some(());
                }
                cursor = next.text()?.clone();
                if cursor.as_ref() == b"0" {
                    break;
                }
                tokio::time::sleep(pause).await;
            }
        }
        Some(())
    }
}

/// Whether to look further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Walk {
    /// At the next page.
    On,
    /// No more.
    Enough,
}

/// What all of weft's keys match.
pub(super) const ANY: &str = "__weft:*";

async fn ask(node: &Rc<Node>, db: u32, request: &Request) -> Option<Value> {
    let reply = upstream::call(&node.shared(db, Proto::Resp2), std::slice::from_ref(request)).await.ok()?.pop()?;
    Value::parse(&reply).ok()
}

/// The databases that have keys, from the text of `INFO keyspace`.
fn databases(info: &Value) -> Vec<u32> {
    let text = info.text().map(|text| String::from_utf8_lossy(text).into_owned()).unwrap_or_default();
    text.lines().filter_map(|line| line.strip_prefix("db")?.split(':').next()?.parse().ok()).collect()
}

/// How many keys a shard looks at in one step: a fraction of a millisecond.
const PAGE_KEYS: &[u8] = b"500";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_databases_with_keys_are_looked_through() {
        let info = "# Keyspace\r\ndb0:keys=3,expires=0,avg_ttl=0\r\ndb12:keys=1,expires=1,avg_ttl=5\r\n";
        assert_eq!(databases(&Value::Bulk(Bytes::from_static(info.as_bytes()))), [0, 12]);
        assert!(databases(&Value::Null).is_empty());
    }
}
