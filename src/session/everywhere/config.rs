//! CONFIG GET and SET: what clients ask a server about itself, told of weft and its shards together.
//!
//! Parameters about connections are weft's own, and set by its file, all but one by it alone. Parameters about data are read from a shard, on the
//! understanding that all are configured alike, and set on all primaries. Everything else stays unsaid: a shard's passwords, paths
//! and addresses are not a client's to know. Which parameters a pattern matches the shard decides; where it refuses CONFIG, weft's
//! own are found by their full names.
//!
//! CONFIG SET asks one shard first: what it refuses, none has been told. A shard that cannot be reached then keeps its old values,
//! and the client is told so; replicas keep theirs, as behind any primary.

use std::rc::Rc;

use bytes::Bytes;

use super::error;
use crate::resp::{Proto, Request, Value, error_reply};
use crate::route;
use crate::session::{Context, Databases, Session};
use crate::txn::ExecError;

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
            .filter_map(|(name, value)| match own(&name, &context) {
                Some(own) => Some((name, own)),
                None => (readable && is_of_shards(&name)).then_some((name, value)),
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

    /// `CONFIG SET parameter value …`
    pub(crate) async fn config_set(&mut self, request: &Request) {
        let result = match self.settings(request).await {
            Ok(settings) => self.set(settings).await,
            Err(text) => error(&text),
        };
        self.deliver(result);
    }

    /// What a CONFIG SET changes. Parameters of weft's own, but for one, may only be what they are already.
    async fn settings(&self, request: &Request) -> Result<Settings, String> {
        if request.argc() % 2 == 1 {
            return Err(error_reply::SYNTAX.to_owned());
        }
        let mut settings = Settings::default();
        for index in (2..request.argc()).step_by(2) {
            let (parameter, wanted) = (request.arg(index), request.arg(index + 1));
            let name = String::from_utf8_lossy(parameter).to_ascii_lowercase();
            match own(&name, &self.context) {
                Some(_) if name == TRACKED_KEYS => {
                    let keys = std::str::from_utf8(wanted).ok().and_then(|keys| keys.parse().ok());
                    settings.tracked_keys_max = Some(keys.ok_or_else(|| error_reply::config_set(parameter, NOT_A_NUMBER))?);
                }
                Some(value) if value.as_bytes() == wanted => {}
                Some(_) => return Err(error_reply::config_set(parameter, "can't set immutable config")),
                None if is_of_shards(&name) => settings.of_shards.extend([request.arg_bytes(index), request.arg_bytes(index + 1)]),
                None if self.is_parameter(&name).await => {
                    return Err(error_reply::config_set(parameter, "can't set protected config"));
                }
                None => return Err(error_reply::config_unknown(parameter)),
            }
        }
        Ok(settings)
    }

    async fn set(&self, settings: Settings) -> Result<Bytes, ExecError> {
        let reply = self.set_everywhere(&settings.of_shards).await?;
        if let Some(keys) = settings.tracked_keys_max.filter(|_| !route::is_error(&reply)) {
            self.context.tracker.totals().set_keys_max(keys);
        }
        Ok(reply)
    }

    async fn is_parameter(&self, name: &str) -> bool {
        let reply = self.context.engine.any_shard(&Request::new(&["CONFIG", "GET", name]), Proto::Resp2).await;
        reply.ok().and_then(|reply| Value::parse(&reply).ok()?.pairs().map(|pairs| !pairs.is_empty())).unwrap_or(false)
    }

    async fn set_everywhere(&self, words: &[Bytes]) -> Result<Bytes, ExecError> {
        let mut reply = Bytes::from_static(b"+OK\r\n");
        if words.is_empty() {
            return Ok(reply);
        }
        let words: Vec<&[u8]> = [&b"CONFIG"[..], b"SET"].into_iter().chain(words.iter().map(|word| &word[..])).collect();
        let request = Request::new(&words);
        for shard in self.context.upstreams.map().ids() {
            reply = match self.context.engine.one_shard(shard, &request, 0, Proto::Resp2).await {
                Ok(reply) if route::is_error(&reply) => return Ok(reply),
                Ok(reply) => reply,
                Err(_) => return error(error_reply::NOT_EVERYWHERE),
            };
        }
        Ok(reply)
    }
}

/// What a CONFIG SET changes.
#[derive(Default)]
struct Settings {
    /// Parameters of the shards, and their values.
    of_shards: Vec<Bytes>,
    tracked_keys_max: Option<usize>,
}

/// The one parameter of weft's own that can be set while it runs. 0 is no bound.
const TRACKED_KEYS: &str = "tracking-table-max-keys";
const NOT_A_NUMBER: &str = "argument couldn't be parsed into an integer";

/// Whether the parameter says what the shards do with data.
fn is_of_shards(name: &str) -> bool {
    OF_SHARDS.iter().any(|shared| name.starts_with(shared))
}

/// The value of a parameter that is weft's own affair.
fn own(name: &str, context: &Context) -> Option<String> {
    let config = &context.config;
    Some(match name {
        "bind" => config.listen.address.ip().to_string(),
        "port" => config.listen.address.port().to_string(),
        "maxclients" => config.limits.clients_max.to_string(),
        "proto-max-bulk-len" => config.limits.bulk_bytes_max.to_string(),
        TRACKED_KEYS => context.tracker.totals().keys_max().to_string(),
        "databases" => match context.settings.databases {
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
