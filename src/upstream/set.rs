//! All nodes of the topology, as one worker sees them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::handshake::Handshake;
use super::node::Node;
use crate::config::UpstreamConfig;
use crate::metrics::WorkerMetrics;
use crate::topology::{ShardId, SlotMap};

/// The worker's nodes beside the slot map that names them. Both change together, between two turns of the event loop.
pub struct Upstreams {
    handshake: Handshake,
    config: UpstreamConfig,
    counts: Arc<WorkerMetrics>,
    map: RefCell<Arc<SlotMap>>,
    /// The primary of each shard, by [`ShardId`].
    primaries: RefCell<Vec<Rc<Node>>>,
    /// The version with which each of them became one.
    since: RefCell<Vec<u64>>,
    /// For callers that keep something derived from the map: grows with every change.
    version: Cell<u64>,
}

impl Upstreams {
    /// The nodes that `map` names, not connected to yet.
    pub fn new(map: Arc<SlotMap>, handshake: Handshake, config: UpstreamConfig, counts: Arc<WorkerMetrics>) -> Rc<Self> {
        let this = Self {
            handshake,
            config,
            counts,
            map: RefCell::new(Arc::clone(&map)),
            primaries: RefCell::default(),
            since: RefCell::default(),
            version: Cell::new(0),
        };
        this.apply(map);
        Rc::new(this)
    }

    /// The current slot map.
    pub fn map(&self) -> Arc<SlotMap> {
        Arc::clone(&self.map.borrow())
    }

    /// The primary of `shard`; `None` if the shard is of a map that had more.
    pub fn primary(&self, shard: ShardId) -> Option<Rc<Node>> {
        self.primaries.borrow().get(shard.index()).cloned()
    }

    /// The [`version`](Self::version) with which the primary of `shard` took the place of another.
    pub fn primary_since(&self, shard: ShardId) -> u64 {
        self.since.borrow().get(shard.index()).copied().unwrap_or_default()
    }

    /// Every shard's primary.
    pub fn primaries(&self) -> Vec<Rc<Node>> {
        self.primaries.borrow().clone()
    }

    /// The primary at the address that a redirect names, if the topology knows it.
    pub fn known(&self, address: &str) -> Option<Rc<Node>> {
        self.primaries.borrow().iter().find(|node| node.address().to_string() == address).cloned()
    }

    /// Counts the maps that were applied.
    pub fn version(&self) -> u64 {
        self.version.get()
    }

    /// Changes over to `map`: nodes that it still names keep their connections, the others are closed.
    pub fn apply(&self, map: Arc<SlotMap>) {
        let before = self.primaries();
        let after: Vec<Rc<Node>> = map
            .shards()
            .iter()
            .map(|shard| match before.iter().find(|node| *node.address() == shard.address) {
                Some(node) => Rc::clone(node),
                None => Node::new(shard.address.clone(), self.handshake.clone(), self.config.clone(), Arc::clone(&self.counts)),
            })
            .collect();
        let version = self.version.get() + 1;
        let since = {
            let known = self.since.borrow();
            let place = |node: &Rc<Node>| before.iter().position(|other| Rc::ptr_eq(node, other));
            after.iter().map(|node| place(node).and_then(|at| known.get(at).copied()).unwrap_or(version)).collect()
        };
        self.since.replace(since);
        before.iter().filter(|node| !after.iter().any(|other| Rc::ptr_eq(node, other))).for_each(|node| node.close());
        self.primaries.replace(after);
        self.map.replace(map);
        self.version.set(version);
    }

    /// Gives up connections that do not answer. To be called a few times a second.
    pub fn watch(&self, now: Instant) {
        self.primaries.borrow().iter().for_each(|node| node.watch(now));
    }

    /// What is to be known about the connections.
    pub fn config(&self) -> &UpstreamConfig {
        &self.config
    }
}
