//! WATCH (protocol §6): Redis's own, on one leased connection for each participant.
//!
//! EXEC consumes every watch of its connection, so a participant has a connection of its own for as long as the client watches. What
//! the connection cannot promise any more (it broke, the slot has moved, the client changed its protocol version) makes EXEC answer
//! nil, which is always allowed.

use std::time::Duration;

use bytes::Bytes;
use futures::future::try_join_all;
use tokio::time::Instant;

use super::attempt::{Attempt, Redirect};
use super::batch::Command;
use super::engine::{Engine, Executed};
use super::error::ExecError;
use super::one_phase::{self, guarded_request, is_scriptable, locks_of};
use super::{guarded, internal_keys};
use crate::resp::{Proto, Request, elements};
use crate::route::Place;
use crate::upstream::{Leased, Upstreams};

/// What a client watches. Dropping it is UNWATCH.
pub struct Watch {
    participants: Vec<Watched>,
    proto: Proto,
    /// A watch was lost: EXEC must fail.
    broken: bool,
}

/// What it watches at one participant.
struct Watched {
    place: Place,
    leased: Leased,
    keys: Vec<Bytes>,
}

impl Watch {
    /// How many keys are watched.
    pub fn len(&self) -> usize {
        self.participants.iter().map(|watched| watched.keys.len()).sum()
    }

    /// Whether no key is watched.
    pub fn is_empty(&self) -> bool {
        self.participants.is_empty()
    }

    /// The participants with their watched keys.
    pub(super) fn places(&self) -> impl Iterator<Item = (Place, Vec<Bytes>)> {
        self.participants.iter().map(|watched| (watched.place, watched.keys.clone()))
    }

    /// Whether EXEC must fail without asking any shard.
    pub(super) fn is_broken(&mut self, upstreams: &Upstreams, proto: Proto) -> bool {
        let map = upstreams.map();
        self.broken
            || self.proto != proto
            || self.participants.iter().any(|watched| {
                let moved = watched.place.slot.is_some_and(|slot| map.owner(slot) != Some(watched.place.shard));
                let replaced = upstreams.primary(watched.place.shard).is_none_or(|node| !std::rc::Rc::ptr_eq(&node, watched.leased.node()));
                moved || replaced
            })
    }

    /// Takes the connection that watches at `place`.
    pub(super) fn take(&mut self, place: Place) -> Option<Leased> {
        let index = self.participants.iter().position(|watched| watched.place == place)?;
        Some(self.participants.swap_remove(index).leased)
    }

    /// EXEC when everything watched and everything done is at one participant: one phase on the watching connection.
    pub(super) async fn exec_alone(mut self, commands: &[Command], proto: Proto, _wait: Duration) -> Result<Executed, ExecError> {
        let Some(Watched { place, mut leased, keys, .. }) = self.participants.pop() else { return Ok(Executed::WatchBroken) };
        let locks = locks_of(place, commands, &keys);
        if commands.iter().any(Command::writes) {
            if is_scriptable(commands, proto) {
                return exec_scripted(&mut leased, place, commands, &keys, proto).await;
            }
            match one_phase::look(&mut leased, false, &locks).await {
                Ok(one_phase::Look::Free) => {}
                // The look was a read: nothing was applied.
                Ok(_) | Err(_) => return Ok(Executed::WatchBroken),
            }
            let replies = leased.call(&one_phase::transaction(false, commands)).await.map_err(|_| ExecError::OutcomeUnknown)?;
            leased.set_watching(false);
            return executed(&replies, commands.len());
        }
        let requests = one_phase::checked_transaction(&locks, commands);
        let Ok(replies) = leased.call(&requests).await else { return Ok(Executed::WatchBroken) };
        leased.set_watching(false);
        match one_phase::checked_replies(&replies, commands, locks) {
            Attempt::Done(replies) => Ok(Executed::Replies(replies)),
            Attempt::Failed(error) => Err(error),
            Attempt::Locked(_) | Attempt::Redirected(_) => Ok(Executed::WatchBroken),
        }
    }
}

/// `MULTI, guarded script, EXEC`: the script also touches every watched key, because a key that did not exist is not missed when its slot
/// moves away.
async fn exec_scripted(leased: &mut Leased, place: Place, commands: &[Command], keys: &[Bytes], proto: Proto) -> Result<Executed, ExecError> {
    let script = guarded_request(place, commands, keys, proto);
    let requests = [Request::new(&["MULTI"]), script, Request::new(&["EXEC"])];
    let replies = leased.call(&requests).await.map_err(|_| ExecError::OutcomeUnknown)?;
    leased.set_watching(false);
    let Some(executed) = replies.last() else { return Ok(Executed::WatchBroken) };
    let Ok(Some(inner)) = elements(executed) else { return Ok(Executed::WatchBroken) };
    let Some(reply) = inner.first() else { return Ok(Executed::WatchBroken) };
    match guarded::answer(reply, commands.len()) {
        guarded::Answer::Applied(replies) => Ok(Executed::Replies(replies)),
        guarded::Answer::Locked => Ok(Executed::WatchBroken),
        guarded::Answer::Refused(reply) if reply.starts_with(b"-NOSCRIPT") => Ok(Executed::WatchBroken),
        guarded::Answer::Refused(reply) => match one_phase::refused::<()>(reply) {
            Attempt::Failed(error) => Err(error),
            _ => Ok(Executed::WatchBroken),
        },
    }
}

/// Reads the replies to `MULTI, commands, EXEC`.
fn executed(replies: &[Bytes], commands: usize) -> Result<Executed, ExecError> {
    let Some(last) = replies.last() else { return Ok(Executed::WatchBroken) };
    if let Some(error) = replies.iter().find(|reply| reply.first() == Some(&b'-')) {
        return match one_phase::refused::<()>(error.clone()) {
            Attempt::Failed(error) => Err(error),
            _ => Ok(Executed::WatchBroken),
        };
    }
    match elements(last) {
        Ok(Some(all)) if all.len() == commands => Ok(Executed::Replies(all)),
        _ => Ok(Executed::WatchBroken),
    }
}

impl Engine {
    /// Adds the keys of `command`, a WATCH, to `watch`. When it returns, every participant has answered.
    ///
    /// # Errors
    /// When a shard cannot be reached or a lock is held for too long; what was watched before stays watched.
    pub async fn watch(&self, watch: &mut Option<Watch>, command: &Command, proto: Proto) -> Result<(), ExecError> {
        let mut places: Vec<(Place, Vec<Bytes>)> = Vec::new();
        for key in &command.keys {
            let name = command.request.arg_bytes(key.index as usize);
            match places.iter_mut().find(|(place, _)| *place == key.place) {
                Some((_, names)) => names.push(name),
                None => places.push((key.place, vec![name])),
            }
        }
        let mut held = watch.take().unwrap_or(Watch { participants: Vec::new(), proto, broken: false });
        let mut begun = Vec::new();
        for (place, names) in places {
            let index = held.participants.iter().position(|watched| watched.place == place);
            begun.push((place, names, index.map(|index| held.participants.swap_remove(index))));
        }
        let watched = try_join_all(begun.into_iter().map(|(place, names, before)| self.watch_at(place, names, before, proto))).await;
        let outcome = watched.map(|watched| held.participants.extend(watched));
        held.broken |= outcome.is_err();
        *watch = Some(held);
        outcome
    }

    async fn watch_at(&self, place: Place, names: Vec<Bytes>, before: Option<Watched>, proto: Proto) -> Result<Watched, ExecError> {
        let Some(mut watched) = before else {
            return self
                .persist(place, proto, async |target| {
                    let leased = match target.lease(proto, self.config.lock_wait_timeout).await {
                        Ok(leased) => leased,
                        Err(_) => return Attempt::Failed(ExecError::Unreachable),
                    };
                    let mut watched = Watched { place: target.place, leased, keys: Vec::new() };
                    look_at(&mut watched, &names).await.map(|()| watched)
                })
                .await;
        };
        // The connection already watches other keys, which must not be lost: keep the watch and wait until the lock is gone. If its
        // owner changes the key, the watch is dirty and EXEC answers nil.
        let start = Instant::now();
        let mut tries = 0;
        loop {
            match look_at(&mut watched, &names).await {
                Attempt::Done(()) => return Ok(watched),
                Attempt::Locked(keys) if start.elapsed() < self.config.lock_wait_timeout => {
                    self.wait_for_locks(place, proto, &keys, tries).await;
                    tries += 1;
                }
                Attempt::Locked(_) => return Err(ExecError::LockWait),
                Attempt::Redirected(_) => return Err(ExecError::Unreachable),
                Attempt::Failed(error) => return Err(error),
            }
        }
    }
}

/// `WATCH names`, then a look at their locks.
async fn look_at(watched: &mut Watched, names: &[Bytes]) -> Attempt<()> {
    let mut request: Vec<&[u8]> = vec![b"WATCH"];
    request.extend(names.iter().map(|name| &name[..]));
    let exists = internal_keys::exclusive_exists(watched.place, names);
    watched.leased.set_watching(true);
    let Ok(replies) = watched.leased.call(&[Request::new(&request), exists]).await else {
        return Attempt::Redirected(Redirect::TryAgain);
    };
    if let Some(error) = replies.iter().find(|reply| reply.first() == Some(&b'-')) {
        return one_phase::refused(error.clone());
    }
    if replies.last().is_some_and(|found| found.as_ref() == b":0\r\n") {
        watched.keys.extend(names.iter().cloned());
        return Attempt::Done(());
    }
    Attempt::Locked(names.to_vec())
}
