//! The Redis side: connections to the shards.
//!
//! Every worker has its own. To a node it keeps, for each database and RESP version in use, one **shared** connection, on which the
//! requests of all of the worker's sessions are pipelined, and a pool of **leased** ones, each held by one transaction or script at a
//! time because it carries state (WATCH, MULTI) that must not be mixed with anybody else's, or because it is so large that nobody should
//! have to wait behind it. Further kinds, where they are needed:
//! on an **armed** one the writes of all sessions go in batches under a watch ([`ArmedConn`]); of each node one listens to channels, one
//! hears which keys change ([`Feed`]), one waits for replicas ([`Rounds`]), and for each client of MONITOR one hears everything ([`Ear`]).
//!
//! Why replies cannot be mixed up: a connection answers in order, each request announces how many frames it will be answered with,
//! and whatever breaks that count (an error in the framing, a reply that nobody asked for, a time-out) ends the connection. Whether a
//! request that got no reply may have been executed is told apart by whether its first byte was handed to the kernel.
//!
//! Only addresses that the topology names are dialled; a redirect found in a reply is a reason to refresh the topology, never an
//! address to connect to.

mod armed;
mod call;
mod ear;
mod error;
mod feed;
mod handshake;
mod leased;
mod node;
mod rounds;
mod run;
mod set;
mod shared;
mod subscriber;
mod wire;

pub use armed::ArmedConn;
pub use call::{call, call_apart, call_armed, call_noting, goes_apart};
pub use ear::{Ear, EarSink};
pub use error::UpstreamError;
pub use feed::{Feed, FeedSink};
pub use handshake::Handshake;
pub use leased::{Leased, LeasedConn};
pub use node::{ArmedLane, Link, Node};
pub use rounds::Rounds;
pub use run::Run;
pub use set::Upstreams;
pub use shared::{ReplySink, SharedConn};
pub use subscriber::{MessageSink, Subscriber, Topic, TopicKind};
