//! Transactions over both participants: the machines of `txn::state`, and what a step does at its server.
//!
//! A crash of the coordinator needs no action of its own: nothing of its is delivered any more, and a resolver may come. What gets
//! lost or comes late is the other model's to check.

use std::collections::BTreeMap;

use super::world::{Act, World, home, participant, share, tid};
use super::{Key, Mutant, Op, Scenario};
use crate::resp::{Value, elements};
use crate::txn::state::{Action, Actions, Coordinator, Event, Order, Outcome, Resolver, Step};
use crate::txn::{Batch, Participant, State};

/// A transaction that was begun.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Transaction {
    client: usize,
    /// Its entry in the history.
    entry: usize,
    op: Op,
    pub(super) servers: Vec<usize>,
    watched: Vec<Key>,
    coordinator: Coordinator,
}

/// A step under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Sent {
    transaction: usize,
    /// `None`: the coordinator.
    resolver: Option<usize>,
    server: usize,
    /// Its number in the sender's list.
    at: usize,
    step: Step,
}

impl World {
    /// `txn/coordinator.rs`: what a client has queued, and what it watches, at `servers`.
    pub(super) fn begin_transaction(&mut self, client: usize, entry: usize, op: Op, servers: Vec<usize>, watched: Vec<Key>) {
        let transaction = self.transactions.len();
        let (coordinator, actions) = Coordinator::new(tid(transaction), servers.len(), Order::Parallel);
        self.transactions.push(Transaction { client, entry, op, servers, watched, coordinator });
        self.send_steps(transaction, None, &actions);
    }

    pub(super) fn resolve(&mut self, transaction: usize, server: usize) {
        let (resolver, actions) = Resolver::new(participant(server), Vec::new());
        self.resolvers.push(Some((transaction, resolver)));
        self.send_steps(transaction, Some(self.resolvers.len() - 1), &actions);
    }

    fn send_steps(&mut self, transaction: usize, resolver: Option<usize>, actions: &Actions) {
        for action in actions {
            let &(Action::Send(at, step) | Action::Resend(at, step, _)) = action else { continue };
            let server = match resolver.and_then(|resolver| self.resolvers[resolver].as_ref()) {
                Some((_, resolver)) => place(resolver.participant(at)),
                None => self.transactions[transaction].servers[at],
            };
            assert!(self.steps.insert(Sent { transaction, resolver, server, at, step }), "a step is under way once");
        }
    }

    /// A step is carried out, and its sender hears of it.
    pub(super) fn step(&mut self, scenario: &Scenario, sent: Sent) {
        self.steps.remove(&sent);
        self.history.begin(self.transactions[sent.transaction].entry);
        let event = self.carry_out(scenario, sent);
        match sent.resolver {
            None => {
                let begun = &mut self.transactions[sent.transaction];
                let (coordinator, actions) = begun.coordinator.clone().on(0, event);
                begun.coordinator = coordinator;
                self.send_steps(sent.transaction, None, &actions);
                for action in actions {
                    match action {
                        Action::Tell(outcome) => self.tell(scenario, sent.transaction, outcome),
                        Action::Torn(_) | Action::Repair(_) | Action::Wait(..) => panic!("nothing was lost: {action:?}"),
                        Action::Send(..) | Action::Resend(..) | Action::Forget | Action::Done => {}
                    }
                }
            }
            Some(index) => {
                let Some((transaction, resolver)) = self.resolvers[index].take() else { return };
                let (resolver, actions) = resolver.on(event);
                if resolver.verdict().is_none() {
                    self.resolvers[index] = Some((transaction, resolver));
                }
                self.send_steps(transaction, Some(index), &actions);
            }
        }
    }

    fn carry_out(&mut self, scenario: &Scenario, sent: Sent) -> Event {
        let Sent { transaction, server, at, step, .. } = sent;
        let Transaction { client, op, servers, watched, .. } = &self.transactions[transaction];
        let (client, all) = (*client, Vec::from_iter(servers.iter().copied().map(participant)));
        let batch: Batch = share(op, watched, server, scenario.has(Mutant::NothingShared));
        let shard = &mut self.servers[server];
        match step {
            Step::Prepare => {
                // Not under way before it is sent on the watching connection: `MULTI, prepare, EXEC`.
                if shard.connections[2 * client + 1].unwatch() && !scenario.has(Mutant::PrepareOutsideOfTheWatch) {
                    return Event::WatchBroken(at);
                }
                Event::Prepare(at, shard.prepare(tid(transaction), &batch, scenario))
            }
            Step::Commit => Event::Commit(at, shard.commit(tid(transaction), &batch, scenario)),
            Step::Abort => Event::Abort(at, shard.abort(tid(transaction), &batch, scenario)),
            Step::Fence => Event::Fence(at, shard.fence(tid(transaction), &batch, all)),
            Step::Inspect | Step::Unlock => Event::Inspect(at, shard.inspect(tid(transaction), &batch, all)),
            Step::Reapply => Event::Reapply(at, crate::txn::reapply::Answer::TooLate),
        }
    }

    /// Where the gate can be turned in a step of its own, by the mutants that have one: closed behind the locks, opened before commit.
    pub(super) fn gates_to_turn(&self, scenario: &Scenario) -> Vec<Act> {
        let behind = |transaction: usize, server: usize| {
            let locked = self.servers[server].state(tid(transaction), &participant(server)) == State::Prepared;
            scenario.has(Mutant::GateBehindLocks) && locked && !self.is_at_the_gate(transaction, server)
        };
        let before = |sent: &&Sent| {
            scenario.has(Mutant::GateBeforeCommit) && sent.step == Step::Commit && self.is_at_the_gate(sent.transaction, sent.server)
        };
        let places = (0..self.transactions.len()).flat_map(|transaction| [(transaction, 0), (transaction, 1)]);
        let closing = places.filter(|(transaction, server)| behind(*transaction, *server));
        let opening = self.steps.iter().filter(before).map(|sent| (sent.transaction, sent.server));
        closing.chain(opening).map(|(transaction, server)| Act::TurnGate { transaction, server }).collect()
    }

    fn is_at_the_gate(&self, transaction: usize, server: usize) -> bool {
        self.servers[server].at_the_gate(&participant(server)).contains(&tid(transaction))
    }

    /// The client hears what became of its transaction.
    fn tell(&mut self, scenario: &Scenario, transaction: usize, outcome: Outcome) {
        let Transaction { client, entry, op, servers, .. } = self.transactions[transaction].clone();
        match outcome {
            Outcome::Committed(replies) => {
                let mut reads = BTreeMap::new();
                for (server, replies) in servers.iter().zip(replies) {
                    let read = op.reads().iter().copied().filter(|key| home(key) == *server);
                    reads.extend(read.zip(replies.unwrap_or_default().iter().map(value)));
                }
                self.complete(entry, reads);
            }
            Outcome::Aborted(_) => self.history.void(entry),
            Outcome::Pending | Outcome::Unknown => panic!("nothing was in doubt"),
        }
        self.next(scenario, client);
    }
}

/// The one character of a value.
pub(super) fn value(frame: &bytes::Bytes) -> u8 {
    match Value::parse(frame) {
        Ok(Value::Bulk(text)) => text[0],
        other => panic!("{other:?} is not a value"),
    }
}

/// The values of an array.
pub(super) fn values(frame: &bytes::Bytes) -> Vec<u8> {
    elements(frame).unwrap().unwrap().iter().map(value).collect()
}

fn place(participant: &Participant) -> usize {
    match participant {
        Participant::Shard { db, .. } => *db as usize,
        Participant::Slot(_) => panic!("no cluster here"),
    }
}
