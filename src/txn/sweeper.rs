//! The sweeper (protocol §4): finds the records that no lock leads anyone to, and deletes those that nobody needs any more.
//!
//! Every proxy has one, because any may be the last. A round looks through the keys of every primary in small steps with pauses between
//! them, so that a shard spends a few thousandths of its time on it however many keys it has; what is found is
//!
//! | record | at the age of | becomes |
//! |---|---|---|
//! | prepared | `prepared_age` | resolved: its coordinator has died or lost its way |
//! | committed | `committed_age` | deleted, unless a participant is still prepared: then that one is resolved first |
//! | aborted (a tombstone) | `aborted_age` | deleted |
//!
//! Ages are by the shard's clock. A committed record is what tells a resolver that the others must commit too, so it must outlive every
//! prepared one: that is looked up, not assumed. Sweepers of several proxies may meet over a record; each step tolerates it.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;

use super::engine::Engine;
use super::fence::{self, Record};
use super::forget::{self, Age};
use super::participant::Participant;
use super::{Script, State, TxnId, internal_keys, recovery};
use crate::config::SweepConfig;
use crate::resp::{Proto, Request, Value};
use crate::slot::Slot;
use crate::topology::{Mode, ShardId};
use crate::upstream::{self, Node};

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
    async fn sweep_shard(&self, config: &SweepConfig, shard: ShardId) -> Option<()> {
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
                let page = ask(&node, db, &Request::new(&[&b"SCAN"[..], &cursor, b"MATCH", b"__weft:*", b"COUNT", PAGE_KEYS])).await?;
                let [next, keys] = page.items()? else { return None };
                for key in keys.items()?.iter().filter_map(Value::text) {
                    if let (Some(tid), Some(at)) = (internal_keys::tid_of(key), participant(key)) {
                        self.tend(config, tid, &at).await;
                    }
                }
                cursor = next.text()?.clone();
                if cursor.as_ref() == b"0" {
                    break;
                }
                tokio::time::sleep(PAGE_PAUSE).await;
            }
        }
        Some(())
    }

    /// Does what the record of `tid` at `at` is old enough for.
    async fn tend(&self, config: &SweepConfig, tid: TxnId, at: &Participant) -> Option<()> {
        let least = config.prepared_age.min(config.committed_age).min(config.aborted_age);
        if self.unix_ms() < tid.start_ms.saturating_add(least.as_millis() as u64) {
            return None;
        }
        let record = self.inspect(tid, at).await?;
        let age = Duration::from_millis(record.age_ms.try_into().ok()?);
        match &record.state {
            State::Prepared if age >= config.prepared_age => {
                recovery::resolve(self, tid, at).await;
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
                recovery::resolve(self, tid, home).await;
                return Some(false);
            }
        }
        Some(true)
    }

    async fn inspect(&self, tid: TxnId, at: &Participant) -> Option<Record> {
        let target = self.target(at, None)?;
        let reply = target.eval(Proto::Resp2, &Script::Inspect.load(), &fence::inspect(tid, at)).await.ok()?;
        fence::answer(&reply).ok()
    }

    async fn forget_old(&self, tid: TxnId, at: &Participant, age: Age) {
        let Some(target) = self.target(at, None) else { return };
        // What is not deleted now is met again in the next round.
        let _ = target.eval(Proto::Resp2, &Script::Forget.load(), &forget::request(&[tid], at, age)).await;
    }
}

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

/// The pause between two steps.
const PAGE_PAUSE: Duration = Duration::from_millis(100);

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
