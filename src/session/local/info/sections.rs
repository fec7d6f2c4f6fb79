//! The sections of INFO: which there are, and what stands in each.

use std::fmt::{self, Write};

use bitflags::bitflags;

use super::Facts;
use crate::config::Isolation;
use crate::metrics::Counter;

bitflags! {
    /// Which sections an INFO asks for.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Sections: u16 {
        /// `# Server`
        const SERVER = 1;
        /// `# Clients`
        const CLIENTS = 1 << 1;
        /// `# Memory`: for this one the shards must be asked.
        const MEMORY = 1 << 2;
        /// `# Persistence`: likewise.
        const PERSISTENCE = 1 << 3;
        /// `# Stats`
        const STATS = 1 << 4;
        /// `# Replication`
        const REPLICATION = 1 << 5;
        /// `# CPU`
        const CPU = 1 << 6;
        /// `# Modules`
        const MODULES = 1 << 7;
        /// `# Errorstats`
        const ERRORSTATS = 1 << 8;
        /// `# Cluster`
        const CLUSTER = 1 << 9;
        /// `# Keyspace`: for this one the shards must be asked.
        const KEYSPACE = 1 << 10;
        /// `# Weft`
        const WEFT = 1 << 11;
        /// `# Commandstats`
        const COMMANDSTATS = 1 << 12;
        /// Those for which the shards must be asked for their statistics.
        const ASKED_FOR_STATISTICS = Self::COMMANDSTATS.bits() | Self::ERRORSTATS.bits() | Self::STATS.bits();
    }
}

impl Sections {
    /// The sections that INFO's arguments name. Without arguments it is all but what is counted for each command, and so is `default`;
    /// `all` and `everything` are all. A name that does not exist adds nothing, as in Redis.
    pub fn named<'a>(names: impl ExactSizeIterator<Item = &'a [u8]>) -> Self {
        if names.len() == 0 {
            return Self::all() - Self::COMMANDSTATS;
        }
        names.map(Self::of_name).collect()
    }

    fn of_name(name: &[u8]) -> Self {
        if name.eq_ignore_ascii_case(b"default") {
            return Self::all() - Self::COMMANDSTATS;
        }
        if ["all", "everything"].iter().any(|word| name.eq_ignore_ascii_case(word.as_bytes())) {
            return Self::all();
        }
        let section = SECTIONS.iter().find(|section| name.eq_ignore_ascii_case(section.title.as_bytes()));
        section.map_or(Self::empty(), |section| section.flag)
    }
}

/// The text of `sections`: each a title and its fields, an empty line between two.
pub(super) fn text(sections: Sections, facts: &Facts<'_>) -> String {
    let mut text = Text::default();
    for section in SECTIONS.iter().filter(|section| sections.contains(section.flag)) {
        text.title(section.title);
        (section.fields)(&mut text, facts);
    }
    text.0
}

struct Section {
    flag: Sections,
    title: &'static str,
    fields: fn(&mut Text, &Facts<'_>),
}

/// In the order of Redis.
const SECTIONS: &[Section] = &[
    Section { flag: Sections::SERVER, title: "Server", fields: server },
    Section { flag: Sections::CLIENTS, title: "Clients", fields: clients },
    Section { flag: Sections::MEMORY, title: "Memory", fields: memory },
    Section { flag: Sections::PERSISTENCE, title: "Persistence", fields: |text, facts| text.fields(facts.persistence.fields()) },
    Section { flag: Sections::STATS, title: "Stats", fields: stats },
    Section { flag: Sections::REPLICATION, title: "Replication", fields: replication },
    Section { flag: Sections::CPU, title: "CPU", fields: cpu },
    Section { flag: Sections::MODULES, title: "Modules", fields: |_, _| {} },
    Section { flag: Sections::COMMANDSTATS, title: "Commandstats", fields: |text, facts| text.fields(facts.statistics.command_fields()) },
    Section { flag: Sections::ERRORSTATS, title: "Errorstats", fields: |text, facts| text.fields(facts.statistics.error_fields()) },
    Section { flag: Sections::CLUSTER, title: "Cluster", fields: |text, _| text.field("cluster_enabled", 0) },
    Section { flag: Sections::KEYSPACE, title: "Keyspace", fields: |text, facts| text.lines(facts.keyspace) },
    Section { flag: Sections::WEFT, title: "Weft", fields: weft },
];

fn server(text: &mut Text, facts: &Facts<'_>) {
    let server = facts.server;
    let uptime = facts.now.saturating_duration_since(server.started).as_secs();
    text.field("redis_version", &facts.shards.redis_version);
    text.field("redis_mode", "standalone");
    text.field("os", &server.os);
    text.field("arch_bits", usize::BITS);
    text.field("process_id", server.process_id);
    text.field("run_id", &server.run_id);
    text.field("tcp_port", server.tcp_port);
    text.field("server_time_usec", facts.unix_time.as_micros());
    text.field("uptime_in_seconds", uptime);
    text.field("uptime_in_days", uptime / (24 * 60 * 60));
    text.field("config_file", &server.config_file);
}

fn clients(text: &mut Text, facts: &Facts<'_>) {
    text.field("connected_clients", facts.connected_clients);
    text.field("cluster_connections", 0);
    text.field("maxclients", facts.server.clients_max);
    text.field("blocked_clients", facts.blocked_clients);
    text.field("tracking_clients", facts.tracking.clients);
}

fn memory(text: &mut Text, facts: &Facts<'_>) {
    for (name, figure) in facts.memory.figures() {
        text.field(name, figure);
        if TOLD_TO_PEOPLE.contains(&name) {
            text.field(&format!("{name}_human"), HumanBytes(figure));
        }
    }
    text.field("number_of_cached_scripts", facts.cached_scripts);
    if let Some(limit) = facts.memory.limit() {
        text.field("maxmemory", limit);
        text.field("maxmemory_human", HumanBytes(limit));
    }
    text.field("maxmemory_policy", &facts.shards.maxmemory_policy);
    if let Some(allocator) = facts.memory.allocator() {
        text.field("mem_allocator", allocator);
    }
}

/// The figures of memory that Redis tells in larger units as well.
const TOLD_TO_PEOPLE: [&str; 4] = ["used_memory", "used_memory_rss", "used_memory_peak", "used_memory_scripts"];

fn stats(text: &mut Text, facts: &Facts<'_>) {
    let metrics = facts.metrics;
    let throughput = metrics.throughput;
    let rejected = metrics[Counter::RejectedByLimit] + metrics[Counter::RejectedByProtectedMode];
    text.field("total_connections_received", metrics[Counter::ConnectionsAccepted]);
    text.field("total_commands_processed", metrics[Counter::Commands]);
    text.field("instantaneous_ops_per_sec", throughput.commands);
    text.field("total_net_input_bytes", metrics[Counter::BytesRead]);
    text.field("total_net_output_bytes", metrics[Counter::BytesWritten]);
    text.field("instantaneous_input_kbps", format_args!("{:.2}", throughput.input_kib));
    text.field("instantaneous_output_kbps", format_args!("{:.2}", throughput.output_kib));
    text.field("rejected_connections", rejected);
    text.field("migrate_cached_sockets", 0);
    text.field("tracking_total_keys", facts.tracking.keys);
    text.field("tracking_total_items", facts.tracking.items);
    text.field("tracking_total_prefixes", facts.tracking.prefixes);
    text.field("total_error_replies", facts.statistics.errors());
}

/// To its clients weft is a primary without replicas; health checks look for `role:master`.
fn replication(text: &mut Text, facts: &Facts<'_>) {
    text.field("role", "master");
    text.field("connected_slaves", 0);
    text.field("master_failover_state", "no-failover");
    text.field("master_replid", &facts.server.run_id);
    text.field("master_repl_offset", 0);
}

fn cpu(text: &mut Text, facts: &Facts<'_>) {
    text.field("used_cpu_sys", format_args!("{:.6}", facts.usage.cpu_system));
    text.field("used_cpu_user", format_args!("{:.6}", facts.usage.cpu_user));
}

fn weft(text: &mut Text, facts: &Facts<'_>) {
    let metrics = facts.metrics;
    text.field("weft_version", env!("CARGO_PKG_VERSION"));
    text.field("proxy_id", format_args!("{:x}", facts.server.proxy_id()));
    text.field("isolation", isolation(facts.server.isolation));
    text.field("topology", facts.shards.topology);
    text.field("shards", facts.shards.count);
    text.field("workers", facts.server.workers);
    text.field("process_memory", facts.usage.resident);
    text.field("process_memory_human", HumanBytes(facts.usage.resident));
    text.field("process_memory_peak", facts.usage.resident_peak);
    text.field("process_memory_peak_human", HumanBytes(facts.usage.resident_peak));
    for &(name, counters) in WEFT_COUNTERS {
        text.field(name, counters.iter().map(|&counter| metrics[counter]).sum::<u64>());
    }
    text.field("txn_in_doubt", metrics.in_doubt());
}

/// What `# Weft` sums up; the metrics have it in detail.
const WEFT_COUNTERS: &[(&str, &[Counter])] = &[
    ("clients_moved", &[Counter::ClientsMoved]),
    ("txn_one_phase_committed", &[Counter::OnePhaseCommitted]),
    ("txn_two_phase_committed", &[Counter::TwoPhaseCommitted]),
    ("txn_two_phase_aborted", &[Counter::TwoPhaseLocked, Counter::TwoPhaseWatch, Counter::TwoPhaseRefused, Counter::TwoPhaseFenced]),
    ("txn_pending", &[Counter::TwoPhasePending]),
    ("txn_unknown", &[Counter::OnePhaseUnknown, Counter::TwoPhaseUnknown]),
    ("txn_recovered", &[Counter::RecoveredCommitted, Counter::RecoveredAborted]),
    ("txn_recovered_committed", &[Counter::RecoveredCommitted]),
    ("txn_recovered_aborted", &[Counter::RecoveredAborted]),
    ("txn_reapplied", &[Counter::Reapplied]),
    ("replica_waits", &[Counter::WaitRounds]),
    ("replica_wait_timeouts", &[Counter::WaitTimeouts]),
    ("txn_torn", &[Counter::Torn]),
    ("txn_swept", &[Counter::SweptCommitted, Counter::SweptAborted]),
    ("locks_orphaned", &[Counter::LocksOrphaned]),
    ("watch_aborts", &[Counter::WatchAborts]),
    ("lock_waits", &[Counter::LockWaits]),
    ("lane_waits", &[Counter::LaneWaits]),
    ("lock_timeouts", &[Counter::LockTimeouts]),
    ("redirects", &[Counter::RedirectMoved, Counter::RedirectAsk, Counter::RedirectTryAgain]),
    ("upstream_connections_opened", &[Counter::UpstreamOpened]),
    ("upstream_connections_lost", &[Counter::UpstreamLost]),
];

fn isolation(isolation: Isolation) -> &'static str {
    match isolation {
        Isolation::Strict => "strict",
        Isolation::Relaxed => "relaxed",
    }
}

/// The text as it grows.
#[derive(Default)]
struct Text(String);

impl Text {
    fn title(&mut self, title: &str) {
        let between = if self.0.is_empty() { "" } else { "\r\n" };
        self.line(format_args!("{between}# {title}"));
    }

    fn field(&mut self, name: &str, value: impl fmt::Display) {
        self.line(format_args!("{name}:{value}"));
    }

    fn fields(&mut self, fields: impl Iterator<Item = (String, String)>) {
        fields.for_each(|(name, value)| self.field(&name, value));
    }

    /// Lines that end in CR LF already.
    fn lines(&mut self, lines: &str) {
        self.0.push_str(lines);
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = write!(self.0, "{line}\r\n");
    }
}

/// A number of bytes as Redis tells it to people: `1.44M`.
struct HumanBytes(u64);

impl fmt::Display for HumanBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1u64 << 40, 'T'), (1 << 30, 'G'), (1 << 20, 'M'), (1 << 10, 'K')];
        match units.iter().find(|(unit, _)| self.0 >= *unit) {
            Some((unit, letter)) => write!(f, "{:.2}{letter}", self.0 as f64 / *unit as f64),
            None => write!(f, "{}B", self.0),
        }
    }
}
