//! SORT and SORT_RO with patterns, whose keys show when the elements do.
//!
//! So what is known to be wanted is read, at one moment: at first the source alone. From that follows the answer, or what else has to be
//! read for it, and then everything is read again with that. It is over when one moment's elements, weights and values are all there.
//! While nobody interferes that takes two rounds, or three where LIMIT leaves out some of the values.
//!
//! What only reads takes a snapshot each time. What stores watches what it reads, as [`compute`](super) does, and those watches guard the
//! EXEC that stores. Inside of a transaction the same is read and stored on copies: [`steps`](super::steps).
//!
//! On a static shard that is known to have all the keys, the server sorts by itself: one shard is all there is, or all patterns have
//! hash tags. Since nobody knows the names yet, their locks cannot be looked at; the [gate](crate::txn::gate) stands for all of them. While it is
//! not free, the longer way is taken.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::{Round, integer};
use crate::command::{self, Arranged, CommandSpec, Keys, Known, Lookup, Sort};
use crate::metrics::Counter;
use crate::resp::{Proto, ReplyWriter, Request, Value, error_reply};
use crate::route::{self, Place, Reach, Route, RouteError, Routed};
use crate::slot::Slot;
use crate::topology::Mode;
use crate::txn::attempt::Attempt;
use crate::txn::engine::{Engine, Executed};
use crate::txn::error::ExecError;
use crate::txn::line::Habit;
use crate::txn::one_phase;

/// What came of one round.
enum Progress {
    Done(Bytes),
    /// These have to be read too.
    Wanting(Vec<Lookup>),
    /// A key has changed in between.
    Again,
}

/// What one round reads.
#[derive(Default)]
pub(super) struct Reads {
    /// About the source, then the lookups.
    pub(super) commands: Vec<Routed>,
    lookups: Vec<Lookup>,
    /// Lookups that come upon weft's own keys: there is nothing, as far as clients are concerned.
    hidden: Vec<Lookup>,
}

impl Engine {
    /// Carries out `request`, a SORT or SORT_RO sent to database `db`, wherever its keys are.
    ///
    /// # Errors
    /// See [`ExecError`].
    pub async fn sort(self: &Rc<Self>, spec: &'static CommandSpec, request: &Request, db: u32, proto: Proto) -> Result<Bytes, ExecError> {
        let sort = Sort::parse(spec, request).map_err(|text| ExecError::Rejected(text.to_owned()))?;
        if let Some(reply) = self.sort_at_one(&sort, spec, request, db, proto).await? {
            return Ok(reply);
        }
        let start = Instant::now();
        let mut wanted = BTreeSet::new();
        for round in 0.. {
            let reads = self.reads(&sort, &wanted, db)?;
            let progress = match sort.destination() {
                None => self.sort_reading(&sort, reads, proto).await?,
                Some(destination) => self.sort_storing(&sort, reads, destination, db, proto).await?,
            };
            match progress {
                Progress::Done(reply) => return Ok(reply),
                Progress::Wanting(lookups) => wanted.extend(lookups),
                Progress::Again => {
                    self.counts.count(Counter::ComputeAgain);
                    self.pause(round).await;
                }
            }
            if round >= ROUNDS_OWED && start.elapsed() >= self.config.lock_wait_timeout {
                break;
            }
        }
        self.counts.count(Counter::LockTimeouts);
        Err(ExecError::LockWait)
    }

    /// Lets the one static shard sort that is known to have all keys; `None` if there is none such, or its gate is closed.
    async fn sort_at_one(
        &self,
        sort: &Sort,
        spec: &'static CommandSpec,
        request: &Request,
        db: u32,
        proto: Proto,
    ) -> Result<Option<Bytes>, ExecError> {
        let map = self.upstreams.map();
        let mut keys = Keys::new();
        // It says that there are others.
        let _ = command::keys(spec, request, &mut keys);
        let names = || keys.iter().map(|key| request.arg(key.index as usize));
        if names().any(route::is_internal) {
            return Err(ExecError::Rejected(error_reply::INTERNAL_KEY.to_owned()));
        }
        let Some(place) = Place::of(&map, db, request.arg(1)) else { return Err(unowned()) };
        let here = |slot: Slot| map.owner(slot) == Some(place.shard);
        let together = || {
            // With rules, the keys that a pattern makes up may be of groups that it does not tell.
            let told = !map.affinity().has_rules() && sort.patterns().all(|pattern| pattern.slot().is_some_and(here));
            told && names().all(|name| here(map.affinity().slot(name)))
        };
        if map.mode() == Mode::Cluster || !(map.ids().count() == 1 || together()) {
            return Ok(None);
        }
        let command = Routed { spec, request: request.clone(), place, keys, reach: Reach::Keys };
        let batch = self.batch_of(place, std::iter::once(&command), &[], false, proto)?;
        self.persist(&batch, async |target| match one_phase::armed(&target, proto, &batch).await {
            None => Attempt::Done(None),
            // What only reads is read again.
            Some(Attempt::Failed(ExecError::OutcomeUnknown)) if sort.destination().is_none() => Attempt::Done(None),
            Some(attempt) => attempt.map(|mut replies| replies.pop()),
        })
        .await
    }

    async fn sort_reading(self: &Rc<Self>, sort: &Sort, reads: Reads, proto: Proto) -> Result<Progress, ExecError> {
        let together = reads.commands.windows(2).all(|pair| pair[0].place == pair[1].place);
        let replies = match together {
            true => self.batch(&reads.commands, Proto::Resp2).await?,
            false => self.snapshot(reads.commands.clone(), Proto::Resp2).await?,
        };
        Ok(match self.arranged(sort, &reads, &replies)? {
            Ok(values) => Progress::Done(array(&values, proto)),
            Err(lookups) => Progress::Wanting(lookups),
        })
    }

    async fn sort_storing(
        self: &Rc<Self>,
        sort: &Sort,
        reads: Reads,
        destination: &Bytes,
        db: u32,
        proto: Proto,
    ) -> Result<Progress, ExecError> {
        let mut places: BTreeMap<Place, BTreeSet<Bytes>> = BTreeMap::new();
        for command in &reads.commands {
            let names = command.keys.iter().map(|key| command.request.arg_bytes(key.index as usize));
            places.entry(command.place).or_default().extend(names);
        }
        if places.values().any(|keys| keys.len() > STORE_KEYS_MAX) {
            return Err(ExecError::Rejected(error_reply::too_many_keys(STORE_KEYS_MAX)));
        }
        let _turn = self.place_among_computing(places.keys().copied()).await?;
        let mut watch = None;
        let places = places.into_iter().map(|(place, keys)| (place, keys.into_iter().collect()));
        self.watch(&mut watch, places.collect(), &Habit::default(), proto).await?;
        let Round::Done(replies) = self.read_watched(&reads.commands).await? else { return Ok(Progress::Again) };
        let values = match self.arranged(sort, &reads, &replies)? {
            Ok(values) => values,
            Err(lookups) => return Ok(Progress::Wanting(lookups)),
        };
        match self.exec(self.stored(&values, destination, db)?, watch, proto).await? {
            Executed::WatchBroken => Ok(Progress::Again),
            Executed::Replies(replies) => match replies.iter().find(|reply| integer(reply).is_none()) {
                None => Ok(Progress::Done(Bytes::from(format!(":{}\r\n", values.len())))),
                // Of those that follow each other none can fail alone.
                Some(error) => Err(ExecError::Refused(error.clone())),
            },
        }
    }

    /// What makes a list of `values` under `destination`.
    pub(super) fn stored(&self, values: &[Option<Bytes>], destination: &Bytes, db: u32) -> Result<Vec<Routed>, ExecError> {
        let mut requests = vec![Request::new(&[b"DEL", &destination[..]])];
        for some in values.chunks(PUSHED_AT_ONCE) {
            let values = some.iter().map(|value| value.as_deref().unwrap_or_default());
            requests.push(Request::new(&[&b"RPUSH"[..], destination].into_iter().chain(values).collect::<Vec<_>>()));
        }
        requests.into_iter().map(|request| self.routed(request, db)).collect()
    }

    /// What has to be read when all of `wanted` is.
    pub(super) fn reads(&self, sort: &Sort, wanted: &BTreeSet<Lookup>, db: u32) -> Result<Reads, ExecError> {
        let (hidden, lookups): (Vec<_>, Vec<_>) = wanted.iter().cloned().partition(|lookup| route::is_internal(&lookup.key));
        let requests = sort.source_requests().into_iter().chain(lookups.iter().map(Lookup::request));
        let commands = requests.map(|request| self.routed(request, db)).collect::<Result<Vec<_>, _>>()?;
        self.within_bytes(commands.iter().map(|command| command.request.bytes().len()))?;
        Ok(Reads { commands, lookups, hidden })
    }

    /// The answer, or what has to be read for it. An error that is the answer is [`ExecError::Refused`].
    pub(super) fn arranged(
        &self,
        sort: &Sort,
        reads: &Reads,
        replies: &[Bytes],
    ) -> Result<Result<Vec<Option<Bytes>>, Vec<Lookup>>, ExecError> {
        self.within_bytes(replies.iter().map(Bytes::len))?;
        let (about_source, values) = replies.split_at(replies.len().saturating_sub(reads.lookups.len()));
        let source = sort.source(about_source).map_err(ExecError::Refused)?;
        let mut known: Known = reads.hidden.iter().map(|lookup| (lookup.clone(), None)).collect();
        for (lookup, reply) in reads.lookups.iter().zip(values) {
            known.insert(lookup.clone(), value(reply)?);
        }
        match sort.arrange(source, &known) {
            Arranged::Done(values) => Ok(Ok(values)),
            Arranged::Wanting(lookups) => Ok(Err(lookups)),
            Arranged::NotNumbers => Err(ExecError::Refused(Bytes::from(format!("-{}\r\n", error_reply::SCORES)))),
        }
    }

    /// `request`, whose keys are all in one place.
    fn routed(&self, request: Request, db: u32) -> Result<Routed, ExecError> {
        let Ok(spec) = command::lookup(&request) else { return Err(ExecError::Unreachable) };
        match route::route(&self.upstreams.map(), db, spec, &request) {
            Ok(Route::One(routed)) => Ok(routed),
            Err(RouteError::Unowned) => Err(unowned()),
            Ok(Route::Several(_)) | Err(RouteError::Keys(_) | RouteError::Internal) => Err(ExecError::Unreachable),
        }
    }
}

fn unowned() -> ExecError {
    ExecError::Rejected(error_reply::CLUSTERDOWN_SLOT.to_owned())
}

/// What a lookup found.
fn value(reply: &Bytes) -> Result<Option<Bytes>, ExecError> {
    match Value::parse(reply) {
        Ok(Value::Bulk(value)) => Ok(Some(value)),
        Ok(Value::Null) => Ok(None),
        Ok(Value::Error(error)) if error.starts_with(b"WRONGTYPE") => Ok(None),
        Ok(Value::Error(_)) => Err(ExecError::Refused(reply.clone())),
        _ => Err(ExecError::Unreachable),
    }
}

pub(super) fn array(values: &[Option<Bytes>], proto: Proto) -> Bytes {
    let mut out = BytesMut::new();
    let mut reply = ReplyWriter::new(&mut out, proto);
    reply.array(values.len());
    for value in values {
        match value {
            Some(value) => reply.bulk(value),
            None => reply.null(),
        }
    }
    out.freeze()
}

/// Rounds that it takes when nobody interferes, however long: source, weights, values.
const ROUNDS_OWED: u32 = 2;

/// How many keys may be read at one participant for STORE, all on one connection: watching them takes a server as long as the square
/// of their number, by then a good part of a second.
pub(super) const STORE_KEYS_MAX: usize = 8192;

/// Few enough for a script.
const PUSHED_AT_ONCE: usize = 4096;
