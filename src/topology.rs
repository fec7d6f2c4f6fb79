//! Which shard owns which slot, and how that is learnt.
//!
//! A [`SlotMap`] is an immutable snapshot with an epoch. It comes either from the configuration (placement) or from the cluster's own
//! word (discovery); both are pure. The control plane keeps the current one: workers hold a receiver, plan each
//! request against one snapshot and never wait for a refresh. A redirect in a reply is only ever a reason to ask the known nodes again:
//! no address is dialled that the configuration or a node's own answer to us did not name.

mod slot_map;

pub use crate::node_addr::NodeAddr;
pub use slot_map::{Mode, Shard, ShardId, SlotMap};
