//! Participants, processes and the messages between them.

use std::collections::{BTreeMap, BTreeSet};

use super::shard::{Cell, Shard};
use super::{Mutant, Spec};
use crate::txn::fence::{Record, Staged};
use crate::txn::state::{Action, Actions, Coordinator, Event, Order, Outcome, Resolver, Step};
use crate::txn::{KeyLock, LockMode, Participant, State, TxnId, prepare, reapply};

/// All there is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) shards: Vec<Shard>,
    /// `None`: done.
    pub(super) coordinators: Vec<Option<Coordinator>>,
    /// `None`: done. In an order of their own, so that it makes no difference who came first.
    pub(super) resolvers: Vec<Option<Resolver>>,
    /// Steps whose senders wait for the answer.
    pub(super) sent: BTreeSet<Sent>,
    /// Steps whose senders have given up, and how often.
    pub(super) orphans: BTreeMap<Orphan, u8>,
    /// Coordinators that wait for a lock.
    pub(super) waiting: BTreeSet<(usize, usize)>,
    /// Transactions whose coordinator has said that they may be forgotten.
    forgettable: BTreeSet<usize>,
    pub(super) told: Vec<Told>,
    /// 0: young; 1: too old to be prepared; 2: too old to be believed.
    ages: Vec<u8>,
    losses: usize,
    pub(super) wipes: usize,
    pub(super) torn: bool,
}

/// A step under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Sent {
    pub(super) from: From,
    pub(super) transaction: usize,
    /// The participant, and its number in the sender's list.
    pub(super) to: usize,
    pub(super) at: usize,
    pub(super) step: Step,
}

/// A step that may be executed any time, or never, without anybody's hearing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Orphan {
    pub(super) transaction: usize,
    pub(super) to: usize,
    pub(super) step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum From {
    Coordinator,
    Resolver(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Told {
    Nothing,
    Committed,
    Aborted,
    Unknown,
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// A step is executed and its sender hears the answer.
    Deliver(Sent),
    /// Its sender gives up.
    GiveUp(Sent),
    /// A step that nobody waits for is executed.
    Straggle(Orphan),
    /// The lock that a coordinator waits for is free.
    Free(usize, usize),
    /// It has waited long enough.
    StopWaiting(usize, usize),
    /// Somebody meets the lock of a transaction at a participant.
    Resolve(usize, usize),
    Forget(usize, usize),
    GrowOld(usize),
    DeleteOld(usize, usize),
    Wipe(usize),
    LoseRecord(usize, usize),
    Evict(usize, usize),
}

impl World {
    pub(super) fn new(spec: &Spec) -> Self {
        let shard = Shard { records: vec![Cell::Absent; spec.transactions], ..Shard::default() };
        let mut world = Self {
            shards: vec![shard; spec.participants],
            coordinators: Vec::new(),
            resolvers: Vec::new(),
            sent: BTreeSet::new(),
            orphans: BTreeMap::new(),
            waiting: BTreeSet::new(),
            forgettable: BTreeSet::new(),
            told: vec![Told::Nothing; spec.transactions],
            ages: vec![0; spec.transactions],
            losses: 0,
            wipes: 0,
            torn: false,
        };
        for transaction in 0..spec.transactions {
            let order = if spec.ordered && transaction > 0 { Order::Ordered } else { Order::Parallel };
            let (coordinator, actions) = Coordinator::new(tid(transaction), spec.participants, order);
            world.coordinators.push(Some(coordinator));
            world.act(spec, From::Coordinator, transaction, actions);
        }
        world
    }

    pub(super) fn possible(&self, spec: &Spec, acts: &mut Vec<Act>) {
        acts.extend(self.sent.iter().copied().map(Act::Deliver));
        if self.losses < spec.losses {
            acts.extend(self.sent.iter().copied().map(Act::GiveUp));
        }
        acts.extend(self.orphans.keys().copied().map(Act::Straggle));
        for &(transaction, at) in &self.waiting {
            acts.push(if self.shards[at].lock.is_none() { Act::Free(transaction, at) } else { Act::StopWaiting(transaction, at) });
        }
        for transaction in 0..spec.transactions {
            for (at, shard) in self.shards.iter().enumerate() {
                self.possible_at(spec, transaction, at, shard, acts);
            }
            if spec.ages && self.ages[transaction] < 2 {
                acts.push(Act::GrowOld(transaction));
            }
        }
    }

    fn possible_at(&self, spec: &Spec, transaction: usize, at: usize, shard: &Shard, acts: &mut Vec<Act>) {
        let cell = shard.records[transaction];
        let met = cell == Cell::Prepared || spec.lone_locks && shard.lock == Some(transaction);
        if met && self.resolvers.len() < spec.resolvers {
            acts.push(Act::Resolve(transaction, at));
        }
        if cell == Cell::Committed && self.forgettable.contains(&transaction) {
            acts.push(Act::Forget(transaction, at));
        }
        let everywhere = self.shards.iter().all(|shard| matches!(shard.records[transaction], Cell::Committed | Cell::Absent));
        if self.ages[transaction] == 2 && (cell == Cell::Aborted || cell == Cell::Committed && everywhere) {
            acts.push(Act::DeleteOld(transaction, at));
        }
        if self.wipes < spec.wipes {
            match cell {
                Cell::Prepared => acts.push(if spec.lone_locks { Act::LoseRecord(transaction, at) } else { Act::Wipe(at) }),
                // A record that is lost without what it stands for is beyond repair where resolvers commit too.
                Cell::Committed if spec.resolvers == 0 => acts.push(Act::LoseRecord(transaction, at)),
                Cell::Committed | Cell::Absent | Cell::Aborted => {}
            }
        }
        let evicted = match spec.mutant {
            Some(Mutant::CommittedExpires) => Some(Cell::Committed),
            Some(Mutant::TombstonesEvicted) => Some(Cell::Aborted),
            _ => None,
        };
        acts.extend((evicted == Some(cell)).then_some(Act::Evict(transaction, at)));
    }

    pub(super) fn perform(&mut self, spec: &Spec, act: Act) {
        match act {
            Act::Deliver(sent) => {
                self.sent.remove(&sent);
                let event = self.execute(spec, sent);
                if let Event::Reapply(_, reapply::Answer::Found(State::Prepared)) = event {
                    // txn/drive.rs: the batch has to run natively, so commit follows.
                    self.sent.insert(Sent { step: Step::Commit, ..sent });
                } else {
                    self.hear(spec, sent, event);
                }
            }
            Act::GiveUp(sent) => {
                self.sent.remove(&sent);
                self.abandon(sent);
                self.losses += 1;
                let event = match (spec.mutant, sent.step) {
                    (Some(Mutant::AbortOnTimeout), Step::Prepare) => Event::Prepare(sent.at, prepare::Answer::Exists),
                    (Some(Mutant::PrepareResent), Step::Prepare) => {
                        self.sent.insert(sent);
                        return;
                    }
                    _ => Event::Lost(sent.at, sent.step),
                };
                self.hear(spec, sent, event);
                if spec.mutant == Some(Mutant::ReapplyAfterLostCommit) && sent.from == From::Coordinator {
                    self.hear(spec, sent, Event::FailedOver(sent.at));
                }
            }
            Act::Straggle(orphan) => {
                let left = self.orphans.remove(&orphan).unwrap_or_default() - 1;
                if left > 0 {
                    self.orphans.insert(orphan, left);
                }
                let Orphan { transaction, to, step } = orphan;
                self.execute(spec, Sent { from: From::Coordinator, transaction, to, at: to, step });
            }
            Act::Free(transaction, at) => self.stop_waiting(spec, transaction, at, Event::Free(at)),
            Act::StopWaiting(transaction, at) => self.stop_waiting(spec, transaction, at, Event::GaveUp(at)),
            Act::Resolve(transaction, at) => {
                let met = KeyLock { key: bytes::Bytes::new(), mode: LockMode::Exclusive };
                let (resolver, actions) = Resolver::new(participant(at), vec![met]);
                self.resolvers.push(Some(resolver));
                self.act(spec, From::Resolver(self.resolvers.len() - 1), transaction, actions);
            }
            Act::Forget(transaction, at)
            | Act::DeleteOld(transaction, at)
            | Act::Evict(transaction, at)
            | Act::LoseRecord(transaction, at) => {
                self.wipes += usize::from(matches!(act, Act::LoseRecord(..)));
                self.shards[at].records[transaction] = Cell::Absent;
            }
            Act::GrowOld(transaction) => self.ages[transaction] += 1,
            Act::Wipe(at) => {
                self.wipes += 1;
                let records = vec![Cell::Absent; spec.transactions];
                self.shards[at] = Shard { records, lock: None, ..std::mem::take(&mut self.shards[at]) };
            }
        }
    }

    /// Nobody waits for the answer to `sent` any more. A look at a record is then nothing.
    fn abandon(&mut self, sent: Sent) {
        let Sent { transaction, to, step, .. } = sent;
        if step != Step::Inspect {
            *self.orphans.entry(Orphan { transaction, to, step }).or_default() += 1;
        }
    }

    fn stop_waiting(&mut self, spec: &Spec, transaction: usize, at: usize, event: Event) {
        self.waiting.remove(&(transaction, at));
        self.coordinator_hears(spec, transaction, event);
    }

    fn hear(&mut self, spec: &Spec, sent: Sent, event: Event) {
        match sent.from {
            From::Coordinator => {
                let early = spec.mutant == Some(Mutant::ForgetBeforeAllCommits) && matches!(event, Event::Commit(_, State::Committed(_)));
                if early {
                    self.forgettable.insert(sent.transaction);
                }
                self.coordinator_hears(spec, sent.transaction, event);
            }
            From::Resolver(index) => {
                let Some(resolver) = self.resolvers[index].take() else { return };
                let (resolver, actions) = resolver.on(event);
                if resolver.verdict().is_none() {
                    self.resolvers[index] = Some(resolver);
                } else if spec.mutant == Some(Mutant::ResolverForgets) {
                    self.forgettable.insert(sent.transaction);
                }
                self.act(spec, sent.from, sent.transaction, actions);
            }
        }
    }

    fn coordinator_hears(&mut self, spec: &Spec, transaction: usize, event: Event) {
        let now_ms = if spec.mutant == Some(Mutant::OldFenceBelieved) { 0 } else { u64::from(self.ages[transaction]) * 300_001 };
        let Some(coordinator) = self.coordinators[transaction].take() else { return };
        let (coordinator, actions) = coordinator.on(now_ms, event);
        let done = actions.contains(&Action::Done);
        self.coordinators[transaction] = Some(coordinator).filter(|_| !done);
        self.act(spec, From::Coordinator, transaction, actions);
        if done {
            let deaf = |sent: &Sent| sent.from == From::Coordinator && sent.transaction == transaction;
            let (gone, heard) = std::mem::take(&mut self.sent).into_iter().partition(deaf);
            self.sent = heard;
            BTreeSet::into_iter(gone).for_each(|sent| self.abandon(sent));
            self.waiting.retain(|(waiting, _)| *waiting != transaction);
        }
    }

    fn act(&mut self, _spec: &Spec, from: From, transaction: usize, actions: Actions) {
        for action in actions {
            match action {
                Action::Send(at, step) | Action::Resend(at, step, _) => {
                    let to = match from {
                        From::Coordinator => at,
                        From::Resolver(index) => place(self.resolvers[index].as_ref().unwrap().participant(at)),
                    };
                    let sent = Sent { from, transaction, to, at, step };
                    assert!(self.sent.insert(sent), "{sent:?} was sent already");
                }
                Action::Wait(at, _) => assert!(self.waiting.insert((transaction, at))),
                Action::Tell(outcome) => {
                    assert_eq!(self.told[transaction], Told::Nothing);
                    self.told[transaction] = match outcome {
                        Outcome::Committed(_) => Told::Committed,
                        Outcome::Aborted(_) => Told::Aborted,
                        Outcome::Pending | Outcome::Unknown => Told::Unknown,
                    };
                }
                Action::Torn(_) => self.torn = true,
                Action::Forget => {
                    self.forgettable.insert(transaction);
                }
                Action::Repair(_) | Action::Done => {}
            }
        }
    }

    /// Does what the step's script does.
    fn execute(&mut self, spec: &Spec, sent: Sent) -> Event {
        let (transaction, at, mutant) = (sent.transaction, sent.at, spec.mutant);
        let age = self.ages[transaction];
        let shard = &mut self.shards[sent.to];
        let cell = shard.records[transaction];
        match sent.step {
            Step::Prepare => Event::Prepare(at, shard.prepare(mutant, transaction, age)),
            Step::Commit => {
                let again = mutant == Some(Mutant::CommitNotIdempotent) && cell == Cell::Committed;
                if cell == Cell::Prepared || again {
                    shard.finish(transaction);
                }
                Event::Commit(at, shard.state(transaction))
            }
            Step::Reapply => Event::Reapply(at, shard.reapply(spec.native, transaction, age)),
            Step::Abort => {
                if cell == Cell::Prepared {
                    shard.rolled_back.insert(transaction);
                    shard.take_back(transaction, Cell::Absent);
                } else if mutant == Some(Mutant::AbortDeletesCommitted) && cell == Cell::Committed {
                    shard.records[transaction] = Cell::Absent;
                }
                Event::Abort(at, shard.state(transaction))
            }
            Step::Fence => {
                if mutant == Some(Mutant::FenceAbortsPrepared) && cell == Cell::Prepared {
                    shard.rolled_back.insert(transaction);
                    shard.take_back(transaction, Cell::Aborted);
                }
                if cell == Cell::Absent && mutant != Some(Mutant::ResolveWithoutFencing) {
                    shard.records[transaction] = Cell::Aborted;
                }
                Event::Fence(at, self.record(transaction, sent.to))
            }
            Step::Inspect | Step::Unlock => {
                if sent.step == Step::Unlock && cell != Cell::Prepared {
                    shard.take_back(transaction, cell);
                }
                Event::Inspect(at, self.record(transaction, sent.to))
            }
        }
    }

    fn record(&self, transaction: usize, at: usize) -> Record {
        let participants = (0..self.shards.len()).map(participant).collect();
        let staged = matches!(self.shards[at].records[transaction], Cell::Prepared | Cell::Committed);
        Record {
            state: self.shards[at].state(transaction),
            age_ms: 0,
            staged: staged.then(|| Staged { start_ms: 0, lease_ms: 0, run_id: String::new(), participants, keys: Vec::new() }),
        }
    }
}

/// One schedule by hand.
impl World {
    /// Executes one step that is under way, if there is one.
    pub(super) fn deliver_next(&mut self, spec: &Spec) -> bool {
        let Some(sent) = self.sent.first().copied() else { return false };
        self.perform(spec, Act::Deliver(sent));
        true
    }

    /// Nothing that coordinators sent will arrive.
    pub(super) fn crash(&mut self) {
        self.sent.clear();
    }

    /// A participant where a lock of the first transaction is met, `home` if possible.
    pub(super) fn prepared_from(&self, home: usize) -> Option<usize> {
        let count = self.shards.len();
        (home..home + count).map(|at| at % count).find(|at| self.shards[*at].records[0] == Cell::Prepared)
    }
}

pub(super) fn tid(transaction: usize) -> TxnId {
    TxnId { proxy: 1, incarnation: 1, sequence: transaction as u64, start_ms: 0 }
}

pub(super) fn participant(at: usize) -> Participant {
    Participant::Shard { name: "p".into(), db: at as u32 }
}

pub(super) fn place(participant: &Participant) -> usize {
    match participant {
        Participant::Shard { db, .. } => *db as usize,
        Participant::Slot(_) => panic!("no cluster here"),
    }
}
