//! Reads over several participants as one snapshot, without a write on any shard (protocol §8).
//!
//! On leased connections, all at once: WATCH the keys *and* their locks, then look at the locks, then read. When all answers are in,
//! each participant is asked whether anything it watches has changed: a keyed check and `MULTI, EXEC`, which a changed key turns into
//! nil. All clean: every value was there at the barrier, at the same moment. The order of the three steps matters, and so does
//! watching the locks: without them a transaction that is prepared after the look and committed elsewhere before the read would be seen in
//! part. What keeps changing is read under locks the third time.

use bytes::Bytes;
use futures::future::join_all;

use super::attempt::{Attempt, Redirect};
use super::batch::Batch;
use super::coordinator;
use super::engine::{Engine, Executed};
use super::error::ExecError;
use super::lock::LockKeys;
use super::one_phase::refused;
use super::part::{Part, divide};
use crate::resp::{Proto, Request};
use crate::route::{Place, Routed};
use crate::upstream::Leased;

impl Engine {
    /// Carries out `commands`, none of which writes, at one moment on all their participants.
    ///
    /// # Errors
    /// See [`ExecError`].
    pub async fn snapshot(self: &std::rc::Rc<Self>, commands: Vec<Routed>, proto: Proto) -> Result<Vec<Bytes>, ExecError> {
        let count = commands.len();
        let parts = divide(commands);
        for tries in 0..OPTIMISTIC_TRIES {
            let reads = join_all(parts.iter().map(|(place, part)| self.begin(*place, part, proto))).await;
            // The barrier: every participant has answered.
            let mut open = Vec::with_capacity(reads.len());
            for read in reads {
                match read? {
                    Begun::Read(read) => open.push(read),
                    Begun::Locked(batch) => {
                        self.wait_for_lock(&batch, None, tries).await;
                        break;
                    }
                    Begun::Again => break,
                }
            }
            if open.len() < parts.len() {
                continue;
            }
            let clean = join_all(open.iter_mut().map(|read| read.is_unchanged())).await;
            if clean.into_iter().all(|clean| clean) {
                return Ok(in_order(count, open.into_iter().flat_map(|read| read.replies)));
            }
        }
        match coordinator::exec(self, parts, None, proto).await? {
            Executed::Replies(replies) => Ok(replies),
            Executed::WatchBroken => Err(ExecError::LockWait),
        }
    }

    /// Watches, looks and reads at one participant.
    async fn begin(&self, place: Place, part: &Part, proto: Proto) -> Result<Begun, ExecError> {
        let batch = self.batch_of_part(place, part, proto)?;
        let locks = LockKeys::against(&batch);
        let Some(node) = self.upstreams.primary(place.shard) else { return Err(ExecError::Unreachable) };
        let mut leased = node.lease(place.db, proto, self.config.lock_wait_timeout).await.map_err(|_| ExecError::Unreachable)?;
        leased.set_watching(true);
        let mut requests = vec![locks.watch_with_data(), locks.exists()];
        requests.extend(batch.commands.iter().map(|command| command.request.clone()));
        let Ok(replies) = leased.call(&requests).await else { return Ok(Begun::Again) };
        if let Some(redirect) = replies.iter().find_map(|reply| Redirect::parse(reply)) {
            self.follow(redirect, 0).await;
            return Ok(Begun::Again);
        }
        match &replies[..] {
            [watched, ..] if watched.first() == Some(&b'-') => match refused::<()>(watched.clone()) {
                Attempt::Failed(error) => Err(error),
                _ => Ok(Begun::Again),
            },
            [_, found, values @ ..] if found.as_ref() == b":0\r\n" => {
                let replies = part.commands.iter().map(|(position, _)| *position).zip(values.iter().cloned()).collect();
                Ok(Begun::Read(Box::new(Open { leased, locks, replies })))
            }
            _ => Ok(Begun::Locked(batch)),
        }
    }
}

/// What came of reading at one participant.
enum Begun {
    Read(Box<Open>),
    Locked(Batch),
    /// The connection broke or the slot is moving.
    Again,
}

/// A participant that was read and still watches what it read.
struct Open {
    leased: Leased,
    locks: LockKeys,
    /// Each with the position of its command.
    replies: Vec<(usize, Bytes)>,
}

impl Open {
    /// Whether nothing that was read, and no lock on it, has changed until now. The check names a key, so that a slot that has moved
    /// away answers with a redirect. It stands before MULTI, behind which a server that is out of memory takes no command at all.
    async fn is_unchanged(&mut self) -> bool {
        let requests = [self.locks.exists(), Request::new(&["MULTI"]), Request::new(&["EXEC"])];
        let replies = self.leased.call(&requests).await.unwrap_or_default();
        self.leased.set_watching(false);
        matches!(&replies[..], [check, _, executed] if check.as_ref() == b":0\r\n" && executed.as_ref() == b"*0\r\n")
    }
}

/// Replies in the order of their commands.
pub(super) fn in_order(count: usize, replies: impl Iterator<Item = (usize, Bytes)>) -> Vec<Bytes> {
    let mut ordered = vec![Bytes::new(); count];
    replies.for_each(|(position, reply)| ordered[position] = reply);
    ordered
}

/// How often a snapshot is tried before it takes locks.
const OPTIMISTIC_TRIES: u32 = 2;
