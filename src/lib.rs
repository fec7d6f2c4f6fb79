//! weft: a Redis proxy whose MULTI/EXEC is atomic and isolated across shards.

pub mod config;
pub mod node_addr;
pub mod resp;
pub mod slot;
pub mod topology;
