//! Reads over several participants as one snapshot, without a write on any shard (protocol §8).
//!
//! On leased connections, one for each shard, all at once: WATCH the keys *and* their locks, then look at the locks, then read. When all answers are in,
//! each participant is asked whether anything it watches has changed: a keyed check and `MULTI, EXEC`, which a changed key turns into
//! nil. All clean: every value was there at the barrier, at the same moment. The order of the three steps matters, and so does
//! watching the locks: without them a transaction that is prepared after the look and committed elsewhere before the read would be seen in
//! part. What keeps changing is read under locks the third time.
//!
//! A server compares each key of a WATCH with all that the connection watches already. So that many keys do not keep it from everybody
//! else, they are divided among several connections.

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
use crate::resp::{Proto, Request, error_reply};
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
        let most = shares.values().map(Vec::len).max().unwrap_or(0);
        if most > self.computing_max {
            return Err(ExecError::Rejected(error_reply::too_many_keys(self.computing_max * KEYS_PER_CONNECTION)));
        }
        let _turn = if most > 1 { Some(self.turn_among_computing(most).await?) } else { None };
        let shares: Vec<Share<'_>> = shares.into_values().flatten().collect();
        let wanted = self.latches.wanted(&parts);
        for tries in 0.. {
            if tries >= OPTIMISTIC_TRIES && parts.len() <= LOCKED_PARTICIPANTS_MAX {
                break;
            }
            if tries >= OPTIMISTIC_TRIES && Instant::now() >= deadline {
                return Err(ExecError::LockWait);
            }
            if tries > 0 && latched.is_none() {
                // Something was in the way. From now on nobody of this process will be.
                latched = Some(self.turn(&wanted, deadline).await?);
            }
            let reads = join_all(shares.iter().map(|share| self.begin(share, proto))).await;
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
        match coordinator::exec(self, &parts, None, proto, latched.into(), Some(deadline)).await? {
            Executed::Replies(replies) => Ok(replies),
            Executed::WatchBroken => Err(ExecError::LockWait),
        }
    }

    /// Watches, looks and reads at the participants of one share.
    async fn begin(&self, share: &Share<'_>, proto: Proto) -> Result<Begun, ExecError> {
        let batches: Vec<Batch> = share
            .iter()
            .map(|(place, commands)| self.batch_of(*place, commands.iter().map(|(_, command)| command), &[], false, proto))
            .collect::<Result<_, _>>()?;
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
        for ((_, commands), batch) in share.iter().zip(batches) {
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
            read.extend(commands.iter().map(|(position, _)| *position).zip(frames.by_ref()));
        }
        Ok(Begun::Read(Box::new(Open { leased, locks, replies: read })))
    }
}

/// What one connection reads: commands with their positions, by participant. In a cluster a command may well name a thousand slots.
type Share<'a> = Vec<(Place, Vec<&'a (usize, Routed)>)>;

/// `parts` by their shards and databases, and there by connections.
fn by_connection(parts: &BTreeMap<Place, Part>) -> BTreeMap<(ShardId, u32), Vec<Share<'_>>> {
    let mut shares: BTreeMap<_, Vec<Share<'_>>> = BTreeMap::new();
    let mut room: BTreeMap<_, usize> = BTreeMap::new();
    for (place, part) in parts {
        for command in &part.commands {
            let (shard, keys) = ((place.shard, place.db), command.1.keys.len());
            let (shares, room) = (shares.entry(shard).or_default(), room.entry(shard).or_default());
            if *room < keys || shares.is_empty() {
                shares.push(Vec::new());
                *room = KEYS_PER_CONNECTION;
            }
            *room = room.saturating_sub(keys);
            let Some(share) = shares.last_mut() else { continue };
            match share.last_mut() {
                Some((last, commands)) if last == place => commands.push(command),
                _ => share.push((*place, vec![command])),
            }
        }
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

/// Each record names all participants, and so all records together grow with their square. Of more than this nothing is locked: what keeps
/// changing is tried until time is over.
const LOCKED_PARTICIPANTS_MAX: usize = 1024;

/// How many keys one connection watches, unless a single command has more: a few milliseconds of a server's time.
const KEYS_PER_CONNECTION: usize = 1024;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::command::{Access, KeyRef, Keys, lookup};
    use crate::route::Reach;

    #[test]
    fn many_keys_are_divided_among_connections_and_each_is_read_once() {
        let place = |shard| Place { slot: None, shard: ShardId::new(shard), db: 0 };
        let command = |number: usize| {
            let request = Request::new(&["GET", &number.to_string()]);
            let keys = Keys::from_slice(&[KeyRef { index: 1, access: Access::Read }]);
            Routed {
                spec: lookup(&request).unwrap(),
                request,
                place: place(u16::from(number.is_multiple_of(10))),
                keys,
                reach: Reach::Keys,
            }
        };
        let parts = divide((0..3 * KEYS_PER_CONNECTION).map(command).collect());
        let shares = by_connection(&parts);
        let connections: Vec<usize> = shares.values().map(Vec::len).collect();
        assert_eq!(connections, [3, 1]);
        let mut positions: Vec<usize> =
            shares.values().flatten().flatten().flat_map(|(_, commands)| commands.iter().map(|(at, _)| *at)).collect();
        positions.sort_unstable();
        assert!(positions.into_iter().eq(0..3 * KEYS_PER_CONNECTION));
    }
}
