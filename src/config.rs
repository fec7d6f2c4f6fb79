//! The configuration: typed, complete and valid by construction.
//!
//! [`Config::load`] reads `proxy.yaml` before any port is bound. Whatever it returns can be served: every limit is in its range, every
//! address has the form of one, every slot has exactly one shard. What is wrong is told with its file, line, key and remedy. Each layer
//! is handed its own small struct and never looks anything up.
//!
//! The `Default` impls below are the one place where defaults stand; `proxy.yaml` at the top of the repository documents them and a
//! test holds it equal.

mod error;
mod raw;
mod read;
mod secret;
mod show;
mod slots;

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::Path;
use std::thread;
use std::time::Duration;

pub use error::ConfigError;
pub use secret::Secret;
use serde::Deserialize;

use crate::affinity::Rule;
use crate::node_addr::NodeAddr;

/// Everything weft is told before it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where clients connect and how they are let in.
    pub listen: ListenConfig,
    /// What plain commands owe to transactions.
    pub isolation: Isolation,
    /// The shards, or where to learn of them.
    pub topology: TopologyConfig,
    /// Connections to the shards.
    pub upstream: UpstreamConfig,
    /// Transactions: lease, waits and limits.
    pub transactions: TransactionConfig,
    /// The looking for transactions that were left.
    pub sweep: SweepConfig,
    /// What one client may ask for.
    pub limits: LimitsConfig,
    /// What is logged, and how.
    pub log: LogConfig,
}

impl Config {
    /// The defaults, before `topology`, which has none.
    pub fn with_topology(topology: TopologyConfig) -> Self {
        Self {
            listen: ListenConfig::default(),
            isolation: Isolation::Strict,
            topology,
            upstream: UpstreamConfig::default(),
            transactions: TransactionConfig::default(),
            sweep: SweepConfig::default(),
            limits: LimitsConfig::default(),
            log: LogConfig::default(),
        }
    }

    /// Reads and checks the file at `path`, and the password files it names.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::unreadable(&name, &error))?;
        Self::parse(&text, &name)
    }

    /// Checks `text`; errors call it `name`.
    pub fn parse(text: &str, name: &str) -> Result<Self, ConfigError> {
        read::config(text, name)
    }
}

/// Where clients connect and how they are let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenConfig {
    /// The address clients connect to. Loopback unless there is a password.
    pub address: SocketAddr,
    /// What clients present with `AUTH`; without it nobody is asked.
    pub password: Option<Secret>,
    /// Worker threads; `None` is one for each core.
    pub workers: Option<NonZeroUsize>,
    /// How clients are spread over them.
    pub spread: Spread,
}

impl ListenConfig {
    /// How many worker threads to start on this machine.
    pub fn worker_count(&self) -> NonZeroUsize {
        self.workers.or_else(|| thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN)
    }
}

impl Default for ListenConfig {
    fn default() -> Self {
        // One port above Redis's own, so that both run on one machine; loopback, because there is no password by default.
        Self { address: SocketAddr::from((Ipv4Addr::LOCALHOST, 6380)), password: None, workers: None, spread: Spread::Packed }
    }
}

/// How clients are spread over the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Spread {
    /// Over as few as can carry them; they move.
    Packed,
    /// As the kernel spreads connections; they stay.
    Even,
}

/// What plain commands owe to transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// Plain commands respect locks: every history is strictly serializable.
    Strict,
    /// Plain commands ignore locks: they may see a part of a transaction.
    Relaxed,
}

/// The shards, or where to learn of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopologyConfig {
    /// A Redis Cluster, which says itself where its slots are.
    Cluster(ClusterConfig),
    /// Servers that know nothing of each other; weft divides the slots over them.
    Static(StaticConfig),
}

/// How to find a Redis Cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// Nodes to ask first, at least one.
    pub seeds: Vec<NodeAddr>,
    /// How often the cluster is asked when nothing hints at a change.
    pub refresh_interval: Duration,
}

impl ClusterConfig {
    /// The default refresh interval. Redirects trigger a refresh at once; the interval only bounds how long an unnoticed change lasts.
    pub const REFRESH_INTERVAL: Duration = Duration::from_secs(5);
}

/// Servers that know nothing of each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticConfig {
    /// How many databases `SELECT` offers; every shard must have as many.
    pub databases: u16,
    /// The shards in the order of the file, at least one.
    pub shards: Vec<StaticShard>,
    /// Which keys live together, the first rule that fits counting; a preset is here as its rules.
    pub affinity: Vec<Rule>,
}

impl StaticConfig {
    /// The default number of databases: that of Redis.
    pub const DATABASES: u16 = 16;
}

/// One server and the slots it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticShard {
    /// Unique, of letters, digits, `_`, `.` and `-`, at most 64 long. It stands in metrics and messages.
    pub name: String,
    /// Where the server listens.
    pub address: NodeAddr,
    /// Ascending and disjoint. Either every shard names its slots and they cover the keyspace exactly once, or none does and it is
    /// divided evenly.
    pub slots: Vec<RangeInclusive<u16>>,
}

/// Connections to the shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamConfig {
    /// The ACL user to authenticate as; `None` is the default user.
    pub username: Option<String>,
    /// What weft authenticates with; `None` sends no `AUTH`.
    pub password: Option<Secret>,
    /// How long a connection may take to be established, including its handshake.
    pub connect_timeout: Duration,
    /// How long a reply may take before the connection is given up. Blocking commands never wait at a shard, so none is exempt.
    pub reply_timeout: Duration,
    /// Leased connections (WATCH, native batches, users' scripts) of one worker to one shard.
    pub leased_connections_max: usize,
    /// Bytes of requests that wait to be sent on one connection; above it, sessions wait.
    pub pending_bytes_max: usize,
}

impl Default for UpstreamConfig {
    fn default() -> Self {
        Self {
            username: None,
            password: None,
            // A server in the same network answers within milliseconds; one lost SYN is sent again after a second.
            connect_timeout: Duration::from_secs(1),
            // Redis's own busy-reply-threshold: a script that runs longer is the server's fault, and it says so with BUSY.
            reply_timeout: Duration::from_secs(5),
            // Far above what WATCH loops hold at once, far below a server's maxclients of 10000 with many workers.
            leased_connections_max: 64,
            // Enough for one batch of large values; a shard that falls further behind must slow its clients down.
            pending_bytes_max: 64 * MIB,
        }
    }
}

/// Transactions: lease, waits and limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionConfig {
    /// The age at which others resolve a transaction instead of waiting for it. Safety never depends on it.
    pub lease: Duration,
    /// How long a command waits for a lock before it fails with nothing applied.
    pub lock_wait_timeout: Duration,
    /// How long a client is kept waiting for an outcome that is undecided or undelivered.
    pub patience: Duration,
    /// Commands queued after one MULTI.
    pub queue_commands_max: usize,
    /// Bytes queued after one MULTI.
    pub queue_bytes_max: usize,
    /// Keys watched by one session.
    pub watch_keys_max: usize,
    /// How long others that contend for a watched key let its watcher go first; not at all if zero.
    pub watch_turn: Duration,
    /// Run cross-shard transactions although a shard's `allkeys-*` policy may evict their records and locks.
    pub allow_eviction: bool,
    /// Replies kept with a committed record, for a coordinator that missed them; larger ones are not kept.
    pub kept_reply_bytes_max: usize,
    /// Bytes of values that a command over several participants may move to where it is computed.
    pub compute_bytes_max: usize,
    /// How many keys that a script uses without declaring them are found by running it again; then it fails.
    pub undeclared_keys_max: usize,
    /// What happens to a command whose keys are on several participants.
    pub multi_key: MultiKeys,
    /// What a transaction waits for before its client is told that it is committed.
    pub wait: WaitConfig,
}

impl Default for TransactionConfig {
    fn default() -> Self {
        Self {
            // Two round trips take milliseconds; two seconds without an end mean that the coordinator died.
            lease: Duration::from_secs(2),
            // Longer than the lease, so that a waiter outlives a dead owner's lease and resolves it.
            lock_wait_timeout: Duration::from_secs(5),
            // A failover takes a few seconds; clients themselves give up at about this time.
            patience: Duration::from_secs(10),
            // Redis has no limit but memory; pipelines of clients stay far below.
            queue_commands_max: 65536,
            // Half of the largest value Redis takes, since a batch travels as one script call.
            queue_bytes_max: 256 * MIB,
            watch_keys_max: 65536,
            // A loop of WATCH, reads and EXEC takes a few milliseconds; a client that thinks in between delays others by no more.
            watch_turn: Duration::from_millis(50),
            // A record or lock that the server evicts un-commits a transaction: only on an explicit word.
            allow_eviction: false,
            // Replies of writes are short; a record with more would cost memory for a case that is rare.
            kept_reply_bytes_max: 64 * KIB,
            // Values are in memory at both ends and in weft meanwhile; a shard is busy for a second with so many.
            compute_bytes_max: 64 * MIB,
            // Each costs a run; a script that walks through a data set is better off with a rule that keeps it in one place.
            undeclared_keys_max: 32,
            multi_key: MultiKeys::all(MultiKey::Atomic),
            wait: WaitConfig::default(),
        }
    }
}

/// What happens to a command whose keys are on several participants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MultiKey {
    /// It is atomic and isolated, as on one server.
    Atomic,
    /// Each shard gets its part in one round trip; without atomicity.
    Split,
    /// It is refused with `CROSSSLOT`, as by Redis Cluster.
    Reject,
}

/// What happens to each class of such commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MultiKeys {
    /// MGET, EXISTS, TOUCH, XREAD.
    pub reads: MultiKey,
    /// MSET; MSETNX cannot be split.
    pub writes: MultiKey,
    /// DEL, UNLINK.
    pub deletes: MultiKey,
    /// Those that need values of one shard at another: RENAME, LMOVE, SUNION, SORT by patterns … They cannot be split.
    pub computed: MultiKey,
    /// The users' scripts, which cannot be split either.
    pub scripts: MultiKey,
}

impl MultiKeys {
    /// The same for all, as far as it can be meant: what cannot be split stays atomic.
    pub fn all(what: MultiKey) -> Self {
        let whole = if what == MultiKey::Split { MultiKey::Atomic } else { what };
        Self { reads: what, writes: what, deletes: what, computed: whole, scripts: whole }
    }
}

/// What a transaction waits for at each of its shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitConfig {
    /// Replicas that must have it.
    pub replicas: u16,
    /// Who must have it in the append-only file, and that file on disk.
    pub fsync: WaitFsync,
    /// How long that may take.
    pub timeout: Duration,
}

impl WaitConfig {
    /// Whether a transaction waits for nothing.
    pub fn is_off(&self) -> bool {
        self.replicas == 0 && self.fsync == WaitFsync::None
    }
}

impl Default for WaitConfig {
    fn default() -> Self {
        // Off: what Redis promises by itself. Replicas in one network answer within milliseconds, a disk with `appendfsync everysec`
        // within a second or a little more; the time is also below the lease, so that nobody takes who waits for dead.
        Self { replicas: 0, fsync: WaitFsync::None, timeout: Duration::from_millis(1500) }
    }
}

/// Who must have a transaction on disk before it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WaitFsync {
    /// Nobody.
    None,
    /// The primary.
    Primary,
    /// The primary, and the replicas that are waited for.
    All,
}

/// The looking for transactions that were left, and the ages at which their records are resolved and deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SweepConfig {
    /// The mean pause between two rounds over the shards.
    pub interval: Duration,
    /// When a prepared record is resolved although no lock has led anyone to it.
    pub prepared_age: Duration,
    /// When a committed record that its coordinator has not deleted is deleted.
    pub committed_age: Duration,
    /// When the tombstone of an aborted transaction is deleted.
    pub aborted_age: Duration,
}

impl Default for SweepConfig {
    fn default() -> Self {
        Self {
            // What the sweeper finds is rare and not urgent.
            interval: Duration::from_secs(60),
            // Many leases: whoever needs the keys has resolved it long before.
            prepared_age: Duration::from_secs(60),
            // Both well above the ten minutes after which a coordinator does not believe that a missing record means anything. Committed
            // records are few: only those whose coordinator died within seconds of the commit, or that were applied again.
            committed_age: Duration::from_secs(3600),
            aborted_age: Duration::from_secs(1800),
        }
    }
}

/// What one client may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Clients connected at once, to all workers together.
    pub clients_max: usize,
    /// One argument of a request.
    pub bulk_bytes_max: usize,
    /// One inline request, or one line of a request's frame.
    pub inline_bytes_max: usize,
    /// One request, or what a client has sent of it; above it the client is disconnected.
    pub client_query_bytes_max: usize,
    /// Replies that a client has not read yet; above it the client is disconnected.
    pub client_output_bytes_max: usize,
    /// Pipelined commands of one client in flight; above it weft stops reading from the client.
    pub client_pending_commands_max: usize,
    /// What all clients together hold of requests and replies, beside a little for each; above it weft does not read large requests.
    pub clients_bytes_max: usize,
    /// Keys whose changes are to be told to clients that keep them; above it some are told as if they had changed.
    pub tracked_keys_max: usize,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            // Redis's maxclients.
            clients_max: 10_000,
            // Redis's proto-max-bulk-len.
            bulk_bytes_max: 512 * MIB,
            // Redis's PROTO_INLINE_MAX_SIZE.
            inline_bytes_max: 64 * KIB,
            // Redis's client-query-buffer-limit.
            client_query_bytes_max: 1024 * MIB,
            // Redis has none for normal clients; this is its hard limit for replicas.
            client_output_bytes_max: 256 * MIB,
            // More commands in flight do not make a connection faster; the rest waits in the socket.
            client_pending_commands_max: 1024,
            // Two of the largest values that Redis takes; whoever needs more at once waits.
            clients_bytes_max: 1024 * MIB,
            // Redis's tracking-table-max-keys.
            tracked_keys_max: 1_000_000,
        }
    }
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// The least important events that are logged.
    pub level: LogLevel,
    /// How a line is written.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        // Starts, stops, changes of the topology and faults; nothing for each command.
        Self { level: LogLevel::Info, format: LogFormat::Text }
    }
}

/// How important an event must be to be logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are the usual ones")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// How a log line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

#[cfg(test)]
mod tests;
