//! weft: a Redis proxy whose MULTI/EXEC is atomic and isolated across shards.

pub mod command;
pub mod config;
pub mod node_addr;
pub mod resp;
pub mod route;
//pub mod session;
pub mod slot;
pub mod topology;
//pub mod txn;
pub mod upstream;
