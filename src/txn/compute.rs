//! Commands that compute over keys of several participants: RENAME, SINTERSTORE, ZUNION, BITOP, the users' scripts … alone, or a whole
//! transaction that has one of them among its commands (protocol §8).
//!
//! No server has all the keys, so one of them is lent copies. What makes that atomic and isolated is nothing new:
//!
//! - **what only reads** takes its copies as one snapshot ([`Engine::snapshot`]), and is computed from them;
//! - **what writes** watches all its keys, as a client would with WATCH; then fetches the copies; computes; and carries out what came of
//!   it (a RESTORE or an UNLINK of each key that has changed) as an EXEC that all those watches guard. A key that was changed in between
//!   makes that EXEC nil, and everything begins again. So the copies are what the keys were at the transaction's place in the order. A
//!   weft that dies on the way leaves what any dead coordinator leaves.
//!
//! The computing itself is one MULTI at one participant, the *home*: RESTORE of each copy under an internal name, the commands with
//! these names in place of the keys', DUMP of what they may have written, UNLINK of the copies. Inside of one MULTI nobody ever sees a copy, and none
//! survives. Since the server itself computes, replies, errors and encodings are its own; of the names in a reply the client sees its own.
//! `home` puts that MULTI together and reads what came of it; `shim` shows a script its clients' names of the keys, and keeps it to them.
//!
//! # What it costs
//!
//! Each value travels to the proxy and to the home, and what was written travels once more; `compute_bytes_max` bounds that. Five
//! round trips for what writes, three for what reads. Elements are computed where most of the bytes are. Those that want the same keys
//! through one weft stand in line for them, as transactions do; through several, those who are beaten begin again.

mod home;
mod shim;

use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use futures::future::try_join_all;
use tokio::time::Instant;

use self::home::{Image, Item, Worked};
use super::attempt::Redirect;
use super::engine::{Engine, Executed};
use super::error::ExecError;
use super::latch::Latched;
use super::part;
use super::watch::Watch;
use crate::command::{self, Access, CommandSpec, Flags, Handling, KeyRef, Keys};
use crate::metrics::Counter;
use crate::resp::{Proto, Request, Value, error_reply};
use crate::route::{Place, Routed};
use crate::topology::ShardId;
use crate::upstream::{UpstreamError, call};

/// A command whose keys may be on several participants.
#[derive(Clone, Debug)]
pub struct Spread {
    /// Its row in the command table.
    pub spec: &'static CommandSpec,
    /// The request.
    pub request: Request,
    /// The database that it was sent to.
    pub db: u32,
    /// Its keys, each with its place. MOVE names one argument twice, in two databases.
    pub keys: Vec<(KeyRef, Place)>,
    /// The text of the script that it calls; `None` if it calls none, or one that nobody knows.
    pub source: Option<Bytes>,
}

impl Spread {
    /// Whether it may change data. PFCOUNT writes what it keeps at a single key only; of several it makes a union that nobody sees.
    pub fn writes(&self) -> bool {
        self.spec.is_write() || (self.is_script() && !self.spec.flags.contains(Flags::READONLY))
    }

    /// Whether it is a user's script.
    pub fn is_script(&self) -> bool {
        self.spec.handling == Handling::Script
    }
}

impl From<Routed> for Spread {
    fn from(routed: Routed) -> Self {
        let keys = routed.keys.iter().map(|key| (*key, routed.place)).collect();
        Self { spec: routed.spec, request: routed.request, db: routed.place.db, keys, source: None }
    }
}

/// What came of one try.
enum Round<T> {
    Done(T),
    /// A key has changed in between, or a slot is on its way: nothing was applied.
    Again,
}

/// `$try?` for rounds: goes on with what is done.
macro_rules! done {
    ($round:expr) => {
        match $round? {
            Round::Done(value) => value,
            Round::Again => return Ok(Round::Again),
        }
    };
}

impl Engine {
    /// Carries out `commands` in their order as one transaction, if no key of `watch` has changed.
    ///
    /// # Errors
    /// See [`ExecError`].
    pub async fn compute(self: &Rc<Self>, commands: Vec<Spread>, watch: Option<Watch>, proto: Proto) -> Result<Executed, ExecError> {
        let (start, watching) = (Instant::now(), watch.is_some());
        let writes = watching || commands.iter().any(Spread::writes);
        let items = items(&commands);
        let _turn = if writes { Some((self.turn_to_compute(&items).await?, self.place_among_computing(&items).await?)) } else { None };
        let (mut watch, mut tries) = (watch, 0);
        loop {
            let round = match writes {
                true => self.compute_watching(&commands, items.clone(), watch.take(), tries, proto).await,
                false => self.compute_reading(&commands, items.clone(), tries, proto).await,
            };
            match round? {
                Round::Done(replies) => return Ok(Executed::Replies(replies)),
                // The client's own watches are used up.
                Round::Again if watching => return Ok(Executed::WatchBroken),
                Round::Again => self.counts.count(Counter::ComputeAgain),
            }
            if start.elapsed() >= self.config.lock_wait_timeout {
                self.counts.count(Counter::LockTimeouts);
                return Err(ExecError::LockWait);
            }
            self.pause(tries).await;
            tries += 1;
        }
    }

    /// Waits until nobody of this process computes over `items` any more. All but the first would find their keys changed.
    async fn turn_to_compute(&self, items: &[Item]) -> Result<Latched, ExecError> {
        let wanted = self.latches.wanted_to_compute(items.iter().map(|item| (&item.place, &item.key, item.write)));
        self.turn(&wanted, Instant::now() + self.config.lock_wait_timeout).await
    }

    /// Waits until there are connections enough to watch all `items`. Each who computes holds one for each participant; those who
    /// would wait for each other's last one wait here instead, holding none.
    async fn place_among_computing(&self, items: &[Item]) -> Result<tokio::sync::SemaphorePermit<'_>, ExecError> {
        let mut places: BTreeMap<ShardId, Vec<Place>> = BTreeMap::new();
        items.iter().for_each(|item| places.entry(item.place.shard).or_default().push(item.place));
        let most = places.values_mut().map(|places| {
            places.sort_unstable();
            places.dedup();
            places.len()
        });
        let most = most.max().unwrap_or(0);
        if most > self.computing_max {
            return Err(ExecError::Rejected(error_reply::compute_participants(self.computing_max)));
        }
        let turn = self.computing.acquire_many(u32::try_from(most).unwrap_or(u32::MAX));
        match tokio::time::timeout(self.config.lock_wait_timeout, turn).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) | Err(_) => Err(ExecError::LockWait),
        }
    }

    async fn compute_reading(
        self: &Rc<Self>,
        commands: &[Spread],
        mut items: Vec<Item>,
        tries: u32,
        proto: Proto,
    ) -> Result<Round<Vec<Bytes>>, ExecError> {
        let mut reads = Vec::with_capacity(2 * items.len());
        for item in &items {
            reads.push(on_key(item, &[b"DUMP", &item.key])?);
            reads.push(on_key(item, &[b"PEXPIRETIME", &item.key])?);
        }
        let replies = self.snapshot(reads, Proto::Resp2).await?;
        for (item, pair) in items.iter_mut().zip(replies.chunks_exact(2)) {
            item.copy = Image::of(&pair[0], &pair[1])?;
        }
        self.within_bounds(items.iter().filter_map(|item| item.copy.as_ref()))?;
        let worked = done!(self.work(commands, &items, tries, proto).await);
        Ok(Round::Done(worked.replies))
    }

    async fn compute_watching(
        self: &Rc<Self>,
        commands: &[Spread],
        mut items: Vec<Item>,
        mut watch: Option<Watch>,
        tries: u32,
        proto: Proto,
    ) -> Result<Round<Vec<Bytes>>, ExecError> {
        let mut places: BTreeMap<Place, Vec<Bytes>> = BTreeMap::new();
        items.iter().for_each(|item| places.entry(item.place).or_default().push(item.key.clone()));
        self.watch(&mut watch, places.into_iter().collect(), proto).await?;
        done!(self.fetch(&mut items).await);
        self.within_bounds(items.iter().filter_map(|item| item.copy.as_ref()))?;
        let worked = done!(self.work(commands, &items, tries, proto).await);
        self.within_bounds(worked.after.iter().flatten().flatten())?;
        let staged = stage(commands, &items, &worked)?;
        match self.exec(staged, watch, proto).await? {
            Executed::WatchBroken => Ok(Round::Again),
            Executed::Replies(applied) => match applied.into_iter().find(|reply| reply.first() == Some(&b'-')) {
                None => Ok(Round::Done(worked.replies)),
                Some(error) => {
                    tracing::error!(error = %String::from_utf8_lossy(&error), "a shard did not take over a computed value");
                    Err(ExecError::Rejected(error_reply::COMPUTED_NOT_TAKEN.to_owned()))
                }
            },
        }
    }

    /// Fetches the copies of `items`, whose keys are watched: should one change from now on, that will be noticed.
    async fn fetch(&self, items: &mut [Item]) -> Result<Round<()>, ExecError> {
        let mut shares: BTreeMap<(ShardId, u32), Vec<&mut Item>> = BTreeMap::new();
        items.iter_mut().for_each(|item| shares.entry((item.place.shard, item.place.db)).or_default().push(item));
        let fetched = shares.into_iter().map(async |((shard, db), items)| {
            let node = self.upstreams.primary(shard).ok_or(ExecError::Unreachable)?;
            let reads: Vec<Request> =
                items.iter().flat_map(|item| [b"DUMP".as_slice(), b"PEXPIRETIME"].map(|name| Request::new(&[name, &item.key]))).collect();
            let replies = match call(&node.shared(db, Proto::Resp2), &reads).await {
                Ok(replies) => replies,
                Err(UpstreamError::NotSent | UpstreamError::MaybeApplied) => return Err(ExecError::Unreachable),
            };
            if let Some(redirect) = replies.iter().find_map(|reply| Redirect::parse(reply)) {
                self.follow(redirect, 0).await;
                return Ok(Round::Again);
            }
            for (item, pair) in items.into_iter().zip(replies.chunks_exact(2)) {
                item.copy = Image::of(&pair[0], &pair[1])?;
            }
            Ok(Round::Done(()))
        });
        let again = try_join_all(fetched).await?.into_iter().any(|round| matches!(round, Round::Again));
        Ok(if again { Round::Again } else { Round::Done(()) })
    }

    /// Lets the home compute. Any participant may be it: one whose slot is just moving is not asked twice in a row.
    async fn work(&self, commands: &[Spread], items: &[Item], tries: u32, proto: Proto) -> Result<Round<Worked>, ExecError> {
        let place = home::place(items, tries as usize).ok_or(ExecError::Unreachable)?;
        let participant = part::participant(&self.upstreams.map(), place).ok_or(ExecError::Unreachable)?;
        let node = self.upstreams.primary(place.shard).ok_or(ExecError::Unreachable)?;
        let script = home::Script::new(&participant, place.db, commands, items);
        let replies = match commands.iter().any(Spread::is_script) {
            false => call(&node.shared(place.db, proto), script.requests()).await,
            // What runs for long, or answers what it likes, has a connection of its own; and where one does not end, another would not.
            true => match node.lease(place.db, proto, self.config.lock_wait_timeout).await {
                Ok(mut leased) => leased.call(script.requests()).await.map_err(|_| UpstreamError::NotSent),
                Err(error) => Err(error),
            },
        };
        let replies = match replies {
            Ok(replies) => replies,
            Err(UpstreamError::NotSent) => return Err(ExecError::Unreachable),
            // Whatever it did was done to copies.
            Err(UpstreamError::MaybeApplied) => return Ok(Round::Again),
        };
        if let Some(redirect) = replies.iter().find_map(|reply| Redirect::parse(reply)) {
            self.follow(redirect, 0).await;
            return Ok(Round::Again);
        }
        let worked = script.read(&replies)?;
        match shim::final_error(commands, &worked.replies) {
            Some(text) => Err(ExecError::Rejected(text)),
            None => Ok(Round::Done(worked)),
        }
    }

    fn within_bounds<'a>(&self, copies: impl Iterator<Item = &'a Image>) -> Result<(), ExecError> {
        let limit = self.config.compute_bytes_max;
        let bytes: usize = copies.map(|copy| copy.payload.len()).sum();
        if bytes > limit { Err(ExecError::Rejected(error_reply::compute_limit(limit))) } else { Ok(()) }
    }
}

/// Every key of `commands` once, with whether one of them may write it.
fn items(commands: &[Spread]) -> Vec<Item> {
    let mut written: BTreeMap<(Place, Bytes), bool> = BTreeMap::new();
    for command in commands {
        for (key, place) in &command.keys {
            let write = key.access == Access::Write && command.writes();
            *written.entry((*place, command.request.arg_bytes(key.index as usize))).or_default() |= write;
        }
    }
    written.into_iter().map(|((place, key), write)| Item { place, key, write, copy: None }).collect()
}

/// What has to be done to the keys, so that they become what their copies have become.
fn stage(commands: &[Spread], items: &[Item], worked: &Worked) -> Result<Vec<Routed>, ExecError> {
    let refused = |(command, reply): (&Spread, &Bytes)| !command.is_script() && reply.first() == Some(&b'-');
    // A command that fails has changed nothing, even if the copy of a hash table lists its fields in another order.
    if commands.iter().zip(&worked.replies).all(refused) {
        return Ok(Vec::new());
    }
    let mut staged = Vec::new();
    for (item, after) in items.iter().zip(&worked.after) {
        let Some(after) = after else { continue };
        match after {
            after if *after == item.copy => {}
            None => staged.push(on_key(item, &[b"UNLINK", &item.key])?),
            Some(Image { payload, expires_ms }) => {
                let expires = expires_ms.to_string();
                staged.push(on_key(item, &[b"RESTORE", &item.key, expires.as_bytes(), payload, b"REPLACE", b"ABSTTL"])?);
            }
        }
    }
    Ok(staged)
}

/// A command about the one key of `item`.
fn on_key(item: &Item, args: &[&[u8]]) -> Result<Routed, ExecError> {
    let request = Request::new(args);
    let Ok(spec) = command::lookup(&request) else { return Err(ExecError::Unreachable) };
    let access = if spec.is_write() { Access::Write } else { Access::Read };
    Ok(Routed { spec, request, place: item.place, keys: Keys::from_slice(&[KeyRef { index: 1, access }]) })
}

/// The number of an integer reply.
fn integer(frame: &Bytes) -> Option<i64> {
    Value::parse(frame).ok()?.integer()
}
