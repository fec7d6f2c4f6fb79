//! How long the locks of a dead coordinator stay, as the shards tell who are asked directly.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use weft::txn::TxnId;

use crate::support::{Client, Reply, Shards};

/// The time from `death` until the last lock is gone that a transaction of the dead had taken before it.
///
/// Which coordinators died is not asked but seen: those of which no later transaction appears. As long as that is not clear, a lock counts
/// as theirs, so the time is rather too long than too short.
pub(super) fn until_released(shards: &Shards, death: Instant, death_ms: u64) -> Duration {
    let mut clients: Vec<Client> = shards.servers().iter().map(|server| server.client()).collect();
    let mut alive = BTreeSet::new();
    let mut last_held: BTreeMap<u64, Duration> = BTreeMap::new();
    let mut clean = 0;
    while clean < CLEAN && death.elapsed() < GIVEN_UP {
        let holders: Vec<TxnId> = clients.iter_mut().flat_map(holders).collect();
        let now = death.elapsed();
        alive.extend(holders.iter().filter(|tid| tid.start_ms > death_ms).map(|tid| tid.proxy));
        let old = holders.iter().filter(|tid| tid.start_ms <= death_ms && !alive.contains(&tid.proxy));
        clean += 1;
        for tid in old {
            last_held.insert(tid.proxy, now);
            clean = 0;
        }
        std::thread::sleep(POLL);
    }
    last_held.iter().filter(|(proxy, _)| !alive.contains(*proxy)).map(|(_, held)| *held).max().unwrap_or_default()
}

/// The transactions that hold locks at a shard.
fn holders(shard: &mut Client) -> Vec<TxnId> {
    let names = shard.call("KEYS __weft:*");
    let names: Vec<String> = names.items().unwrap_or_default().iter().filter_map(Reply::text).collect();
    let mut tids = Vec::new();
    for name in names {
        let rest = name.trim_start_matches("__weft:");
        let kind = rest.strip_prefix('{').and_then(|tagged| tagged.split_once('}')).map_or(rest, |(_, rest)| rest);
        let texts = match kind.split(':').next() {
            Some("x") => shard.call(&["GET", &name]).text().into_iter().collect(),
            Some("s") => shard.call(&["HKEYS", &name]).items().unwrap_or_default().iter().filter_map(Reply::text).collect(),
            _ => Vec::new(),
        };
        tids.extend(texts.iter().filter_map(|text| text.split(' ').next()?.parse::<TxnId>().ok()));
    }
    tids
}

/// So many looks in a row find nothing, before nothing more is expected: what was sent before a death arrives within milliseconds.
const CLEAN: usize = 5;
const POLL: Duration = Duration::from_millis(10);
const GIVEN_UP: Duration = Duration::from_secs(60);
