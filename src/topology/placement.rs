//! The slots of static servers: as the configuration says, or divided evenly.
//!
//! The even division is that of `redis-cli --cluster create`, so that a keyspace keeps its layout when it moves from one to the other.

use std::ops::RangeInclusive;

use super::slot_map::{Mode, Shard, SlotMap};
use crate::affinity::Affinity;
use crate::config::StaticConfig;
use crate::slot::SLOT_COUNT;

/// The map that `config` describes. It never changes while weft runs.
pub fn place(config: &StaticConfig) -> SlotMap {
    let count = config.shards.len();
    let evenly = config.shards.iter().all(|shard| shard.slots.is_empty());
    let shards = config.shards.iter().enumerate().map(|(index, shard)| {
        let slots = if evenly { share(index, count).into_iter().collect() } else { shard.slots.clone() };
        (Shard { name: shard.name.clone(), address: shard.address.clone(), replicas: Vec::new() }, slots)
    });
    SlotMap::new(Mode::Static, shards.collect()).with_affinity(Affinity::new(config.affinity.clone()))
}

/// The slots of shard `index` when `count` shards divide them evenly; none if there are more shards than slots.
pub fn share(index: usize, count: usize) -> Option<RangeInclusive<u16>> {
    let bound = |index: usize| ((index * usize::from(SLOT_COUNT) + count / 2) / count) as u16;
    let (first, next) = (bound(index), bound(index + 1));
    (first < next).then(|| first..=next - 1)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::config::{Config, TopologyConfig};
    use crate::topology::ShardId;

    fn placed(shards: &str) -> SlotMap {
        let text = format!("topology: {{static: {{shards: [{shards}]}}}}");
        let TopologyConfig::Static(config) = Config::parse(&text, "test").unwrap().topology else { unreachable!() };
        place(&config)
    }

    #[test]
    fn three_shards_share_evenly_as_redis_cli_divides() {
        let map = placed("{name: a, address: 'h:1'}, {name: b, address: 'h:2'}, {name: c, address: 'h:3'}");
        let ranges: Vec<_> = map.ids().flat_map(|id| map.ranges(id)).collect();
        assert_eq!(ranges, [0..=5460, 5461..=10922, 10923..=16383]);
        assert_eq!(map.shard_named("c"), Some(ShardId::new(2)));
    }

    #[test]
    fn keys_of_a_group_have_one_shard() {
        let text = "{topology: {static: {shards: [{name: a, address: 'h:1'}, {name: b, address: 'h:2'}]}}, affinity: ['app:{user}:*']}";
        let TopologyConfig::Static(config) = Config::parse(text, "test").unwrap().topology else { unreachable!() };
        let map = place(&config);
        let owners = |keys: &[&str]| keys.iter().map(|key| map.owner(map.affinity().slot(key.as_bytes()))).collect::<Vec<_>>();
        for user in ["a", "b", "c", "d"] {
            let owners = owners(&[&format!("app:{user}:x"), &format!("app:{user}:y:z"), &format!("app:{user}")]);
            assert!(owners.iter().all(|owner| *owner == owners[0]), "{user}");
        }
    }

    #[test]
    fn any_number_of_shards_covers_every_slot_once() {
        for count in (1..=100).chain([1000, 16383, 16384]) {
            let mut next = 0;
            for index in 0..count {
                let range = share(index, count).unwrap();
                assert_eq!(*range.start(), next, "shard {index} of {count}");
                next = *range.end() + 1;
            }
            assert_eq!(next, SLOT_COUNT, "{count} shards");
        }
    }

    #[test]
    fn explicit_ranges_are_kept() {
        let map = placed("{name: a, address: 'h:1', slots: [100, 0-98]}, {name: b, address: 'h:2', slots: [99, 101-16383]}");
        assert_eq!(map.ranges(ShardId::new(0)), [0..=98, 100..=100]);
        assert_eq!(map.ranges(ShardId::new(1)), [99..=99, 101..=16383]);
        assert_eq!(map.mode(), Mode::Static);
    }
}
