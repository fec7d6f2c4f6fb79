//! What a server says of itself in `INFO`, as far as it decides what weft may do there.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use super::slot_map::Mode;

/// A server's own word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFacts {
    /// The Redis version whose behaviour the server has; Valkey tells 7.2.4.
    pub version: Version,
    /// Valkey's own version; `None` for Redis.
    pub valkey_version: Option<Version>,
    /// Changes with every start of the server.
    pub run_id: String,
    /// `noeviction`, `allkeys-lru`, `volatile-ttl` …; empty if the server does not tell.
    pub maxmemory_policy: String,
    /// Whether the server is a node of a Redis Cluster.
    pub cluster_enabled: bool,
    /// Whether the server takes writes of its own, and is no replica.
    pub primary: bool,
}

impl ServerFacts {
    /// Reads the text of `INFO`; `None` if it does not even tell a version.
    pub fn from_info(info: &str) -> Option<Self> {
        let fields: HashMap<&str, &str> = info.lines().filter_map(|line| line.trim_end().split_once(':')).collect();
        let text = |name: &str| fields.get(name).copied().unwrap_or_default();
        Some(Self {
            version: text("redis_version").parse().ok()?,
            valkey_version: text("valkey_version").parse().ok(),
            run_id: text("run_id").to_owned(),
            maxmemory_policy: text("maxmemory_policy").to_owned(),
            cluster_enabled: text("cluster_enabled") == "1",
            primary: text("role") != "slave",
        })
    }

    /// Whether weft can use the server behind a topology of `mode`.
    pub fn check(&self, mode: Mode) -> Result<(), Unfit> {
        match mode {
            _ if self.version < OLDEST_VERSION => Err(Unfit::TooOld(self.version)),
            Mode::Cluster if !self.cluster_enabled => Err(Unfit::NotClustered),
            Mode::Static if self.cluster_enabled => Err(Unfit::Clustered),
            Mode::Static if !self.primary => Err(Unfit::Replica),
            Mode::Cluster | Mode::Static => Ok(()),
        }
    }

    /// Whether the server may evict records and locks, which never carry a TTL. Cross-shard transactions are not safe there.
    pub fn may_evict_records(&self) -> bool {
        self.maxmemory_policy.starts_with("allkeys-")
    }

    /// Whether this is Valkey.
    pub fn is_valkey(&self) -> bool {
        self.valkey_version.is_some()
    }
}

/// Why weft cannot use a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Unfit {
    #[error("it is version {0}, weft needs {OLDEST_VERSION} or later")]
    TooOld(Version),
    #[error("it is not a node of a Redis Cluster; name it under `topology.static.shards`")]
    NotClustered,
    #[error("it is a node of a Redis Cluster; name it under `topology.cluster.seeds`")]
    Clustered,
    #[error("it is a replica; name its primary")]
    Replica,
}

/// The oldest server weft works with: the first with `#!lua` flags, sharded pub/sub and `CLUSTER SHARDS`.
pub const OLDEST_VERSION: Version = Version { major: 7, minor: 0, patch: 0 };

/// A version of three numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The first number.
    pub major: u16,
    /// The second number.
    pub minor: u16,
    /// The third number; pre-releases of Redis count it as 240 and above.
    pub patch: u16,
}

impl FromStr for Version {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // `7.4.0-rc1` counts as 7.4.0; a number that is not told is zero.
        let mut numbers = text.split('-').next().unwrap_or_default().split('.');
        let mut number = |default: &str| numbers.next().map_or(default, |part| part).parse();
        Ok(Self { major: number("")?, minor: number("0")?, patch: number("0")? })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        let version = |text: &str| text.parse::<Version>().unwrap();
        assert!(version("7.0.15") > version("7.0.9") && version("10.0") > version("9.1.2") && version("7.4.0-rc1") >= OLDEST_VERSION);
        assert!("".parse::<Version>().is_err() && "x.1".parse::<Version>().is_err());
    }

    #[test]
    fn facts_are_read_from_info() {
        let info = "# Server\r\nredis_version:7.2.4\r\nvalkey_version:9.1.2\r\nrun_id:ab\r\n# Memory\r\nmaxmemory_policy:allkeys-lru\r\n\
                    # Replication\r\nrole:slave\r\n# Cluster\r\ncluster_enabled:1\r\n";
        let facts = ServerFacts::from_info(info).unwrap();
        assert_eq!((facts.version.to_string(), facts.run_id.as_str()), ("7.2.4".to_owned(), "ab"));
        assert!(facts.is_valkey() && facts.may_evict_records() && facts.cluster_enabled && !facts.primary);
        assert_eq!((facts.check(Mode::Cluster), facts.check(Mode::Static)), (Ok(()), Err(Unfit::Clustered)));
        let facts = ServerFacts { cluster_enabled: false, ..facts };
        assert_eq!((facts.check(Mode::Cluster), facts.check(Mode::Static)), (Err(Unfit::NotClustered), Err(Unfit::Replica)));
        let old = Version { major: 6, minor: 2, patch: 14 };
        assert_eq!(ServerFacts { version: old, ..facts }.check(Mode::Static), Err(Unfit::TooOld(old)));
        assert_eq!(ServerFacts::from_info("HTTP/1.1 400 Bad Request"), None);
    }
}
