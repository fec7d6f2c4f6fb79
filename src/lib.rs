//! weft: a Redis proxy whose MULTI/EXEC is atomic and isolated across shards.

pub mod cli;
pub mod config;
pub mod dev;
pub mod node_addr;
pub mod resp;
pub mod server;
pub mod slot;
pub mod telemetry;
pub mod topology;
