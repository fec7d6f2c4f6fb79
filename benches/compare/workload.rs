//! What is compared: one row a workload, data only. How a row becomes bytes is [`crate::load`]'s business.

use serde::Serialize;

use crate::fleet::Behind;
use crate::operation::Step::{Exec, Get, Multi, Set, WatchBoth};
use crate::operation::{A, B, Draw, Operation, Step};

/// One workload: an operation, how many of them are in flight on a connection, and what its figures are held against.
#[derive(Debug, PartialEq)]
pub(crate) struct Workload {
    /// The name on the command line and in the JSON.
    pub(crate) name: &'static str,
    /// What a reader of the table sees.
    pub(crate) title: &'static str,
    pub(crate) group: Group,
    /// The operation as hops; the requests of a hop leave together, and the next hop waits for all their replies.
    pub(crate) hops: &'static [&'static [Step]],
    /// Operations in flight on one connection (more than one only where the operation is a single hop).
    pub(crate) pipeline: usize,
    pub(crate) draw: Draw,
    /// How many proxies stand side by side before the shards; connections are dealt out to them in turn.
    pub(crate) proxies: usize,
    pub(crate) baseline: Baseline,
}

/// What stands in one plot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Group {
    Commands,
    Transactions,
    Contention,
}

/// What a workload's figures are divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Baseline {
    /// The same workload without a proxy.
    Direct,
    /// Another workload on the same target.
    OwnWorkload(&'static str),
    /// A workload on the same target whose operations do not meet.
    Apart(&'static str),
}

const GET: &[&[Step]] = &[&[Get(A)]];
const SET: &[&[Step]] = &[&[Set(A)]];
const TRANSACTION: &[&[Step]] = &[&[Multi, Set(A), Set(B), Exec]];
/// As client libraries do it (redis-py, RQ): every read is a round trip, the queued part is one.
const WATCH_LOOP: &[&[Step]] = &[&[WatchBoth], &[Get(A)], &[Get(B)], &[Multi, Set(A), Set(B), Exec]];

/// The table of workloads, in the order in which they are measured and shown.
pub(crate) const WORKLOADS: [Workload; 12] = [
    command("get-p1", "GET, pipeline 1", GET, 1),
    command("set-p1", "SET, pipeline 1", SET, 1),
    command("get-p16", "GET, pipeline 16", GET, 16),
    command("set-p16", "SET, pipeline 16", SET, 16),
    transaction("multi-1", "MULTI of two SETs on one shard", TRANSACTION, Draw::SameShard, Baseline::Direct),
    transaction("multi-2", "MULTI of two SETs on two shards", TRANSACTION, Draw::TwoShards, Baseline::OwnWorkload("multi-1")),
    transaction("watch-1", "WATCH, read, write on one shard", WATCH_LOOP, Draw::SameShard, Baseline::Direct),
    transaction("watch-2", "WATCH, read, write on two shards", WATCH_LOOP, Draw::TwoShards, Baseline::OwnWorkload("watch-1")),
    contention("apart-2", "MULTI of two SETs on two shards, two proxies, keys at random", TRANSACTION, Draw::TwoShards),
    contention("hot-key-2", "the same, one of the keys the same for everybody", TRANSACTION, Draw::HotKey),
    contention("contended-2", "the same, both keys the same for everybody", TRANSACTION, Draw::HotPair),
    contention("contended-watch-2", "WATCH, read, write of both", WATCH_LOOP, Draw::HotPair),
];

impl Workload {
    /// The workload called `name`.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        WORKLOADS.iter().find(|workload| workload.name == name)
    }

    /// What stands behind the proxies.
    pub(crate) fn behind(&self) -> Behind {
        if self.draw == Draw::OneServer { Behind::Common } else { Behind::OwnShards(2) }
    }

    /// What a connection does for it.
    pub(crate) fn operation(&self) -> Operation {
        let hops = self.hops.iter().map(|hop| hop.to_vec()).collect();
        Operation { hops, pipeline: self.pipeline, draw: self.draw }
    }
}

impl Group {
    pub(crate) const ALL: [Self; 3] = [Self::Commands, Self::Transactions, Self::Contention];

    /// The name of the group's plot.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Commands => "commands",
            Self::Transactions => "transactions",
            Self::Contention => "contention",
        }
    }
}

impl Baseline {
    /// The column's heading, as in "× direct".
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::OwnWorkload(_) => "one shard",
            Self::Apart(_) => "apart",
        }
    }
}

const fn command(name: &'static str, title: &'static str, hops: &'static [&'static [Step]], pipeline: usize) -> Workload {
    Workload { name, title, group: Group::Commands, hops, pipeline, draw: Draw::OneServer, proxies: 1, baseline: Baseline::Direct }
}

const fn transaction(
    name: &'static str,
    title: &'static str,
    hops: &'static [&'static [Step]],
    draw: Draw,
    baseline: Baseline,
) -> Workload {
    Workload { name, title, group: Group::Transactions, hops, pipeline: 1, draw, proxies: 1, baseline }
}

const fn contention(name: &'static str, title: &'static str, hops: &'static [&'static [Step]], draw: Draw) -> Workload {
    Workload { name, title, group: Group::Contention, hops, pipeline: 1, draw, proxies: 2, baseline: Baseline::Apart("apart-2") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn baselines_are_workloads_of_the_table() {
        for workload in &WORKLOADS {
            if let Baseline::OwnWorkload(name) | Baseline::Apart(name) = workload.baseline {
                assert!(Workload::named(name).is_some(), "{} is held against {name}", workload.name);
            }
        }
    }

    #[test]
    fn only_single_hops_are_pipelined() {
        assert!(WORKLOADS.iter().all(|workload| workload.pipeline == 1 || workload.hops.len() == 1));
    }
}
