//! weft: a Redis proxy whose MULTI/EXEC is atomic and isolated across shards.

pub mod resp;
pub mod slot;
pub mod txn;
