//! Reads over several participants as one snapshot, without a write on any shard (protocol §8).
//!
//! On leased connections, one for each shard, all at once: WATCH the keys *and* their locks, then look at the locks, then read. When all answers are in,
//! each participant is asked whether anything it watches has changed: a keyed check and `MULTI, EXEC`, which a changed key turns into
//! nil. All clean: every value was there at the barrier, at the same moment. The order of the three steps matters, and so does
//! watching the locks: without them a transaction that is prepared after the look and committed elsewhere before the read would be seen in
//! part. What keeps changing is read under locks the third time.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::future::join_all;
use tokio::time::Instant;

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
use crate::topology::ShardId;
use crate::upstream::Leased;

impl Engine {
    /// Carries out `commands`, none of which writes, at one moment on all their participants.
    ///
    /// # Errors
    /// See [`ExecError`].
    pub async fn snapshot(self: &std::rc::Rc<Self>, commands: Vec<Routed>, proto: Proto) -> Result<Vec<Bytes>, ExecError> {
        let count = commands.len();
        let deadline = Instant::now() + self.config.lock_wait_timeout;
        let mut latched = None;
        let parts = divide(commands);
        let shares = by_connection(&parts);
        let wanted = self.latches.wanted(&parts);
        for tries in 0..OPTIMISTIC_TRIES {
            if tries > 0 && latched.is_none() {
                // Something was in the way. From now on nobody of this process will be.
                latched = Some(self.turn(&wanted, deadline).await?);
            }
            let reads = join_all(shares.values().map(|share| self.begin(share, proto))).await;
            // The barrier: every participant has answered.
            let mut open = Vec::with_capacity(reads.len());
            for read in reads {
                match read? {
                    Begun::Read(read) => open.push(read),
                    Begun::Locked(batch) if latched.is_some() => {
                        self.wait_for_lock(&batch, None, tries).await;
                        break;
                    }
                    Begun::Locked(_) | Begun::Again => break,
                }
            }
            if open.len() < shares.len() {
                continue;
            }
            let clean = join_all(open.iter_mut().map(|read| read.is_unchanged())).await;
            if clean.into_iter().all(|clean| clean) {
                return Ok(in_order(count, open.into_iter().flat_map(|read| read.replies)));
            }
        }
        self.refuse_eviction(parts.keys())?;
        let latched = match latched {
            Some(latched) => latched,
            None => self.turn(&wanted, deadline).await?,
        };
        match coordinator::exec(self, &parts, None, proto, latched, deadline).await? {
            Executed::Replies(replies) => Ok(replies),
            Executed::WatchBroken => Err(ExecError::LockWait),
        }
    }

    /// Watches, looks and reads at the participants of one share.
    async fn begin(&self, share: &Share<'_>, proto: Proto) -> Result<Begun, ExecError> {
        let batches: Vec<Batch> = share.iter().map(|(place, part)| self.batch_of_part(*place, part, proto)).collect::<Result<_, _>>()?;
        let locks: Vec<LockKeys> = batches.iter().map(LockKeys::against).collect();
        let Some((place, _)) = share.first() else { return Err(ExecError::Unreachable) };
        let Some(node) = self.upstreams.primary(place.shard) else { return Err(ExecError::Unreachable) };
        let mut leased = node.lease(place.db, proto, self.config.lock_wait_timeout).await.map_err(|_| ExecError::Unreachable)?;
        leased.set_watching(true);
        let mut requests = Vec::new();
        for (batch, locks) in batches.iter().zip(&locks) {
            requests.extend([locks.watch_with_data(), locks.exists()]);
            requests.extend(batch.commands.iter().map(|command| command.request.clone()));
        }
        let Ok(replies) = leased.call(&requests).await else { return Ok(Begun::Again) };
        if let Some(redirect) = replies.iter().find_map(|reply| Redirect::parse(reply)) {
            self.follow(redirect, 0).await;
            return Ok(Begun::Again);
        }
        let (mut frames, mut read) = (replies.into_iter(), Vec::new());
        for ((_, part), batch) in share.iter().zip(batches) {
            let (watched, found) = (frames.next().unwrap_or_default(), frames.next().unwrap_or_default());
            if watched.first() == Some(&b'-') {
                return match refused::<()>(watched) {
                    Attempt::Failed(error) => Err(error),
                    _ => Ok(Begun::Again),
                };
            }
            if found.as_ref() != b":0\r\n" {
                return Ok(Begun::Locked(batch));
            }
            read.extend(part.commands.iter().map(|(position, _)| *position).zip(frames.by_ref()));
        }
        Ok(Begun::Read(Box::new(Open { leased, locks, replies: read })))
    }
}

/// The participants that one connection reads. In a cluster a command may well name a thousand slots.
type Share<'a> = Vec<(Place, &'a Part)>;

/// `parts` by their shards and databases.
fn by_connection(parts: &BTreeMap<Place, Part>) -> BTreeMap<(ShardId, u32), Share<'_>> {
    let mut shares: BTreeMap<_, Share<'_>> = BTreeMap::new();
    for (place, part) in parts {
        shares.entry((place.shard, place.db)).or_default().push((*place, part));
    }
    shares
}

/// What came of reading at one participant.
enum Begun {
    Read(Box<Open>),
    Locked(Batch),
    /// The connection broke or the slot is moving.
    Again,
}

/// A connection that has read its share and still watches what it read.
struct Open {
    leased: Leased,
    /// Of each participant.
    locks: Vec<LockKeys>,
    /// Each with the position of its command.
    replies: Vec<(usize, Bytes)>,
}

impl Open {
    /// Whether nothing that was read, and no lock on it, has changed until now. The checks name keys, so that a slot that has
    /// moved away answers with a redirect. They stand before MULTI, behind which a server that is out of memory takes no command at all.
    async fn is_unchanged(&mut self) -> bool {
        let mut requests: Vec<Request> = self.locks.iter().map(LockKeys::exists).collect();
        requests.extend([Request::new(&["MULTI"]), Request::new(&["EXEC"])]);
        let replies = self.leased.call(&requests).await.unwrap_or_default();
        self.leased.set_watching(false);
        let [checks @ .., _, executed] = &replies[..] else { return false };
        executed.as_ref() == b"*0\r\n" && checks.iter().all(|check| check.as_ref() == b":0\r\n")
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
