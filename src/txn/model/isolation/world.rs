//! Servers, clients, transactions, and what can happen next.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::client::Client;
use super::history::{Entry, History};
use super::server::Server;
use super::transaction::{Sent, Transaction};
use super::{A, B, C, Key, Op, Scenario};
use crate::command::{self, Keys};
use crate::resp::{Proto, Request};
use crate::route::{Place, Routed};
use crate::topology::ShardId;
use crate::txn::state::Resolver;
use crate::txn::{Batch, LockMode, Participant, State, TxnId, part};

/// All there is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) servers: Vec<Server>,
    pub(super) clients: Vec<Client>,
    /// Begun, and perhaps still driven.
    pub(super) transactions: Vec<Transaction>,
    /// With the transaction that each resolves; `None`: done.
    pub(super) resolvers: Vec<Option<(usize, Resolver)>>,
    /// Steps of transactions that are under way.
    pub(super) steps: BTreeSet<Sent>,
    pub(super) history: History,
    pub(super) explained: bool,
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// A server carries out what a connection of a client has sent first.
    Run { server: usize, connection: usize },
    /// A step of a transaction is carried out and answered.
    Step(Sent),
    /// Somebody takes the coordinator of a transaction, met at a server, for dead.
    Resolve { transaction: usize, server: usize },
}

impl World {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let mut entries = Vec::new();
        for op in scenario.clients.iter().copied().flatten() {
            let first = entries.len();
            for index in 0..op.entries() {
                // The session order of what is pipelined to one participant.
                let Op::Reads(keys) = op else { break };
                let before = (0..index).rev().find(|before| home(keys[*before]) == home(keys[index]));
                entries.push(Entry::new(Vec::new(), before.map(|before| first + before)));
            }
            if !matches!(op, Op::Reads(_)) && op.entries() > 0 {
                entries.push(Entry::new(op.writes().to_vec(), None));
            }
        }
        let connections = 2 * scenario.clients.len();
        let mut world = Self {
            servers: vec![Server::new(&[A, B], connections), Server::new(&[C], connections)],
            clients: vec![Client::default(); scenario.clients.len()],
            transactions: Vec::new(),
            resolvers: Vec::new(),
            steps: BTreeSet::new(),
            history: History::new(entries),
            explained: true,
        };
        (0..scenario.clients.len()).for_each(|client| world.begin(scenario, client));
        world
    }

    pub(super) fn possible(&self, scenario: &Scenario, acts: &mut Vec<Act>) {
        for (server, shard) in self.servers.iter().enumerate() {
            let busy = shard.connections.iter().enumerate().filter(|(_, connection)| !connection.is_idle());
            acts.extend(busy.map(|(connection, _)| Act::Run { server, connection }));
        }
        acts.extend(self.steps.iter().copied().map(Act::Step));
        if self.resolvers.len() < scenario.resolvers {
            for (transaction, begun) in self.transactions.iter().enumerate() {
                for server in begun.servers.iter().copied() {
                    if self.servers[server].state(tid(transaction), &participant(server)) == State::Prepared {
                        acts.push(Act::Resolve { transaction, server });
                    }
                }
            }
        }
    }

    pub(super) fn perform(&mut self, scenario: &Scenario, act: Act) {
        match act {
            Act::Run { server, connection } => self.run(scenario, server, connection),
            Act::Step(sent) => self.step(scenario, sent),
            Act::Resolve { transaction, server } => self.resolve(transaction, server),
        }
    }

    /// `entry` took effect, and its client has seen `reads`.
    pub(super) fn complete(&mut self, entry: usize, reads: impl IntoIterator<Item = (Key, u8)>) {
        self.history.expect(entry, reads);
        self.history.done(entry);
        self.explained &= self.history.is_explained(None);
    }

    /// Nothing is under way.
    pub(super) fn is_quiet(&self) -> bool {
        self.steps.is_empty() && self.servers.iter().flat_map(|server| &server.connections).all(|connection| connection.is_idle())
    }

    /// The values that are left are those of the last writers.
    pub(super) fn end_is_explained(&self) -> bool {
        self.history.is_explained(Some([A, B, C].map(|key| self.servers[home(key)].value(key))))
    }

    /// Nobody has a lock that excludes another's, and whoever has one is prepared.
    pub(super) fn locks_exclude(&self) -> bool {
        [A, B, C].into_iter().all(|key| {
            let [exclusive, shared] = self.servers[home(key)].owners(key);
            let apart = exclusive.is_empty() || exclusive.iter().chain(&shared).all(|owner| *owner == exclusive[0]);
            let prepared = |owner: &TxnId| self.servers[home(key)].state(*owner, &participant(home(key))) == State::Prepared;
            apart && exclusive.iter().chain(&shared).all(prepared)
        })
    }

    pub(super) fn is_unlocked(&self) -> bool {
        [A, B, C].into_iter().all(|key| self.servers[home(key)].owners(key).iter().all(Vec::is_empty))
    }
}

/// The participant that has `key`.
pub(super) fn home(key: Key) -> usize {
    usize::from(key == C)
}

pub(super) fn participant(server: usize) -> Participant {
    Participant::Shard { name: Arc::from("p"), db: server as u32 }
}

pub(super) fn tid(transaction: usize) -> TxnId {
    TxnId { proxy: 1, incarnation: 1, sequence: transaction as u64, start_ms: 0 }
}

/// What these commands and watched keys ask of a server.
pub(super) fn batch(server: usize, requests: &[Request], watched: &[Key]) -> Batch {
    let routed = Vec::from_iter(requests.iter().map(|request| {
        let spec = command::lookup(request).unwrap();
        let mut keys = Keys::new();
        command::keys(spec, request, &mut keys).unwrap();
        Routed { spec, request: request.clone(), place: Place { slot: None, shard: ShardId::new(server as u16), db: 0 }, keys }
    }));
    let watched = Vec::from_iter(watched.iter().map(|key| key.as_bytes().into()));
    part::batch(participant(server), routed.iter(), &watched, false, Proto::Resp2)
}

/// The batch of a transaction at a server; `shared` without the keys that it only reads or watches.
pub(super) fn share(op: &Op, watched: &[Key], server: usize, unshared: bool) -> Batch {
    let watched = Vec::from_iter(watched.iter().copied().filter(|key| home(key) == server));
    let mut batch = batch(server, &op.requests(server), &watched);
    batch.keys.retain(|lock| !unshared || lock.mode != LockMode::Shared);
    batch
}
