//! An immutable snapshot of which shard owns which slot. The owner of a slot is one array look-up: it is asked for every key.

use std::fmt;
use std::ops::RangeInclusive;

use crate::affinity::Affinity;
use crate::node_addr::NodeAddr;
use crate::slot::{SLOT_COUNT, Slot};

/// The number of a shard in one [`SlotMap`]. Maps of the static topology all agree on it; in a cluster it may change from one epoch to
/// the next, the shard's name does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(u16);

impl ShardId {
    /// The shard numbered `index`.
    pub const fn new(index: u16) -> Self {
        Self(index)
    }

    /// The shard's number, for indexing a table with an entry for each of [`SlotMap::shards`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What kind of servers stand behind weft, and hence what a participant is: a slot in a cluster, a shard and db with static servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Servers that know nothing of each other.
    Static,
    /// A Redis Cluster.
    Cluster,
}

/// One primary and its replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Static: the name in the configuration. Cluster: the primary's node id.
    pub name: String,
    /// The primary.
    pub address: NodeAddr,
    /// Replicas that are online. Always empty with static servers.
    pub replicas: Vec<NodeAddr>,
}

/// Which shard owns which slot, at one moment.
#[derive(Clone, PartialEq, Eq)]
pub struct SlotMap {
    epoch: u64,
    mode: Mode,
    shards: Box<[Shard]>,
    /// An entry for each slot: a shard's index, or [`UNOWNED`].
    owners: Box<[u16]>,
    /// By hash tags alone in a cluster, where slots are the servers' matter.
    affinity: Affinity,
}

impl SlotMap {
    /// A map of `shards`, each with the slots it owns. A slot given twice goes to the last shard that claims it, bounds above the last
    /// slot are cut: whoever builds a map has checked what it must be.
    pub fn new(mode: Mode, shards: Vec<(Shard, Vec<RangeInclusive<u16>>)>) -> Self {
        let mut owners = vec![UNOWNED; usize::from(SLOT_COUNT)].into_boxed_slice();
        for (index, (_, ranges)) in (0..UNOWNED).zip(&shards) {
            for slot in ranges.iter().cloned().flatten().filter(|slot| *slot < SLOT_COUNT) {
                owners[usize::from(slot)] = index;
            }
        }
        Self { epoch: 0, mode, shards: shards.into_iter().map(|(shard, _)| shard).collect(), owners, affinity: Affinity::default() }
    }

    /// The same map under another epoch.
    pub fn with_epoch(self, epoch: u64) -> Self {
        Self { epoch, ..self }
    }

    /// The same map with keys grouped by `affinity`.
    pub fn with_affinity(self, affinity: Affinity) -> Self {
        Self { affinity, ..self }
    }

    /// Which keys live together.
    #[inline]
    pub fn affinity(&self) -> &Affinity {
        &self.affinity
    }

    /// The shard that owns `slot`; `None` while the cluster has no owner for it.
    #[inline]
    pub fn owner(&self, slot: Slot) -> Option<ShardId> {
        match self.owners[slot.index()] {
            UNOWNED => None,
            index => Some(ShardId(index)),
        }
    }

    /// The shard numbered `id`; `None` if the id is of another map that had more.
    #[inline]
    pub fn shard(&self, id: ShardId) -> Option<&Shard> {
        self.shards.get(id.index())
    }

    /// Every shard; a shard's position is its [`ShardId`].
    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// Every shard's id, in order.
    pub fn ids(&self) -> impl ExactSizeIterator<Item = ShardId> + use<> {
        (0..self.shards.len() as u16).map(ShardId)
    }

    /// The shard called `name`.
    pub fn shard_named(&self, name: &str) -> Option<ShardId> {
        self.ids().find(|id| self.shards[id.index()].name == name)
    }

    /// The shard whose primary or replica listens at `address`.
    pub fn find(&self, address: &NodeAddr) -> Option<ShardId> {
        self.ids().find(|id| {
            let shard = &self.shards[id.index()];
            shard.address == *address || shard.replicas.contains(address)
        })
    }

    /// What kind of servers these are.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Grows by one with every map that differs from its predecessor. Weft's own count, not the cluster's.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The slots that `id` owns, as ascending disjoint ranges.
    pub fn ranges(&self, id: ShardId) -> Vec<RangeInclusive<u16>> {
        let mut ranges: Vec<RangeInclusive<u16>> = Vec::new();
        for (slot, _) in (0..SLOT_COUNT).zip(&self.owners).filter(|(_, owner)| **owner == id.0) {
            match ranges.last_mut() {
                Some(last) if *last.end() + 1 == slot => *last = *last.start()..=slot,
                _ => ranges.push(slot..=slot),
            }
        }
        ranges
    }

    /// How many slots have an owner.
    pub fn covered(&self) -> usize {
        self.owners.iter().filter(|owner| **owner != UNOWNED).count()
    }

    /// Whether `other` says the same, whatever its epoch.
    pub fn agrees_with(&self, other: &Self) -> bool {
        self.mode == other.mode && self.shards == other.shards && self.owners == other.owners && self.affinity == other.affinity
    }
}

impl fmt::Debug for SlotMap {
    /// The shards with their ranges, not 16384 numbers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shards: Vec<_> = self.ids().zip(&self.shards).map(|(id, shard)| (shard, self.ranges(id))).collect();
        f.debug_struct("SlotMap").field("epoch", &self.epoch).field("mode", &self.mode).field("shards", &shards).finish()
    }
}

/// No shard owns this slot. Also the number of shards a map can have, above any cluster's.
const UNOWNED: u16 = u16::MAX;

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn shard(name: &str, port: u16) -> Shard {
        Shard { name: name.into(), address: NodeAddr::new("127.0.0.1", port).unwrap(), replicas: vec![] }
    }

    fn two_shards() -> SlotMap {
        SlotMap::new(Mode::Cluster, vec![(shard("a", 1), vec![0..=99, 200..=299]), (shard("b", 2), vec![100..=199])])
    }

    #[test]
    fn a_slot_leads_to_its_shard_or_to_none() {
        let map = two_shards();
        let owner = |slot| map.owner(Slot::new(slot).unwrap()).map(ShardId::index);
        assert_eq!(
            [owner(0), owner(99), owner(100), owner(200), owner(300), owner(16383)],
            [Some(0), Some(0), Some(1), Some(0), None, None]
        );
        assert_eq!(map.covered(), 300);
        assert_eq!(map.ranges(ShardId::new(0)), [0..=99, 200..=299]);
    }

    #[test]
    fn shards_are_found_by_name_and_by_any_address() {
        let mut b = shard("b", 2);
        b.replicas.push(NodeAddr::new("127.0.0.1", 3).unwrap());
        let map = SlotMap::new(Mode::Cluster, vec![(shard("a", 1), vec![]), (b, vec![])]);
        assert_eq!(map.shard_named("b"), Some(ShardId::new(1)));
        assert_eq!(map.find(&NodeAddr::new("127.0.0.1", 3).unwrap()), Some(ShardId::new(1)));
        assert_eq!(map.find(&NodeAddr::new("127.0.0.1", 4).unwrap()), None);
        assert_eq!(map.shard(ShardId::new(2)), None);
    }

    #[test]
    fn maps_agree_whatever_their_epoch() {
        assert!(two_shards().agrees_with(&two_shards().with_epoch(7)));
        assert_ne!(two_shards(), two_shards().with_epoch(7));
    }

    #[test]
    fn a_range_beyond_the_last_slot_is_cut() {
        let map = SlotMap::new(Mode::Cluster, vec![(shard("a", 1), vec![16380..=u16::MAX])]);
        assert_eq!(map.ranges(ShardId::new(0)), [16380..=16383]);
    }
}
