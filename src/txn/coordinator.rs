//! EXEC over several participants: one attempt after another until one is decided.
//!
//! Each attempt is a [`Coordinator`] machine with a task of its own, which outlives the client: a transaction that was begun is brought
//! to its end whoever still listens. The first attempt prepares everywhere at once and gives way to any lock; later ones prepare in
//! order and may wait (protocol §9).

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::{FutureExt as _, LocalBoxFuture};
use futures::stream::FuturesUnordered;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::drive::Member;
use super::engine::{Engine, Executed};
use super::error::ExecError;
use super::part::Part;
use super::participant::participants_text;
use super::snapshot::in_order;
use super::state::{Action, Actions, Coordinator, Event, Order, Outcome, Reason};
use super::watch::Watch;
use super::{Locked, State, Terms};
use crate::metrics::Counter;
use crate::resp::{Proto, error_reply};
use crate::route::Place;

/// Carries out `parts` on all their participants or on none. [`Executed::WatchBroken`] also says that a key exists that must not.
pub(super) async fn exec(
    engine: &Rc<Engine>,
    parts: BTreeMap<Place, Part>,
    mut watch: Option<Watch>,
    proto: Proto,
) -> Result<Executed, ExecError> {
    engine.refuse_eviction(parts.keys())?;
    let watching = watch.is_some();
    let start = Instant::now();
    let mut order = Order::Parallel;
    let mut tries = 0;
    loop {
        let mut members = Vec::with_capacity(parts.len());
        for (place, part) in &parts {
            let lease = watch.as_mut().and_then(|watch| watch.take(*place));
            members.push(Member::new(engine.batch_of_part(*place, part, proto)?, lease));
        }
        let reason = match attempt(engine, members, order, proto).await {
            Outcome::Committed(replies) => return replies_of(&parts, replies),
            Outcome::Pending => return Err(ExecError::TxnPending),
            Outcome::Unknown => return Err(ExecError::TxnUnknown),
            Outcome::Aborted(reason) => reason,
        };
        match reason {
            Reason::WatchBroken | Reason::Exists => return Ok(Executed::WatchBroken),
            // The first prepare consumed the watches.
            Reason::Locked(_) | Reason::Resolved if watching => return Ok(Executed::WatchBroken),
            Reason::Locked(_) | Reason::Resolved if start.elapsed() >= engine.config.lock_wait_timeout => {
                engine.counts.count(Counter::LockTimeouts);
                return Err(ExecError::LockWait);
            }
            Reason::Locked(locked) => engine.give_way(locked, &parts, tries, proto).await,
            Reason::Resolved => engine.pause(tries).await,
            Reason::Refused(refusal) => return Err(ExecError::Refused([b"-", &refusal.text[..], b"\r\n"].concat().into())),
            Reason::ClockApart => return Err(ExecError::Rejected(error_reply::CLOCK_APART.to_owned())),
            Reason::AllLost => return Err(ExecError::Rejected(error_reply::TXN_LOST.to_owned())),
        }
        order = Order::Ordered;
        tries += 1;
    }
}

/// Runs one attempt in a task of its own and returns what its client is to be told.
async fn attempt(engine: &Rc<Engine>, members: Vec<Member>, order: Order, proto: Proto) -> Outcome {
    let participants: Vec<_> = members.iter().map(|member| member.batch.participant.clone()).collect();
    let tid = engine.ids.borrow_mut().next(engine.unix_ms());
    let terms = Terms {
        tid,
        participants: participants_text(&participants).into(),
        lease_ms: millis(engine.config.lease),
        proto,
        kept_reply_bytes_max: u32::try_from(engine.config.kept_reply_bytes_max).unwrap_or(u32::MAX),
    };
    let (tell, told) = oneshot::channel();
    let driver = Driver { engine: Rc::clone(engine), terms, members };
    engine.tasks.borrow_mut().spawn_local(async move { driver.run(order, tell).await });
    // The task ends without a word only when the worker stops.
    let outcome = told.await.unwrap_or(Outcome::Unknown);
    engine.counts.count(counter(&outcome));
    outcome
}

/// As what an attempt is counted.
fn counter(outcome: &Outcome) -> Counter {
    match outcome {
        Outcome::Committed(_) => Counter::TwoPhaseCommitted,
        Outcome::Pending => Counter::TwoPhasePending,
        Outcome::Unknown => Counter::TwoPhaseUnknown,
        Outcome::Aborted(Reason::Locked(_)) => Counter::TwoPhaseLocked,
        Outcome::Aborted(Reason::WatchBroken) => Counter::TwoPhaseWatch,
        Outcome::Aborted(Reason::Resolved) => Counter::TwoPhaseFenced,
        Outcome::Aborted(Reason::Exists | Reason::ClockApart | Reason::Refused(_) | Reason::AllLost) => Counter::TwoPhaseRefused,
    }
}

/// What an attempt's task holds.
struct Driver {
    engine: Rc<Engine>,
    terms: Terms,
    members: Vec<Member>,
}

impl Driver {
    async fn run(self, order: Order, tell: oneshot::Sender<Outcome>) {
        let mut tell = Some(tell);
        let (mut machine, mut actions) = Coordinator::new(self.terms.tid, self.members.len(), order);
        let mut steps = FuturesUnordered::new();
        steps.push(tokio::time::sleep(self.engine.config.patience).map(|()| Event::Impatient).boxed_local());
        loop {
            if !self.act(actions, &mut steps, &mut tell) {
                return;
            }
            let Some(event) = steps.next().await else { return };
            if let Event::Commit(at, State::Gone | State::Aborted) = event
                && self.members[at].has_failed_over()
            {
                (machine, actions) = machine.on(self.engine.unix_ms(), Event::FailedOver(at));
                if !self.act(actions, &mut steps, &mut tell) {
                    return;
                }
            }
            (machine, actions) = machine.on(self.engine.unix_ms(), event);
        }
    }

    /// Does what the machine asks for; false when nothing follows.
    fn act<'a>(
        &'a self,
        actions: Actions,
        steps: &mut FuturesUnordered<LocalBoxFuture<'a, Event>>,
        tell: &mut Option<oneshot::Sender<Outcome>>,
    ) -> bool {
        let (engine, terms) = (&self.engine, &self.terms);
        for action in actions {
            match action {
                Action::Send(at, step) => steps.push(self.members[at].send(engine, terms, at, step).boxed_local()),
                Action::Resend(at, step, refused) => steps.push(
                    async move {
                        self.members[at].prepare_again(engine, refused).await;
                        self.members[at].send(engine, terms, at, step).await
                    }
                    .boxed_local(),
                ),
                Action::Wait(at, locked) => steps.push(self.wait(at, locked).boxed_local()),
                Action::Tell(outcome) => {
                    // The client may have gone.
                    let _ = tell.take().map(|tell| tell.send(outcome));
                }
                Action::Repair(at) => {
                    engine.counts.count(Counter::Reapplied);
                    tracing::error!(tid = %terms.tid, participant = %self.members[at].batch.participant, "a shard lost its part of a committed transaction; applying it again")
                }
                Action::Torn(at) => {
                    engine.counts.count(Counter::Torn);
                    tracing::error!(tid = %terms.tid, participant = %self.members[at].batch.participant, "a shard lost its part of a committed transaction for good")
                }
                Action::Forget => engine.forget(terms.tid, self.members.iter().map(|member| member.batch.participant.clone())),
                Action::Done => return false,
            }
        }
        true
    }

    /// Waits while it holds locks: no longer than its own lease, so that nobody takes it for dead.
    async fn wait(&self, at: usize, locked: Locked) -> Event {
        let engine = &self.engine;
        let batch = &self.members[at].batch;
        let deadline = Instant::now() + engine.config.lease / 2;
        let mut locked = Some(locked);
        let mut tries = 0;
        while Instant::now() < deadline {
            let _ = tokio::time::timeout_at(deadline, engine.wait_for_lock(batch, locked, tries)).await;
            tries += 1;
            locked = engine.owner(batch).await;
            if locked.is_none() {
                return Event::Free(at);
            }
        }
        Event::GaveUp(at)
    }
}

impl Engine {
    /// Waits after an attempt that met `locked`, holding nothing.
    async fn give_way(&self, locked: Locked, parts: &BTreeMap<Place, Part>, tries: u32, proto: Proto) {
        for (place, part) in parts {
            let Ok(batch) = self.batch_of_part(*place, part, proto) else { continue };
            if let Some(found) = self.owner(&batch).await.filter(|found| found.owner == locked.owner) {
                return self.wait_for_lock(&batch, Some(found), tries).await;
            }
        }
    }

    /// Refuses a transaction whose records a shard might evict.
    fn refuse_eviction<'a>(&self, places: impl Iterator<Item = &'a Place>) -> Result<(), ExecError> {
        if self.config.allow_eviction {
            return Ok(());
        }
        let (map, facts) = (self.upstreams.map(), self.topology.facts());
        for shard in places.filter_map(|place| map.shard(place.shard)) {
            if let Some(facts) = facts.get(&shard.address).filter(|facts| facts.maxmemory_policy.starts_with("allkeys")) {
                return Err(ExecError::Rejected(error_reply::eviction(&shard.name, &facts.maxmemory_policy)));
            }
        }
        Ok(())
    }
}

/// Puts the replies of the participants' batches into the order of the client's commands.
fn replies_of(parts: &BTreeMap<Place, Part>, replies: Vec<Option<Vec<Bytes>>>) -> Result<Executed, ExecError> {
    let count = parts.values().map(|part| part.commands.len()).sum();
    let mut placed = Vec::with_capacity(count);
    for (part, replies) in parts.values().zip(replies) {
        let replies = replies.filter(|replies| replies.len() == part.commands.len());
        let missing = replies.is_none() && !part.commands.is_empty();
        if missing {
            return Err(ExecError::TxnPending);
        }
        placed.extend(part.commands.iter().map(|(position, _)| *position).zip(replies.unwrap_or_default()));
    }
    Ok(Executed::Replies(in_order(count, placed.into_iter())))
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
