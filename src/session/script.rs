//! Users' scripts whose keys are at one place, alone and in a transaction.
//!
//! Before a single server they run there as they are. Before several shards one that may make up names of keys is held to its own
//! ([`shim`]), in a cluster no less: the node that has its slot has thousands of others, and would let it use keys there without a look
//! at their locks. It goes as EVALSHA of the text with the shim before it, which the shard has learnt from an EVAL of it; clients
//! know it by their own digest all the while. That needs the text. So an EVALSHA of one that this process has never seen is answered NOSCRIPT, as by
//! a server that has not, even if shards have it. A function becomes a script ([`source`]), of the text that its shard is
//! asked for with each call.
//!
//! A script that is refused a key before it has written anything is run again with that key, at most `undeclared_keys_max` times. If the key has
//! a group, it runs where that is, as long as all keys are at one place: the others will be of the group. If it has none, or if they are
//! not, it is computed on copies, where it can come upon further keys even after it has written. In a transaction the refusal is the reply:
//! the commands beside it may have been carried out.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;

use super::blocking;
use super::blocking::lines::Underway;
use super::everywhere::Called;
use super::rescue;
use super::{Context, Session};
use crate::command::{self, CommandSpec};
use crate::config::MultiKey;
use crate::resp::{Proto, Request, Value};
use crate::route::{self, Place, Reach, Route, Routed};
use crate::topology::ShardId;
use crate::txn::ExecError;
use crate::txn::compute::shim::{self, Held, Token};
use crate::txn::compute::source::{self, Source};

impl Session {
    /// Carries out a script.
    pub(super) async fn script_alone(&mut self, routed: Routed) {
        let context = Rc::clone(&self.context);
        context.let_look(blocking::taken(&routed)).await;
        let underway = context.set_out(blocking::brought(&routed));
        let result = match context.called(&routed).await {
            Ok(Called::Held(held)) => return self.held_script(routed, &held, underway).await,
            Ok(Called::AsItIs) => self.script(routed.clone()).await,
            Ok(Called::Literally) => self.script(Routed { reach: Reach::Keys, ..routed.clone() }).await,
            Ok(Called::Unknown) => context.engine.single(as_unknown(routed.clone()), self.client.proto(), context.is_strict()).await,
            Err(error) => Err(error),
        };
        context.serve(underway, blocking::brought(&routed)).await;
        self.deliver(result);
    }

    /// One that its shard has forgotten is given back to it and called again, since nothing ran. That it has forgotten it the shard is
    /// asked: a script may answer what it likes.
    async fn script(&self, routed: Routed) -> Result<Bytes, ExecError> {
        let (engine, proto, strict) = (&self.context.engine, self.client.proto(), self.context.is_strict());
        let _running = self.context.scripts.running.begin(routed.place.shard, !routed.keys.is_empty(), None);
        let result = engine.single(routed.clone(), proto, strict).await;
        match &result {
            Ok(reply) if reply.starts_with(b"-NOSCRIPT") && self.reload_script(&routed).await => engine.single(routed, proto, strict).await,
            Ok(reply) if is_loaded_by(reply) => {
                self.context.scripts.note(routed.spec.name, &routed.request);
                result
            }
            _ => result,
        }
    }

    /// A script that is held to its keys, and to those that it turns out to need.
    async fn held_script(&mut self, mut routed: Routed, held: &Held, underway: Option<Underway>) {
        let context = Rc::clone(&self.context);
        let declared = routed.keys.len();
        let limit = match context.config.transactions.multi_key.scripts {
            MultiKey::Reject => 0,
            MultiKey::Atomic | MultiKey::Split => context.config.transactions.undeclared_keys_max,
        };
        loop {
            let (hidden, token) = (routed.keys.len() - declared, Token::random());
            let (reply, undeclared) = match self.run_held(&routed, held, hidden, token).await {
                Ok(reply) => held.read(&reply, token),
                Err(error) => return self.deliver(Err(error)),
            };
            let Some(key) = undeclared.filter(|key| hidden < limit && !route::is_internal(key)) else {
                if is_loaded_by(&reply) {
                    context.scripts.note(routed.spec.name, &routed.request);
                }
                context.serve(underway, blocking::brought(&routed)).await;
                return self.deliver(Ok(reply));
            };
            let (spec, request) = (routed.spec, shim::with_hidden(&routed.request, routed.keys.len(), &key));
            let map = context.upstreams.map();
            let keys = match route::route(&map, self.client.profile.db, spec, &request) {
                Ok(Route::One(next)) if map.affinity().group(&key).is_some() => {
                    routed = next;
                    continue;
                }
                Ok(Route::One(next)) => next.keys.iter().map(|key| (*key, next.place)).collect(),
                Ok(Route::Several(keys)) => keys,
                Err(error) => return self.reply(|reply| reply.error(&rescue::route(&error, spec))),
            };
            let spread = context.spread(spec, &request, self.client.profile.db, &keys);
            return self.compute_alone(spread.map(|spread| spread.hiding(hidden + 1))).await;
        }
    }

    /// The reply of a held script. Whether its shard knows it the shard tells in the same step.
    async fn run_held(&self, routed: &Routed, held: &Held, hidden: usize, token: Token) -> Result<Bytes, ExecError> {
        let (engine, proto, strict) = (&self.context.engine, self.client.proto(), self.context.is_strict());
        let function = is_function(routed.spec).then_some(&routed.request);
        let _running = self.context.scripts.running.begin(routed.place.shard, !routed.keys.is_empty(), function);
        // Alone, without keys, it needs no transaction, which a server that is out of memory would refuse.
        if !routed.keys.is_empty() {
            let exists = Request::new(&["SCRIPT", "EXISTS", held.digest()]);
            let look = rerouted(routed.place, exists).ok_or(ExecError::Unreachable)?;
            let replies = engine.batch(&[look, as_held(routed, held, hidden, false, token)?], proto).await?;
            if let [found, reply] = &replies[..]
                && found.as_ref() != b"*1\r\n:0\r\n"
            {
                return Ok(reply.clone());
            }
        }
        engine.single(as_held(routed, held, hidden, true, token)?, proto, strict).await
    }

    /// Puts `commands`, of a transaction, into the form that the shards are to have them in, and sees to it that the scripts which they call by
    /// digest are where they call them: once the transaction is carried out it is too late, NOSCRIPT would be one of the replies, and its
    /// neighbours would have run.
    pub(super) async fn bring_scripts(&self, commands: &mut [Routed]) -> Result<Brought, ExecError> {
        let (mut brought, mut reloaded, token) = (Vec::new(), Vec::new(), Token::random());
        for command in commands.iter_mut().filter(|command| command.is_script()) {
            let by_text = matches!(command.spec.name, "eval" | "eval_ro");
            let called = self.context.called(command).await?;
            if matches!(called, Called::Literally) {
                command.reach = Reach::Keys;
            }
            match called {
                Called::AsItIs | Called::Literally if command.spec.name.starts_with("evalsha") => reloaded.push(command.clone()),
                Called::AsItIs | Called::Literally => {}
                Called::Unknown => *command = as_unknown(command.clone()),
                Called::Held(held) => {
                    *command = as_held(command, &held, 0, by_text, token)?;
                    brought.push((command.clone(), held));
                }
            }
        }
        reloaded.sort_by(|one, other| (one.place, one.request.arg(1)).cmp(&(other.place, other.request.arg(1))));
        reloaded.dedup_by(|one, other| (one.place, one.request.arg(1)) == (other.place, other.request.arg(1)));
        join_all(reloaded.iter().map(|command| self.reload_script(command))).await;
        let mut by_digest: Vec<_> = brought.iter().filter(|(command, _)| command.spec.name.starts_with("evalsha")).collect();
        by_digest.sort_by_key(|(command, held)| (command.place, held.digest()));
        by_digest.dedup_by_key(|(command, held)| (command.place, held.digest()));
        let loads = by_digest.iter().map(|(command, held)| self.load_script(command.place, held.digest().as_bytes(), held.text()));
        join_all(loads).await;
        let held: Vec<_> = brought.into_iter().map(|(_, held)| held).collect();
        Ok(Brought { commands: if held.is_empty() { Vec::new() } else { commands.to_vec() }, held, token })
    }
}

/// Whether a server keeps the script of an EVAL that it has answered `reply`: whatever came of running it.
pub(super) fn is_loaded_by(reply: &[u8]) -> bool {
    !reply.starts_with(b"-ERR Error compiling script")
}

/// The scripts among the commands of a transaction that are held, in their order, and what their refusals bear.
pub(super) struct Brought {
    held: Vec<Arc<Held>>,
    /// All commands, in the form that they were brought in; none if no script is held.
    commands: Vec<Routed>,
    token: Token,
}

impl Brought {
    /// Puts `replies`, those of the commands, into the form that the client is to have.
    pub(super) fn read(&self, replies: &mut [Bytes]) {
        let mut held = self.held.iter().peekable();
        for (command, reply) in self.commands.iter().zip(replies) {
            let name = |held: &&Arc<Held>| [held.digest().as_bytes(), held.text()].contains(&command.request.arg(1));
            if command.is_script()
                && let Some(held) = held.next_if(name)
            {
                *reply = held.read(reply, self.token).0;
            }
        }
    }
}

/// `routed`, a call of a script, as a held one.
fn as_held(routed: &Routed, held: &Held, hidden: usize, by_text: bool, token: Token) -> Result<Routed, ExecError> {
    let request = held.request(&routed.request, routed.keys.len(), hidden, by_text, token);
    let command = rerouted(routed.place, request).ok_or(ExecError::Unreachable)?;
    Ok(Routed { keys: routed.keys.clone(), ..command })
}

/// `routed`, a call of a script that weft does not know, as one that no server knows.
fn as_unknown(routed: Routed) -> Routed {
    let words: Vec<&[u8]> = [routed.request.arg(0), shim::NOBODY.as_bytes()].into_iter().chain(routed.request.args_from(2)).collect();
    Routed { request: Request::new(&words), ..routed }
}

/// `request`, which names no keys, sent to `place`.
fn rerouted(place: Place, request: Request) -> Option<Routed> {
    let spec = command::lookup(&request).ok()?;
    Some(Routed { spec, request, place, keys: command::Keys::new(), reach: spec.into() })
}

impl Context {
    /// How `routed` calls its script or function.
    async fn called(&self, routed: &Routed) -> Result<Called, ExecError> {
        if !(is_function(routed.spec) && self.scripts.holds(&routed.request)) {
            return Ok(self.scripts.called(routed.spec.name, &routed.request));
        }
        let source = self.function(routed.place.shard, routed.request.arg(1)).await?;
        Ok(source.map_or(Called::Unknown, |source| self.scripts.called_as(&source)))
    }

    /// The function `name` as `shard` has it at this moment: another weft may have loaded its library anew.
    pub(super) async fn function(&self, shard: ShardId, name: &[u8]) -> Result<Option<Source>, ExecError> {
        let library = self.scripts.library_of(name);
        let of_all = Request::new(&["FUNCTION", "LIST", "WITHCODE"]);
        let of_one = library.map(|library| Request::new(&[&b"FUNCTION"[..], b"LIST", b"LIBRARYNAME", &library, b"WITHCODE"]));
        for request in of_one.into_iter().chain([of_all]) {
            let reply = self.engine.one_shard(shard, &request, 0, Proto::Resp2).await?;
            let list = Value::parse(&reply).map_err(|_| ExecError::Unreachable)?;
            if list.error().is_some() {
                return Err(ExecError::Refused(reply));
            }
            if let Some((library, source)) = source::function(&list, name) {
                self.scripts.note_library(name, library);
                return Ok(Some(source));
            }
        }
        Ok(None)
    }
}

/// Whether `spec` calls functions.
pub(super) fn is_function(spec: &CommandSpec) -> bool {
    matches!(spec.name, "fcall" | "fcall_ro")
}

impl Session {
    /// Gives the script that `routed` calls back to the shards, if its own has forgotten it and weft remembers it; whether it did.
    pub(super) async fn reload_script(&self, routed: &Routed) -> bool {
        let digest = routed.request.arg(1);
        match self.context.scripts.body(digest) {
            Some(body) => self.load_script(routed.place, digest, &body).await,
            None => false,
        }
    }

    /// Gives `text`, which is called `digest`, to all shards, if that of `place` has it not; whether it did.
    async fn load_script(&self, place: Place, digest: &[u8], text: &[u8]) -> bool {
        let exists = Request::new(&[&b"SCRIPT"[..], b"EXISTS", digest]);
        let known = self.context.engine.one_shard(place.shard, &exists, 0, Proto::Resp2).await;
        if known.ok().as_deref() != Some(b"*1\r\n:0\r\n") {
            return false;
        }
        let load = Request::new(&[&b"SCRIPT"[..], b"LOAD", text]);
        self.context.engine.every_shard(&load, 0, Proto::Resp2).await.is_ok()
    }
}
