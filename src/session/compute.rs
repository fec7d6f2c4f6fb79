//! Commands that are computed over keys of several participants: finding their keys, and carrying them out alone.
//!
//! How that is done is [`crate::txn::compute`]'s. Here is what it is done for: whatever has keys on several participants and is not
//! divided among them; COPY .. DB and MOVE, which have keys in two databases; and SORT with patterns, which has keys that nobody names. A
//! script is among them if weft has its text; an EVALSHA of one that it has not is answered as by a server that has not. For a function's
//! a shard is asked.

use std::collections::BTreeSet;
use std::rc::Rc;

use bytes::Bytes;

use super::busy::Guard;
use super::script::{is_function, is_loaded_by};
use super::{Context, Session, blocking, local};
use crate::command::{self, Access, CommandSpec, KeyRef, Keys};
use crate::config::MultiKey;
use crate::resp::{Proto, Request, error_reply};
use crate::route::{self, Place};
use crate::topology::{ShardId, SlotMap};
use crate::txn::compute::source::Source;
use crate::txn::compute::{Spread, shim};
use crate::txn::watch::Watch;
use crate::txn::{ExecError, Executed};

impl Session {
    /// Carries out a command, or says why it cannot be.
    pub(super) async fn compute_alone(&mut self, spread: Result<Spread, String>) {
        let context = Rc::clone(&self.context);
        let result = match spread {
            Ok(spread) => context.compute(vec![spread], None, self.client.proto()).await,
            Err(text) => Err(ExecError::Rejected(text)),
        };
        self.deliver(match result {
            Ok(Executed::Replies(mut replies)) => replies.pop().ok_or(ExecError::Unreachable),
            // Nothing is watched.
            Ok(Executed::WatchBroken) => Err(ExecError::LockWait),
            Err(error) => Err(error),
        });
    }

    /// Carries out a SORT whose patterns may name keys anywhere.
    pub(super) async fn sort_alone(&mut self, spec: &'static CommandSpec, request: &Request) {
        let (context, db) = (Rc::clone(&self.context), self.client.profile.db);
        if context.multi_key(spec) == MultiKey::Reject {
            return self.reply(|reply| reply.error(error_reply::CROSSSLOT));
        }
        let mut keys = Keys::new();
        // It says that there are others, which are only read.
        let _ = command::keys(spec, request, &mut keys);
        let stored = || keys.iter().filter(|key| key.access == Access::Write).map(|key| (db, request.arg_bytes(key.index as usize)));
        let underway = context.set_out(stored());
        let result = context.engine.sort(spec, request, db, self.client.proto()).await;
        context.serve(underway, stored()).await;
        self.deliver(result);
    }
}

impl Context {
    /// Carries out `commands` as one transaction, and wakes who waits for what they write.
    pub(super) async fn compute(&self, commands: Vec<Spread>, watch: Option<Watch>, proto: Proto) -> Result<Executed, ExecError> {
        let mut commands = commands;
        for command in &mut commands {
            command.source = self.source(command).await?;
        }
        let _running = self.running(&commands);
        let underway = self.set_out(written(&commands));
        let (watching, mut watch) = (watch.is_some(), watch);
        let executed = loop {
            let executed = self.engine.compute(commands.clone(), watch.take(), proto).await;
            match executed {
                // The client's watches are used up.
                Err(ExecError::Undeclared { command, key, text }) if !watching => self.add_hidden(&mut commands, command, &key, text)?,
                executed => break executed,
            }
        };
        if let Ok(Executed::Replies(replies)) = &executed {
            let called = commands.iter().zip(replies).filter(|(command, reply)| command.is_script() && is_loaded_by(reply));
            called.for_each(|(command, _)| self.scripts.note(command.spec.name, &command.request));
        }
        if matches!(executed, Ok(Executed::Replies(_)) | Err(ExecError::Unconfirmed)) {
            self.serve(underway, written(&commands)).await;
        }
        executed
    }

    /// The text of the script or function that `command` calls.
    async fn source(&self, command: &Spread) -> Result<Option<Source>, ExecError> {
        Ok(match command.spec.name {
            "eval" | "eval_ro" => Some(Source::script(command.request.arg_bytes(1))),
            "evalsha" | "evalsha_ro" => self.scripts.body(command.request.arg(1)).map(Source::script),
            "fcall" | "fcall_ro" => {
                let shards = command.keys.first().map(|(_, place)| place.shard);
                let shard = shards.or_else(|| self.upstreams.map().ids().next()).ok_or(ExecError::Unreachable)?;
                self.function(shard, command.request.arg(1)).await?
            }
            _ => None,
        })
    }

    /// Gives the script that is number `at` of `commands` one more key, which it does not declare; otherwise the error is `text`.
    fn add_hidden(&self, commands: &mut [Spread], at: usize, key: &[u8], text: String) -> Result<(), ExecError> {
        let hidden: usize = commands.iter().map(|command| command.hidden).sum();
        let allowed = hidden < self.config.transactions.undeclared_keys_max && !route::is_internal(key);
        let Some(command) = commands.get_mut(at).filter(|_| allowed) else { return Err(ExecError::Rejected(text)) };
        let mut keys = Keys::new();
        let request = shim::with_hidden(&command.request, command.keys.len(), key);
        let place = Place::of(&self.upstreams.map(), command.db, key).ok_or(ExecError::Unreachable)?;
        match command::keys(command.spec, &request, &mut keys) {
            Ok(()) => command.keys.extend(keys.last().map(|key| (*key, place))),
            Err(_) => return Err(ExecError::Rejected(text)),
        }
        command.request = request;
        command.hidden += 1;
        Ok(())
    }

    /// Takes note that those of `commands` that are scripts run, at whichever of their shards it will be.
    fn running(&self, commands: &[Spread]) -> Vec<Guard<'_>> {
        let scripts = commands.iter().filter(|command| command.is_script());
        let function = commands.iter().find(|command| is_function(command.spec)).map(|command| &command.request);
        let shards: BTreeSet<ShardId> = scripts.flat_map(|command| command.keys.iter().map(|(_, place)| place.shard)).collect();
        shards.into_iter().map(|shard| self.scripts.running.begin(shard, true, function)).collect()
    }

    /// `request`, sent to database `db`, whose keys are on the places beside them; or the error for it.
    pub(super) fn spread(
        &self,
        spec: &'static CommandSpec,
        request: &Request,
        db: u32,
        keys: &[(KeyRef, Place)],
    ) -> Result<Spread, String> {
        if self.multi_key(spec) == MultiKey::Reject {
            return Err(error_reply::CROSSSLOT.to_owned());
        }
        Ok(Spread { spec, request: request.clone(), db, keys: keys.to_vec(), source: None, hidden: 0 })
    }

    /// `request`, a SORT with patterns sent to database `db` inside of a transaction; or the error for it.
    pub(super) fn spread_sort(&self, spec: &'static CommandSpec, request: &Request, db: u32) -> Result<Spread, String> {
        let map = self.upstreams.map();
        let mut keys = Keys::new();
        // It says that there are others, which nobody knows yet.
        let _ = command::keys(spec, request, &mut keys);
        let keys = keys.into_iter().map(|key| Ok((key, place(&map, request.arg(key.index as usize), db)?)));
        let keys = keys.collect::<Result<Vec<_>, String>>()?;
        self.spread(spec, request, db, &keys)
    }

    /// `request`, a COPY or MOVE sent to database `db`, which names another one; or the error for it.
    pub(super) fn spread_over_databases(&self, spec: &'static CommandSpec, request: &Request, db: u32) -> Result<Spread, String> {
        let other = self.other_database(spec, request)?;
        if spec.name == "move" && other == db {
            return Err(error_reply::SAME_OBJECT.to_owned());
        }
        let map = self.upstreams.map();
        let mut keys = Keys::new();
        // It says that there is another database, which is known.
        let _ = command::keys(spec, request, &mut keys);
        let destination = keys.last().copied().map(|key| (KeyRef { access: Access::Write, ..key }, other));
        let source = keys.first().copied().map(|key| (key, db));
        let keys = source.into_iter().chain(destination);
        let keys =
            keys.map(|(key, db)| Ok((key, place(&map, request.arg(key.index as usize), db)?))).collect::<Result<Vec<_>, String>>()?;
        self.spread(spec, request, db, &keys)
    }

    /// The database that a COPY or MOVE names; of several the last one counts. Errors are told in the order in which a server finds them.
    fn other_database(&self, spec: &CommandSpec, request: &Request) -> Result<u32, String> {
        let database = |index: usize| local::database(request.arg(index), self.settings.databases).map_err(str::to_owned);
        if spec.name == "move" {
            return database(2);
        }
        let (mut found, mut index) = (0, 3);
        while index < request.argc() {
            let word = request.arg(index);
            match () {
                () if word.eq_ignore_ascii_case(b"REPLACE") => {}
                () if word.eq_ignore_ascii_case(b"DB") && index + 1 < request.argc() => {
                    index += 1;
                    found = database(index)?;
                }
                () => return Err(error_reply::SYNTAX.to_owned()),
            }
            index += 1;
        }
        Ok(found)
    }
}

/// The keys that `commands` may write, and their databases.
fn written(commands: &[Spread]) -> impl Iterator<Item = (u32, Bytes)> {
    commands.iter().flat_map(|command| blocking::written(&command.request, &command.keys))
}

/// Where the client's key `name` of database `db` is, or the error for it.
fn place(map: &SlotMap, name: &[u8], db: u32) -> Result<Place, String> {
    if route::is_internal(name) {
        return Err(error_reply::INTERNAL_KEY.to_owned());
    }
    Place::of(map, db, name).ok_or_else(|| error_reply::CLUSTERDOWN_SLOT.to_owned())
}
