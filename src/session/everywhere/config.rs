//! CONFIG GET and SET: what clients ask a server about itself, told of weft and its shards together.
//!
//! Parameters about connections are weft's own, and set by its file, all but one by it alone. Parameters about data are read from a shard, on the
//! understanding that all are configured alike, and set on all primaries. Everything else stays unsaid: a shard's passwords, paths
//! and addresses are not a client's to know. Whose a parameter is, [`parameter`] says.
//!
//! CONFIG SET changes all that it names, or nothing. What is wrong with parameters of weft's own is found before any shard is told of
//! anything; the shards are told one after the other, and the first one refuses what all would. If a later one refuses, or is lost, the
//! others are given back what they had, each its own.
//!
//! | what goes wrong | what the client is told |
//! |---|---|
//! | a shard cannot be reached beforehand | `UNAVAILABLE … nothing was applied` |
//! | a shard refuses | its error; nothing is changed |
//! | a shard is lost on the way, or on the way back | `UNAVAILABLE … other shards may have carried the command out` |
//!
//! Two clients that set the same parameter at the same moment may leave different values on different shards. Replicas keep theirs, as
//! behind any primary. A policy that evicts what carries no TTL is refused, since it could evict what holds transactions together.

mod parameter;

use std::rc::Rc;

use bytes::Bytes;

use self::parameter::{IMMUTABLE, Own, TRACKED_KEYS, is_of_shards};
use super::error;
use crate::resp::{Proto, Request, Value, error_reply};
use crate::route;
use crate::session::pubsub::glob;
use crate::session::{Context, Session};
use crate::topology::ShardId;
use crate::txn::ExecError;

impl Session {
    /// `CONFIG GET pattern …`
    pub(crate) async fn config_get(&mut self, request: &Request) {
        let context = Rc::clone(&self.context);
        let own = Own::all(&context);
        let reply = context.engine.any_shard(request, Proto::Resp2).await.unwrap_or_default();
        let told = parameters(&reply).unwrap_or_default();
        let is_own = |name: &str| own.iter().any(|own| own.name == name);
        let of_shards = told.iter().filter(|(name, _)| as_text(name).is_some_and(|name| is_of_shards(name) && !is_own(name)));
        let patterns: Vec<Vec<u8>> = request.args_from(2).map(<[u8]>::to_ascii_lowercase).collect();
        let is_asked_for = |own: &&Own| patterns.iter().any(|pattern| glob::matches(pattern, own.name.as_bytes()));
        let of_weft = own.iter().filter(is_asked_for).filter_map(|own| Some((own.name.as_bytes(), own.value.as_ref()?.as_bytes())));
        let shown: Vec<(&[u8], &[u8])> = of_shards.map(|(name, value)| (&name[..], &value[..])).chain(of_weft).collect();
        self.reply(|writer| {
            writer.map(shown.len());
            for (name, value) in shown {
                writer.bulk(name);
                writer.bulk(value);
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
        let own = Own::all(&self.context);
        let mut settings = Settings::default();
        let mut of_weft = Vec::new();
        let mut seen = Vec::new();
        for index in (2..request.argc()).step_by(2) {
            let (parameter, wanted) = (request.arg(index), request.arg(index + 1));
            let refused = |reason: &str| error_reply::config_set(parameter, reason);
            let name = String::from_utf8_lossy(parameter).to_ascii_lowercase();
            match own.iter().find(|own| own.name == name) {
                Some(own) if own.is_immutable() => return Err(refused(IMMUTABLE)),
                Some(own) => of_weft.push((own, parameter, wanted)),
                None if is_of_shards(&name) => settings.of_shards.push([request.arg_bytes(index), request.arg_bytes(index + 1)]),
                None if self.is_parameter(&name).await => return Err(refused(IMMUTABLE)),
                None => return Err(error_reply::config_unknown(parameter)),
            }
            if name == "maxmemory-policy" && wanted.to_ascii_lowercase().starts_with(b"allkeys-") && !self.bears_eviction() {
                return Err(refused(EVICTS));
            }
            if seen.contains(&name) {
                return Err(refused("duplicate parameter"));
            }
            seen.push(name);
        }
        let mut changes = Vec::new();
        for (own, parameter, wanted) in of_weft {
            let value = own.read(wanted).map_err(|reason| error_reply::config_set(parameter, reason))?;
            if own.value.as_ref() != Some(&value) {
                changes.push((own, parameter, value));
            }
        }
        for (own, parameter, value) in changes {
            match own.stays {
                Some(reason) => return Err(error_reply::config_set(parameter, reason)),
                None if own.name == TRACKED_KEYS => settings.tracked_keys_max = value.parse().ok(),
                None => {}
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

    /// Whether transactions are carried out although their records may be evicted.
    fn bears_eviction(&self) -> bool {
        self.context.config.transactions.allow_eviction
    }

    async fn is_parameter(&self, name: &str) -> bool {
        let reply = self.context.engine.any_shard(&Request::new(&["CONFIG", "GET", name]), Proto::Resp2).await.unwrap_or_default();
        parameters(&reply).is_some_and(|told| told.iter().any(|(told, _)| told == name.as_bytes()))
    }

    /// Sets parameters on all shards, or on none.
    async fn set_everywhere(&self, wanted: &[[Bytes; 2]]) -> Result<Bytes, ExecError> {
        if wanted.is_empty() {
            return Ok(Bytes::from_static(b"+OK\r\n"));
        }
        let context = &self.context;
        let get = Request::new(
            &["CONFIG", "GET"].into_iter().map(str::as_bytes).chain(wanted.iter().map(|[name, _]| &name[..])).collect::<Vec<_>>(),
        );
        let mut before = Vec::new();
        for shard in context.upstreams.map().ids() {
            let reply = context.engine.one_shard(shard, &get, 0, Proto::Resp2).await?;
            let Some(values) = parameters(&reply) else { return Ok(reply) };
            before.push((shard, values));
        }
        for (index, (shard, _)) in before.iter().enumerate() {
            let answer = context.set(*shard, wanted.iter().map(|[name, value]| (name, value))).await;
            let (told, reply) = match answer {
                Ok(reply) if !route::is_error(&reply) => continue,
                Ok(refusal) => (index, Ok(refusal)),
                // Whether it has heard nobody knows.
                Err(_) => (index + 1, error(error_reply::NOT_EVERYWHERE)),
            };
            let undone = context.put_back(&before[..told]).await;
            return if undone { reply } else { error(error_reply::NOT_EVERYWHERE) };
        }
        context.topology.request_refresh();
        Ok(Bytes::from_static(b"+OK\r\n"))
    }
}

impl Context {
    /// Gives shards what they had; whether each of them has it.
    async fn put_back(&self, before: &[(ShardId, Parameters)]) -> bool {
        let mut undone = true;
        for (shard, values) in before {
            let answer = self.set(*shard, values.iter().map(|(name, value)| (name, value))).await;
            undone &= answer.is_ok_and(|reply| !route::is_error(&reply));
        }
        undone
    }

    async fn set(&self, shard: ShardId, values: impl Iterator<Item = (&Bytes, &Bytes)>) -> Result<Bytes, ExecError> {
        let words = values.flat_map(|(name, value)| [&name[..], &value[..]]);
        let words: Vec<&[u8]> = [&b"CONFIG"[..], b"SET"].into_iter().chain(words).collect();
        self.engine.one_shard(shard, &Request::new(&words), 0, Proto::Resp2).await
    }
}

/// What a CONFIG SET changes.
#[derive(Default)]
struct Settings {
    /// Parameters of the shards, and their values.
    of_shards: Vec<[Bytes; 2]>,
    tracked_keys_max: Option<usize>,
}

/// Names of parameters and their values.
type Parameters = Vec<(Bytes, Bytes)>;

/// What a shard answers to CONFIG GET; `None` if it does not tell.
fn parameters(reply: &Bytes) -> Option<Parameters> {
    let reply = Value::parse(reply).ok()?;
    let text = |value: &Value| value.text().cloned().unwrap_or_default();
    Some(reply.pairs()?.into_iter().map(|(name, value)| (text(name), text(value))).collect())
}

fn as_text(name: &[u8]) -> Option<&str> {
    std::str::from_utf8(name).ok()
}

const EVICTS: &str = "it could evict the records of transactions over several shards, see transactions.allow_eviction";
