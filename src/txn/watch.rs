//! WATCH (protocol §6): Redis's own, on one leased connection for each participant.
//!
//! EXEC consumes every watch of its connection, so a participant has a connection of its own for as long as the client watches. What
//! the connection cannot promise any more (it broke, the slot has moved, the client changed its protocol version) makes EXEC answer
//! nil, which is always allowed.

use std::rc::Rc;

use bytes::Bytes;
use futures::future::try_join_all;
use tokio::time::Instant;

use super::attempt::{Attempt, Redirect};
use super::batch::Batch;
use super::engine::{Engine, Executed};
use super::error::ExecError;
use super::line::{Habit, Spot};
use super::lock::LockKeys;
use super::one_phase::{self, guarded_request};
use super::part::{self, Way};
use super::state::Order;
use crate::resp::{Proto, Request};
use crate::route::Place;
use crate::upstream::{Leased, Node, UpstreamError, Upstreams};

/// What a client watches. Dropping it is UNWATCH.
pub struct Watch {
    participants: Vec<Watched>,
    proto: Proto,
    /// A watch was lost: EXEC must fail.
    broken: bool,
    /// Where it stands among those who contend for the keys.
    spot: Option<Spot>,
    /// There are others, who stand elsewhere.
    contested: bool,
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

    /// The watched keys.
    pub(super) fn keys(&self) -> impl Iterator<Item = (&Place, &[u8])> {
        self.participants.iter().flat_map(|watched| watched.keys.iter().map(|key| (&watched.place, &key[..])))
    }

    /// In which order EXEC prepares.
    pub(super) fn order(&self) -> Order {
        if self.contested { Order::Ordered } else { Order::Parallel }
    }

    /// The place in line, if there is one.
    pub(super) fn spot(&self) -> Option<&Spot> {
        self.spot.as_ref()
    }

    /// The place in line; whoever takes it keeps it until the EXEC is over.
    pub(super) fn take_spot(&mut self) -> Option<Spot> {
        self.spot.take()
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
                let replaced = upstreams.primary(watched.place.shard).is_none_or(|node| !Rc::ptr_eq(&node, watched.leased.node()));
                moved || replaced
            })
    }

    /// The node of the connection that watches at `place`.
    pub(super) fn node(&self, place: Place) -> Option<Rc<Node>> {
        self.participants.iter().find(|watched| watched.place == place).map(|watched| Rc::clone(watched.leased.node()))
    }

    /// Takes the connection that watches at `place`.
    pub(super) fn take(&mut self, place: Place) -> Option<Leased> {
        let index = self.participants.iter().position(|watched| watched.place == place)?;
        Some(self.participants.swap_remove(index).leased)
    }

    /// EXEC when everything watched and everything done is at one participant: one phase on the watching connection.
    pub(super) async fn exec_alone(mut self, batch: &Batch, way: Way, proto: Proto) -> Result<Executed, ExecError> {
        let Some(Watched { mut leased, .. }) = self.participants.pop() else { return Ok(Executed::WatchBroken) };
        let locks = LockKeys::against(batch);
        let requests = match way {
            Way::Read => one_phase::checked_transaction(&locks, batch),
            // The script also touches every watched key: one that did not exist is not missed when its slot moves away.
            Way::Scripted => vec![Request::new(&["MULTI"]), guarded_request(batch, proto), Request::new(&["EXEC"])],
            Way::Native => match one_phase::look(&mut leased, false, &locks).await {
                Ok(one_phase::Look::Free) => one_phase::native_transaction(false, batch),
                // The look was a read: nothing was applied.
                Ok(_) | Err(_) => return Ok(Executed::WatchBroken),
            },
        };
        let replies = match leased.call(&requests).await {
            Ok(replies) => replies,
            Err(UpstreamError::MaybeApplied) if way != Way::Read => return Err(ExecError::OutcomeUnknown),
            Err(_) => return Ok(Executed::WatchBroken),
        };
        leased.set_watching(false);
        let attempt = match way {
            Way::Read => one_phase::checked_replies(&replies, batch),
            Way::Scripted => match one_phase::native_replies(&replies, 1) {
                Attempt::Done(inner) if inner[0].starts_with(b"-NOSCRIPT") => Attempt::Locked(None),
                Attempt::Done(inner) => one_phase::guarded_answer(&inner[0], batch),
                other => other,
            },
            Way::Native => one_phase::native_replies(&replies, batch.commands.len()),
        };
        match attempt {
            Attempt::Done(replies) => Ok(Executed::Replies(replies)),
            Attempt::Failed(error) => Err(error),
            Attempt::Locked(_) | Attempt::Redirected(_) => Ok(Executed::WatchBroken),
        }
    }
}

impl Engine {
    /// Adds `keys`, by their places, to `watch`, when it is the turn of somebody with this `habit`. When it returns, every participant has
    /// answered.
    ///
    /// # Errors
    /// When a shard cannot be reached or a lock is held for too long; what was watched before stays watched.
    pub async fn watch(
        &self,
        watch: &mut Option<Watch>,
        keys: Vec<(Place, Vec<Bytes>)>,
        habit: &Habit,
        proto: Proto,
    ) -> Result<(), ExecError> {
        let mut held = watch.take().unwrap_or(Watch { participants: Vec::new(), proto, broken: false, spot: None, contested: false });
        let in_line = held.spot.is_some();
        match &mut held.spot {
            Some(spot) => self.stand_in_line_too(spot, &keys, habit),
            None => held.spot = self.stand_in_line(&keys, habit).await,
        }
        held.contested |= held.spot.as_ref().is_some_and(Spot::is_contested);
        let mut begun = Vec::new();
        for (place, names) in keys {
            let index = held.participants.iter().position(|watched| watched.place == place);
            begun.push((place, names, index.map(|index| held.participants.swap_remove(index))));
        }
        let watched = try_join_all(begun.into_iter().map(|(place, names, before)| self.watch_at(place, names, before, proto))).await;
        let outcome = watched.map(|watched| held.participants.extend(watched));
        held.broken |= outcome.is_err();
        // Not for each WATCH again, or it would never end.
        held.spot.iter().filter(|_| !in_line).for_each(|spot| spot.prolong(self.config.watch_turn));
        *watch = Some(held);
        outcome
    }

    async fn watch_at(&self, place: Place, names: Vec<Bytes>, before: Option<Watched>, proto: Proto) -> Result<Watched, ExecError> {
        let map = self.upstreams.map();
        let participant = part::participant(&map, place).ok_or(ExecError::Unreachable)?;
        let batch = part::batch(participant, map.affinity(), std::iter::empty(), &names, false, proto);
        let locks = LockKeys::against(&batch);
        let Some(mut watched) = before else {
            // Locks of this process are waited for after the first look; one that is met then is of a transaction of another proxy.
            let mut looks = [1, EAGER_LOOKS].into_iter();
            return self
                .persist(&batch, async |target| {
                    let leased = match target.lease(proto, self.config.lock_wait_timeout).await {
                        Ok(leased) => leased,
                        Err(_) => return Attempt::Failed(ExecError::Unreachable),
                    };
                    let mut watched = Watched { place: target.place, leased, keys: Vec::new() };
                    let mut attempt = look_at(&mut watched, &names, &locks).await;
                    for _ in 1..looks.next().unwrap_or(1) {
                        if !matches!(attempt, Attempt::Locked(_)) || watched.leased.call(&[Request::new(&["UNWATCH"])]).await.is_err() {
                            break;
                        }
                        attempt = look_at(&mut watched, &names, &locks).await;
                    }
                    attempt.map(|()| watched)
                })
                .await;
        };
        // The connection already watches other keys, which must not be lost: keep the watch and wait until the lock is gone. If its
        // owner changes the key, the watch is dirty and EXEC answers nil.
        let start = Instant::now();
        let mut tries = 0;
        loop {
            match look_at(&mut watched, &names, &locks).await {
                Attempt::Done(()) => return Ok(watched),
                Attempt::Locked(locked) if start.elapsed() < self.config.lock_wait_timeout => {
                    self.wait_for_lock(&batch, locked, tries).await;
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
async fn look_at(watched: &mut Watched, names: &[Bytes], locks: &LockKeys) -> Attempt<()> {
    let mut request: Vec<&[u8]> = vec![b"WATCH"];
    request.extend(names.iter().map(|name| &name[..]));
    watched.leased.set_watching(true);
    let Ok(replies) = watched.leased.call(&[Request::new(&request), locks.exists()]).await else {
        return Attempt::Redirected(Redirect::TryAgain);
    };
    if let Some(error) = replies.iter().find(|reply| reply.first() == Some(&b'-')) {
        return one_phase::refused(error.clone());
    }
    if replies.last().is_some_and(|found| found.as_ref() == b":0\r\n") {
        watched.keys.extend(names.iter().cloned());
        return Attempt::Done(());
    }
    Attempt::Locked(None)
}

/// How often the lock of another proxy's transaction is looked for without a pause. It is gone after a few round trips as a rule, and the
/// next client of that proxy knows of it first: whoever pauses here would find the key changed again before it can be written.
const EAGER_LOOKS: u32 = 8;
