//! weft: a Redis proxy whose MULTI/EXEC is atomic and isolated across shards.
//!
//! # Layers
//!
//! No module imports from a row above its own; `tests/tidy.rs` holds them to that. *Pure* is without clock, socket or thread.
//!
//! | layer | modules | |
//! |---|---|---|
//! | process | [`cli`], [`server`], [`dev`], [`telemetry`] | threads, listeners, signals; `weft dev`; logging |
//! | client side | [`session`] | one task for each client: order of replies, MULTI, what weft answers itself |
//! | transactions | [`txn`] | the commit protocol: machines (pure), scripts, locks, recovery |
//! | Redis side | [`upstream`] | shared and leased connections of a worker |
//! | routing | [`route`] (pure) | keys to participants, replies of several shards to one |
//! | shards | [`topology`] | which shard has which slot, learnt from a cluster or configured |
//! | commands | [`command`] (pure) | one table, a row for each command |
//! | ground | [`resp`], [`slot`], [`affinity`], [`node_addr`] (pure), [`config`], [`metrics`] | bytes, hash slots, groups of keys, addresses; settings; counters |
//!
//! # The life of a request
//!
//! 1. A worker's listener accepts the client; its `session` reads into the worker's buffer, and [`resp::RequestDecoder`] cuts out a
//!    [`resp::Request`].
//! 2. [`command::lookup`] finds its row; `session::dispatch` is the one match on how the row says it is handled.
//! 3. [`route::route`] finds its keys and the participant that they share.
//! 4. `session::forward` puts it on the shared connection to the shard, behind the lock check that it owes, and notes it in the window.
//! 5. [`upstream::SharedConn`] writes what all sessions of the worker have gathered, and hands each reply frame to its window.
//! 6. `session::window` puts the replies in order; a request that met a lock is sent again when the lock is gone.
//! 7. What has to wait (EXEC, keys of several participants, scripts) is carried out alone: `session::alone` calls [`txn::Engine`].
//! 8. The session's task writes what is complete to the client.
//!
//! # Words
//!
//! - **session**, client side; **upstream**, Redis side. **Node**: one server; **shard**: a primary with its replicas; **slot**: one of
//!   the 16384 parts of the keyspace.
//! - **Participant**: where Redis runs several keys atomically by itself, a slot of a cluster or a database of a static shard.
//!   **Place**: a participant and the shard that has it now.
//! - **Frame**: one whole request or reply as bytes. **Queue**: what MULTI gathers; **batch**: its part for one participant.
//! - **Lock**: in Redis, durable, of a transaction. **Record**: what a participant knows of a transaction.
//! - **Coordinator**: who runs a transaction. **Prepare**, **commit**, **abort**, **fence**, **resolve**, **forget**: the steps; [`txn`]
//!   defines them. **One-phase**: without them, because one participant has all keys. **In doubt**: prepared, and nobody knows yet.
//! - **Shared** connections carry the requests of all sessions, **leased** ones belong to one transaction or script for a while.
//!
//! # Where is what?
//!
//! | question | place |
//! |---|---|
//! | what becomes of a command? | `command/columns.rs`, then `session/dispatch.rs` |
//! | why is a transaction atomic? | [`txn`], the header |
//! | what happens when a primary dies? | `txn/durable.rs` |
//! | what happens when a proxy dies? | `txn/recovery.rs`, `txn/sweeper.rs`, `txn/state/resolver.rs` |
//! | what do operators see? | `txn/overview.rs`, `session/operator.rs` |
//! | which keys live together? | [`affinity`] |
//! | how does a script find keys of other shards? | `txn/compute/shim.rs`, `txn/lua/copies.lua` |
//! | what keeps a script to its keys? | `session/script.rs`, `txn/compute/shim.rs`, `txn/lua/declared.lua` |
//! | how does a function run where scripts are held? | `txn/compute/source.rs`, `txn/lua/function.lua` |
//! | what runs at the shards? | `txn/lua/`, put together by `txn/script.rs` |
//! | what is weft's among the users' keys? | [`txn::internal_keys`] |
//! | how are replies of several shards merged? | `route/merge.rs`, `session/split.rs` |
//! | where does an error text come from? | [`resp::error_reply`], chosen in `session/rescue.rs` |
//! | which worker serves a client? | `session/placement.rs` |
//! | what is the default of a setting? | [`config`] |
//! | how much memory may clients take? | `session/budget.rs`, [`config::LimitsConfig`] |
//! | who is told that a key has changed? | `session/tracking.rs` |
//! | who is shown what clients do? | `session/monitor.rs` |
//! | what is counted? | [`metrics`] |

pub mod affinity;
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
