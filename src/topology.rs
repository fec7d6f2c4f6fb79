//! Which shard owns which slot, and how that is learnt.
//!
//! A [`SlotMap`] is an immutable snapshot with an epoch. It comes either from the configuration ([`place`]) or from the cluster's own
//! word ([`from_shards`]); both are pure. [`Topology`] is the control plane that keeps the current one: workers hold a receiver, plan each
//! request against one snapshot and never wait for a refresh. A redirect in a reply is only ever a reason to ask the known nodes again:
//! no address is dialled that the configuration or a node's own answer to us did not name.

mod discovery;
mod facts;
mod inquiry;
mod placement;
mod refresh;
mod slot_map;

pub use crate::node_addr::NodeAddr;
pub use discovery::{DiscoveryError, from_shards, from_slots};
pub use facts::{OLDEST_VERSION, ServerFacts, Unfit, Version};
pub use inquiry::AskError;
pub use placement::{place, share};
pub use refresh::{Facts, Topology, UnfitShards};
pub use slot_map::{Mode, Shard, ShardId, SlotMap};
