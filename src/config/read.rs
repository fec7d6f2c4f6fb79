//! From the raw file to the typed configuration: fills in defaults and checks what YAML cannot. Bounds stand beside the key they bound.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use super::error::ConfigError;
use super::raw::{
    self, RawCluster, RawConfig, RawLimits, RawLog, RawMultiKey, RawShard, RawSlots, RawStatic, RawSweep, RawTopology, RawTransactions,
    RawUpstream,
};
use super::slots::{self, Flaw};
use super::*;
use crate::affinity;

/// Reads `text` and the password files it names.
pub(super) fn config(text: &str, file: &str) -> Result<Config, ConfigError> {
    let mut raw = raw::parse(text, file)?;
    let read = Reader { text, file };
    let upstream = read.upstream(raw.upstream.take().unwrap_or_default())?;
    let affinity = read.affinity(&raw)?;
    Ok(Config {
        isolation: raw.isolation.unwrap_or(Isolation::Strict),
        listen: read.listen(&raw)?,
        topology: read.topology(raw.topology.unwrap_or_default(), affinity)?,
        transactions: read.transactions(raw.transactions.unwrap_or_default(), upstream.reply_timeout)?,
        upstream,
        sweep: read.sweep(&raw.sweep.unwrap_or_default())?,
        limits: read.limits(&raw.limits.unwrap_or_default())?,
        log: log(&raw.log.unwrap_or_default()),
    })
}

/// What an error needs to name its place.
struct Reader<'a> {
    text: &'a str,
    file: &'a str,
}

impl Reader<'_> {
    fn listen(&self, raw: &RawConfig) -> Result<ListenConfig, ConfigError> {
        let default = ListenConfig::default();
        let address = match &raw.listen {
            None => default.address,
            Some(text) => text.parse::<SocketAddr>().map_err(|_| {
                self.fail("listen", format!("`{text}` is not an IP address with a port"), format!("write it as {}", default.address))
            })?,
        };
        let password = self.password("", raw.password.as_deref(), raw.password_file.as_deref())?;
        if password.is_none() && !address.ip().is_loopback() {
            let problem = format!("{address} is open to other machines and there is no password");
            return Err(self.fail("listen", problem, format!("set `password`, or listen on {}", default.address)));
        }
        let workers = NonZeroUsize::new(self.size("workers", raw.workers, 0..=1024, 0)?);
        Ok(ListenConfig { address, password, workers, spread: raw.spread.unwrap_or(default.spread) })
    }

    fn affinity(&self, raw: &RawConfig) -> Result<Vec<Rule>, ConfigError> {
        let texts = raw.affinity.as_deref().unwrap_or_default();
        if !texts.is_empty() && raw.topology.as_ref().is_some_and(|topology| topology.cluster.is_some()) {
            let problem = "a Redis Cluster says itself where keys live".into();
            return Err(self.fail("affinity", problem, "remove the rules, and use hash tags in the keys".into()));
        }
        if texts.len() > AFFINITY_RULES_MAX {
            let problem = format!("{} rules are named", texts.len());
            return Err(self.fail("affinity", problem, format!("keep {AFFINITY_RULES_MAX}")));
        }
        let rules = texts.iter().enumerate().map(|(index, text)| {
            let key = format!("affinity[{index}]");
            if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                let presets: Vec<&str> = affinity::PRESETS.iter().map(|(name, _)| *name).collect();
                let remedy = || format!("name one of {}, or write a rule such as \"app:{{user}}:*\"", presets.join(", "));
                return Rule::preset(text).ok_or_else(|| self.fail(&key, format!("`{text}` is no preset"), remedy()));
            }
            let rule = text.parse::<Rule>().map_err(|error| {
                self.fail(
                    &key,
                    format!("`{text}` is not a rule: {error}"),
                    "write literal text and one capture, as \"app:{user}:*\"".into(),
                )
            });
            rule.map(|rule| vec![rule])
        });
        Ok(rules.collect::<Result<Vec<_>, _>>()?.concat())
    }

    fn topology(&self, raw: RawTopology, affinity: Vec<Rule>) -> Result<TopologyConfig, ConfigError> {
        match (raw.cluster, raw.fixed) {
            (Some(cluster), None) => self.cluster(cluster).map(TopologyConfig::Cluster),
            (None, Some(fixed)) => self.fixed(fixed, affinity).map(TopologyConfig::Static),
            (None, None) => {
                let remedy = "name a Redis Cluster under `topology.cluster`, or single servers under `topology.static`";
                Err(self.fail("topology", "no shards are named".into(), remedy.into()))
            }
            (Some(_), Some(_)) => Err(self.fail("topology", "both `cluster` and `static` are given".into(), "keep one of the two".into())),
        }
    }

    fn cluster(&self, raw: RawCluster) -> Result<ClusterConfig, ConfigError> {
        let key = "topology.cluster.seeds";
        let seeds = raw.seeds.unwrap_or_default();
        if seeds.is_empty() {
            return Err(self.fail(key, "no node is named".into(), "name at least one, as [127.0.0.1:7001]".into()));
        }
        let seeds = seeds.iter().enumerate().map(|(index, text)| self.address(&format!("{key}[{index}]"), text));
        Ok(ClusterConfig {
            seeds: seeds.collect::<Result<_, _>>()?,
            refresh_interval: self.millis(
                "topology.cluster.refresh_interval_ms",
                raw.refresh_interval_ms,
                100..=600_000,
                ClusterConfig::REFRESH_INTERVAL,
            )?,
        })
    }

    fn fixed(&self, raw: RawStatic, affinity: Vec<Rule>) -> Result<StaticConfig, ConfigError> {
        let key = "topology.static.shards";
        let databases = self.size("topology.static.databases", raw.databases, 1..=16384, StaticConfig::DATABASES.into())?;
        let raw = raw.shards.unwrap_or_default();
        if raw.is_empty() || raw.len() > SHARDS_MAX {
            let problem = format!("{} shards are named", raw.len());
            return Err(self.fail(key, problem, format!("name 1 to {SHARDS_MAX}, as - {{name: a, address: 127.0.0.1:7001}}")));
        }
        let shards = raw.iter().enumerate().map(|(index, shard)| self.shard(&format!("{key}[{index}]"), shard));
        let shards: Vec<StaticShard> = shards.collect::<Result<_, _>>()?;
        self.must_be_unique(key, "name", shards.iter().map(|shard| shard.name.clone()))?;
        self.must_be_unique(key, "address", shards.iter().map(|shard| shard.address.to_string()))?;
        self.must_cover(key, &shards)?;
        Ok(StaticConfig { databases: u16::try_from(databases).unwrap_or(u16::MAX), shards, affinity })
    }

    fn shard(&self, key: &str, raw: &RawShard) -> Result<StaticShard, ConfigError> {
        let missing =
            |what: &str| self.fail(key, format!("a shard without {what}"), "write it as {name: a, address: 127.0.0.1:7001}".into());
        let name = raw.name.clone().ok_or_else(|| missing("a name"))?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if name.is_empty() || name.len() > 64 || !name.chars().all(allowed) {
            let problem = format!("`{name}` is not a name");
            return Err(self.fail(&format!("{key}.name"), problem, "use 1 to 64 letters, digits, `_`, `.` or `-`".into()));
        }
        let address = self.address(&format!("{key}.address"), raw.address.as_deref().ok_or_else(|| missing("an address"))?)?;
        let mut slots = Vec::new();
        for (index, range) in raw.slots.iter().flatten().enumerate() {
            let text = match range {
                RawSlots::One(slot) => slot.to_string(),
                RawSlots::Range(text) => text.clone(),
            };
            slots.push(slots::range(&text).ok_or_else(|| {
                let problem = format!("`{text}` is not a slot or a range of slots");
                self.fail(&format!("{key}.slots[{index}]"), problem, "write numbers from 0 to 16383, as 7 or \"0-5460\"".into())
            })?);
        }
        slots.sort_unstable_by_key(|range| *range.start());
        Ok(StaticShard { name, address, slots })
    }

    fn must_be_unique(&self, key: &str, what: &str, values: impl Iterator<Item = String>) -> Result<(), ConfigError> {
        let mut seen = HashSet::new();
        for (index, value) in values.enumerate() {
            if seen.contains(&value) {
                let key = format!("{key}[{index}].{what}");
                return Err(self.fail(&key, format!("`{value}` is another shard's {what}"), format!("give each shard its own {what}")));
            }
            seen.insert(value);
        }
        Ok(())
    }

    /// All shards name their slots or none does; together they have every slot once.
    fn must_cover(&self, key: &str, shards: &[StaticShard]) -> Result<(), ConfigError> {
        let without = shards.iter().position(|shard| shard.slots.is_empty());
        let Some(without) = without else {
            let ranges: Vec<_> = shards.iter().map(|shard| shard.slots.clone()).collect();
            return slots::cover(&ranges).map_err(|flaw| match flaw {
                Flaw::Twice(slot, shard) => {
                    let problem = format!("slot {slot} is another shard's too");
                    self.fail(&format!("{key}[{shard}].slots"), problem, "give each slot to one shard".into())
                }
                Flaw::Missing(range) => {
                    let problem = format!("no shard has the slots {}-{}", range.start(), range.end());
                    self.fail(key, problem, "give each slot from 0 to 16383 to one shard, or remove every `slots`".into())
                }
            });
        };
        if shards.iter().all(|shard| shard.slots.is_empty()) {
            return Ok(());
        }
        let problem = "this shard names no slots, others do".into();
        Err(self.fail(&format!("{key}[{without}]"), problem, "name the slots of every shard, or of none".into()))
    }

    fn upstream(&self, raw: RawUpstream) -> Result<UpstreamConfig, ConfigError> {
        let default = UpstreamConfig::default();
        let password = self.password("upstream.", raw.password.as_deref(), raw.password_file.as_deref())?;
        if raw.username.is_some() && password.is_none() {
            return Err(self.fail("upstream.username", "a user without a password".into(), "set `upstream.password`".into()));
        }
        Ok(UpstreamConfig {
            username: raw.username,
            password,
            connect_timeout: self.millis("upstream.connect_timeout_ms", raw.connect_timeout_ms, 10..=60_000, default.connect_timeout)?,
            reply_timeout: self.millis("upstream.reply_timeout_ms", raw.reply_timeout_ms, 10..=600_000, default.reply_timeout)?,
            leased_connections_max: self.size(
                "upstream.leased_connections_max",
                raw.leased_connections_max,
                1..=10_000,
                default.leased_connections_max,
            )?,
            pending_bytes_max: self.size(
                "upstream.pending_bytes_max",
                raw.pending_bytes_max,
                64 * KIB..=4096 * MIB,
                default.pending_bytes_max,
            )?,
        })
    }

    fn transactions(&self, raw: RawTransactions, reply_timeout: Duration) -> Result<TransactionConfig, ConfigError> {
        let default = TransactionConfig::default();
        let millis = |key: &str, value, bounds, default| self.millis(&format!("transactions.{key}"), value, bounds, default);
        let size = |key: &str, value, bounds, default| self.size(&format!("transactions.{key}"), value, bounds, default);
        Ok(TransactionConfig {
            lease: millis("lease_ms", raw.lease_ms, 100..=60_000, default.lease)?,
            lock_wait_timeout: millis("lock_wait_timeout_ms", raw.lock_wait_timeout_ms, 10..=600_000, default.lock_wait_timeout)?,
            patience: millis("patience_ms", raw.patience_ms, 100..=600_000, default.patience)?,
            queue_commands_max: size("queue_commands_max", raw.queue_commands_max, 1..=1024 * KIB, default.queue_commands_max)?,
            queue_bytes_max: size("queue_bytes_max", raw.queue_bytes_max, KIB..=512 * MIB, default.queue_bytes_max)?,
            watch_keys_max: size("watch_keys_max", raw.watch_keys_max, 1..=1024 * KIB, default.watch_keys_max)?,
            watch_turn: millis("watch_turn_ms", raw.watch_turn_ms, 0..=60_000, default.watch_turn)?,
            allow_eviction: raw.allow_eviction.unwrap_or(default.allow_eviction),
            kept_reply_bytes_max: size("kept_reply_bytes_max", raw.kept_reply_bytes_max, 0..=64 * MIB, default.kept_reply_bytes_max)?,
            compute_bytes_max: size("compute_bytes_max", raw.compute_bytes_max, KIB..=512 * MIB, default.compute_bytes_max)?,
            undeclared_keys_max: size("undeclared_keys_max", raw.undeclared_keys_max, 0..=KIB, default.undeclared_keys_max)?,
            multi_key: raw.multi_key.as_ref().map_or(Ok(default.multi_key), |raw| self.multi_keys(raw))?,
            wait: self.wait(&raw, reply_timeout)?,
        })
    }

    fn multi_keys(&self, raw: &RawMultiKey) -> Result<MultiKeys, ConfigError> {
        let raw = match raw {
            RawMultiKey::All(what) => return Ok(MultiKeys::all(*what)),
            RawMultiKey::Each(raw) => raw,
        };
        let default = TransactionConfig::default().multi_key;
        let whole = |class: &str, value: Option<MultiKey>, default| match value.unwrap_or(default) {
            MultiKey::Split => {
                let problem = "cannot be `split`: values go from one shard to another".to_owned();
                Err(self.fail(&format!("transactions.multi_key.{class}"), problem, "choose `atomic` or `reject`".into()))
            }
            what => Ok(what),
        };
        Ok(MultiKeys {
            reads: raw.reads.unwrap_or(default.reads),
            writes: raw.writes.unwrap_or(default.writes),
            deletes: raw.deletes.unwrap_or(default.deletes),
            computed: whole("computed", raw.computed, default.computed)?,
            scripts: whole("scripts", raw.scripts, default.scripts)?,
        })
    }

    fn wait(&self, raw: &RawTransactions, reply_timeout: Duration) -> Result<WaitConfig, ConfigError> {
        let default = WaitConfig::default();
        let replicas = self.size("transactions.wait_replicas", raw.wait_replicas, 0..=100, default.replicas.into())?;
        let key = "transactions.wait_timeout_ms";
        let wait = WaitConfig {
            replicas: u16::try_from(replicas).unwrap_or(u16::MAX),
            fsync: raw.wait_fsync.unwrap_or(default.fsync),
            timeout: self.millis(key, raw.wait_timeout_ms, 10..=60_000, default.timeout)?,
        };
        if !wait.is_off() && wait.timeout >= reply_timeout {
            let (timeout, limit) = (wait.timeout.as_millis(), reply_timeout.as_millis());
            let problem = format!("{timeout} is not below upstream.reply_timeout_ms, {limit}, when the connection is given up");
            return Err(self.fail(key, problem, "lower it, or raise the other".into()));
        }
        Ok(wait)
    }

    fn sweep(&self, raw: &RawSweep) -> Result<SweepConfig, ConfigError> {
        let default = SweepConfig::default();
        let millis = |key: &str, value, default| self.millis(&format!("sweep.{key}"), value, 100..=86_400_000, default);
        Ok(SweepConfig {
            interval: millis("interval_ms", raw.interval_ms, default.interval)?,
            prepared_age: millis("prepared_age_ms", raw.prepared_age_ms, default.prepared_age)?,
            committed_age: millis("committed_age_ms", raw.committed_age_ms, default.committed_age)?,
            aborted_age: millis("aborted_age_ms", raw.aborted_age_ms, default.aborted_age)?,
        })
    }

    fn limits(&self, raw: &RawLimits) -> Result<LimitsConfig, ConfigError> {
        let default = LimitsConfig::default();
        let size = |key: &str, value, bounds, default| self.size(&format!("limits.{key}"), value, bounds, default);
        Ok(LimitsConfig {
            clients_max: size("clients_max", raw.clients_max, 1..=1024 * KIB, default.clients_max)?,
            bulk_bytes_max: size("bulk_bytes_max", raw.bulk_bytes_max, KIB..=512 * MIB, default.bulk_bytes_max)?,
            inline_bytes_max: size("inline_bytes_max", raw.inline_bytes_max, KIB..=MIB, default.inline_bytes_max)?,
            client_query_bytes_max: size(
                "client_query_bytes_max",
                raw.client_query_bytes_max,
                MIB..=4096 * MIB,
                default.client_query_bytes_max,
            )?,
            client_output_bytes_max: size(
                "client_output_bytes_max",
                raw.client_output_bytes_max,
                64 * KIB..=65536 * MIB,
                default.client_output_bytes_max,
            )?,
            client_pending_commands_max: size(
                "client_pending_commands_max",
                raw.client_pending_commands_max,
                1..=1024 * KIB,
                default.client_pending_commands_max,
            )?,
            clients_bytes_max: size("clients_bytes_max", raw.clients_bytes_max, MIB..=1024 * 1024 * MIB, default.clients_bytes_max)?,
            tracked_keys_max: size("tracked_keys_max", raw.tracked_keys_max, 1..=1024 * MIB, default.tracked_keys_max)?,
        })
    }

    /// A password given directly or by a file; `section` is the prefix of both keys.
    fn password(&self, section: &str, text: Option<&str>, path: Option<&str>) -> Result<Option<Secret>, ConfigError> {
        let from_file = format!("{section}password_file");
        let (key, password) = match (text, path) {
            (None, None) => return Ok(None),
            (Some(_), Some(_)) => {
                return Err(self.fail(&from_file, "`password` is given too".into(), "keep one of the two".into()));
            }
            (Some(text), None) => (format!("{section}password"), text.to_owned()),
            (None, Some(path)) => {
                // A relative path is meant from where the configuration lies, not from where weft was started.
                let path = Path::new(self.file).parent().unwrap_or(Path::new("")).join(path);
                let content = std::fs::read_to_string(&path).map_err(|error| {
                    let problem = format!("{} cannot be read: {error}", path.display());
                    self.fail(&from_file, problem, "name a file that holds the password and nothing else".into())
                })?;
                (from_file, content.trim_end_matches(['\r', '\n']).to_owned())
            }
        };
        if password.is_empty() {
            return Err(self.fail(&key, "the password is empty".into(), "remove the line to have none".into()));
        }
        Ok(Some(Secret::new(&password)))
    }

    fn address(&self, key: &str, text: &str) -> Result<NodeAddr, ConfigError> {
        text.parse()
            .map_err(|_| self.fail(key, format!("`{text}` is not an address"), "write it as host:port, for instance 127.0.0.1:7001".into()))
    }

    fn millis(&self, key: &str, value: Option<u64>, bounds: RangeInclusive<usize>, default: Duration) -> Result<Duration, ConfigError> {
        let default = usize::try_from(default.as_millis()).unwrap_or(usize::MAX);
        self.size(key, value, bounds, default).map(|millis| Duration::from_millis(millis as u64))
    }

    fn size(&self, key: &str, value: Option<u64>, bounds: RangeInclusive<usize>, default: usize) -> Result<usize, ConfigError> {
        let Some(value) = value else { return Ok(default) };
        usize::try_from(value).ok().filter(|value| bounds.contains(value)).ok_or_else(|| {
            let problem = format!("{value} is not between {} and {}", bounds.start(), bounds.end());
            self.fail(key, problem, format!("remove the line to use {default}"))
        })
    }

    fn fail(&self, key: &str, problem: String, remedy: String) -> ConfigError {
        ConfigError::new(self.file, raw::line_of(self.text, key), key, problem, remedy)
    }
}

fn log(raw: &RawLog) -> LogConfig {
    let default = LogConfig::default();
    LogConfig { level: raw.level.unwrap_or(default.level), format: raw.format.unwrap_or(default.format) }
}

/// Each key is held against each rule.
const AFFINITY_RULES_MAX: usize = 64;

/// The specification of Redis Cluster suggests no more nodes.
const SHARDS_MAX: usize = 1000;
