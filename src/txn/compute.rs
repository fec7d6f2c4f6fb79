//! Commands that compute over keys of several participants: RENAME, SINTERSTORE, ZUNION, BITOP, the users' scripts … alone, or a whole
//! transaction that has one of them among its commands (protocol §8).
//!
//! No server has all the keys, so one of them is lent copies. What makes that atomic and isolated is nothing new:
//!
//! - **what only reads** takes its copies as one snapshot ([`Engine::snapshot`]), and is computed from them;
//! - **what writes** watches all its keys, as a client would with WATCH; then fetches the copies; computes; and carries out what came of
//!   it (a RESTORE or an UNLINK of each key that has changed) as an EXEC that all those watches guard. A key that was changed in between
//!   makes that EXEC nil, and everything begins again, in line (`line.rs`) this time. So the copies are what the keys were at the
//!   transaction's place in the order. A weft that dies on the way leaves what any dead coordinator leaves.
//!
//! The computing itself is one MULTI at one participant, the *home*: RESTORE of each copy under an internal name, the commands with
//! these names in place of the keys', DUMP of what they may have written, UNLINK of the copies. Inside of one MULTI nobody ever sees a copy, and none
//! survives. Since the server itself computes, replies, errors and encodings are its own; of the names in a reply the client sees its own.
//! `home` puts that MULTI together and reads what came of it; [`shim`] shows a script its clients' names of the keys, and keeps it to them.
//!
//! `sort` is apart from that: SORT with patterns has keys that nobody names, and no server of a cluster computes it. Inside of a transaction
//! `steps` makes of it what a server can compute.
//!
//! # What it costs
//!
//! Each value travels to the proxy and to the home, and what was written travels once more; `compute_bytes_max` bounds that. Five
//! round trips for what writes, three for what reads. Elements are computed where most of the bytes are.

mod home;
pub mod shim;
mod sort;
pub mod source;
mod steps;

use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use futures::future::try_join_all;
use tokio::time::Instant;

use self::home::{Image, Item, Worked};
use self::source::Source;
use self::steps::Steps;
use super::attempt::Redirect;
use super::engine::{Engine, Executed};
use super::error::ExecError;
use super::part;
use super::snapshot::in_order;
use super::watch::Watch;
use crate::command::{self, Access, CommandSpec, Flags, Handling, KeyRef, Keys};
use crate::metrics::Counter;
use crate::resp::{Proto, Request, Value, error_reply};
use crate::route::{Place, Reach, Routed};
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
    pub source: Option<Source>,
    /// How many keys, the last ones, the script has not declared.
    pub hidden: usize,
}

impl Spread {
    /// Whether it may change data. PFCOUNT writes what it keeps at a single key only; of several it makes a union that nobody sees.
    pub fn writes(&self) -> bool {
        self.spec.is_write() || (self.is_script() && !self.spec.flags.contains(Flags::READONLY))
    }

    /// The same script, of which the last `hidden` keys are not declared.
    pub fn hiding(self, hidden: usize) -> Self {
        Self { hidden, ..self }
    }

    /// Whether it is a user's script.
    pub fn is_script(&self) -> bool {
        self.spec.handling == Handling::Script
    }

    /// The keys that it may write, each with its place.
    pub fn written(&self) -> impl Iterator<Item = (&Place, &[u8])> {
        let written = self.keys.iter().filter(|(key, _)| key.access == Access::Write && self.writes());
        written.map(|(key, place)| (place, self.request.arg(key.index as usize)))
    }
}

impl Spread {
    /// A change of the protocol version, for the replies to the commands behind it.
    pub fn hello(request: &Request, spec: &'static CommandSpec) -> Self {
        // Without credentials, which are weft's.
        Self { spec, request: Request::new(&[b"HELLO", request.arg(1)]), db: 0, keys: Vec::new(), source: None, hidden: 0 }
    }
}

impl From<Routed> for Spread {
    fn from(routed: Routed) -> Self {
        let keys = routed.keys.iter().map(|key| (*key, routed.place)).collect();
        Self { spec: routed.spec, request: routed.request, db: routed.place.db, keys, source: None, hidden: 0 }
    }
}

/// What came of one try.
enum Round<T> {
    Done(T),
    /// A key has changed in between: nothing was applied.
    Broken,
    /// A slot is on its way, or a connection was lost: nothing was applied.
    Again,
    /// It has shown what else has to be done: nothing was applied.
    More,
}

/// `$try?` for rounds: goes on with what is done.
macro_rules! done {
    ($round:expr) => {
        match $round? {
            Round::Done(value) => value,
            Round::Broken => return Ok(Round::Broken),
            Round::Again => return Ok(Round::Again),
            Round::More => return Ok(Round::More),
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
        let mut steps = Steps::of(commands)?;
        let writes = watching || steps.write();
        let (mut watch, mut turn, mut tries, mut rounds) = (watch, None, 0, 0);
        loop {
            let commands = steps.commands(self)?;
            let items = items(&commands);
            if writes && turn.is_none() {
                turn = Some(self.place_among_computing(items.iter().map(|item| item.place)).await?);
            }
            // Without keys there is nothing to watch.
            let round = match watching || (writes && !items.is_empty()) {
                true => self.compute_watching(&mut steps, &commands, items, &mut watch, tries, proto).await,
                false => self.compute_reading(&mut steps, &commands, items, tries, proto).await,
            };
            match round.map_err(|error| steps.own_error(error))? {
                Round::Done(replies) => return Ok(Executed::Replies(replies)),
                // There may be more to watch.
                Round::More => turn = None,
                // The client's own watches are used up.
                Round::Broken | Round::Again if watching => return Ok(Executed::WatchBroken),
                // The next round stands in line.
                Round::Broken => self.count_again(&mut tries),
                Round::Again => {
                    self.pause(tries).await;
                    self.count_again(&mut tries);
                }
            }
            watch = watch.filter(|_| watching);
            rounds += 1;
            if rounds > steps.rounds_owed() && start.elapsed() >= self.config.lock_wait_timeout {
                self.counts.count(Counter::LockTimeouts);
                return Err(ExecError::LockWait);
            }
        }
    }

    fn count_again(&self, tries: &mut u32) {
        self.counts.count(Counter::ComputeAgain);
        *tries += 1;
    }

    /// Waits until there are connections enough to watch at all `wanted` places. Each who computes holds one for each participant; those who
    /// would wait for each other's last one wait here instead, holding none.
    async fn place_among_computing(&self, wanted: impl Iterator<Item = Place>) -> Result<tokio::sync::SemaphorePermit<'_>, ExecError> {
        let mut places: BTreeMap<ShardId, Vec<Place>> = BTreeMap::new();
        wanted.for_each(|place| places.entry(place.shard).or_default().push(place));
        let most = places.values_mut().map(|places| {
            places.sort_unstable();
            places.dedup();
            places.len()
        });
        let most = most.max().unwrap_or(0);
        if most > self.computing_max {
            return Err(ExecError::Rejected(error_reply::compute_participants(self.computing_max)));
        }
        self.turn_among_computing(most).await
    }

    /// Waits until `connections` may be held at one shard.
    pub(super) async fn turn_among_computing(&self, connections: usize) -> Result<tokio::sync::SemaphorePermit<'_>, ExecError> {
        let turn = self.computing.acquire_many(u32::try_from(connections).unwrap_or(u32::MAX));
        match tokio::time::timeout(self.config.lock_wait_timeout, turn).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) | Err(_) => Err(ExecError::LockWait),
        }
    }

    async fn compute_reading(
        self: &Rc<Self>,
        steps: &mut Steps,
        commands: &[Spread],
        mut items: Vec<Item>,
        tries: u32,
        proto: Proto,
    ) -> Result<Round<Vec<Bytes>>, ExecError> {
        let replies = self.snapshot(reads(&items)?, Proto::Resp2).await?;
        fill(&mut items, &replies)?;
        self.within_bounds(items.iter().filter_map(|item| item.copy.as_ref()))?;
        let worked = done!(self.work(commands, &items, tries, proto).await);
        Ok(steps.replies(self, &worked.replies, proto)?.map_or(Round::More, Round::Done))
    }

    async fn compute_watching(
        self: &Rc<Self>,
        steps: &mut Steps,
        commands: &[Spread],
        mut items: Vec<Item>,
        watch: &mut Option<Watch>,
        tries: u32,
        proto: Proto,
    ) -> Result<Round<Vec<Bytes>>, ExecError> {
        let mut places: BTreeMap<Place, Vec<Bytes>> = BTreeMap::new();
        items.iter().for_each(|item| places.entry(item.place).or_default().push(item.key.clone()));
        let mut habit = self.habit_of_writing(items.iter().filter(|item| item.write).map(|item| (&item.place, &item.key[..])));
        habit.set_broken(tries > 0);
        self.watch(watch, places.into_iter().collect(), &habit, proto).await?;
        let replies = done!(self.read_watched(&reads(&items)?).await);
        fill(&mut items, &replies)?;
        self.within_bounds(items.iter().filter_map(|item| item.copy.as_ref()))?;
        let worked = done!(self.work(commands, &items, tries, proto).await);
        let Some(replies) = steps.replies(self, &worked.replies, proto)? else { return Ok(Round::More) };
        self.within_bounds(worked.after.iter().flatten().flatten())?;
        let staged = stage(commands, &items, &worked)?;
        match self.exec(staged, watch.take(), proto).await? {
            Executed::WatchBroken => Ok(Round::Broken),
            Executed::Replies(applied) => match applied.into_iter().find(|reply| reply.first() == Some(&b'-')) {
                None => Ok(Round::Done(replies)),
                Some(error) => {
                    tracing::error!(error = %String::from_utf8_lossy(&error), "a shard did not take over a computed value");
                    Err(ExecError::Rejected(error_reply::COMPUTED_NOT_TAKEN.to_owned()))
                }
            },
        }
    }

    /// The replies to `reads`, whose keys are watched: should one change from now on, that will be noticed.
    async fn read_watched(&self, reads: &[Routed]) -> Result<Round<Vec<Bytes>>, ExecError> {
        let mut shares: BTreeMap<(ShardId, u32), Vec<(usize, Request)>> = BTreeMap::new();
        for (position, Routed { place, request, .. }) in reads.iter().enumerate() {
            shares.entry((place.shard, place.db)).or_default().push((position, request.clone()));
        }
        let read = shares.into_iter().map(async |((shard, db), share)| {
            let node = self.upstreams.primary(shard).ok_or(ExecError::Unreachable)?;
            let (positions, requests): (Vec<usize>, Vec<Request>) = share.into_iter().unzip();
            let replies = match call(&node.shared(db, Proto::Resp2), &requests).await {
                Ok(replies) => replies,
                Err(UpstreamError::NotSent | UpstreamError::MaybeApplied) => return Err(ExecError::Unreachable),
            };
            if let Some(redirect) = replies.iter().find_map(|reply| Redirect::parse(reply)) {
                self.follow(redirect, 0).await;
                return Ok(Round::Again);
            }
            Ok(Round::Done(positions.into_iter().zip(replies).collect::<Vec<_>>()))
        });
        let mut replies = Vec::with_capacity(reads.len());
        for round in try_join_all(read).await? {
            match round {
                Round::Done(share) => replies.extend(share),
                Round::Broken => return Ok(Round::Broken),
                Round::Again => return Ok(Round::Again),
                Round::More => return Ok(Round::More),
            }
        }
        Ok(Round::Done(in_order(reads.len(), replies.into_iter())))
    }

    /// Lets the home compute. Any participant may be it: one whose slot is just moving is not asked twice in a row.
    async fn work(&self, commands: &[Spread], items: &[Item], tries: u32, proto: Proto) -> Result<Round<Worked>, ExecError> {
        let map = self.upstreams.map();
        // A script without keys may be all there is.
        let place = home::place(items, tries as usize).or_else(|| Place::of(&map, 0, b"")).ok_or(ExecError::Unreachable)?;
        let participant = part::participant(&map, place).ok_or(ExecError::Unreachable)?;
        let node = self.upstreams.primary(place.shard).ok_or(ExecError::Unreachable)?;
        let script = home::Script::new(&participant, place.db, proto, commands, items);
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
        script.read(&replies).map(Round::Done)
    }

    fn within_bounds<'a>(&self, copies: impl Iterator<Item = &'a Image>) -> Result<(), ExecError> {
        self.within_bytes(copies.map(|copy| copy.payload.len()))
    }

    fn within_bytes(&self, sizes: impl Iterator<Item = usize>) -> Result<(), ExecError> {
        let limit = self.config.compute_bytes_max;
        if sizes.sum::<usize>() > limit { Err(ExecError::Rejected(error_reply::compute_limit(limit))) } else { Ok(()) }
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

/// What to ask about `items`; [`fill`] takes the replies.
fn reads(items: &[Item]) -> Result<Vec<Routed>, ExecError> {
    items.iter().flat_map(|item| [&b"DUMP"[..], b"PEXPIRETIME"].map(|name| on_key(item, &[name, &item.key]))).collect()
}

fn fill(items: &mut [Item], replies: &[Bytes]) -> Result<(), ExecError> {
    for (item, pair) in items.iter_mut().zip(replies.chunks_exact(2)) {
        item.copy = Image::of(&pair[0], &pair[1])?;
    }
    Ok(())
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
    Ok(Routed { spec, request, place: item.place, keys: Keys::from_slice(&[KeyRef { index: 1, access }]), reach: Reach::Keys })
}

/// The number of an integer reply.
fn integer(frame: &Bytes) -> Option<i64> {
    Value::parse(frame).ok()?.integer()
}
