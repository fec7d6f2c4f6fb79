//! INFO: Redis's sections and field names, filled with what is true of weft and its shards together.
//!
//! Monitors and clients read INFO by name, so the fields they look for are there (`redis_version`, `role:master`, `used_memory`). A
//! field that would need a made-up value is left out: parsers cope with that, people with a lie do not. What weft adds stands in a
//! section of its own.

mod keyspace;
mod memory;
mod persistence;
mod sections;
mod statistics;

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use bytes::BytesMut;

pub use keyspace::aggregate as aggregate_keyspace;
pub use memory::Memory;
pub use persistence::Persistence;
pub use sections::Sections;
pub use statistics::Statistics;

use crate::config::Isolation;
use crate::metrics::{ProcessUsage, Snapshot};
use crate::resp::{Proto, ReplyWriter};
use crate::session::tracking::totals::Totals;

/// What INFO tells. The session collects it only when INFO is called.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// What does not change while the process lives.
    pub server: &'a ServerIdentity,
    /// What the shards say of themselves.
    pub shards: &'a ShardsFacts,
    /// Clients connected to all workers.
    pub connected_clients: usize,
    /// Clients that wait in a blocking command.
    pub blocked_clients: usize,
    /// What is known of clients that are told of changes.
    pub tracking: Totals,
    /// Users' scripts that weft remembers.
    pub cached_scripts: usize,
    /// The counters.
    pub metrics: &'a Snapshot,
    /// Memory and processor time of the process.
    pub usage: ProcessUsage,
    /// What the shards use; needed only for [`Sections::MEMORY`].
    pub memory: &'a Memory,
    /// What they have on disk; needed only for [`Sections::PERSISTENCE`].
    pub persistence: &'a Persistence,
    /// The databases of all shards, from [`aggregate_keyspace`]; needed only for [`Sections::KEYSPACE`].
    pub keyspace: &'a str,
    /// What was called and what failed; needed only for [`Sections::ASKED_FOR_STATISTICS`].
    pub statistics: &'a Statistics,
    /// The time for ages.
    pub now: Instant,
    /// The time of day, since 1970.
    pub unix_time: Duration,
}

/// What does not change while the process lives.
#[derive(Clone, Debug)]
pub struct ServerIdentity {
    /// Forty hexadecimal digits, new with every start.
    pub run_id: String,
    /// Operating system, as in `uname -srm`.
    pub os: String,
    /// The process.
    pub process_id: u32,
    /// Where clients connect.
    pub tcp_port: u16,
    /// The path of the configuration; empty if there is no file.
    pub config_file: String,
    /// When the process started.
    pub started: Instant,
    /// How many clients may connect.
    pub clients_max: usize,
    /// Worker threads.
    pub workers: usize,
    /// What plain commands owe to transactions.
    pub isolation: Isolation,
}

impl ServerIdentity {
    /// The number that the names of this process's transactions begin with.
    pub fn proxy_id(&self) -> u64 {
        u64::from_str_radix(self.run_id.get(..16).unwrap_or_default(), 16).unwrap_or(0)
    }
}

/// What the shards say of themselves.
#[derive(Clone, Debug)]
pub struct ShardsFacts {
    /// The Redis version all of them have at least.
    pub redis_version: String,
    /// Their eviction policy; the one that evicts most, if they differ.
    pub maxmemory_policy: String,
    /// How many there are.
    pub count: usize,
    /// `cluster` or `static`.
    pub topology: &'static str,
}

/// Writes the reply to an INFO that asked for `sections`.
pub fn reply(out: &mut BytesMut, proto: Proto, sections: Sections, facts: &Facts<'_>) {
    ReplyWriter::new(out, proto).verbatim("txt", sections::text(sections, facts).as_bytes());
}
