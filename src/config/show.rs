//! The configuration as `weft check` prints it: in the words of the file, with every default filled in and no password shown.

use std::fmt::{self, Display, Formatter};

use super::*;

impl Display for Config {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "listen: {}", self.listen.address)?;
        writeln!(f, "password: {}", shown(self.listen.password.as_ref()))?;
        writeln!(f, "workers: {}", self.listen.worker_count())?;
        writeln!(f, "spread: {}", word(self.listen.spread))?;
        writeln!(f, "isolation: {}", word(self.isolation))?;
        writeln!(f, "topology:")?;
        match &self.topology {
            TopologyConfig::Cluster(cluster) => cluster.fmt(f)?,
            TopologyConfig::Static(fixed) => fixed.fmt(f)?,
        }
        self.upstream.fmt(f)?;
        self.transactions.fmt(f)?;
        self.sweep.fmt(f)?;
        self.limits.fmt(f)?;
        writeln!(f, "log:\n  level: {}\n  format: {}", word(self.log.level), word(self.log.format))
    }
}

impl Display for ClusterConfig {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let seeds: Vec<String> = self.seeds.iter().map(|seed| format!("\"{seed}\"")).collect();
        writeln!(f, "  cluster:\n    seeds: [{}]", seeds.join(", "))?;
        writeln!(f, "    refresh_interval_ms: {}", self.refresh_interval.as_millis())
    }
}

impl Display for StaticConfig {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "  static:\n    databases: {}\n    shards:", self.databases)?;
        for shard in &self.shards {
            write!(f, "      - {{name: {}, address: \"{}\"", shard.name, shard.address)?;
            if !shard.slots.is_empty() {
                let ranges: Vec<String> = shard.slots.iter().map(|range| format!("{}-{}", range.start(), range.end())).collect();
                write!(f, ", slots: [{}]", ranges.join(", "))?;
            }
            writeln!(f, "}}")?;
        }
        let rules: Vec<String> = self.affinity.iter().map(|rule| format!("\"{rule}\"")).collect();
        writeln!(f, "affinity: [{}]", rules.join(", "))
    }
}

impl Display for UpstreamConfig {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "upstream:")?;
        writeln!(f, "  username: {}", self.username.as_deref().unwrap_or("# none"))?;
        writeln!(f, "  password: {}", shown(self.password.as_ref()))?;
        writeln!(f, "  connect_timeout_ms: {}", self.connect_timeout.as_millis())?;
        writeln!(f, "  reply_timeout_ms: {}", self.reply_timeout.as_millis())?;
        writeln!(f, "  leased_connections_max: {}", self.leased_connections_max)?;
        writeln!(f, "  pending_bytes_max: {}", self.pending_bytes_max)
    }
}

impl Display for TransactionConfig {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "transactions:")?;
        writeln!(f, "  lease_ms: {}", self.lease.as_millis())?;
        writeln!(f, "  lock_wait_timeout_ms: {}", self.lock_wait_timeout.as_millis())?;
        writeln!(f, "  patience_ms: {}", self.patience.as_millis())?;
        writeln!(f, "  queue_commands_max: {}", self.queue_commands_max)?;
        writeln!(f, "  queue_bytes_max: {}", self.queue_bytes_max)?;
        writeln!(f, "  watch_keys_max: {}", self.watch_keys_max)?;
        writeln!(f, "  watch_turn_ms: {}", self.watch_turn.as_millis())?;
        writeln!(f, "  allow_eviction: {}", self.allow_eviction)?;
        writeln!(f, "  kept_reply_bytes_max: {}", self.kept_reply_bytes_max)?;
        writeln!(f, "  compute_bytes_max: {}", self.compute_bytes_max)?;
        writeln!(f, "  undeclared_keys_max: {}", self.undeclared_keys_max)?;
        write!(f, "{}", self.multi_key)?;
        writeln!(f, "  wait_replicas: {}", self.wait.replicas)?;
        writeln!(f, "  wait_fsync: {}", word(self.wait.fsync))?;
        writeln!(f, "  wait_timeout_ms: {}", self.wait.timeout.as_millis())
    }
}

impl Display for MultiKeys {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { reads, writes, deletes, computed, scripts } = *self;
        if *self == Self::all(reads) {
            return writeln!(f, "  multi_key: {}", word(reads));
        }
        writeln!(f, "  multi_key:")?;
        let classes = [("reads", reads), ("writes", writes), ("deletes", deletes), ("computed", computed), ("scripts", scripts)];
        classes.into_iter().try_for_each(|(class, what)| writeln!(f, "    {class}: {}", word(what)))
    }
}

impl Display for SweepConfig {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "sweep:")?;
        writeln!(f, "  interval_ms: {}", self.interval.as_millis())?;
        writeln!(f, "  prepared_age_ms: {}", self.prepared_age.as_millis())?;
        writeln!(f, "  committed_age_ms: {}", self.committed_age.as_millis())?;
        writeln!(f, "  aborted_age_ms: {}", self.aborted_age.as_millis())
    }
}

impl Display for LimitsConfig {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "limits:")?;
        writeln!(f, "  clients_max: {}", self.clients_max)?;
        writeln!(f, "  bulk_bytes_max: {}", self.bulk_bytes_max)?;
        writeln!(f, "  inline_bytes_max: {}", self.inline_bytes_max)?;
        writeln!(f, "  client_query_bytes_max: {}", self.client_query_bytes_max)?;
        writeln!(f, "  client_output_bytes_max: {}", self.client_output_bytes_max)?;
        writeln!(f, "  client_pending_commands_max: {}", self.client_pending_commands_max)?;
        writeln!(f, "  clients_bytes_max: {}", self.clients_bytes_max)?;
        writeln!(f, "  tracked_keys_max: {}", self.tracked_keys_max)
    }
}

fn shown(password: Option<&Secret>) -> &'static str {
    if password.is_some() { "\"***\"" } else { "# none" }
}

/// A variant's name as the file has it.
fn word(variant: impl fmt::Debug) -> String {
    format!("{variant:?}").to_lowercase()
}
