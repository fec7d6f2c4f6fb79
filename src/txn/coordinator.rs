//! EXEC over several participants: one attempt after another until one is decided.
//!
//! Each attempt is a [`Coordinator`] machine with a task of its own, which outlives the client: a transaction that was begun is brought
//! to its end whoever still listens. The first attempt prepares everywhere at once and gives way to any lock; later ones prepare in
//! order and may wait (protocol §9). So does the only attempt of whoever watches keys that other proxies are after.

use std::collections::BTreeMap;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::{FusedFuture as _, FutureExt as _};
use futures::stream::FuturesUnordered;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::drive::Member;
use super::engine::{Engine, Executed};
use super::error::ExecError;
use super::part::Part;
use super::participant::participants_text;
use super::snapshot::in_order;
use super::state::{Action, Actions, Coordinator, Event, Order, Outcome, Reason, Step};
use super::turn::Turn;
use super::wait::Patience;
use super::watch::Watch;
use super::{Locked, Refused, State, Terms};
use crate::metrics::Counter;
use crate::resp::{Proto, error_reply};
use crate::route::Place;

/// What each participant has to do.
pub(super) type Parts = BTreeMap<Place, Part>;

/// Carries out `parts` on all their participants or on none, while it is their turn. [`Executed::WatchBroken`] also says that a key
/// exists that must not. Locks of others are waited for until `deadline`; without one there is one attempt, and where another would
/// follow, an error that says that nothing was applied.
pub(super) async fn exec(
    engine: &Rc<Engine>,
    parts: &Parts,
    mut watch: Option<Watch>,
    proto: Proto,
    turn: Turn,
    deadline: Option<Instant>,
) -> Result<Executed, ExecError> {
    let watching = watch.is_some();
    let mut turn = Some(turn);
    let mut order = watch.as_ref().map_or(Order::Parallel, Watch::order);
    let mut tries = 0;
    loop {
        engine.refuse_unconfirmable(parts.keys()).await?;
        let mut members = Vec::with_capacity(parts.len());
        for (place, part) in parts {
            let lease = watch.as_mut().and_then(|watch| watch.take(*place));
            members.push(Member::new(engine.batch_of_part(*place, part, proto)?, lease));
        }
        let (outcome, confirmed) = within_lease(engine, &mut turn, attempt(engine, members, order, proto)).await;
        if let Some(turn) = &mut turn {
            turn.leave_lane();
            if !matches!(outcome, Outcome::Aborted(_)) {
                turn.set_changed();
            }
        }
        let is_over = deadline.is_none_or(|deadline| Instant::now() >= deadline);
        let reason = match outcome {
            Outcome::Committed(_) if !confirmed => return Err(ExecError::Unconfirmed),
            Outcome::Committed(replies) => return replies_of(parts, replies),
            Outcome::Pending => return Err(ExecError::TxnPending),
            Outcome::Unknown => return Err(ExecError::TxnUnknown),
            Outcome::Aborted(reason) => reason,
        };
        match reason {
            Reason::WatchBroken | Reason::Exists => return Ok(Executed::WatchBroken),
            // The first prepare consumed the watches.
            Reason::Locked(_) | Reason::Resolved if watching => return Ok(Executed::WatchBroken),
            Reason::Locked(_) | Reason::Resolved if is_over => {
                engine.counts.add(Counter::LockTimeouts, u64::from(deadline.is_some()));
                return Err(ExecError::LockWait);
            }
            // The next attempt waits, at the right place.
            Reason::Locked(_) => {}
            Reason::Resolved => engine.pause(tries).await,
            // A slot that moves key by key takes no prepare until it has moved.
            Reason::Refused(refusal) if !watching && refusal.text.starts_with(b"TRYAGAIN") => {
                if is_over {
                    return Err(ExecError::Unreachable);
                }
                engine.pause(tries).await;
            }
            Reason::Refused(refusal) => return Err(ExecError::Refused([b"-", &refusal.text[..], b"\r\n"].concat().into())),
            Reason::ClockApart => return Err(ExecError::Rejected(error_reply::CLOCK_APART.to_owned())),
            Reason::AllLost => return Err(ExecError::Rejected(error_reply::TXN_LOST.to_owned())),
        }
        order = Order::Ordered;
        tries += 1;
    }
}

/// The outcome of `attempt`. When that takes longer than a lease, `turn` is given up: who comes next may resolve what it meets.
async fn within_lease(engine: &Engine, turn: &mut Option<Turn>, attempt: impl Future<Output = Told>) -> Told {
    let mut attempt = pin!(attempt);
    if turn.is_some() {
        match tokio::time::timeout(engine.config.lease, &mut attempt).await {
            Ok(outcome) => return outcome,
            Err(_) => *turn = None,
        }
    }
    attempt.await
}

/// Runs one attempt in a task of its own and returns what its client is to be told, and whether replicas have confirmed it as far as it
/// was asked for.
async fn attempt(engine: &Rc<Engine>, members: Vec<Member>, order: Order, proto: Proto) -> Told {
    let tid = engine.ids.borrow_mut().next(engine.unix_ms());
    let terms = Terms {
        tid,
        participants: participants_text(members.iter().map(|member| &member.batch.participant)).into(),
        lease_ms: millis(engine.config.lease),
        proto,
        kept_reply_bytes_max: u32::try_from(engine.config.kept_reply_bytes_max).unwrap_or(u32::MAX),
    };
    let (tell, told) = oneshot::channel();
    let driver = Driver { engine: Rc::clone(engine), terms, members };
    engine.tasks.borrow_mut().spawn_local(async move { driver.run(order, tell).await });
    // The task ends without a word only when the worker stops.
    let (outcome, confirmed) = told.await.unwrap_or((Outcome::Unknown, false));
    engine.counts.count(counter(&outcome));
    (outcome, confirmed)
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

/// What a client is told, and whether replicas have confirmed it.
type Told = (Outcome, bool);

/// What an attempt's task holds.
struct Driver {
    engine: Rc<Engine>,
    terms: Terms,
    members: Vec<Member>,
}

/// What takes a while, and ends in one event.
enum Errand {
    /// A step at a participant, after what its refusal asks for if it was sent before.
    Send(usize, Step, Option<Refused>),
    /// Waiting for a lock at one.
    Wait(usize, Locked),
}

impl Driver {
    async fn run(self, order: Order, tell: oneshot::Sender<Told>) {
        let mut tell = Some(tell);
        let (mut machine, mut actions) = Coordinator::new(self.terms.tid, self.members.len(), order);
        let mut steps = FuturesUnordered::new();
        let mut patience = pin!(tokio::time::sleep(self.engine.config.patience).map(|()| Event::Impatient).fuse());
        loop {
            if !self.act(actions, &mut tell, |errand| steps.push(self.carry_out(errand))) {
                return;
            }
            let event = tokio::select! {
                biased;
                Some(event) = steps.next() => event,
                event = &mut patience, if !patience.is_terminated() => event,
                else => return,
            };
            if let Event::Commit(at, State::Gone | State::Aborted) = event
                && self.members[at].has_failed_over()
            {
                (machine, actions) = machine.on(self.engine.unix_ms(), Event::FailedOver(at));
                if !self.act(actions, &mut tell, |errand| steps.push(self.carry_out(errand))) {
                    return;
                }
            }
            (machine, actions) = machine.on(self.engine.unix_ms(), event);
        }
    }

    /// Does what the machine asks for, or has it done by `begin`; false when nothing follows.
    fn act(&self, actions: Actions, tell: &mut Option<oneshot::Sender<Told>>, mut begin: impl FnMut(Errand)) -> bool {
        let (engine, terms) = (&self.engine, &self.terms);
        for action in actions {
            match action {
                Action::Send(at, step) => begin(Errand::Send(at, step, None)),
                Action::Resend(at, step, refused) => begin(Errand::Send(at, step, Some(refused))),
                Action::Wait(at, locked) => begin(Errand::Wait(at, locked)),
                Action::Tell(outcome) => {
                    // The client may have gone.
                    let confirmed = !self.members.iter().any(Member::is_unconfirmed);
                    let _ = tell.take().map(|tell| tell.send((outcome, confirmed)));
                }
                Action::Repair(at) => {
                    engine.counts.count(Counter::Reapplied);
                    tracing::error!(tid = %terms.tid, participant = %self.members[at].batch.participant, "a shard lost its part of a committed transaction; applying it again")
                }
                Action::Torn(at) => {
                    engine.counts.count(Counter::Torn);
                    tracing::error!(tid = %terms.tid, participant = %self.members[at].batch.participant, "a shard lost its part of a committed transaction for good")
                }
                Action::Forget => engine.forget(terms.tid, &self.members),
                Action::Done => return false,
            }
        }
        true
    }

    async fn carry_out(&self, errand: Errand) -> Event {
        match errand {
            Errand::Send(at, step, refused) => {
                let member = &self.members[at];
                if let Some(refused) = refused {
                    member.prepare_again(&self.engine, refused).await;
                }
                member.send(&self.engine, &self.terms, at, step).await
            }
            // Seldom: its room is not kept for every step.
            Errand::Wait(at, locked) => Box::pin(self.wait(at, locked)).await,
        }
    }

    /// Waits while it holds locks: no longer than its own lease, so that nobody takes it for dead.
    ///
    /// Whoever waits here competes with a proxy that may hand the keys on to the next of its own clients as soon as they are free; its
    /// chance is the round trip in between. So it does not look whether they are free, it asks for them, and at first without a pause.
    async fn wait(&self, at: usize, locked: Locked) -> Event {
        if self.is_worth_asking(at, locked).await {
            return Event::Free(at);
        }
        // What is asked for all the same, because it is decided, waits anew.
        self.members[at].patience.set(None);
        Event::GaveUp(at)
    }

    /// Waits as [`wait`](Self::wait) does; false when it has waited for long enough.
    async fn is_worth_asking(&self, at: usize, locked: Locked) -> bool {
        let engine = &self.engine;
        let member = &self.members[at];
        let mut patience = member.patience.get().unwrap_or_else(|| Patience::new(engine.config.lease / 2));
        patience.meet(locked.owner);
        member.patience.set(Some(patience));
        if Instant::now() >= patience.deadline {
            return false;
        }
        let is_short = member.batch.commands.iter().map(|command| command.request.bytes().len()).sum::<usize>() < ASK_BYTES_MAX;
        let pauses = patience.pauses();
        if is_short && locked.lease_left_ms > 0 && pauses.is_none() {
            engine.counts.count(Counter::LockWaits);
            return true;
        }
        let mut locked = Some(locked);
        let mut tries = pauses.unwrap_or(0);
        while Instant::now() < patience.deadline {
            let _ = tokio::time::timeout_at(patience.deadline, engine.wait_for_lock(&member.batch, locked, tries)).await;
            tries += 1;
            if is_short {
                return true;
            }
            locked = engine.owner(&member.batch).await;
            if locked.is_none() {
                return true;
            }
        }
        false
    }
}

impl Engine {
    /// Refuses a transaction whose records a shard might evict.
    pub(super) fn refuse_eviction<'a>(&self, places: impl Iterator<Item = &'a Place>) -> Result<(), ExecError> {
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
fn replies_of(parts: &Parts, replies: Vec<Option<Vec<Bytes>>>) -> Result<Executed, ExecError> {
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

/// Commands shorter than this are sent to ask whether a lock is free; for others that would be a waste.
const ASK_BYTES_MAX: usize = 16 * 1024;

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
