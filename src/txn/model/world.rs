//! Participants, processes and the messages between them.

use std::collections::BTreeSet;

use super::{Mutant, Spec};
use crate::txn::fence::{Record, Staged};
use crate::txn::state::{Action, Actions, Coordinator, Event, Order, Outcome, Resolver, Step};
use crate::txn::{KeyLock, LockMode, Locked, Participant, State, TxnId, prepare, reapply};

/// All there is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    shards: Vec<Shard>,
    coordinators: Vec<Coordinator>,
    /// `None`: done.
    resolvers: Vec<Option<Resolver>>,
    /// Steps whose senders wait for the answer.
    sent: BTreeSet<Sent>,
    /// Steps whose senders have given up.
    orphans: BTreeSet<Sent>,
    /// Coordinators that wait for a lock.
    waiting: BTreeSet<(usize, usize)>,
    /// Transactions whose coordinator has said that they may be forgotten.
    forgettable: BTreeSet<usize>,
    told: Vec<Told>,
    /// 0: young; 1: too old to be prepared; 2: too old to be believed.
    ages: Vec<u8>,
    losses: usize,
    wipes: usize,
    pub(super) torn: bool,
}

/// A participant: one key, its lock, and a record for each transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Shard {
    lock: Option<usize>,
    records: Vec<Cell>,
    /// Which transactions took a prepare back.
    rolled_back: BTreeSet<usize>,
    /// What was applied, in order.
    log: Vec<usize>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Cell {
    #[default]
    Absent,
    Prepared,
    Committed,
    Aborted,
}

/// A step under way. The number tells one sending from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Sent {
    from: From,
    transaction: usize,
    /// The participant, and its number in the sender's list.
    to: usize,
    at: usize,
    step: Step,
    again: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum From {
    Coordinator,
    Resolver(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Told {
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
    Straggle(Sent),
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
            orphans: BTreeSet::new(),
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
            world.coordinators.push(coordinator);
            world.act(spec, From::Coordinator, transaction, actions);
        }
        world
    }

    pub(super) fn possible(&self, spec: &Spec, acts: &mut Vec<Act>) {
        acts.extend(self.sent.iter().copied().map(Act::Deliver));
        if self.losses < spec.losses {
            acts.extend(self.sent.iter().copied().map(Act::GiveUp));
        }
        acts.extend(self.orphans.iter().copied().map(Act::Straggle));
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
                self.hear(spec, sent, event);
            }
            Act::GiveUp(sent) => {
                self.sent.remove(&sent);
                self.orphans.insert(sent);
                self.losses += 1;
                let event = match (spec.mutant, sent.step) {
                    (Some(Mutant::AbortOnTimeout), Step::Prepare) => Event::Prepare(sent.at, prepare::Answer::Exists),
                    (Some(Mutant::PrepareResent), Step::Prepare) => {
                        self.sent.insert(Sent { again: true, ..sent });
                        return;
                    }
                    _ => Event::Lost(sent.at, sent.step),
                };
                self.hear(spec, sent, event);
                if spec.mutant == Some(Mutant::ReapplyAfterLostCommit) && sent.from == From::Coordinator {
                    self.hear(spec, sent, Event::FailedOver(sent.at));
                }
            }
            Act::Straggle(sent) => {
                self.orphans.remove(&sent);
                self.execute(spec, sent);
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
        let (coordinator, actions) = self.coordinators[transaction].clone().on(now_ms, event);
        self.coordinators[transaction] = coordinator;
        self.act(spec, From::Coordinator, transaction, actions);
    }

    fn act(&mut self, _spec: &Spec, from: From, transaction: usize, actions: Actions) {
        for action in actions {
            match action {
                Action::Send(at, step) | Action::Resend(at, step, _) => {
                    let to = match from {
                        From::Coordinator => at,
                        From::Resolver(index) => place(self.resolvers[index].as_ref().unwrap().participant(at)),
                    };
                    let mut sent = Sent { from, transaction, to, at, step, again: false };
                    sent.again = self.orphans.contains(&sent);
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
            Step::Reapply => Event::Reapply(at, shard.reapply(transaction, age)),
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

impl Shard {
    fn state(&self, transaction: usize) -> State {
        match self.records[transaction] {
            Cell::Absent => State::Gone,
            Cell::Prepared => State::Prepared,
            Cell::Committed => State::Committed(None),
            Cell::Aborted => State::Aborted,
        }
    }

    fn prepare(&mut self, mutant: Option<Mutant>, transaction: usize, age: u8) -> prepare::Answer {
        if self.records[transaction] != Cell::Absent {
            return prepare::Answer::Found(self.state(transaction));
        }
        if age > 0 && mutant != Some(Mutant::NoAgeCheck) {
            return prepare::Answer::ClockApart;
        }
        match self.lock {
            Some(_) if mutant == Some(Mutant::CommitWhenAnyPrepared) => return prepare::Answer::Found(State::Prepared),
            Some(owner) if mutant != Some(Mutant::NoLockCheck) => return prepare::Answer::Locked(locked(owner)),
            _ => {}
        }
        self.lock = Some(transaction);
        self.records[transaction] = Cell::Prepared;
        prepare::Answer::Found(State::Prepared)
    }

    fn reapply(&mut self, transaction: usize, age: u8) -> reapply::Answer {
        match (self.records[transaction], self.lock) {
            (Cell::Committed, _) => {}
            _ if age == 2 => return reapply::Answer::TooLate,
            (_, Some(owner)) if owner != transaction => return reapply::Answer::Locked(locked(owner)),
            _ => self.finish(transaction),
        }
        reapply::Answer::Found(State::Committed(None))
    }

    fn finish(&mut self, transaction: usize) {
        self.log.push(transaction);
        self.take_back(transaction, Cell::Committed);
    }

    fn take_back(&mut self, transaction: usize, cell: Cell) {
        self.lock = self.lock.filter(|owner| *owner != transaction);
        self.records[transaction] = cell;
    }

    fn applied(&self, transaction: usize) -> usize {
        self.log.iter().filter(|applied| **applied == transaction).count()
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

/// What must always hold.
impl World {
    fn transactions(&self) -> std::ops::Range<usize> {
        0..self.told.len()
    }

    /// Once applied anywhere, nowhere taken back and nowhere fenced off. (A fence after all is forgotten leaves a tombstone; it is harmless.)
    pub(super) fn agrees(&self) -> bool {
        self.transactions().all(|transaction| {
            let applied = self.shards.iter().any(|shard| shard.applied(transaction) > 0);
            let refused = self.shards.iter().any(|shard| {
                let fenced = shard.records[transaction] == Cell::Aborted && shard.applied(transaction) == 0;
                fenced || shard.rolled_back.contains(&transaction)
            });
            !(applied && refused)
        })
    }

    pub(super) fn is_applied(&self) -> bool {
        self.shards.iter().any(|shard| shard.applied(0) > 0)
    }

    pub(super) fn applied_once(&self) -> bool {
        self.transactions().all(|transaction| self.shards.iter().all(|shard| shard.applied(transaction) <= 1))
    }

    pub(super) fn locks_are_owned(&self) -> bool {
        self.shards.iter().all(|shard| {
            let prepared: Vec<_> = self.transactions().filter(|transaction| shard.records[*transaction] == Cell::Prepared).collect();
            prepared == Vec::from_iter(shard.lock)
        })
    }

    pub(super) fn is_serial(&self) -> bool {
        let full: Vec<_> = self.shards.iter().filter(|shard| shard.log.len() == self.told.len()).collect();
        full.windows(2).all(|pair| pair[0].log == pair[1].log)
    }

    pub(super) fn told_the_truth(&self) -> bool {
        self.transactions().all(|transaction| {
            let mut applied = self.shards.iter().map(|shard| shard.applied(transaction));
            match self.told[transaction] {
                Told::Committed => applied.all(|times| times == 1),
                Told::Aborted => applied.all(|times| times == 0),
                Told::Nothing | Told::Unknown => true,
            }
        })
    }

    /// Nothing is under way and nobody waits.
    pub(super) fn is_quiet(&self) -> bool {
        self.sent.is_empty() && self.orphans.is_empty() && self.waiting.is_empty()
    }

    /// No lock is left, and every client was told something. (An unbelievable answer ends an attempt without cleaning up.)
    pub(super) fn is_clean(&self) -> bool {
        let told = self.told.iter().all(|told| *told != Told::Nothing);
        let resigned = self.told.contains(&Told::Unknown);
        told && (resigned || self.shards.iter().all(|shard| shard.lock.is_none()))
    }
}

fn tid(transaction: usize) -> TxnId {
    TxnId { proxy: 1, incarnation: 1, sequence: transaction as u64, start_ms: 0 }
}

fn locked(owner: usize) -> Locked {
    Locked { owner: tid(owner), lease_left_ms: 1 }
}

fn participant(at: usize) -> Participant {
    Participant::Shard { name: "p".into(), db: at as u32 }
}

fn place(participant: &Participant) -> usize {
    match participant {
        Participant::Shard { db, .. } => *db as usize,
        Participant::Slot(_) => panic!("no cluster here"),
    }
}
