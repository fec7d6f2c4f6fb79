//! What clients ask for, and what weft sends for it: the requests that its builders build, one pipeline after another, and what its
//! readers make of the replies.
//!
//! Each client has two connections to each server, a shared and a leased one. Other clients on the same shared connection would only
//! take schedules away: what is adjacent in a pipeline is not adjacent at the server. Not so where what one of them sends is
//! judged by what was sent for another: those connections are in `pool`, and what clients make of them in `window`.

use super::transaction::{value, values};
use super::window::Window;
use super::world::{World, batch, home, participant, share};
use super::{Key, Mutant, Op, Scenario};
use crate::resp::{Proto, Request};
use crate::txn::attempt::Attempt;
use crate::txn::lock::{LockKeys, named};
use crate::txn::one_phase::{checked_replies, checked_transaction, guarded_answer, guarded_request, native_replies, transaction};
use crate::txn::{Batch, KeyLock, LockMode};

/// Where a client is in its program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Client {
    /// How many of its commands are over.
    over: usize,
    /// In the second round trip of a command.
    second: bool,
    /// What a snapshot, or a pipeline of reads, has read so far.
    read: Vec<(Key, u8)>,
    /// What it watches.
    watched: Vec<Key>,
    /// The values that it has read of what it watches.
    relied: Vec<(Key, u8)>,
    /// Reads that were sent although a WATCH before them was not answered.
    early: bool,
    /// Where the commands are that it pipelines to the pools.
    pub(super) window: Window,
}

/// What follows from the replies to a pipeline.
enum Course {
    /// More was sent.
    Goes,
    /// It took effect, and its client has seen these values.
    Done(Vec<(Key, u8)>),
    /// It had no effect, and its client knows.
    Void,
}

pub(super) const SHARED: usize = 0;
const LEASED: usize = 1;

impl Op {
    /// Its commands at `server`: what it reads, then what it writes.
    pub(super) fn requests(&self, server: usize) -> Vec<Request> {
        let reads = self.reads().iter().filter(|key| home(key) == server).map(|key| Request::new(&["GET", key]));
        let writes = self.writes().iter().filter(|(key, _)| home(key) == server);
        reads.chain(writes.map(|(key, value)| Request::new(&[&b"SET"[..], key.as_bytes(), &[*value]]))).collect()
    }

    /// The keys that it reads at `server`.
    fn read_at(&self, server: usize) -> impl Iterator<Item = Key> {
        self.reads().iter().copied().filter(move |key| home(key) == server)
    }

    fn is_at(&self, server: usize) -> bool {
        self.reads().iter().any(|key| home(key) == server) || self.writes().iter().any(|(key, _)| home(key) == server)
    }
}

impl World {
    pub(super) fn op(&self, scenario: &Scenario, client: usize) -> Option<Op> {
        scenario.clients[client].get(self.clients[client].over).copied()
    }

    /// What `client` is at, and what comes behind it.
    pub(super) fn ahead(&self, scenario: &Scenario, client: usize) -> &'static [Op] {
        &scenario.clients[client][self.clients[client].over..]
    }

    /// The first entry in the history of what `client` is at.
    pub(super) fn entry(&self, scenario: &Scenario, client: usize) -> usize {
        let earlier = scenario.clients[..client].iter().copied().flatten();
        let own = scenario.clients[client][..self.clients[client].over].iter();
        earlier.chain(own).map(Op::entries).sum()
    }

    pub(super) fn send(&mut self, server: usize, client: usize, kind: usize, requests: &[Request]) {
        self.servers[server].connections[2 * client + kind].send(requests);
    }

    pub(super) fn take(&mut self, server: usize, client: usize, kind: usize) -> Vec<bytes::Bytes> {
        std::mem::take(&mut self.servers[server].connections[2 * client + kind].replies)
    }

    /// A server carries out the next request of a connection.
    pub(super) fn run(&mut self, scenario: &Scenario, server: usize, connection: usize) {
        let client = connection / 2;
        let Some(op) = self.op(scenario, client) else { return self.servers[server].run(connection) };
        if let Op::Piped(_) = op {
            self.servers[server].run(connection);
            return self.answered(scenario, server, client);
        }
        let entry = self.entry(scenario, client);
        (entry..entry + op.entries()).for_each(|entry| self.history.begin(entry));
        self.servers[server].run(connection);
        self.proceed(scenario, client);
    }

    /// What `client` is at is over.
    pub(super) fn next(&mut self, scenario: &Scenario, client: usize) {
        let this = &mut self.clients[client];
        (this.over, this.second) = (this.over + 1, false);
        this.read.clear();
        this.window = Window::default();
        self.begin(scenario, client);
        self.proceed(scenario, client);
    }

    /// Looks at the replies once every request has been answered.
    fn proceed(&mut self, scenario: &Scenario, client: usize) {
        let Some(op) = self.op(scenario, client) else { return };
        let kind = op.connection(!self.clients[client].watched.is_empty());
        let connections = || self.servers.iter().map(|server| &server.connections[2 * client + kind]);
        if connections().any(|connection| !connection.is_idle()) || connections().all(|connection| connection.replies.is_empty()) {
            return;
        }
        let entry = self.entry(scenario, client);
        match self.read(scenario, client, op) {
            Course::Goes => return,
            Course::Void => self.history.void(entry),
            Course::Done(reads) => match op {
                Op::Watch(_) => {}
                Op::Reads(_) => reads.into_iter().enumerate().for_each(|(index, read)| self.complete(entry + index, [read])),
                _ => self.complete(entry, reads),
            },
        }
        self.next(scenario, client);
    }

    /// Sends the first pipeline of what `client` is at.
    pub(super) fn begin(&mut self, scenario: &Scenario, client: usize) {
        let Some(op) = self.op(scenario, client) else { return };
        match op {
            // session/window.rs
            Op::Reads(_) if std::mem::take(&mut self.clients[client].early) => {}
            Op::Reads(keys) => keys.iter().for_each(|key| self.send(home(key), client, SHARED, &plain_read(scenario, key))),
            Op::ReadMany(keys) => self.send(home(keys[0]), client, SHARED, &read_many(scenario, keys)),
            Op::Write(_) => self.write(scenario, client, op),
            Op::NativeWrite(_) => {
                let locks = LockKeys::against(&whole(op));
                self.send(server_of(op), client, LEASED, &look(scenario, &locks));
            }
            Op::Snapshot(_) => (0..self.servers.len()).for_each(|server| self.begin_snapshot(scenario, client, op, server)),
            Op::Watch(keys) => {
                (0..self.servers.len()).for_each(|server| self.watch(client, keys, server));
                self.clients[client].watched.extend(keys);
                self.read_early(scenario, client);
            }
            Op::Exec { .. } => self.exec(scenario, client, op),
            Op::Piped(_) => {}
        }
    }

    fn read(&mut self, scenario: &Scenario, client: usize, op: Op) -> Course {
        match op {
            Op::Reads(keys) => self.read_reads(scenario, client, keys),
            Op::ReadMany(keys) => self.read_many(scenario, client, keys),
            Op::Write(_) => self.written(scenario, client, op),
            Op::NativeWrite(_) => self.written_natively(scenario, client, op),
            Op::Snapshot(_) if self.clients[client].second => self.end_snapshot(scenario, client, op),
            Op::Snapshot(_) => self.read_snapshot(scenario, client, op),
            Op::Watch(keys) => self.watched(scenario, client, keys),
            Op::Exec { .. } => self.executed(client, op),
            Op::Piped(_) => Course::Goes,
        }
    }
}

/// Reads of one participant: session/forward.rs and session/window.rs.
impl World {
    /// A read that met a lock is sent again, and so is every later one to its participant.
    fn read_reads(&mut self, scenario: &Scenario, client: usize, keys: &'static [Key]) -> Course {
        let mut replies = [0, 1].map(|server| self.take(server, client, SHARED).into_iter());
        let mut locked = [false; 2];
        for key in keys {
            let server = home(key);
            if self.clients[client].read.iter().any(|(read, _)| read == key) {
                continue;
            }
            let pair = [replies[server].next(), replies[server].next()].map(Option::unwrap_or_default);
            let [found, reply] = if scenario.has(Mutant::ReadBeforeCheck) { [&pair[1], &pair[0]] } else { [&pair[0], &pair[1]] };
            let free = found.as_ref() == b":0\r\n" || scenario.has(Mutant::UncheckedRead);
            if !free || locked[server] && !scenario.has(Mutant::LaterReadsStay) {
                locked[server] = true;
                self.send(server, client, SHARED, &plain_read(scenario, key));
            } else {
                self.clients[client].read.push((key, value(reply)));
            }
        }
        if locked != [false; 2] {
            return Course::Goes;
        }
        let this = &mut self.clients[client];
        this.relied.extend(this.read.iter().filter(|(key, _)| this.watched.contains(key)));
        let value_of = |key: &Key| this.read.iter().find(|(read, _)| read == key).copied();
        Course::Done(keys.iter().filter_map(value_of).collect())
    }

    fn read_many(&mut self, scenario: &Scenario, client: usize, keys: &'static [Key]) -> Course {
        let replies = self.take(home(keys[0]), client, SHARED);
        let attempt = match &replies[..] {
            [found, values] if found.as_ref() == b":0\r\n" => Attempt::Done(vec![values.clone()]),
            [_, _] => Attempt::Locked(None),
            _ => checked_replies(&replies, &many(keys)),
        };
        if let Attempt::Done(replies) = attempt {
            return Course::Done(keys.iter().copied().zip(values(&replies[0])).collect());
        }
        self.send(home(keys[0]), client, SHARED, &read_many(scenario, keys));
        Course::Goes
    }
}

/// `EXISTS lock`, the command. (The hot form of the check is held equal to this one by a test beside it.)
fn plain_read(scenario: &Scenario, key: Key) -> Vec<Request> {
    let lock = KeyLock { key: key.as_bytes().into(), mode: LockMode::Shared };
    let mut requests = vec![LockKeys::of(&participant(home(key)), &[lock]).exists(), Request::new(&["GET", key])];
    if scenario.has(Mutant::ReadBeforeCheck) {
        requests.reverse();
    }
    requests
}

fn many(keys: &[Key]) -> Batch {
    let words: Vec<&str> = ["MGET"].into_iter().chain(keys.iter().copied()).collect();
    batch(home(keys[0]), &[Request::new(&words)], &[])
}

fn read_many(scenario: &Scenario, keys: &[Key]) -> Vec<Request> {
    let batch = many(keys);
    let mut requests = checked_transaction(&LockKeys::against(&batch), &batch);
    if scenario.has(Mutant::CheckThenRead) {
        requests.retain(|request| !matches!(request.arg(0), b"MULTI" | b"EXEC"));
    }
    requests
}

/// Writes of one participant: txn/one_phase.rs.
impl World {
    fn write(&mut self, scenario: &Scenario, client: usize, op: Op) {
        let requests =
            if scenario.has(Mutant::UncheckedWrite) { op.requests(server_of(op)) } else { vec![guarded_request(&whole(op), Proto::Resp2)] };
        self.send(server_of(op), client, SHARED, &requests);
    }

    fn written(&mut self, scenario: &Scenario, client: usize, op: Op) -> Course {
        let replies = self.take(server_of(op), client, SHARED);
        if !scenario.has(Mutant::UncheckedWrite) && !matches!(guarded_answer(&replies[0], &whole(op)), Attempt::Done(_)) {
            self.write(scenario, client, op);
            return Course::Goes;
        }
        Course::Done(Vec::new())
    }

    fn written_natively(&mut self, scenario: &Scenario, client: usize, op: Op) -> Course {
        let (server, batch) = (server_of(op), whole(op));
        let replies = self.take(server, client, LEASED);
        if std::mem::replace(&mut self.clients[client].second, true) {
            if let Attempt::Done(_) = native_replies(&replies, batch.commands.len()) {
                return Course::Done(Vec::new());
            }
        } else if replies.iter().any(|reply| reply.as_ref() == b":0\r\n") {
            self.send(server, client, LEASED, &transaction(false, &batch));
            return Course::Goes;
        }
        self.clients[client].second = false;
        self.servers[server].connections[2 * client + LEASED].unwatch();
        self.begin(scenario, client);
        Course::Goes
    }
}

pub(super) fn server_of(op: Op) -> usize {
    usize::from(op.is_at(1))
}

/// All of `op`, at its only server.
pub(super) fn whole(op: Op) -> Batch {
    share(&op, &[], server_of(op), false)
}

/// `one_phase::look`
fn look(scenario: &Scenario, locks: &LockKeys) -> Vec<Request> {
    let mut requests = vec![locks.watch(), locks.exists()];
    if scenario.has(Mutant::CheckBeforeWatch) {
        requests.reverse();
    }
    requests
}

/// Snapshots: txn/snapshot.rs.
impl World {
    fn begin_snapshot(&mut self, scenario: &Scenario, client: usize, op: Op, server: usize) {
        let batch = share(&op, &[], server, false);
        let locks = LockKeys::against(&batch);
        let watch = if scenario.has(Mutant::WatchWithoutLocks) {
            named(b"WATCH", batch.keys.iter().map(|lock| &lock.key))
        } else {
            locks.watch_with_data()
        };
        let mut requests = match () {
            () if scenario.has(Mutant::GuardedReadsInParallel) || scenario.has(Mutant::ReadTwice) => vec![locks.exists()],
            () if scenario.has(Mutant::CheckBeforeWatch) => vec![locks.exists(), watch],
            () => vec![watch, locks.exists()],
        };
        requests.extend(batch.commands.iter().map(|command| command.request.clone()));
        if scenario.has(Mutant::NoBarrier) {
            requests.extend(last_look(&locks));
        }
        self.send(server, client, LEASED, &requests);
    }

    fn read_snapshot(&mut self, scenario: &Scenario, client: usize, op: Op) -> Course {
        let mut free = true;
        let mut read = Vec::new();
        for server in 0..self.servers.len() {
            let mut replies = self.take(server, client, LEASED);
            if scenario.has(Mutant::NoBarrier) {
                free &= is_unchanged(scenario, &replies.split_off(replies.len() - LAST_LOOK));
            }
            free &= replies.iter().any(|reply| reply.as_ref() == b":0\r\n");
            let first = replies.iter().position(|reply| reply.starts_with(b"$")).unwrap_or_default();
            read.extend(op.read_at(server).zip(replies[first..].iter().map(value)));
        }
        if !free {
            return self.snapshot_again(scenario, client, op);
        }
        if scenario.has(Mutant::GuardedReadsInParallel) || scenario.has(Mutant::NoBarrier) {
            return Course::Done(read);
        }
        self.clients[client].read = read;
        self.clients[client].second = true;
        for server in 0..self.servers.len() {
            let batch = share(&op, &[], server, false);
            if scenario.has(Mutant::ReadTwice) {
                self.begin_snapshot(scenario, client, op, server);
            } else {
                self.send(server, client, LEASED, &last_look(&LockKeys::against(&batch)));
            }
        }
        Course::Goes
    }

    fn end_snapshot(&mut self, scenario: &Scenario, client: usize, op: Op) -> Course {
        let first = std::mem::take(&mut self.clients[client].read);
        self.clients[client].second = false;
        if scenario.has(Mutant::ReadTwice) {
            let second = Vec::from_iter((0..self.servers.len()).flat_map(|server| {
                let replies = self.take(server, client, LEASED);
                let free = replies[0].as_ref() == b":0\r\n";
                op.read_at(server).zip(Vec::from_iter(replies[1..].iter().map(value))).filter(move |_| free)
            }));
            return if first == second { Course::Done(first) } else { self.snapshot_again(scenario, client, op) };
        }
        let clean = Vec::from_iter((0..self.servers.len()).map(|server| is_unchanged(scenario, &self.take(server, client, LEASED))));
        if clean.into_iter().all(|clean| clean) { Course::Done(first) } else { self.snapshot_again(scenario, client, op) }
    }

    fn snapshot_again(&mut self, scenario: &Scenario, client: usize, op: Op) -> Course {
        for server in 0..self.servers.len() {
            self.servers[server].connections[2 * client + LEASED].unwatch();
            self.begin_snapshot(scenario, client, op, server);
        }
        Course::Goes
    }
}

/// `snapshot::Open::is_unchanged`
fn last_look(locks: &LockKeys) -> [Request; LAST_LOOK] {
    [locks.exists(), Request::new(&["MULTI"]), Request::new(&["EXEC"])]
}

fn is_unchanged(scenario: &Scenario, replies: &[bytes::Bytes]) -> bool {
    let [check, _, executed] = replies else { panic!("{replies:?}") };
    executed.as_ref() == b"*0\r\n" && (check.as_ref() == b":0\r\n" || scenario.has(Mutant::LastLookTakesAnyAnswer))
}

const LAST_LOOK: usize = 3;

/// WATCH and EXEC: txn/watch.rs, txn/engine.rs.
impl World {
    fn watch(&mut self, client: usize, keys: &[Key], server: usize) {
        let names = Vec::from_iter(keys.iter().copied().filter(|key| home(key) == server));
        if names.is_empty() {
            return;
        }
        let locks = LockKeys::against(&batch(server, &[], &names));
        let watch: Vec<&str> = ["WATCH"].into_iter().chain(names).collect();
        self.send(server, client, LEASED, &[Request::new(&watch), locks.exists()]);
    }

    fn watched(&mut self, scenario: &Scenario, client: usize, keys: &'static [Key]) -> Course {
        let mut course = Course::Done(Vec::new());
        for server in 0..self.servers.len() {
            let replies = self.take(server, client, LEASED);
            if replies.last().is_none_or(|found| found.as_ref() == b":0\r\n") {
                continue;
            }
            let earlier = self.clients[client].watched.iter().any(|key| home(key) == server && !keys.contains(key));
            if !earlier || scenario.has(Mutant::WatchAnewAlways) {
                self.servers[server].connections[2 * client + LEASED].unwatch();
            }
            self.watch(client, keys, server);
            course = Course::Goes;
        }
        course
    }

    /// Reads that do not wait until WATCH was answered.
    fn read_early(&mut self, scenario: &Scenario, client: usize) {
        let over = self.clients[client].over;
        let Some(Op::Reads(keys)) = scenario.clients[client].get(over + 1).filter(|_| scenario.has(Mutant::WatchIsNoBarrier)) else {
            return;
        };
        let entry = self.entry(scenario, client);
        for (index, key) in keys.iter().enumerate() {
            self.history.begin(entry + index);
            self.send(home(key), client, SHARED, &plain_read(scenario, key));
        }
        self.clients[client].early = true;
    }

    fn exec(&mut self, scenario: &Scenario, client: usize, op: Op) {
        let entry = self.entry(scenario, client);
        let relied = std::mem::take(&mut self.clients[client].relied);
        self.history.expect(entry, relied);
        let watched = self.clients[client].watched.clone();
        let servers = (0..self.servers.len()).filter(|server| op.is_at(*server) || watched.iter().any(|key| home(key) == *server));
        match servers.collect::<Vec<_>>()[..] {
            [server] if watched.is_empty() => self.send(server, client, SHARED, &[guarded_request(&whole(op), Proto::Resp2)]),
            [server] => {
                let request = guarded_request(&share(&op, &watched, server, false), Proto::Resp2);
                self.send(server, client, LEASED, &[Request::new(&["MULTI"]), request, Request::new(&["EXEC"])]);
            }
            ref servers => self.begin_transaction(client, entry, op, servers.to_vec(), watched),
        }
    }

    /// EXEC at one participant was answered.
    fn executed(&mut self, client: usize, op: Op) -> Course {
        let server = server_of(op);
        let watched = std::mem::take(&mut self.clients[client].watched);
        let (kind, batch) = (op.connection(!watched.is_empty()), share(&op, &watched, server, false));
        let replies = self.take(server, client, kind);
        let attempt = match native_replies(&replies, 1) {
            _ if watched.is_empty() => guarded_answer(&replies[0], &batch),
            Attempt::Done(inner) => guarded_answer(&inner[0], &batch),
            other => other,
        };
        match attempt {
            Attempt::Done(replies) => Course::Done(op.read_at(server).zip(replies.iter().map(value)).collect()),
            _ => Course::Void,
        }
    }
}
