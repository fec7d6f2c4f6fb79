//! Waiting one's turn (protocol §9): a transaction over several participants takes the latches of its keys and a lane first, and those of
//! one worker that wait for the same go together.
//!
//! A transaction holds its keys for two round trips. A queue that lets one at a time through would let a hot key be written a few thousand
//! times a second, however many clients there are. So whoever finds a latch taken, and somebody of its worker already waiting for
//! it with a transaction over the same participants, joins: when their turn comes, their commands become one transaction, one after the
//! other as they came, prepared and committed once, and each client is told its share of the replies. The longer the queue, the larger the
//! companies, so the work that a hot key costs falls as its load grows. Those who find their keys free but all [lanes](super::lane) taken do
//! the same: the work that clients cost falls as there are more of them.
//!
//! A company waits for one thing: the latch that stood in its members' way, or a lane. Latches beyond that it takes only if nobody has to be
//! waited for, so it breaks no order; a member whose other keys are not free goes alone after all, and waits for its latches one by one. So
//! does each of those whom only a lane brought together, when they meet somebody's lock at a shard: it stands in the way of one of them.
//!
//! That is strictly serializable as ever: all of a company are waiting when it sets out and none is answered before it has arrived, so any
//! order between them respects real time; and the one that the shards carry out is the same at all of them, because a batch runs as a
//! whole. What is told to one is true for all: applied, not applied, or not known. Errors of single commands stay the replies of
//! those commands.
//!
//! On its own goes what has a condition (WATCH, MSETNX), since its failing must not be another's, and what needs the native way or is
//! large: see [`joins`]. A watching EXEC whose key was changed by a transaction that it waited for answers nil without asking the shards.
//!
//! A client that has waited for `lock_wait_timeout` leaves its company unless that has set out, and is told that nothing was applied.
//! One that closes its connection stays in line: its EXEC was received, and is carried out as Redis would.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::coordinator::{self, Parts};
use super::engine::{Engine, Executed};
use super::error::ExecError;
use super::lane::Lane;
use super::latch::{Latched, Want, Wanted};
use super::part::survives_script;
use super::watch::Watch;
use crate::metrics::Counter;
use crate::resp::Proto;
use crate::route::Place;

/// Carries out `parts` on all their participants or on none, when their turn comes. [`Executed::WatchBroken`] also says that a key exists that must not.
///
/// # Errors
/// See [`ExecError`].
pub(super) async fn exec(engine: &Rc<Engine>, parts: Parts, watch: Option<Watch>, proto: Proto) -> Result<Executed, ExecError> {
    engine.refuse_eviction(parts.keys())?;
    let deadline = Instant::now() + engine.config.lock_wait_timeout;
    let wanted = engine.latches.wanted(&parts);
    let joins = watch.is_none() && wanted.len() <= MEMBER_KEYS_MAX && joins(&parts, proto);
    let places: Vec<Place> = parts.keys().copied().collect();
    let awaited = match engine.latches.try_take(&wanted) {
        Ok(latched) => {
            let lane = if joins { engine.lanes.try_enter(&places) } else { None };
            if lane.is_some() || !joins {
                return coordinator::exec(engine, &parts, watch, proto, Turn { latched, lane }, Some(deadline)).await;
            }
            engine.counts.count(Counter::LaneWaits);
            Awaited::Lane
        }
        Err(taken) => {
            engine.counts.count(Counter::LockWaits);
            Awaited::Latch(taken)
        }
    };
    let parts = Rc::new(parts);
    if joins && let Some(result) = engine.exec_together(Bound { awaited, places, proto }, &parts, &wanted, deadline).await {
        return result;
    }
    let latched = engine.turn(&wanted, deadline).await?;
    let watched = parts.iter().flat_map(|(place, part)| part.watched.iter().map(move |key| (place, key)));
    if watch.is_some() && latched.saw_change_of(watched) {
        engine.counts.count(Counter::TwoPhaseWatch);
        return Ok(Executed::WatchBroken);
    }
    coordinator::exec(engine, &parts, watch, proto, latched.into(), Some(deadline)).await
}

/// What a transaction has been let go with: given up when it is over, or has lasted for too long.
pub(super) struct Turn {
    latched: Latched,
    lane: Option<Lane>,
}

impl Turn {
    /// Gives up the lane only.
    pub(super) fn leave_lane(&mut self) {
        self.lane = None;
    }

    /// See [`Latched::set_changed`].
    pub(super) fn set_changed(&mut self) {
        self.latched.set_changed();
    }
}

impl From<Latched> for Turn {
    fn from(latched: Latched) -> Self {
        Self { latched, lane: None }
    }
}

/// Whether `parts` may become part of a larger transaction.
fn joins(parts: &Parts, proto: Proto) -> bool {
    let bytes: usize = commands_of(parts).map(|command| command.request.bytes().len()).sum();
    bytes <= MEMBER_BYTES_MAX
        && parts.values().all(|part| !part.absent)
        && commands_of(parts).all(|command| survives_script(command, proto))
}

fn commands_of(parts: &Parts) -> impl Iterator<Item = &crate::route::Routed> {
    parts.values().flat_map(|part| part.commands.iter().map(|(_, command)| command))
}

/// The companies that wait in one worker and can still be joined.
pub(super) type Companies = RefCell<HashMap<Bound, Rc<Company>>>;

/// What all of a company have in common.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Bound {
    awaited: Awaited,
    places: Vec<Place>,
    proto: Proto,
}

/// What a company waits for.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Awaited {
    Latch(Want),
    Lane,
}

/// Transactions that wait together.
#[derive(Default)]
pub(super) struct Company {
    members: RefCell<Vec<Member>>,
    /// What was in the queue was made one transaction: nobody joins any more, or leaves.
    set_out: Cell<bool>,
}

/// One transaction of a company.
struct Member {
    parts: Rc<Parts>,
    wanted: Wanted,
    deadline: Instant,
    tell: oneshot::Sender<Told>,
}

/// What a member is told: nothing when it has to go alone.
type Told = Option<Result<Executed, ExecError>>;

impl Engine {
    /// Waits for `wanted`, until `deadline`.
    pub(super) async fn turn(&self, wanted: &Wanted, deadline: Instant) -> Result<Latched, ExecError> {
        timeout_at(deadline, self.latches.take(wanted)).await.map_err(|_| {
            self.counts.count(Counter::LockTimeouts);
            ExecError::LockWait
        })
    }

    /// Carries out `parts` in company; `None` if it has to go alone, with nothing done.
    async fn exec_together(self: &Rc<Self>, bound: Bound, parts: &Rc<Parts>, wanted: &Wanted, deadline: Instant) -> Told {
        let (tell, mut told) = oneshot::channel();
        let company = self.join(bound, Member { parts: Rc::clone(parts), wanted: wanted.clone(), deadline, tell });
        let result = match timeout_at(deadline, &mut told).await {
            Err(_) if !company.set_out.get() => {
                self.counts.count(Counter::LockTimeouts);
                return Some(Err(ExecError::LockWait));
            }
            Err(_) => told.await,
            Ok(result) => result,
        };
        // The company's task ends without a word only when the worker stops.
        match result.unwrap_or(Some(Err(ExecError::TxnUnknown))) {
            // Nothing was applied, and whoever still has time tries on.
            Some(Err(ExecError::LockWait | ExecError::Unreachable)) if Instant::now() < deadline => None,
            result => result,
        }
    }

    /// Adds `member` to the company that waits for the same, or to a new one.
    fn join(self: &Rc<Self>, bound: Bound, member: Member) -> Rc<Company> {
        let mut companies = self.companies.borrow_mut();
        if let Some(company) = companies.get(&bound)
            && company.members.borrow().len() < COMPANY_MAX
        {
            company.members.borrow_mut().push(member);
            return Rc::clone(company);
        }
        let company = Rc::new(Company { members: RefCell::new(vec![member]), set_out: Cell::new(false) });
        companies.insert(bound.clone(), Rc::clone(&company));
        let (engine, waiting) = (Rc::clone(self), Rc::clone(&company));
        self.tasks.borrow_mut().spawn_local(async move { engine.set_out(bound, waiting).await });
        company
    }

    /// Waits for the company's turn, carries out what it came for, and tells everybody.
    async fn set_out(self: Rc<Self>, bound: Bound, company: Rc<Company>) {
        let (mut latched, lane) = match bound.awaited {
            Awaited::Latch(taken) => (self.latches.take(&taken.into()).await, None),
            Awaited::Lane => (self.latches.nothing(), self.lanes.enter(&bound.places).await),
        };
        {
            let mut companies = self.companies.borrow_mut();
            // One that was full has been replaced.
            if companies.get(&bound).is_some_and(|open| Rc::ptr_eq(open, &company)) {
                companies.remove(&bound);
            }
        }
        company.set_out.set(true);
        // Whoever has gone is left behind, and whoever wants more than can be had now.
        let (members, alone): (Vec<Member>, Vec<Member>) =
            company.members.take().into_iter().partition(|member| !member.tell.is_closed() && latched.try_add(&member.wanted).is_ok());
        alone.into_iter().for_each(|member| member.told(None));
        let Some(deadline) = members.iter().map(|member| member.deadline).min() else { return };
        let deadline = (bound.awaited != Awaited::Lane).then_some(deadline);
        let result = coordinator::exec(&self, &merged(&members), None, bound.proto, Turn { latched, lane }, deadline).await;
        let Ok(Executed::Replies(replies)) = result else {
            members.into_iter().for_each(|member| member.told(Some(result.clone())));
            return;
        };
        self.counts.add(Counter::TwoPhaseCommitted, members.len() as u64 - 1);
        let mut replies = replies.into_iter();
        for member in members {
            let count = commands_of(&member.parts).count();
            let share: Vec<Bytes> = replies.by_ref().take(count).collect();
            member.told(Some(Ok(Executed::Replies(share))));
        }
    }
}

impl Member {
    fn told(self, result: Told) {
        // The client may have gone.
        let _ = self.tell.send(result);
    }
}

/// One transaction of all commands, in the order of `members`.
fn merged(members: &[Member]) -> Parts {
    let (mut parts, mut before): (Parts, usize) = (BTreeMap::new(), 0);
    for member in members {
        for (place, part) in &*member.parts {
            let commands = part.commands.iter().map(|(position, command)| (before + position, command.clone()));
            parts.entry(*place).or_default().commands.extend(commands);
        }
        before += commands_of(&member.parts).count();
    }
    parts
}

/// A company's script must not keep the shards from other clients for long.
const COMPANY_MAX: usize = 64;

/// What has more keys would often go alone after all.
const MEMBER_KEYS_MAX: usize = 16;

/// What is larger gains little by company.
const MEMBER_BYTES_MAX: usize = 4 * 1024;
