//! One participant, one phase (protocol §3): lock check and commands in one atomic step, without a record.
//!
//! Three ways to one end. What only reads goes as `MULTI, EXISTS locks, commands, EXEC` on a shared connection. What writes goes as
//! one guarded script there, if all its replies survive Lua. All else runs natively on a leased connection: `WATCH` the locks and
//! look at them, then `MULTI, commands, EXEC`, which the server refuses if a lock has appeared in between.

use std::time::Duration;

use bytes::Bytes;

use super::attempt::{Attempt, Redirect, Target};
use super::batch::{Command, KeyAccess, collect_keys};
use super::error::ExecError;
use super::guarded;
use super::internal_keys::{self, LockKeys};
use crate::command::Access;
use crate::resp::{Proto, Request, elements};
use crate::route::Place;
use crate::upstream::{Leased, UpstreamError};

/// Whether every reply of `commands` comes out of a script as the server would give it to a client of `proto`.
pub fn is_scriptable(commands: &[Command], proto: Proto) -> bool {
    commands.iter().all(|command| guarded::fits_script(command, proto))
}

/// The guarded script over `commands`, which also checks that `watched` keys are not locked.
pub fn guarded_request(place: Place, commands: &[Command], watched: &[Bytes], proto: Proto) -> Request {
    let mut keys = KeyAccess::new();
    collect_keys(commands, &mut keys);
    for key in watched {
        keys.entry(key.clone()).or_insert(Access::Read);
    }
    guarded::request(place, &keys, commands, proto)
}

/// One command without a lock check.
pub(super) async fn unguarded(target: &Target, proto: Proto, command: &Command) -> Attempt<Bytes> {
    match target.call(proto, std::slice::from_ref(&command.request)).await {
        Ok(mut replies) => settle(replies.pop().unwrap_or_default()),
        Err(error) => lost(error, command.writes()),
    }
}

/// Commands that only read.
pub(super) async fn read(target: &Target, proto: Proto, commands: &[Command]) -> Attempt<Vec<Bytes>> {
    let locks = locks_of(target.place, commands, &[]);
    let requests = checked_transaction(&locks, commands);
    match target.call(proto, &requests).await {
        Ok(replies) => checked_replies(&replies, commands, locks),
        Err(UpstreamError::NotSent) => Attempt::Failed(ExecError::Unreachable),
        // Nothing was changed by it.
        Err(UpstreamError::MaybeApplied) => Attempt::Redirected(Redirect::TryAgain),
    }
}

/// Commands whose replies survive Lua.
pub(super) async fn scripted(target: &Target, proto: Proto, commands: &[Command]) -> Attempt<Vec<Bytes>> {
    let request = guarded_request(target.place, commands, &[], proto);
    match target.eval(proto, guarded::load(), &request).await {
        Ok(reply) => match guarded::answer(&reply, commands.len()) {
            guarded::Answer::Applied(replies) => Attempt::Done(replies),
            guarded::Answer::Locked => Attempt::Locked(locks_of(target.place, commands, &[]).keys()),
            guarded::Answer::Refused(reply) => refused(reply),
        },
        Err(error) => lost(error, true),
    }
}

/// Any commands.
pub(super) async fn native(target: &Target, proto: Proto, commands: &[Command], wait: Duration) -> Attempt<Vec<Bytes>> {
    let mut leased = match target.lease(proto, wait).await {
        Ok(leased) => leased,
        Err(error) => return lost(error, false),
    };
    let locks = locks_of(target.place, commands, &[]);
    match look(&mut leased, target.is_asking(), &locks).await {
        Ok(Look::Free) => {}
        Ok(Look::Locked) => return Attempt::Locked(locks.keys()),
        Ok(Look::Other(reply)) => return refused(reply),
        Err(_) => return Attempt::Redirected(Redirect::TryAgain),
    }
    let requests = transaction(target.is_asking(), commands);
    match leased.call(&requests).await {
        Ok(replies) => {
            leased.set_watching(false);
            let skipped = usize::from(target.is_asking());
            native_replies(&replies[skipped..], commands, &locks)
        }
        Err(error) => lost(error, true),
    }
}

/// What a look at locks found.
pub(super) enum Look {
    /// None of them; the connection watches them.
    Free,
    /// At least one.
    Locked,
    /// The server answered something else.
    Other(Bytes),
}

/// Watches `locks` on a leased connection, then looks whether any of them exists.
pub(super) async fn look(leased: &mut Leased, asking: bool, locks: &LockKeys) -> Result<Look, UpstreamError> {
    leased.set_watching(true);
    let asking = asking.then(|| Request::new(&["ASKING"]));
    let mut requests = Vec::with_capacity(4);
    for request in [locks.watch(), locks.exists()] {
        requests.extend(asking.clone());
        requests.push(request);
    }
    let replies = leased.call(&requests).await?;
    let Some(found) = replies.last() else { return Ok(Look::Locked) };
    Ok(match replies.iter().find(|reply| reply.first() == Some(&b'-')) {
        Some(error) => Look::Other(error.clone()),
        None if found.as_ref() == b":0\r\n" => Look::Free,
        None => Look::Locked,
    })
}

/// `MULTI, commands, EXEC`.
pub(super) fn transaction(asking: bool, commands: &[Command]) -> Vec<Request> {
    let mut requests: Vec<Request> = asking.then(|| Request::new(&["ASKING"])).into_iter().collect();
    requests.push(Request::new(&["MULTI"]));
    requests.extend(commands.iter().map(|command| command.request.clone()));
    requests.push(Request::new(&["EXEC"]));
    requests
}

/// `MULTI, EXISTS locks, commands, EXEC`.
pub(super) fn checked_transaction(locks: &LockKeys, commands: &[Command]) -> Vec<Request> {
    let mut requests = transaction(false, commands);
    requests.insert(1, locks.exists());
    requests
}

/// Reads the replies to [`checked_transaction`].
pub(super) fn checked_replies(replies: &[Bytes], commands: &[Command], locks: LockKeys) -> Attempt<Vec<Bytes>> {
    let [_, queued @ .., executed] = replies else { return Attempt::Failed(ExecError::Unreachable) };
    if let Some(error) = queued.iter().find(|reply| reply.first() == Some(&b'-')) {
        return not_queued(error, queued.len() - 1, commands.len());
    }
    match elements(executed) {
        Ok(Some(mut all)) if all.len() == commands.len() + 1 => {
            let check = all.remove(0);
            if check.as_ref() == b":0\r\n" { Attempt::Done(all) } else { Attempt::Locked(locks.keys()) }
        }
        _ => refused(executed.clone()),
    }
}

/// Reads the replies to [`transaction`] on a connection that watches `locks`.
fn native_replies(replies: &[Bytes], commands: &[Command], locks: &LockKeys) -> Attempt<Vec<Bytes>> {
    let [_, queued @ .., executed] = replies else { return Attempt::Failed(ExecError::OutcomeUnknown) };
    if let Some(error) = queued.iter().find(|reply| reply.first() == Some(&b'-')) {
        return not_queued(error, queued.len(), commands.len());
    }
    match elements(executed) {
        Ok(Some(all)) => Attempt::Done(all),
        Ok(None) => Attempt::Locked(locks.keys()),
        Err(_) => refused(executed.clone()),
    }
}

/// A command that the server would not even queue; nothing ran. If it is the only one, the error is its reply.
fn not_queued(error: &Bytes, _position: usize, commands: usize) -> Attempt<Vec<Bytes>> {
    match Redirect::parse(error) {
        Some(redirect) => Attempt::Redirected(redirect),
        None if commands == 1 => Attempt::Done(vec![error.clone()]),
        None => Attempt::Failed(ExecError::Refused(error.clone())),
    }
}

/// A single reply, or a redirect.
fn settle(reply: Bytes) -> Attempt<Bytes> {
    match Redirect::parse(&reply) {
        Some(redirect) => Attempt::Redirected(redirect),
        None => Attempt::Done(reply),
    }
}

/// A server's error in place of carrying anything out.
pub(super) fn refused<T>(reply: Bytes) -> Attempt<T> {
    match Redirect::parse(&reply) {
        Some(redirect) => Attempt::Redirected(redirect),
        None => Attempt::Failed(ExecError::Refused(reply)),
    }
}

/// No reply to a request that may change data.
fn lost<T>(error: UpstreamError, write: bool) -> Attempt<T> {
    match error {
        UpstreamError::NotSent => Attempt::Failed(ExecError::Unreachable),
        UpstreamError::MaybeApplied if write => Attempt::Failed(ExecError::OutcomeUnknown),
        UpstreamError::MaybeApplied => Attempt::Redirected(Redirect::TryAgain),
    }
}

/// The locks that stand in the way of `commands`, and of anybody who watches `watched`.
pub(super) fn locks_of(place: Place, commands: &[Command], watched: &[Bytes]) -> LockKeys {
    let mut keys = KeyAccess::new();
    collect_keys(commands, &mut keys);
    for key in watched {
        keys.entry(key.clone()).or_insert(Access::Read);
    }
    internal_keys::locks_against(place, &keys)
}
