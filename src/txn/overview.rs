//! What operators ask: which transactions are there, where does one stand, finish it.
//!
//! Looking changes nothing and holds nobody up: keys are looked for by SCAN in small steps, records read by a script that does not write.
//! What is seen is not one instant. A participant is asked a moment after the one before it, and a transaction that commits
//! meanwhile may show as prepared here and committed there.
//!
//! The list is bounded twice: by a count, of which the oldest transactions are kept, and by [`LOOK_TIME_MAX`]. It says whether it
//! is complete.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::join_all;
use futures::stream::{self, FuturesUnordered};

use super::engine::Engine;
use super::fence::{self, Record};
use super::participant::Participant;
use super::state::Verdict;
use super::walk::{Met, Walk};
use super::{Refusal, Script, State, TxnId, internal_keys, part, recovery};
use crate::resp::{Proto, Value, elements};
use crate::topology::ShardId;

/// The transactions of which records were found.
#[derive(Clone, Debug)]
pub struct Overview {
    /// Every shard was looked through to its end, and no transaction was left out.
    pub complete: bool,
    /// The oldest first.
    pub transactions: Vec<Sighting>,
}

/// One transaction, as its participants were found.
#[derive(Clone, Debug)]
pub struct Sighting {
    /// Which.
    pub tid: TxnId,
    /// How long ago it started, by weft's clock.
    pub age_ms: u64,
    /// Every participant, if a record names them; else those where a tombstone was found.
    pub standings: Vec<Standing>,
}

/// What was found at one participant.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Where.
    pub participant: Participant,
    /// The server that has the participant now; empty while nobody has.
    pub address: String,
    /// Its record; `None` if its shard did not answer.
    pub found: Option<Found>,
}

/// A record and what is to be done by it.
#[derive(Clone, Debug)]
pub struct Found {
    /// The record; [`State::Gone`] where there is none.
    pub record: Record,
    /// The names of the commands that wait for the decision.
    pub commands: Vec<Bytes>,
}

/// What the records of a transaction say together: it is committed if and only if every participant has been prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Some participant has committed, or all are prepared.
    Committed,
    /// Some participant holds a tombstone, and none has committed.
    Aborted,
    /// Neither: a participant is not prepared yet, has lost its record, or does not answer.
    Open,
}

/// How a resolution asked for by an operator ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// It is committed wherever it was prepared.
    Committed,
    /// It is aborted.
    Aborted,
    /// No shard knows it: it was finished and forgotten, or it never was.
    Unknown,
    /// A participant did not answer in time, or its record is of a format that this version does not know.
    Unresolved,
}

impl Sighting {
    /// What the records say together.
    pub fn decision(&self) -> Decision {
        let states = || self.standings.iter().map(|standing| standing.found.as_ref().map(|found| &found.record.state));
        match () {
            () if states().any(|state| matches!(state, Some(State::Committed(_)))) => Decision::Committed,
            () if states().all(|state| state == Some(&State::Prepared)) => Decision::Committed,
            // Only once all have answered: one that has not may have committed.
            () if states().all(|state| state.is_some()) && states().any(|state| state == Some(&State::Aborted)) => Decision::Aborted,
            () => Decision::Open,
        }
    }

    /// What is left of the lease of whoever runs it, by the clocks of its shards; `None` where nothing is prepared.
    pub fn lease_left_ms(&self) -> Option<i64> {
        let prepared = self.standings.iter().filter_map(|standing| Some(&standing.found.as_ref()?.record));
        let left = prepared.filter(|record| record.state == State::Prepared).filter_map(|record| {
            let lease_ms = record.staged.as_ref()?.lease_ms;
            Some(i64::try_from(lease_ms).unwrap_or(i64::MAX).saturating_sub(record.age_ms))
        });
        left.max()
    }
}

impl Engine {
    /// The `count` oldest transactions of which a record is found and that started at least `least_age` ago.
    pub async fn overview(&self, count: usize, least_age: Duration) -> Overview {
        let oldest = RefCell::new(Oldest { count, left_out: false, found: BTreeMap::new() });
        let newest_ms = self.unix_ms().saturating_sub(least_age.as_millis() as u64);
        let look = |shard: ShardId| {
            self.walk(shard, RECORDS, Duration::ZERO, async |met| {
                let records = met.into_iter().filter_map(|Met { key, at }| Some((internal_keys::tid_of(&key)?, at)));
                oldest.borrow_mut().extend(records.filter(|(tid, _)| tid.start_ms <= newest_ms));
                Walk::On
            })
        };
        let looks = join_all(self.upstreams.map().ids().map(look));
        let looked = tokio::time::timeout(LOOK_TIME_MAX, looks).await;
        let Oldest { left_out, found, .. } = oldest.into_inner();
        let complete = !left_out && looked.is_ok_and(|shards| shards.iter().all(Option::is_some));
        let sightings = stream::iter(found.into_iter().map(|((_, tid), homes)| self.sight(tid, homes)));
        Overview { complete, transactions: sightings.buffered(SIGHTED_AT_ONCE).collect().await }
    }

    /// Where `tid` stands; `None` if no shard has a record of it.
    pub async fn sighting(&self, tid: TxnId) -> Option<Sighting> {
        let homes = self.homes(tid).await;
        if homes.is_empty() { None } else { Some(self.sight(tid, homes).await) }
    }

    /// Brings `tid` to its end, whether or not somebody is at it.
    pub async fn resolve(&self, tid: TxnId) -> Resolution {
        let Some(sighting) = self.sighting(tid).await else { return Resolution::Unknown };
        let staged = |standing: &&Standing| standing.found.as_ref().is_some_and(|found| found.record.staged.is_some());
        let Some(home) = sighting.standings.iter().find(staged) else {
            // Nothing but tombstones: there is nothing to finish.
            return Resolution::Aborted;
        };
        let Some(resolving) = recovery::begin(self, tid, &home.participant, Vec::new()) else { return Resolution::Unresolved };
        match resolving.ended.await {
            Ok(Verdict::Committed) => Resolution::Committed,
            Ok(Verdict::Aborted) => Resolution::Aborted,
            // Somebody else was faster.
            Ok(Verdict::Finished) => Resolution::Unknown,
            Ok(Verdict::Foreign) | Err(_) => Resolution::Unresolved,
        }
    }

    /// Participants that have a record of `tid`: one that names all the others, or else every tombstone.
    async fn homes(&self, tid: TxnId) -> Vec<Participant> {
        let pattern = format!("__weft:*t:{tid}");
        let found = RefCell::new(Vec::new());
        let look = |shard: ShardId| {
            let (found, pattern) = (&found, &pattern);
            async move {
                let visit = async |met: Vec<Met>| {
                    found.borrow_mut().extend(met.into_iter().filter(|met| internal_keys::tid_of(&met.key) == Some(tid)).map(|met| met.at));
                    Walk::On
                };
                self.walk(shard, pattern, Duration::ZERO, visit).await
            }
        };
        let mut looks: FuturesUnordered<_> = self.upstreams.map().ids().map(look).collect();
        let _ = tokio::time::timeout(LOOK_TIME_MAX, async { while looks.next().await.is_some() {} }).await;
        found.take()
    }

    /// Asks all participants of `tid`, of which it was found at `homes`.
    async fn sight(&self, tid: TxnId, homes: Vec<Participant>) -> Sighting {
        let mut standings = join_all(homes.iter().map(|at| self.stand(tid, at))).await;
        let staged = standings.iter().find_map(|standing| standing.found.as_ref()?.record.staged.as_ref());
        let others: Vec<Participant> = staged.map(|staged| staged.participants.clone()).unwrap_or_default();
        let others = others.iter().filter(|at| !homes.contains(at));
        standings.extend(join_all(others.map(|at| self.stand(tid, at))).await);
        standings.sort_by(|one, other| one.participant.cmp(&other.participant));
        Sighting { tid, age_ms: self.unix_ms().saturating_sub(tid.start_ms), standings }
    }

    async fn stand(&self, tid: TxnId, at: &Participant) -> Standing {
        let map = self.upstreams.map();
        let shard = part::place(&map, at).and_then(|place| map.shard(place.shard));
        let found = async {
            let request = Script::Show.call(&[internal_keys::record(at, tid)], &NO_ARGS);
            let reply = self.target(at, None)?.eval(Proto::Resp2, Script::Show, &request).await.ok()?;
            answer(&reply).ok()
        };
        Standing { participant: at.clone(), address: shard.map(|shard| shard.address.to_string()).unwrap_or_default(), found: found.await }
    }
}

/// Reads what the script answered.
fn answer(frame: &Bytes) -> Result<Found, Refusal> {
    super::answer::error_or_lock(frame)?;
    let parts = elements(frame)?.ok_or_else(Refusal::malformed)?;
    let [names, record] = &parts[..] else { return Err(Refusal::malformed()) };
    let names = Value::parse(names)?;
    let names = names.items().ok_or_else(Refusal::malformed)?;
    Ok(Found { record: fence::answer(record)?, commands: names.iter().filter_map(Value::text).cloned().collect() })
}

/// The transactions with the earliest starts.
struct Oldest {
    /// How many at most.
    count: usize,
    left_out: bool,
    /// By their starts; where records of them were met.
    found: BTreeMap<(u64, TxnId), Vec<Participant>>,
}

impl Oldest {
    fn extend(&mut self, records: impl Iterator<Item = (TxnId, Participant)>) {
        for (tid, at) in records {
            let homes = self.found.entry((tid.start_ms, tid)).or_default();
            // SCAN may tell a key twice.
            if !homes.contains(&at) {
                homes.push(at);
            }
            if self.found.len() > self.count {
                self.left_out = true;
                self.found.pop_last();
            }
        }
    }
}

/// What the names of records match; some names of locks do, too.
const RECORDS: &str = "__weft:*t:*";

/// How long keys are looked for at most.
const LOOK_TIME_MAX: Duration = Duration::from_secs(10);

/// How many transactions' participants are asked at the same time.
const SIGHTED_AT_ONCE: usize = 16;

const NO_ARGS: [&[u8]; 0] = [];
