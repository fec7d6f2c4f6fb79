//! MULTI, EXEC, DISCARD, WATCH and UNWATCH, as Redis promises them, over keys on different shards.
//!
//! `behaviour` has what the titles of Redis's `tests/unit/multi.tcl` promise, `refusal` what happens when a shard cannot carry out its
//! part, and `wire` the bytes: what is answered when, and in which form. Of those titles these are left out, because they need what weft
//! does not carry out:
//!
//! - stale keys under WATCH, and lazily expired ones: `DEBUG SET-ACTIVE-EXPIRE`, and order against expiry is promised to nobody (a TTL
//!   runs on the clock of its shard);
//! - SWAPDB while keys are watched, which `keyspace` has, and FLUSHALL in MULTI with an AOF, which a client does not see;
//! - the propagation of transactions to replicas (also of PUBLISH, SCRIPT LOAD, EVAL, XREADGROUP), REPLICAOF, and the state changes of
//!   replicas: a client sees no replication stream;
//! - MULTI with BGREWRITEAOF and CONFIG SET: refused while they are queued, which `refusal` checks;
//! - errors that Redis gives while it queues because memory is full: weft asks the shards when EXEC comes, and EXEC then fails whole.

mod behaviour;
mod refusal;
mod wire;
