//! weft: a Redis proxy whose MULTI/EXEC is atomic and isolated across shards.

pub mod cli;
pub mod command;
pub mod config;
pub mod dev;
pub mod metrics;
pub mod node_addr;
pub mod resp;
pub mod route;
pub mod server;
pub mod session;
pub mod slot;
pub mod telemetry;
pub mod topology;
pub mod txn;
pub mod upstream;
