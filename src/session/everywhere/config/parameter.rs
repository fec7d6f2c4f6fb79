//! Whose a parameter of CONFIG is: weft's own, all shards' together, or no client's.

use crate::config::Config;
use crate::session::{Context, Databases};

/// A parameter that is weft's own affair.
pub(super) struct Own {
    pub(super) name: &'static str,
    /// What it is told to be; of what weft does not have, nothing is told.
    pub(super) value: Option<String>,
    kind: Kind,
    /// Why CONFIG SET does not change it; `None` where it does.
    pub(super) stays: Option<&'static str>,
}

/// What values a parameter takes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// Set when a server starts, and never again.
    Immutable,
    Text,
    YesOrNo,
    Integer,
    Bytes,
    BytesOrPercent,
}

impl Own {
    /// All of them.
    pub(super) fn all(context: &Context) -> Vec<Self> {
        let own = |name, value, kind, stays| Self { name, value, kind, stays: Some(stays) };
        let Config { listen, limits, .. } = &*context.config;
        let databases = match context.settings.databases {
            Databases::Cluster => 1,
            Databases::Count(count) => count,
        };
        vec![
            own("bind", Some(listen.address.ip().to_string()), Kind::Text, "Failed to bind to specified addresses: that is listen.address"),
            own("client-query-buffer-limit", None, Kind::Bytes, "it is limits.bulk_bytes_max that bounds what a client sends"),
            own("cluster-enabled", Some("no".to_owned()), Kind::Immutable, IMMUTABLE),
            own("databases", Some(databases.to_string()), Kind::Immutable, IMMUTABLE),
            own("maxclients", Some(limits.clients_max.to_string()), Kind::Integer, "can't set immutable config: it is limits.clients_max"),
            own("maxmemory-clients", Some("0".to_owned()), Kind::BytesOrPercent, "weft evicts no clients"),
            own("port", Some(listen.address.port().to_string()), Kind::Integer, "Unable to listen on this port: that is listen.address"),
            own("proto-max-bulk-len", Some(limits.bulk_bytes_max.to_string()), Kind::Bytes, "it is limits.bulk_bytes_max"),
            own("protected-mode", Some("yes".to_owned()), Kind::YesOrNo, "weft serves other machines only with a password"),
            own("replicaof", Some(String::new()), Kind::Immutable, IMMUTABLE),
            own("slaveof", Some(String::new()), Kind::Immutable, IMMUTABLE),
            own("timeout", Some("0".to_owned()), Kind::Integer, "weft closes no idle client"),
            Self { name: TRACKED_KEYS, value: Some(context.tracker.totals().keys_max().to_string()), kind: Kind::Integer, stays: None },
        ]
    }

    /// Whether it is never set while a server runs.
    pub(super) fn is_immutable(&self) -> bool {
        self.kind == Kind::Immutable
    }

    /// `wanted` as CONFIG GET would tell it, or what is wrong with it, in Redis's words.
    pub(super) fn read(&self, wanted: &[u8]) -> Result<String, &'static str> {
        let text = std::str::from_utf8(wanted);
        match self.kind {
            Kind::Immutable | Kind::Text => Ok(String::from_utf8_lossy(wanted).into_owned()),
            Kind::YesOrNo => match text.map(str::to_ascii_lowercase) {
                Ok(word) if matches!(&word[..], "yes" | "no") => Ok(word),
                _ => Err("argument must be 'yes' or 'no'"),
            },
            Kind::Integer => match text.map(str::parse::<u64>) {
                Ok(Ok(number)) => Ok(number.to_string()),
                _ => Err("argument couldn't be parsed into an integer"),
            },
            Kind::Bytes => bytes(wanted).map(|bytes| bytes.to_string()).ok_or("argument must be a memory value"),
            Kind::BytesOrPercent => match wanted.strip_suffix(b"%").map(|part| std::str::from_utf8(part).ok()?.parse::<u64>().ok()) {
                Some(Some(0..=100)) => Ok(String::from_utf8_lossy(wanted).into_owned()),
                Some(Some(_)) => Err("percentage argument must be less or equal to 100"),
                Some(None) => Err("argument must be a memory or percent value"),
                None => bytes(wanted).map(|bytes| bytes.to_string()).ok_or("argument must be a memory or percent value"),
            },
        }
    }
}

/// A number of bytes as Redis reads it: `100mb`.
fn bytes(text: &[u8]) -> Option<u64> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, unit) = text.split_at(digits);
    let factor = match &unit.to_ascii_lowercase()[..] {
        b"" | b"b" => 1,
        b"k" => 1000,
        b"kb" => 1 << 10,
        b"m" => 1_000_000,
        b"mb" => 1 << 20,
        b"g" => 1_000_000_000,
        b"gb" => 1 << 30,
        _ => return None,
    };
    std::str::from_utf8(number).ok()?.parse::<u64>().ok()?.checked_mul(factor)
}

/// Whether the parameter says what the shards do with data.
pub(super) fn is_of_shards(name: &str) -> bool {
    OF_SHARDS.iter().any(|shared| name.starts_with(shared))
}

/// The one parameter of weft's own that can be set while it runs. 0 is no bound.
pub(super) const TRACKED_KEYS: &str = "tracking-table-max-keys";

/// What Redis says of a parameter that cannot be set while a server runs.
pub(super) const IMMUTABLE: &str = "can't set immutable config";

/// How the names of the parameters begin that say what the shards do with data.
const OF_SHARDS: &[&str] = &[
    "active-defrag-",
    "active-expire-effort",
    "activedefrag",
    "activerehashing",
    "appendfsync",
    "appendonly",
    "auto-aof-rewrite-",
    "busy-reply-threshold",
    "dynamic-hz",
    "hash-max-",
    "hll-sparse-",
    "hz",
    "key-load-delay",
    "latency-monitor-threshold",
    "latency-tracking",
    "lazyfree-lazy-",
    "lfu-",
    "list-compress-depth",
    "list-max-",
    "lua-time-limit",
    "maxmemory",
    "min-replicas-",
    "min-slaves-",
    "no-appendfsync-on-rewrite",
    "notify-keyspace-events",
    "rdb-key-save-delay",
    "rdbcompression",
    "repl-backlog-",
    "sanitize-dump-payload",
    "save",
    "set-max-",
    "slowlog-",
    "stop-writes-on-bgsave-error",
    "stream-node-max-",
    "zset-max-",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: Kind, wanted: &str) -> Result<String, &'static str> {
        Own { name: "x", value: None, kind, stays: None }.read(wanted.as_bytes())
    }

    #[test]
    fn values_are_read_as_redis_reads_them() {
        for (kind, wanted, expected) in [
            (Kind::Bytes, "10mb", Ok("10485760")),
            (Kind::Bytes, "1G", Ok("1000000000")),
            (Kind::Bytes, "7", Ok("7")),
            (Kind::Bytes, "", Err("argument must be a memory value")),
            (Kind::Bytes, "-1", Err("argument must be a memory value")),
            (Kind::Bytes, "1tb", Err("argument must be a memory value")),
            (Kind::Bytes, "99999999999999999999gb", Err("argument must be a memory value")),
            (Kind::BytesOrPercent, "5%", Ok("5%")),
            (Kind::BytesOrPercent, "0kb", Ok("0")),
            (Kind::BytesOrPercent, "101%", Err("percentage argument must be less or equal to 100")),
            (Kind::BytesOrPercent, "x%", Err("argument must be a memory or percent value")),
            (Kind::Integer, "x", Err("argument couldn't be parsed into an integer")),
            (Kind::Integer, "010", Ok("10")),
            (Kind::YesOrNo, "YES", Ok("yes")),
            (Kind::YesOrNo, "maybe", Err("argument must be 'yes' or 'no'")),
        ] {
            assert_eq!(read(kind, wanted), expected.map(str::to_owned), "{kind:?} {wanted}");
        }
    }
}
