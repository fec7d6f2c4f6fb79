//! Where a request goes: its keys, the participants they belong to, and the shards that hold those.

use crate::command::{self, Access, CommandSpec, KeyError, Keys};
use crate::resp::Request;
use crate::slot::Slot;
use crate::topology::{Mode, ShardId, SlotMap};

/// A participant and the shard that holds it under the current slot map: a slot of a cluster, or a database of a static shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The slot in cluster mode. With static servers the whole database is one participant.
    pub slot: Option<Slot>,
    /// The shard.
    pub shard: ShardId,
    /// The database; always 0 in cluster mode.
    pub db: u32,
}

impl Place {
    /// Where `key` of database `db` lives; `None` while its slot has no owner.
    #[inline]
    pub fn of(map: &SlotMap, db: u32, key: &[u8]) -> Option<Self> {
        let slot = Slot::of(key);
        let shard = map.owner(slot)?;
        Some(match map.mode() {
            Mode::Static => Self { slot: None, shard, db },
            Mode::Cluster => Self { slot: Some(slot), shard, db: 0 },
        })
    }
}

/// A key of a request with the participant it belongs to.
#[derive(Clone, Copy, Debug)]
pub struct PlacedKey {
    /// The argument that names the key.
    pub index: u32,
    /// What the command does to it.
    pub access: Access,
    /// Where it lives.
    pub place: Place,
}

/// Why a request has no place to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteError {
    /// The arguments do not say what the keys are.
    Keys(KeyError),
    /// No shard owns the slot.
    Unowned,
    /// A key is one of weft's own.
    Internal,
}

/// The keys of `request` in the order of its arguments, each with its place.
pub type PlacedKeys = smallvec::SmallVec<[PlacedKey; 2]>;

/// Finds the keys of `request` and their places.
///
/// # Errors
/// See [`RouteError`].
pub fn place(map: &SlotMap, db: u32, spec: &CommandSpec, request: &Request) -> Result<PlacedKeys, RouteError> {
    let mut keys = Keys::new();
    command::keys(spec, request, &mut keys).map_err(RouteError::Keys)?;
    keys.iter()
        .map(|key| {
            let name = request.arg(key.index as usize);
            if is_internal(name) {
                return Err(RouteError::Internal);
            }
            let place = Place::of(map, db, name).ok_or(RouteError::Unowned)?;
            Ok(PlacedKey { index: key.index, access: key.access, place })
        })
        .collect()
}

/// The place that all of `keys` share, if they do and there is one.
pub fn common(keys: &[PlacedKey]) -> Option<Place> {
    let first = keys.first()?.place;
    keys.iter().all(|key| key.place == first).then_some(first)
}

/// Whether `key` is in the part of the keyspace that weft keeps for itself.
#[inline]
pub fn is_internal(key: &[u8]) -> bool {
    key.starts_with(INTERNAL_PREFIX)
}

/// What all of weft's own keys begin with.
pub const INTERNAL_PREFIX: &[u8] = b"__weft:";
