//! Hot path: plain commands on their way to a shard, with the lock check they owe (protocol §7).
//!
//! | command | strict | relaxed |
//! |---|---|---|
//! | read of one key | `EXISTS lock`, the command; adjacent in the pipeline | the command |
//! | read of several keys of one participant | `MULTI, EXISTS locks, command, EXEC` | the command |
//! | write whose reply survives Lua | one guarded script for a run of the session's writes to one participant | the command |
//! | other writes | alone, natively on a leased connection | the command |
//!
//! Writes that the client pipelines to one participant travel as one run: one script call, carried out whole or not at all. So
//! their order needs no waiting between them.

use std::rc::Rc;

use bytes::BytesMut;
use smallvec::SmallVec;

use super::dispatch::Step;
use super::window::{Shape, Window};
use super::{Pending, Session, rescue};
use crate::command::Access;
use crate::resp::Proto;
use crate::route::{self, Place, PlacedKeys};
use crate::topology::Mode;
use crate::txn::{Command, guarded, internal_keys, one_phase};
use crate::upstream::ReplySink;

/// Writes that were dispatched in this turn and go out at its end: one run for each participant.
#[derive(Default)]
pub(super) struct Runs(SmallVec<[Run; 1]>);

struct Run {
    place: Place,
    members: SmallVec<[u64; 4]>,
    commands: Vec<Command>,
}

/// A script must not keep the shard from other clients for long.
const RUN_COMMANDS_MAX: usize = 256;

impl Session {
    /// Sends a command to the participant that its keys share.
    pub(super) fn forward(&mut self, pending: Pending) -> Step {
        let Pending { spec, request } = pending;
        let map = self.context.upstreams.map();
        let keys = match route::place(&map, self.client.db(), spec, &request) {
            Ok(keys) => keys,
            Err(error) => return self.refuse(&rescue::route_text(&error, spec)),
        };
        if spec.blocks(&request) {
            return Step::Alone(Pending { spec, request });
        }
        let (place, keys) = match route::common(&keys) {
            Some(place) => (place, keys),
            None if keys.is_empty() => {
                let keys = self.anywhere(self.client.db());
                (keys[0].place, PlacedKeys::new())
            }
            None => return Step::Alone(Pending { spec, request }),
        };
        self.send(Command { spec, request, keys }, place, map.mode())
    }

    /// Sends a command that may span participants, if it does not.
    pub(super) fn forward_split(&mut self, pending: Pending) -> Step {
        self.forward(pending)
    }

    /// A place for a command without keys, as the place of a key that it does not have.
    pub(super) fn anywhere(&self, db: u32) -> PlacedKeys {
        let map = self.context.upstreams.map();
        route::anywhere(&map, db)
    }

    fn send(&mut self, command: Command, place: Place, mode: Mode) -> Step {
        let write = command.writes();
        let strict = self.context.is_strict();
        if !strict && mode == Mode::Static {
            self.transmit(Shape::Bare, place, write, command, |out, command, _| out.extend_from_slice(command.request.bytes()));
            return Step::Sent;
        }
        if strict && write {
            if !one_phase::is_scriptable(std::slice::from_ref(&command), self.client.proto()) {
                return Step::Alone(command.into());
            }
            return self.join_run(command, place);
        }
        if !self.window.may_send(place, write) {
            return Step::Stalled(command.into());
        }
        match command.keys.len() {
            _ if !strict => {
                self.transmit(Shape::Bare, place, write, command, |out, command, _| out.extend_from_slice(command.request.bytes()));
            }
            0 => self.transmit(Shape::Bare, place, write, command, |out, command, _| out.extend_from_slice(command.request.bytes())),
            1 => self.transmit(Shape::Checked, place, write, command, |out, command, key| {
                internal_keys::write_exists(out, place.slot, [key].into_iter());
                out.extend_from_slice(command.request.bytes());
            }),
            _ => self.transmit(Shape::Atomic, place, write, command, |out, command, _| {
                out.extend_from_slice(MULTI);
                internal_keys::write_exists(out, place.slot, command.key_names());
                out.extend_from_slice(command.request.bytes());
                out.extend_from_slice(EXEC);
            }),
        }
        Step::Sent
    }

    fn transmit(&self, shape: Shape, place: Place, write: bool, command: Command, encode: impl FnOnce(&mut BytesMut, &Command, &[u8])) {
        let Some(node) = self.context.upstreams.primary(place.shard) else { return };
        let ticket = self.window.push(shape, place, write, command.request.clone());
        let sink: Rc<dyn ReplySink> = Rc::<Window>::clone(&self.window);
        node.shared(place.db, self.client.proto()).send(sink, ticket, shape.frames(), |out| {
            let key = command.keys.first().map_or(&[][..], |key| command.request.arg(key.index as usize));
            encode(out, &command, key);
        });
    }

    /// Adds a write to the run for its participant.
    fn join_run(&mut self, command: Command, place: Place) -> Step {
        let open = self.runs.0.iter().position(|run| run.place == place);
        let full = open.is_some_and(|run| self.runs.0[run].commands.len() >= RUN_COMMANDS_MAX);
        if full || (open.is_none() && !self.window.may_send(place, true)) {
            return Step::Stalled(command.into());
        }
        let ticket = self.window.push(Shape::Run, place, true, command.request.clone());
        match open {
            Some(run) => {
                let run = &mut self.runs.0[run];
                run.members.push(ticket);
                run.commands.push(command);
            }
            None => self.runs.0.push(Run { place, members: SmallVec::from_slice(&[ticket]), commands: vec![command] }),
        }
        Step::Sent
    }

    /// Sends the runs that have gathered.
    pub(super) fn flush_runs(&mut self) {
        let proto = self.client.proto();
        for run in std::mem::take(&mut self.runs).0 {
            let Some(node) = self.context.upstreams.primary(run.place.shard) else { continue };
            let Some(&head) = run.members.first() else { continue };
            let request = one_phase::guarded_request(run.place, &run.commands, &[], proto);
            self.window.start_run(run.members);
            let sink: Rc<dyn ReplySink> = Rc::<Window>::clone(&self.window);
            node.shared(run.place.db, proto).send(sink, head, 1, |out| out.extend_from_slice(request.bytes()));
        }
    }
}

const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
const EXEC: &[u8] = b"*1\r\n$4\r\nEXEC\r\n";

impl From<Command> for Pending {
    fn from(command: Command) -> Self {
        Self { spec: command.spec, request: command.request }
    }
}
