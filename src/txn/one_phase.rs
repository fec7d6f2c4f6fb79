//! One participant, one phase (protocol §3): lock check and commands in one atomic step, without a record.
//!
//! Four ways to one end. What writes to a static shard joins the writes of other sessions on the armed connection, while
//! the participant's [gate](super::gate) is free. What only reads goes as `MULTI, EXISTS locks, commands, EXEC` on a shared connection; while the server is out
//! of memory, watching on a leased one. What writes goes as one guarded script there, if all its replies survive Lua. All else runs
//! natively on a leased connection: `WATCH` the locks and look at them, then `MULTI, commands, EXEC`, which the server refuses if a lock
//! has appeared in between.

use std::time::Duration;

use bytes::Bytes;

use super::attempt::{Attempt, Redirect, Target};
use super::batch::Batch;
use super::error::ExecError;
use super::lock::LockKeys;
use super::script::Script;
use super::{Refused, guarded, whole};
use crate::resp::{Proto, Request, elements};
use crate::upstream::{Leased, UpstreamError, call_armed};

/// One command without a lock check.
pub(super) async fn unguarded(target: &Target, proto: Proto, request: &Request, write: bool) -> Attempt<Bytes> {
    match target.call(proto, std::slice::from_ref(request)).await {
        Ok(mut replies) => settle(replies.pop().unwrap_or_default()),
        Err(error) => lost(error, write),
    }
}

/// A look at locks alone: `exists` asks for them.
pub(super) async fn check(target: &Target, proto: Proto, exists: &Request) -> Attempt<()> {
    match unguarded(target, proto, exists, false).await {
        Attempt::Done(found) if found.as_ref() == b":0\r\n" => Attempt::Done(()),
        Attempt::Done(found) if found.first() == Some(&b':') => Attempt::Locked(None),
        Attempt::Done(error) => Attempt::Failed(ExecError::Refused(error)),
        other => other.map(drop),
    }
}

/// Commands that only read.
pub(super) async fn read(target: &Target, proto: Proto, batch: &Batch, wait: Duration) -> Attempt<Vec<Bytes>> {
    let locks = LockKeys::against(batch);
    match target.call(proto, &checked_transaction(&locks, batch)).await {
        Ok(replies) if replies.iter().any(|reply| reply.starts_with(b"-OOM")) => read_watching(target, proto, batch, wait).await,
        Ok(replies) => checked_replies(&replies, batch),
        // Nothing was changed by it.
        Err(error) => lost(error, false),
    }
}

/// Commands that only read, of a server that is out of memory and takes none behind MULTI: watch, look, read, and then nothing of it
/// may have changed.
async fn read_watching(target: &Target, proto: Proto, batch: &Batch, wait: Duration) -> Attempt<Vec<Bytes>> {
    let mut leased = match target.lease(proto, wait).await {
        Ok(leased) => leased,
        Err(error) => return lost(error, false),
    };
    let locks = LockKeys::against(batch);
    let mut requests = vec![locks.watch_with_data(), locks.exists()];
    requests.extend(batch.commands.iter().map(|command| command.request.clone()));
    requests.extend([Request::new(&["MULTI"]), Request::new(&["EXEC"])]);
    leased.set_watching(true);
    let replies = match leased.call(&requests).await {
        Ok(replies) => replies,
        Err(error) => return lost(error, false),
    };
    leased.set_watching(false);
    if let Some(redirect) = replies.iter().find_map(|reply| Redirect::parse(reply)) {
        return Attempt::Redirected(redirect);
    }
    match &replies[..] {
        [watched, ..] if watched.first() == Some(&b'-') => refused(watched.clone()),
        [_, found, values @ .., _, executed] if found.as_ref() == b":0\r\n" && executed.as_ref() == b"*0\r\n" => {
            Attempt::Done(values.to_vec())
        }
        _ => Attempt::Locked(None),
    }
}

/// Commands on the armed connection of a static shard, if that can be relied on. `None` when they were not carried out there.
pub(super) async fn armed(target: &Target, proto: Proto, batch: &Batch) -> Option<Attempt<Vec<Bytes>>> {
    let conn = target.armed(proto).filter(|conn| conn.is_ready())?;
    let requests: Vec<Request> = batch.commands.iter().map(|command| command.request.clone()).collect();
    match call_armed(&conn, &requests).await {
        Ok(replies) => replies.map(Attempt::Done),
        Err(error) => Some(lost(error, true)),
    }
}

/// Commands whose replies survive Lua.
pub(super) async fn scripted(target: &Target, proto: Proto, batch: &Batch) -> Attempt<Vec<Bytes>> {
    match target.eval(proto, Script::Guarded, &guarded_request(batch, proto)).await {
        Ok(reply) => guarded_answer(&reply, batch),
        Err(error) => lost(error, true),
    }
}

/// The guarded script over `batch`.
pub fn guarded_request(batch: &Batch, proto: Proto) -> Request {
    guarded::request(&batch.participant, &batch.keys, &batch.commands, proto)
}

/// Reads the answer to the guarded script over `batch`.
pub(super) fn guarded_answer(reply: &Bytes, batch: &Batch) -> Attempt<Vec<Bytes>> {
    match guarded::answer(reply, &batch.commands) {
        Ok(guarded::Answer::Done(replies)) => Attempt::Done(replies),
        Ok(guarded::Answer::Locked(locked)) => Attempt::Locked(Some(locked)),
        Err(refusal) if refusal.kind == Refused::Malformed => Attempt::Failed(ExecError::OutcomeUnknown),
        Err(_) => refused(reply.clone()),
    }
}

/// Any commands.
pub(super) async fn native(target: &Target, proto: Proto, batch: &Batch, wait: Duration) -> Attempt<Vec<Bytes>> {
    let mut leased = match target.lease(proto, wait).await {
        Ok(leased) => leased,
        Err(error) => return lost(error, false),
    };
    if let ([only], true) = (&batch.commands[..], batch.keys.is_empty()) {
        // No lock is against it, and it is atomic by itself. Nor may it go behind MULTI: a server without memory refuses every script
        // there, and alone only those that write.
        return match leased.call(std::slice::from_ref(&only.request)).await {
            Ok(replies) => Attempt::Done(replies),
            Err(error) => lost(error, true),
        };
    }
    let locks = LockKeys::against(batch);
    match look(&mut leased, target.is_asking(), &locks).await {
        Ok(Look::Free) => {}
        Ok(Look::Locked) => return Attempt::Locked(None),
        Ok(Look::Other(reply)) => return refused(reply),
        Err(_) => return Attempt::Redirected(Redirect::TryAgain),
    }
    match leased.call(&native_transaction(target.is_asking(), batch)).await {
        Ok(replies) => {
            leased.set_watching(false);
            let skipped = usize::from(target.is_asking());
            native_replies(&replies[skipped..], batch.commands.len())
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
pub(super) fn transaction(asking: bool, batch: &Batch) -> Vec<Request> {
    let mut requests: Vec<Request> = asking.then(|| Request::new(&["ASKING"])).into_iter().collect();
    requests.push(Request::new(&["MULTI"]));
    requests.extend(batch.commands.iter().map(|command| command.request.clone()));
    requests.push(Request::new(&["EXEC"]));
    requests
}

/// The same on a connection that watches the locks.
pub(super) fn native_transaction(asking: bool, batch: &Batch) -> Vec<Request> {
    let mut requests = transaction(asking, batch);
    let first = requests.len() - 1 - batch.commands.len();
    requests.splice(first..first, whole::look(&batch.participant, batch.commands.iter().map(|command| &command.request)));
    requests
}

/// `MULTI, EXISTS locks, commands, EXEC`.
pub(super) fn checked_transaction(locks: &LockKeys, batch: &Batch) -> Vec<Request> {
    let mut requests = transaction(false, batch);
    requests.insert(1, locks.exists());
    requests
}

/// Reads the replies to [`checked_transaction`]; [`Attempt::Locked`] also when something that the connection watches had changed.
pub(super) fn checked_replies(replies: &[Bytes], batch: &Batch) -> Attempt<Vec<Bytes>> {
    let [_, queued @ .., executed] = replies else { return Attempt::Failed(ExecError::Unreachable) };
    if let Some(error) = queued.iter().find(|reply| reply.first() == Some(&b'-')) {
        return not_queued(error, batch.commands.len());
    }
    match elements(executed) {
        Ok(Some(mut all)) if all.len() == batch.commands.len() + 1 => {
            let check = all.remove(0);
            if check.as_ref() == b":0\r\n" { Attempt::Done(all) } else { Attempt::Locked(None) }
        }
        Ok(None) => Attempt::Locked(None),
        _ => refused(executed.clone()),
    }
}

/// Reads the replies to a MULTI of `count` commands, behind what weft has put before them, on a watching connection; [`Attempt::Locked`]
/// when a watched key had changed.
pub(super) fn native_replies(replies: &[Bytes], count: usize) -> Attempt<Vec<Bytes>> {
    let [_, queued @ .., executed] = replies else { return Attempt::Failed(ExecError::OutcomeUnknown) };
    if let Some(error) = queued.iter().find(|reply| reply.first() == Some(&b'-')) {
        return not_queued(error, count);
    }
    match elements(executed) {
        Ok(Some(mut all)) if all.len() == queued.len() && count <= all.len() => Attempt::Done(all.split_off(all.len() - count)),
        Ok(Some(_)) => Attempt::Failed(ExecError::OutcomeUnknown),
        Ok(None) => Attempt::Locked(None),
        Err(_) => refused(executed.clone()),
    }
}

/// A command that the server would not even queue; nothing ran. If it is the only one, the error is its reply.
fn not_queued(error: &Bytes, commands: usize) -> Attempt<Vec<Bytes>> {
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
pub(super) fn lost<T>(error: UpstreamError, write: bool) -> Attempt<T> {
    match error {
        UpstreamError::NotSent => Attempt::Failed(ExecError::Unreachable),
        UpstreamError::MaybeApplied if write => Attempt::Failed(ExecError::OutcomeUnknown),
        UpstreamError::MaybeApplied => Attempt::Redirected(Redirect::TryAgain),
    }
}
