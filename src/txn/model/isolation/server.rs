//! As much of a Redis server as locks and reads need: it carries out the requests that weft builds.
//!
//! One command of one connection at a time, whichever connection comes next. From MULTI to EXEC is a single step here, because what is
//! queued does nothing before EXEC. WATCH is Redis's: whatever is written to a watched key, by anyone, whatever the value, makes EXEC fail.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::{Mutant, Scenario};
use crate::resp::Request;
use crate::txn::fence::{Record, Staged};
use crate::txn::{Batch, KeyLock, LockMode, Locked, Participant, Script, State, TxnId, internal_keys, prepare};

/// One participant. Locks and records are keys among the others, by their real names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Server {
    keys: BTreeMap<Bytes, Bytes>,
    /// Replies of committed batches.
    kept: BTreeMap<Bytes, Vec<Bytes>>,
    pub(super) connections: Vec<Connection>,
    /// A plain write landed on a key that a transaction held.
    pub(super) trespassed: bool,
}

/// What the server and its client know of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Connection {
    /// Requests that are under way.
    sent: VecDeque<Arc<[Bytes]>>,
    /// Replies that the client has not looked at.
    pub(super) replies: Vec<Bytes>,
    pub(super) watched: BTreeSet<Bytes>,
    dirty: bool,
}

impl Connection {
    pub(super) fn send(&mut self, requests: &[Request]) {
        self.sent.extend(requests.iter().map(|request| (0..request.argc()).map(|index| request.arg_bytes(index)).collect()));
    }

    pub(super) fn is_idle(&self) -> bool {
        self.sent.is_empty()
    }

    /// UNWATCH, or another connection in its place. True if EXEC would have failed.
    pub(super) fn unwatch(&mut self) -> bool {
        self.watched.clear();
        std::mem::take(&mut self.dirty)
    }
}

impl Server {
    pub(super) fn new(keys: &[&'static str], connections: usize) -> Self {
        Self {
            keys: keys.iter().map(|key| (Bytes::from_static(key.as_bytes()), Bytes::from_static(b"0"))).collect(),
            kept: BTreeMap::new(),
            connections: vec![Connection::default(); connections],
            trespassed: false,
        }
    }

    pub(super) fn value(&self, key: &str) -> u8 {
        self.keys[key.as_bytes()][0]
    }

    /// Carries out what a connection has sent first.
    pub(super) fn run(&mut self, at: usize) {
        let Some(command) = self.connections[at].sent.pop_front() else { return };
        let mut replies = Vec::new();
        if command[0].as_ref() == b"MULTI" {
            replies.push(simple("OK"));
            let mut queued = Vec::new();
            while let Some(command) = self.connections[at].sent.pop_front().filter(|command| command[0].as_ref() != b"EXEC") {
                replies.push(simple("QUEUED"));
                queued.push(command);
            }
            replies.push(if self.connections[at].unwatch() {
                Bytes::from_static(b"*-1\r\n")
            } else {
                array(queued.iter().map(|command| self.carry_out(at, command)).collect())
            });
        } else {
            replies.push(self.carry_out(at, &command));
        }
        self.connections[at].replies.extend(replies);
    }

    fn carry_out(&mut self, at: usize, command: &[Bytes]) -> Bytes {
        match &*command[0] {
            b"WATCH" => {
                self.connections[at].watched.extend(command[1..].iter().cloned());
                simple("OK")
            }
            b"EXISTS" => number(command[1..].iter().filter(|name| self.keys.contains_key(*name)).count()),
            b"EVALSHA" => self.guarded(at, command),
            _ => self.data(command, true),
        }
    }

    /// A command over users' keys; `plain` if it is no part of a transaction over several participants.
    fn data(&mut self, command: &[Bytes], plain: bool) -> Bytes {
        match &*command[0] {
            b"GET" => bulk(&self.keys[&command[1]]),
            b"MGET" => array(command[1..].iter().map(|key| bulk(&self.keys[key])).collect()),
            b"SET" => {
                let locks = [Lock::X, Lock::S].map(|lock| lock.name(&command[1]));
                self.trespassed |= plain && locks.iter().any(|lock| self.keys.keys().any(|name| name.ends_with(lock)));
                self.write(command[1].clone(), command[2].clone());
                simple("OK")
            }
            other => panic!("{other:?} is not in the model"),
        }
    }

    /// `lua/guarded.lua`.
    fn guarded(&mut self, at: usize, command: &[Bytes]) -> Bytes {
        assert_eq!(command[1].as_ref(), Script::Guarded.sha1().as_bytes());
        let (keys, mut args) = command[3..].split_at(parse(&command[2]));
        let locks = &keys[..parse(&args[0])];
        if let Some(owners) = locks.iter().find_map(|lock| self.keys.get(lock)) {
            return Bytes::from(format!("-WEFTLOCKED {} 1\r\n", owner(owners)));
        }
        args = &args[2..];
        let mut replies = Vec::new();
        while let [argc, _letter, rest @ ..] = args {
            let (command, rest) = rest.split_at(parse(argc));
            replies.push(self.carry_out(at, command));
            args = rest;
        }
        array(replies)
    }

    fn write(&mut self, name: Bytes, value: Bytes) {
        self.touch(&name);
        self.keys.insert(name, value);
    }

    fn delete(&mut self, name: &Bytes) {
        if self.keys.remove(name).is_some() {
            self.touch(name);
        }
    }

    fn touch(&mut self, name: &Bytes) {
        for connection in &mut self.connections {
            connection.dirty |= connection.watched.contains(name);
        }
    }
}

/// The steps of transactions: `lua/prepare.lua` and the others.
impl Server {
    pub(super) fn prepare(&mut self, tid: TxnId, batch: &Batch, scenario: &Scenario) -> prepare::Answer {
        let record = internal_keys::record(&batch.participant, tid);
        if self.keys.contains_key(&record) {
            return prepare::Answer::Found(self.state(tid, &batch.participant));
        }
        for KeyLock { key, mode } in &batch.keys {
            let shared = self.keys.get(&internal_keys::shared_lock(&batch.participant, key)).filter(|_| *mode != LockMode::Shared);
            let held = self.keys.get(&internal_keys::exclusive_lock(&batch.participant, key)).or(shared);
            if let Some(owners) = held.filter(|_| !scenario.has(Mutant::PrepareIgnoresLocks)) {
                return prepare::Answer::Locked(Locked { owner: owner(owners).parse().unwrap(), lease_left_ms: 1 });
            }
        }
        self.write(record, Bytes::from_static(b"prepared"));
        let writes = batch.keys.iter().any(|lock| lock.mode != LockMode::Shared);
        if !scenario.has(Mutant::GateBehindLocks) && (writes || !scenario.has(Mutant::GateOfWriters)) {
            self.add(internal_keys::gate(&batch.participant), tid);
        }
        for KeyLock { key, mode } in &batch.keys {
            match mode {
                LockMode::Shared => self.add(internal_keys::shared_lock(&batch.participant, key), tid),
                LockMode::Exclusive | LockMode::ExclusiveAbsent => {
                    self.write(internal_keys::exclusive_lock(&batch.participant, key), tid.to_string().into());
                }
            }
        }
        prepare::Answer::Found(State::Prepared)
    }

    /// SADD of the gate, or SREM of it, as a step of its own.
    pub(super) fn turn_gate(&mut self, tid: TxnId, participant: &Participant) {
        let gate = internal_keys::gate(participant);
        if self.at_the_gate(participant).contains(&tid) { self.remove(&gate, tid) } else { self.add(gate, tid) }
    }

    pub(super) fn commit(&mut self, tid: TxnId, batch: &Batch, scenario: &Scenario) -> State {
        if self.state(tid, &batch.participant) == State::Prepared {
            let words = |request: &Request| Vec::from_iter((0..request.argc()).map(|index| request.arg_bytes(index)));
            let replies = batch.commands.iter().map(|command| self.data(&words(&command.request), false)).collect();
            self.release(tid, batch, scenario);
            let record = internal_keys::record(&batch.participant, tid);
            self.kept.insert(record.clone(), replies);
            self.write(record, Bytes::from_static(b"committed"));
        }
        self.state(tid, &batch.participant)
    }

    pub(super) fn abort(&mut self, tid: TxnId, batch: &Batch, scenario: &Scenario) -> State {
        if self.state(tid, &batch.participant) == State::Prepared {
            self.release(tid, batch, scenario);
            self.delete(&internal_keys::record(&batch.participant, tid));
        }
        self.state(tid, &batch.participant)
    }

    pub(super) fn fence(&mut self, tid: TxnId, batch: &Batch, all: Vec<Participant>) -> Record {
        if self.state(tid, &batch.participant) == State::Gone {
            self.write(internal_keys::record(&batch.participant, tid), Bytes::from_static(b"aborted"));
        }
        self.inspect(tid, batch, all)
    }

    pub(super) fn inspect(&self, tid: TxnId, batch: &Batch, participants: Vec<Participant>) -> Record {
        let state = self.state(tid, &batch.participant);
        let staged = matches!(state, State::Prepared | State::Committed(_));
        let keys = batch.keys.clone();
        let staged = staged.then(|| Staged { start_ms: 0, lease_ms: 0, run_id: String::new(), participants, keys });
        Record { state, age_ms: 0, staged }
    }

    pub(super) fn state(&self, tid: TxnId, participant: &Participant) -> State {
        let record = internal_keys::record(participant, tid);
        match self.keys.get(&record).map(|state| &state[..]) {
            None => State::Gone,
            Some(b"prepared") => State::Prepared,
            Some(b"committed") => State::Committed(self.kept.get(&record).cloned()),
            Some(_) => State::Aborted,
        }
    }

    fn release(&mut self, tid: TxnId, batch: &Batch, scenario: &Scenario) {
        let gate = internal_keys::gate(&batch.participant);
        if scenario.has(Mutant::GateOfOne) {
            self.delete(&gate)
        } else {
            self.remove(&gate, tid)
        }
        for KeyLock { key, mode } in &batch.keys {
            if *mode != LockMode::Shared {
                self.delete(&internal_keys::exclusive_lock(&batch.participant, key));
                continue;
            }
            self.remove(&internal_keys::shared_lock(&batch.participant, key), tid);
        }
    }

    /// Adds `tid` to a set of owners.
    fn add(&mut self, name: Bytes, tid: TxnId) {
        let tid = tid.to_string();
        let owners: BTreeSet<_> = self.keys.get(&name).into_iter().flat_map(words).chain([tid.as_str()]).collect();
        let owners = Vec::from_iter(owners).join(" ");
        self.write(name, owners.into());
    }

    /// Takes `tid` out of a set of owners; without owners there is no set.
    fn remove(&mut self, name: &Bytes, tid: TxnId) {
        let tid = tid.to_string();
        let Some(owners) = self.keys.get(name).filter(|owners| words(owners).any(|owner| owner == tid)) else { return };
        let others = Vec::from_iter(words(owners).filter(|owner| *owner != tid)).join(" ");
        if others.is_empty() { self.delete(name) } else { self.write(name.clone(), others.into()) }
    }
}

/// What must hold of locks.
impl Server {
    /// Every owner of a lock on `key`: those that hold it exclusively, and those that share it.
    pub(super) fn owners(&self, key: &str) -> [Vec<TxnId>; 2] {
        [Lock::X, Lock::S].map(|lock| {
            let lock = self.keys.iter().find(|(name, _)| name.ends_with(&lock.name(key.as_bytes())));
            lock.into_iter().flat_map(|(_, owners)| words(owners)).map(|owner| owner.parse().unwrap()).collect()
        })
    }

    /// Those that keep the gate closed.
    pub(super) fn at_the_gate(&self, participant: &Participant) -> Vec<TxnId> {
        self.keys.get(&internal_keys::gate(participant)).into_iter().flat_map(words).map(|owner| owner.parse().unwrap()).collect()
    }
}

#[derive(Clone, Copy)]
enum Lock {
    X,
    S,
}

impl Lock {
    /// How the names of the lock on `key` end.
    fn name(self, key: &[u8]) -> Vec<u8> {
        [if let Self::X = self { &b"x:"[..] } else { b"s:" }, key].concat()
    }
}

fn words(owners: &Bytes) -> impl Iterator<Item = &str> {
    std::str::from_utf8(owners).unwrap().split(' ')
}

fn owner(owners: &Bytes) -> &str {
    words(owners).next().unwrap()
}

fn parse(number: &Bytes) -> usize {
    std::str::from_utf8(number).unwrap().parse().unwrap()
}

fn simple(text: &str) -> Bytes {
    Bytes::from(format!("+{text}\r\n"))
}

fn number(number: usize) -> Bytes {
    Bytes::from(format!(":{number}\r\n"))
}

fn bulk(value: &Bytes) -> Bytes {
    Bytes::from(format!("${}\r\n{}\r\n", value.len(), std::str::from_utf8(value).unwrap()))
}

fn array(elements: Vec<Bytes>) -> Bytes {
    [format!("*{}\r\n", elements.len()).into_bytes(), elements.concat()].concat().into()
}
