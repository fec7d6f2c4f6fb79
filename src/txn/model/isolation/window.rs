//! What a session makes of the pools: `session/forward.rs`, `session/window.rs`, and for what is sent again `txn/engine.rs`.
//!
//! A client asks for one command of its pipeline after another, each when it may be sent. Replies come out in order. What was given back, or has met
//! a lock, is carried out again alone when nothing is in flight any more, and takes later reads of its participant with it.
//!
//! Left out: several writes of one client in one script, which is a single step.

use bytes::Bytes;

use super::client::{SHARED, server_of, whole};
use super::pool::Member;
use super::transaction::value;
use super::world::World;
use super::{Mutant, Op, Scenario};
use crate::resp::Proto;
use crate::txn::attempt::Attempt;
use crate::txn::lock::LockKeys;
use crate::txn::one_phase::{guarded_answer, guarded_request};

/// The commands of a pipeline that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Window {
    entries: Vec<Entry>,
    /// How many of them the client has been told of.
    told: usize,
    /// Commands are carried out again: nothing else is sent until they were.
    again: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Entry {
    Sent(Way),
    Again,
    /// With what it has read.
    Done(Option<u8>),
    /// The client is told that nobody knows.
    Doubtful,
}

/// How a command was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Way {
    /// On a pool's connection for reads.
    Gated,
    /// On a pool's connection for writes.
    Armed,
    /// In a guarded script.
    Scripted,
    /// A look at its lock was sent, and the command follows.
    Check,
    /// Behind a look at its lock.
    Checked,
}

impl Window {
    fn has(&self, is: impl Fn(usize, Entry) -> bool) -> bool {
        self.entries.iter().enumerate().any(|(index, entry)| is(index, *entry))
    }
}

impl World {
    /// What `client` pipelines just now.
    pub(super) fn piped(&self, scenario: &Scenario, client: usize) -> &'static [Op] {
        match self.op(scenario, client) {
            Some(Op::Piped(ops)) => ops,
            _ => &[],
        }
    }

    pub(super) fn command(&self, scenario: &Scenario, member: Member) -> Op {
        self.piped(scenario, member.client)[member.index]
    }

    /// How `client` may send its next command now: `Session::send`.
    pub(super) fn way(&self, scenario: &Scenario, client: usize) -> Option<Way> {
        let (ops, window) = (self.piped(scenario, client), &self.clients[client].window);
        let op = *ops.get(window.entries.len()).filter(|_| !window.again && !window.has(|_, entry| entry == Entry::Again))?;
        let is_free = |ways: &[Way]| {
            let in_flight =
                |index: usize, entry| server_of(ops[index]) == server_of(op) && ways.iter().any(|way| entry == Entry::Sent(*way));
            scenario.has(Mutant::NothingWaits) || !window.has(in_flight)
        };
        match op {
            Op::Reads(_) => is_free(&[Way::Armed, Way::Scripted]).then_some(Way::Gated),
            _ if self.pools[server_of(op)].is_ready() && is_free(&[Way::Gated, Way::Scripted]) => Some(Way::Armed),
            _ => is_free(&[Way::Gated, Way::Armed, Way::Scripted]).then_some(Way::Scripted),
        }
    }

    /// The client asks for its next command.
    pub(super) fn ask(&mut self, scenario: &Scenario, client: usize) {
        let Some(way) = self.way(scenario, client) else { return };
        let entries = &mut self.clients[client].window.entries;
        let index = entries.len();
        entries.push(Entry::Again);
        let entry = self.entry(scenario, client) + index;
        self.history.begin(entry);
        self.dispatch(scenario, Member { client, index }, way);
    }

    fn dispatch(&mut self, scenario: &Scenario, member: Member, way: Way) {
        let (Member { client, index }, op) = (member, self.command(scenario, member));
        let server = server_of(op);
        match way {
            Way::Gated => self.pools[server].ask_read(scenario, member),
            Way::Armed => self.pools[server].ask_write(member),
            Way::Scripted => self.send(server, client, SHARED, &[guarded_request(&whole(op), Proto::Resp2)]),
            Way::Check => self.send(server, client, SHARED, &[LockKeys::against(&whole(op)).exists()]),
            Way::Checked => self.send(server, client, SHARED, &op.requests(server)),
        }
        self.clients[client].window.entries[index] = Entry::Sent(way);
    }

    /// A server has carried out a request on the client's own connection.
    pub(super) fn answered(&mut self, scenario: &Scenario, server: usize, client: usize) {
        for reply in self.take(server, client, SHARED) {
            let ops = self.piped(scenario, client);
            let own = |index: usize, entry: &Entry| match entry {
                Entry::Sent(way @ (Way::Scripted | Way::Check | Way::Checked)) if server_of(ops[index]) == server => Some((index, *way)),
                _ => None,
            };
            let Some((index, way)) = self.clients[client].window.entries.iter().enumerate().find_map(|(index, entry)| own(index, entry))
            else {
                panic!("{reply:?} was not asked for")
            };
            let member = Member { client, index };
            match way {
                Way::Check if reply.as_ref() == b":0\r\n" => self.dispatch(scenario, member, Way::Checked),
                Way::Check => self.dispatch(scenario, member, Way::Check),
                Way::Checked => self.done(scenario, member, Some(&reply)),
                _ if matches!(guarded_answer(&reply, &whole(ops[index])), Attempt::Done(_)) => self.done(scenario, member, None),
                _ => self.send_again(scenario, member),
            }
        }
        self.settle(scenario, client);
    }

    /// It was carried out: `Inner::done`.
    pub(super) fn done(&mut self, scenario: &Scenario, member: Member, read: Option<&Bytes>) {
        let ops = self.piped(scenario, member.client);
        let entries = &mut self.clients[member.client].window.entries;
        let mut earlier = entries[..member.index].iter().zip(ops);
        let overtook = earlier.any(|(entry, op)| *entry == Entry::Again && server_of(*op) == server_of(ops[member.index]));
        entries[member.index] = match read {
            Some(_) if overtook && !scenario.has(Mutant::LaterReadsStay) => Entry::Again,
            read => Entry::Done(read.map(value)),
        };
    }

    /// It was not carried out, or what it read does not count: `Inner::send_again`.
    pub(super) fn send_again(&mut self, scenario: &Scenario, member: Member) {
        let ops = self.piped(scenario, member.client);
        let later = self.clients[member.client].window.entries[member.index..].iter_mut().zip(&ops[member.index..]);
        for (index, (entry, op)) in later.enumerate() {
            let overtook = matches!(entry, Entry::Done(Some(_))) && server_of(*op) == server_of(ops[member.index]);
            if index == 0 || overtook && !scenario.has(Mutant::LaterReadsStay) {
                *entry = Entry::Again;
            }
        }
    }

    /// Nobody knows whether it was carried out, or will be.
    pub(super) fn doubt(&mut self, scenario: &Scenario, member: Member) {
        let entry = self.entry(scenario, member.client) + member.index;
        self.history.doubt(entry);
        self.clients[member.client].window.entries[member.index] = Entry::Doubtful;
    }

    pub(super) fn settle_all(&mut self, scenario: &Scenario) {
        (0..self.clients.len()).for_each(|client| self.settle(scenario, client));
    }

    /// Tells the client what it can be told, and goes on with what is to be carried out again.
    fn settle(&mut self, scenario: &Scenario, client: usize) {
        let (ops, first) = (self.piped(scenario, client), self.entry(scenario, client));
        if ops.is_empty() {
            return;
        }
        let told = self.clients[client].window.told;
        match self.clients[client].window.entries.get(told) {
            Some(Entry::Done(read)) => {
                let read = read.map(|read| (ops[told].reads()[0], read));
                self.complete(first + told, read);
            }
            Some(Entry::Doubtful) => {}
            _ => return self.carry_out_again(scenario, client),
        }
        self.clients[client].window.told += 1;
        if told + 1 == ops.len() { self.next(scenario, client) } else { self.settle(scenario, client) }
    }

    /// `Window::take_again` and `Session::again`.
    fn carry_out_again(&mut self, scenario: &Scenario, client: usize) {
        let window = &mut self.clients[client].window;
        if window.has(|_, entry| matches!(entry, Entry::Sent(_))) {
            return;
        }
        let first = window.entries.iter().position(|entry| *entry == Entry::Again);
        window.again = first.is_some();
        let Some(index) = first else { return };
        let member = Member { client, index };
        let way = match self.command(scenario, member) {
            Op::Reads(_) => Way::Check,
            op if self.pools[server_of(op)].is_ready() => Way::Armed,
            _ => Way::Scripted,
        };
        self.dispatch(scenario, member, way);
    }
}
