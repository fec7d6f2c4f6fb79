//! What a connection does over and over: the requests of an operation, and the keys that it draws for them.

use serde::{Deserialize, Serialize};

/// An operation, and how many of them are in flight on a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Operation {
    /// The requests of a hop leave together, and the next hop waits for all their replies.
    pub(crate) hops: Vec<Vec<Step>>,
    /// Operations in flight on one connection (more than one only where the operation is a single hop).
    pub(crate) pipeline: usize,
    pub(crate) draw: Draw,
}

/// A request; a number is one of the keys that were drawn for the operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Step {
    Get(usize),
    Set(usize),
    /// Of the first two keys.
    WatchBoth,
    Multi,
    Exec,
}

/// The first key of an operation.
pub(crate) const A: usize = 0;
/// The second.
pub(crate) const B: usize = 1;

/// How an operation's keys are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Draw {
    /// Any two keys, before one server that all targets share.
    OneServer,
    /// Two keys of one shard.
    SameShard,
    /// Two keys on two shards.
    TwoShards,
    /// Two keys on two shards, one of them the same for everybody.
    HotKey,
    /// Two keys on two shards, both the same for everybody.
    HotPair,
    /// Any number of keys, dealt to so many shards in turn, out of a part of the keyspace that is this connection's own.
    Apart(usize),
}

impl Operation {
    /// How many keys are drawn for it; two at least.
    pub(crate) fn key_count(&self) -> usize {
        let keys = self.hops.iter().flatten().map(|step| match step {
            Step::Get(key) | Step::Set(key) => key + 1,
            Step::WatchBoth | Step::Multi | Step::Exec => 0,
        });
        keys.max().unwrap_or(0).max(2)
    }

    /// The keys that it writes.
    pub(crate) fn written(&self) -> impl Iterator<Item = usize> {
        self.hops.iter().flatten().filter_map(|step| match step {
            Step::Set(key) => Some(*key),
            Step::Get(_) | Step::WatchBoth | Step::Multi | Step::Exec => None,
        })
    }

    /// Whether EXEC may answer nil, which is then a retry and not a failure.
    pub(crate) fn watches(&self) -> bool {
        self.hops.iter().any(|hop| hop.contains(&Step::WatchBoth))
    }
}
