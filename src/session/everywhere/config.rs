//! CONFIG GET: what clients ask a server about itself, told of weft and its shards together.
//!
//! Parameters about connections are weft's own. Parameters about data are read from a shard, on the understanding that all are
//! configured alike. Everything else stays unsaid: a shard's passwords, paths and addresses are not a client's to know. Which
//! parameters a pattern matches the shard decides; where it refuses CONFIG, weft's own are found by their full names.

use std::rc::Rc;

use crate::config::Config;
use crate::resp::{Proto, Request, Value};
use crate::session::{Databases, Session};

impl Session {
    /// `CONFIG GET pattern …`
    pub(crate) async fn config_get(&mut self, request: &Request) {
        let context = Rc::clone(&self.context);
        let reply = context.engine.any_shard(request, Proto::Resp2).await;
        let reply = reply.ok().and_then(|reply| Value::parse(&reply).ok());
        let text = |value: &Value| value.text().map(|text| String::from_utf8_lossy(text).into_owned()).unwrap_or_default();
        let matched: Vec<(String, String)> = match reply.as_ref().and_then(Value::pairs) {
            Some(pairs) => pairs.into_iter().map(|(name, value)| (text(name), text(value))).collect(),
            None => request.args_from(2).map(|name| (String::from_utf8_lossy(name).to_ascii_lowercase(), String::new())).collect(),
        };
        let readable = reply.as_ref().is_some_and(|reply| reply.pairs().is_some());
        let shown: Vec<(String, String)> = matched
            .into_iter()
            .filter_map(|(name, value)| match own(&name, &context.config, context.settings.databases) {
                Some(own) => Some((name, own)),
                None => (readable && OF_SHARDS.iter().any(|shared| name.starts_with(shared))).then_some((name, value)),
            })
            .collect();
        self.reply(|writer| {
            writer.map(shown.len());
            for (name, value) in shown {
                writer.bulk(name.as_bytes());
                writer.bulk(value.as_bytes());
            }
        });
    }
}

/// The value of a parameter that is weft's own affair.
fn own(name: &str, config: &Config, databases: Databases) -> Option<String> {
    Some(match name {
        "bind" => config.listen.address.ip().to_string(),
        "port" => config.listen.address.port().to_string(),
        "maxclients" => config.limits.clients_max.to_string(),
        "proto-max-bulk-len" => config.limits.bulk_bytes_max.to_string(),
        "databases" => match databases {
            Databases::Cluster => "1".to_owned(),
            Databases::Count(count) => count.to_string(),
        },
        // weft closes no idle client.
        "timeout" => "0".to_owned(),
        "protected-mode" => "yes".to_owned(),
        "cluster-enabled" => "no".to_owned(),
        _ => return None,
    })
}

/// How the names of the parameters begin that say what the shards do with data.
const OF_SHARDS: &[&str] = &[
    "active-expire-effort",
    "appendfsync",
    "appendonly",
    "busy-reply-threshold",
    "hash-max-",
    "hll-sparse-",
    "latency-monitor-threshold",
    "lazyfree-lazy-",
    "lfu-",
    "list-compress-depth",
    "list-max-",
    "lua-time-limit",
    "maxmemory",
    "min-replicas-",
    "notify-keyspace-events",
    "save",
    "set-max-",
    "slowlog-",
    "stream-node-max-",
    "zset-max-",
];
