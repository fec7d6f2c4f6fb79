//! The connections of a worker that its clients share because they share more than the bytes: a look at the gate, and a watch of it.
//!
//! One worker, two connections to each server. What is sent is told again after `upstream/shared.rs` and `upstream/armed.rs`, step by
//! step where the steps matter: a read is asked for, its bytes leave, the server carries it out, the reply is received, and something may
//! happen between any two of these. The requests that look at the gate are those of `txn::gate`.
//!
//! How long a gate that was closed is left alone is of no concern here: reads always try it, and a connection may arm itself at any time.
//! A batch takes effect when it is carried out and is told of at once: a reply that comes later is as if what follows it were sent later. Only
//! the loss of the connection keeps it from being told, and then the server may carry it out before or after.
//!
//! Left out: a batch that the server refuses as a whole (EXECABORT), which runs as little as one that is answered nil; a MULTI that it does not
//! accept, which is told as a loss is; and the loss of a connection for reads, which are asked for again behind a look of their own.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::server::Server;
use super::world::{Act, World, home};
use super::{Mutant, Op, Scenario};
use crate::resp::{Limits, Request, RequestDecoder, elements};
use crate::txn::gate;

/// The connections to one server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pool {
    reads: Reads,
    writes: Writes,
    /// How often the connection for writes was lost.
    losses: usize,
}

/// `upstream/shared.rs`
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Reads {
    /// Its number among the server's connections.
    connection: usize,
    /// Waits to be sent.
    out: Vec<Due>,
    /// What the server was sent and has not answered, as far as is known.
    pending: VecDeque<Due>,
    /// The last look that was answered found the gate free.
    free: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Due {
    /// A look at the gate.
    Look,
    Read(Member),
}

/// `upstream/armed.rs`
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Writes {
    connection: usize,
    phase: Phase,
    /// The batch that was sent; a mutant has several.
    flying: VecDeque<Vec<Member>>,
    /// It was refused.
    refused: bool,
    gathered: Vec<Member>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Unarmed,
    /// A batch is in flight, or its tail.
    Flying,
    Armed,
}

/// A command that a client pipelines: its number in the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Member {
    pub(super) client: usize,
    pub(super) index: usize,
}

impl Pool {
    pub(super) const CONNECTIONS: usize = 2;

    /// Its connections are `first` and the next one.
    pub(super) fn new(first: usize) -> Self {
        Self {
            reads: Reads { connection: first, out: Vec::new(), pending: VecDeque::new(), free: false },
            writes: Writes { connection: first + 1, phase: Phase::Unarmed, flying: VecDeque::new(), refused: false, gathered: Vec::new() },
            losses: 0,
        }
    }

    /// `SharedConn::send_gated`: behind a look that was not sent yet, or behind one of its own.
    pub(super) fn ask_read(&mut self, scenario: &Scenario, member: Member) {
        let reads = &mut self.reads;
        let looks = |mut dues: std::slice::Iter<Due>| dues.any(|due| *due == Due::Look);
        let covered = looks(reads.out.iter())
            || scenario.has(Mutant::LookUntilAnswered) && reads.pending.contains(&Due::Look)
            || scenario.has(Mutant::LookForGood) && reads.free;
        if !covered {
            reads.out.push(Due::Look);
        }
        reads.out.push(Due::Read(member));
    }

    /// `ArmedConn::is_ready`
    pub(super) fn is_ready(&self) -> bool {
        match self.writes.phase {
            Phase::Unarmed => false,
            Phase::Flying => self.writes.flying.iter().any(|members| !members.is_empty()),
            Phase::Armed => true,
        }
    }

    /// `ArmedConn::send`
    pub(super) fn ask_write(&mut self, member: Member) {
        self.writes.gathered.push(member);
    }
}

impl World {
    pub(super) fn possible_in_pools(&self, scenario: &Scenario, acts: &mut Vec<Act>) {
        let asking = (0..self.clients.len()).filter(|client| self.way(scenario, *client).is_some());
        acts.extend(asking.map(|client| Act::Ask { client }));
        for (server, Pool { reads, writes, losses }) in self.pools.iter().enumerate() {
            if !reads.out.is_empty() {
                acts.push(Act::SendReads { server });
            }
            if !self.servers[server].connections[reads.connection].replies.is_empty() {
                acts.push(Act::Receive { server });
            }
            if match writes.phase {
                Phase::Unarmed => self.will_write(scenario, server),
                Phase::Flying => scenario.has(Mutant::BatchUnderBatch) && !writes.gathered.is_empty(),
                Phase::Armed => !writes.gathered.is_empty(),
            } {
                acts.push(Act::SendBatch { server });
            }
            if *losses < scenario.losses && writes.phase != Phase::Unarmed {
                acts.push(Act::Lose { server });
            }
        }
    }

    /// Nobody waits for a pool.
    pub(super) fn pools_are_idle(&self, scenario: &Scenario) -> bool {
        let is_idle = |(pool, server): (&Pool, &Server)| {
            pool.reads.out.is_empty() && server.connections[pool.reads.connection].replies.is_empty() && pool.writes.gathered.is_empty()
        };
        self.pools.iter().zip(&self.servers).all(is_idle) && (0..self.clients.len()).all(|client| self.way(scenario, client).is_none())
    }

    /// A server carries out the next request of a connection of a pool.
    pub(super) fn run_pooled(&mut self, scenario: &Scenario, server: usize, connection: usize) {
        self.servers[server].run(connection);
        let Pool { reads, writes, .. } = &self.pools[server];
        if connection == reads.connection {
            return;
        }
        let at = &mut self.servers[server].connections[connection];
        let replies = std::mem::take(&mut at.replies);
        if connection != writes.connection {
            // It was lost, and nobody hears of it.
            if at.is_idle() {
                at.unwatch();
            }
        } else if let [_, .., executed] = &replies[..] {
            self.executed_batch(scenario, server, executed);
        } else if replies[0].starts_with(b":") {
            self.looked_behind_batch(scenario, server, &replies[0]);
        }
        self.settle_all(scenario);
    }
}

/// Reads.
impl World {
    /// `SharedConn::poll_write`
    pub(super) fn send_reads(&mut self, scenario: &Scenario, server: usize) {
        let mut out = std::mem::take(&mut self.pools[server].reads.out);
        if scenario.has(Mutant::ReadBeforeCheck) {
            out.rotate_left(1);
        }
        for due in out {
            let requests = match due {
                Due::Look => requests(gate::look()),
                Due::Read(member) => self.command(scenario, member).requests(server),
            };
            let reads = &mut self.pools[server].reads;
            reads.pending.push_back(due);
            self.servers[server].connections[reads.connection].send(&requests);
        }
    }

    /// `SharedConn::deliver`
    pub(super) fn receive(&mut self, scenario: &Scenario, server: usize) {
        let reads = &mut self.pools[server].reads;
        let replies = &mut self.servers[server].connections[reads.connection].replies;
        let mut received = std::mem::take(replies);
        if scenario.has(Mutant::ReadBeforeCheck) {
            // The look stands behind what it is for.
            let Some(look) = reads.pending.iter().position(|due| *due == Due::Look).filter(|look| *look < received.len()) else {
                return *replies = received;
            };
            *replies = received.split_off(look + 1);
            received.rotate_right(1);
            reads.pending.make_contiguous()[..=look].rotate_right(1);
        }
        for reply in received {
            let reads = &mut self.pools[server].reads;
            match reads.pending.pop_front() {
                Some(Due::Look) => reads.free = reply.as_ref() == b":0\r\n",
                Some(Due::Read(member)) if reads.free || scenario.has(Mutant::UncheckedRead) => self.done(scenario, member, Some(&reply)),
                Some(Due::Read(member)) => self.send_again(scenario, member),
                None => panic!("{reply:?} was not asked for"),
            }
        }
        self.settle_all(scenario);
    }
}

/// Writes.
impl World {
    /// `ArmedConn::poll_send`
    pub(super) fn send_batch(&mut self, scenario: &Scenario, server: usize) {
        let members = std::mem::take(&mut self.pools[server].writes.gathered);
        let commands = members.iter().flat_map(|member| self.command(scenario, *member).requests(server));
        let mut tail = requests(gate::watch_and_look());
        if scenario.has(Mutant::CheckBeforeWatch) {
            tail.reverse();
        }
        tail.retain(|request| request.arg(0) != b"WATCH" || !scenario.has(Mutant::GateUnwatched));
        let around = |word: &str| [Request::new(&[word])];
        let all = Vec::from_iter(around("MULTI").into_iter().chain(commands).chain(around("EXEC")).chain(tail));
        let writes = &mut self.pools[server].writes;
        (writes.phase, writes.refused) = (Phase::Flying, false);
        writes.flying.push_back(members);
        self.servers[server].connections[writes.connection].send(&all);
    }

    /// EXEC was answered.
    fn executed_batch(&mut self, scenario: &Scenario, server: usize, executed: &Bytes) {
        let writes = &mut self.pools[server].writes;
        let members = writes.flying.pop_front().unwrap();
        writes.refused = elements(executed).unwrap().is_none();
        let refused = writes.refused;
        for member in members {
            if refused { self.send_again(scenario, member) } else { self.done(scenario, member, None) }
        }
    }

    /// The look in the tail of a batch was answered.
    fn looked_behind_batch(&mut self, scenario: &Scenario, server: usize, found: &Bytes) {
        let writes = &mut self.pools[server].writes;
        if !writes.flying.is_empty() {
            return;
        }
        let free = found.as_ref() == b":0\r\n" || scenario.has(Mutant::ArmedWhateverFound);
        if free && (!writes.refused || scenario.has(Mutant::BatchBehindRefused)) {
            writes.phase = Phase::Armed;
        } else {
            self.give_back(scenario, server);
        }
    }

    /// `ArmedConn::failed`, or the loss of a connection on which nothing was expected. The server may still carry out what it was sent.
    pub(super) fn lose(&mut self, scenario: &Scenario, server: usize) {
        let connections = &mut self.servers[server].connections;
        connections.push(Default::default());
        let Pool { writes, losses, .. } = &mut self.pools[server];
        *losses += 1;
        writes.connection = connections.len() - 1;
        for member in std::mem::take(&mut writes.flying).into_iter().flatten() {
            if scenario.has(Mutant::SentAgainInDoubt) {
                self.send_again(scenario, member);
            } else {
                self.doubt(scenario, member);
            }
        }
        if self.pools[server].writes.phase == Phase::Flying || !scenario.has(Mutant::ArmedForGood) {
            self.give_back(scenario, server);
        }
        self.settle_all(scenario);
    }

    /// The connection is not armed, and what gathered for it finds another way.
    fn give_back(&mut self, scenario: &Scenario, server: usize) {
        let writes = &mut self.pools[server].writes;
        writes.phase = Phase::Unarmed;
        for member in std::mem::take(&mut writes.gathered) {
            self.send_again(scenario, member);
        }
    }

    /// Whether somebody has a write for the pool.
    fn will_write(&self, scenario: &Scenario, server: usize) -> bool {
        let pipelines = (0..self.clients.len()).flat_map(|client| self.ahead(scenario, client));
        pipelines
            .filter(|op| matches!(op, Op::Piped(_)))
            .flat_map(Op::parts)
            .any(|op| op.writes().iter().any(|(key, _)| home(key) == server))
    }
}

/// The requests in bytes that are to be sent.
fn requests(bytes: &Bytes) -> Vec<Request> {
    let (mut decoder, mut bytes) = (RequestDecoder::default(), BytesMut::from(&bytes[..]));
    std::iter::from_fn(|| decoder.decode(&mut bytes, &Limits::default()).unwrap()).collect()
}
