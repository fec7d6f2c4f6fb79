//! Servers, clients, transactions, and what can happen next.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::client::{Client, server_of};
use super::history::{Entry, History};
use super::pool::Pool;
use super::server::Server;
use super::transaction::{Sent, Transaction};
use super::{A, B, C, Key, Op, Scenario};
use crate::affinity::Affinity;
use crate::command::{self, Keys};
use crate::resp::{Proto, Request};
use crate::route::{Place, Reach, Routed};
use crate::topology::ShardId;
use crate::txn::state::Resolver;
use crate::txn::{Batch, LockMode, Participant, State, TxnId, part};

/// All there is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) servers: Vec<Server>,
    pub(super) clients: Vec<Client>,
    /// To each server.
    pub(super) pools: Vec<Pool>,
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
    /// The gate is closed or opened for a transaction in a step of its own; only mutants have it.
    TurnGate { transaction: usize, server: usize },
    /// A client asks for the next of the commands that it pipelines.
    Ask { client: usize },
    /// What has gathered for a pool's connection for reads is sent.
    SendReads { server: usize },
    /// What a pool's connection for reads was answered is received.
    Receive { server: usize },
    /// A pool's connection for writes sends what has gathered, or arms itself.
    SendBatch { server: usize },
    /// A pool loses its connection for writes.
    Lose { server: usize },
}

impl World {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let mut entries = Vec::new();
        for op in scenario.clients.iter().copied().flatten() {
            let (first, parts) = (entries.len(), op.parts());
            for (index, part) in parts.iter().enumerate() {
                // The session order of what is pipelined to one participant.
                let follows = (0..index).filter(|before| server_of(parts[*before]) == server_of(*part)).map(|before| 1 << (first + before));
                entries.push(Entry::new(part.writes().to_vec(), follows.sum()));
            }
        }
        let own = 2 * scenario.clients.len();
        let connections = own + Pool::CONNECTIONS;
        let mut world = Self {
            servers: vec![Server::new(&[A, B], connections), Server::new(&[C], connections)],
            clients: vec![Client::default(); scenario.clients.len()],
            pools: vec![Pool::new(own); 2],
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
        self.possible_in_pools(scenario, acts);
        acts.extend(self.gates_to_turn(scenario));
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
            Act::Run { server, connection } if connection >= 2 * self.clients.len() => self.run_pooled(scenario, server, connection),
            Act::Run { server, connection } => self.run(scenario, server, connection),
            Act::Step(sent) => self.step(scenario, sent),
            Act::Resolve { transaction, server } => self.resolve(transaction, server),
            Act::TurnGate { transaction, server } => self.servers[server].turn_gate(tid(transaction), &participant(server)),
            Act::Ask { client } => self.ask(scenario, client),
            Act::SendReads { server } => self.send_reads(scenario, server),
            Act::Receive { server } => self.receive(scenario, server),
            Act::SendBatch { server } => self.send_batch(scenario, server),
            Act::Lose { server } => self.lose(scenario, server),
        }
    }

    /// `entry` took effect, and its client has seen `reads`.
    pub(super) fn complete(&mut self, entry: usize, reads: impl IntoIterator<Item = (Key, u8)>) {
        self.history.expect(entry, reads);
        self.history.done(entry);
        self.explained &= self.history.is_explained(None);
    }

    /// Nothing is under way, and nobody has anything to ask for.
    pub(super) fn is_quiet(&self, scenario: &Scenario) -> bool {
        self.steps.is_empty()
            && self.servers.iter().flat_map(|server| &server.connections).all(|connection| connection.is_idle())
            && self.pools_are_idle(scenario)
    }

    /// Every client has come to the end of its program.
    pub(super) fn is_over(&self, scenario: &Scenario) -> bool {
        (0..self.clients.len()).all(|client| self.op(scenario, client).is_none())
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

    /// The gate names those, and only those, that are prepared.
    pub(super) fn gates_tell(&self) -> bool {
        (0..self.servers.len()).all(|server| {
            let all = (0..self.transactions.len()).map(tid);
            let prepared = all.filter(|tid| self.servers[server].state(*tid, &participant(server)) == State::Prepared);
            prepared.eq(self.servers[server].at_the_gate(&participant(server)))
        })
    }

    pub(super) fn is_unlocked(&self) -> bool {
        let unlocked = |key| self.servers[home(key)].owners(key).iter().all(Vec::is_empty);
        [A, B, C].into_iter().all(unlocked)
            && (0..self.servers.len()).all(|server| self.servers[server].at_the_gate(&participant(server)).is_empty())
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
        Routed {
            spec,
            request: request.clone(),
            place: Place { slot: None, shard: ShardId::new(server as u16), db: 0 },
            keys,
            reach: Reach::Keys,
        }
    }));
    let watched = Vec::from_iter(watched.iter().map(|key| key.as_bytes().into()));
    part::batch(participant(server), &Affinity::default(), routed.iter(), &watched, false, Proto::Resp2)
}

/// The batch of a transaction at a server; `shared` without the keys that it only reads or watches.
pub(super) fn share(op: &Op, watched: &[Key], server: usize, unshared: bool) -> Batch {
    let watched = Vec::from_iter(watched.iter().copied().filter(|key| home(key) == server));
    let mut batch = batch(server, &op.requests(server), &watched);
    batch.keys.retain(|lock| !unshared || lock.mode != LockMode::Shared);
    batch
}
