//! Where a request goes: its keys, the participants they belong to, and the shards that hold those; and how the replies of several
//! shards become one.

mod merge;

use smallvec::SmallVec;

pub use merge::{is_error, merge};

use crate::command::{self, Access, CommandSpec, Flags, Handling, KeyError, KeyRef, Keys};
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
    /// Where `key` of database `db` lives; `None` while its slot has no owner. Whatever asks where a key is asks here.
    #[inline]
    pub fn of(map: &SlotMap, db: u32, key: &[u8]) -> Option<Self> {
        let slot = map.affinity().slot(key);
        let shard = map.owner(slot)?;
        Some(match map.mode() {
            Mode::Static => Self { slot: None, shard, db },
            Mode::Cluster => Self { slot: Some(slot), shard, db: 0 },
        })
    }
}

/// A command whose keys all lie in one participant.
#[derive(Clone, Debug)]
pub struct Routed {
    /// Its row in the command table.
    pub spec: &'static CommandSpec,
    /// The request.
    pub request: Request,
    /// Where it goes.
    pub place: Place,
    /// Its keys; a few commands have none.
    pub keys: Keys,
    /// What else it may use.
    pub reach: Reach,
}

/// What a command may use beside the keys that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Nothing.
    Keys,
    /// All of their groups: it is a script that may make up names.
    Groups,
}

impl From<&CommandSpec> for Reach {
    /// Of a script nothing else is known by its command.
    fn from(spec: &CommandSpec) -> Self {
        if spec.handling == Handling::Script { Self::Groups } else { Self::Keys }
    }
}

impl Routed {
    /// Whether it may change data. A script may do so although it names no key.
    pub fn writes(&self) -> bool {
        let script = self.is_script() && !self.spec.flags.contains(Flags::READONLY);
        script || self.spec.is_write() || self.keys.iter().any(|key| key.access == Access::Write)
    }

    /// Whether it is a user's script or function: what that answers proves nothing, and it never runs on a shared connection.
    pub fn is_script(&self) -> bool {
        self.spec.handling == Handling::Script
    }

    /// The keys that it may write, each with its place.
    pub fn written(&self) -> impl Iterator<Item = (&Place, &[u8])> {
        let written = self.keys.iter().filter(|key| key.access == Access::Write);
        written.map(|key| (&self.place, self.request.arg(key.index as usize)))
    }

    /// The names of its keys.
    pub fn key_names(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.keys.iter().map(|key| self.request.arg(key.index as usize))
    }
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

/// What became of a request that was to be routed.
#[derive(Clone, Debug)]
pub enum Route {
    /// One participant has all its keys.
    One(Routed),
    /// Several have: the keys with their places.
    Several(SmallVec<[(KeyRef, Place); 4]>),
}

/// Finds the keys of `request`, and the participants that they belong to.
///
/// # Errors
/// See [`RouteError`].
pub fn route(map: &SlotMap, db: u32, spec: &'static CommandSpec, request: &Request) -> Result<Route, RouteError> {
    let mut keys = Keys::new();
    match command::keys(spec, request, &mut keys) {
        Ok(()) => {}
        // A server of its own has nothing against it.
        Err(KeyError::Get) if map.mode() == Mode::Static => {}
        Err(error) => return Err(RouteError::Keys(error)),
    }
    let place_of = |key: &KeyRef| {
        let name = request.arg(key.index as usize);
        if is_internal(name) { Err(RouteError::Internal) } else { Place::of(map, db, name).ok_or(RouteError::Unowned) }
    };
    let [first, rest @ ..] = &keys[..] else {
        let place = Place::of(map, db, b"").ok_or(RouteError::Unowned)?;
        return Ok(Route::One(Routed { spec, request: request.clone(), place, keys, reach: spec.into() }));
    };
    let place = place_of(first)?;
    for key in rest {
        if place_of(key)? != place {
            let placed: Result<_, RouteError> = keys.iter().map(|key| Ok((*key, place_of(key)?))).collect();
            return placed.map(Route::Several);
        }
    }
    Ok(Route::One(Routed { spec, request: request.clone(), place, keys, reach: spec.into() }))
}

/// Sends a request whose keys cannot be told, or that has none, to some place.
pub fn anywhere(map: &SlotMap, spec: &'static CommandSpec, request: Request) -> Option<Routed> {
    Some(Routed { spec, request, place: Place::of(map, 0, b"")?, keys: Keys::new(), reach: spec.into() })
}

/// Whether `key` is in the part of the keyspace that weft keeps for itself.
#[inline]
pub fn is_internal(key: &[u8]) -> bool {
    key.starts_with(INTERNAL_PREFIX)
}

/// What all of weft's own keys begin with.
pub const INTERNAL_PREFIX: &[u8] = b"__weft:";
