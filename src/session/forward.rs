//! Hot path: plain commands on their way to a shard, with the lock check they owe (protocol §7).
//!
//! | command | strict | relaxed |
//! |---|---|---|
//! | read of one key, static shard | the command, behind a look at the gate that all reads of the turn share | the command |
//! | read of one key | `EXISTS` of its lock and its group's, the command; adjacent in the pipeline | the command |
//! | read of several keys of one participant | `MULTI, EXISTS locks, command, EXEC` | the command |
//! | write, static shard | in a batch with those of other sessions, under a watch on the gate | the command |
//! | write whose reply survives Lua | one guarded script for a run of the session's writes to one participant | the command |
//! | other writes | alone, natively on a leased connection | the command |
//!
//! A request of more than a megabyte goes on a connection of its own.
//!
//! The first way that can be taken is taken. The [gate] can be relied on while it is free; where transactions over
//! several shards keep it closed, the ways below it are as good as they ever were.
//!
//! Writes that the client pipelines to one participant travel as one run: one script call, carried out whole or not at all. So
//! their order needs no waiting between them.

use std::rc::Rc;

use bytes::BytesMut;
use smallvec::SmallVec;

use super::dispatch::Step;
use super::window::{Lane, Shape, Window};
use super::{Pending, Session, rescue};
use crate::affinity::Affinity;
use crate::command::{self, KeyError};
use crate::route::{self, Place, Route, RouteError, Routed};
use crate::topology::{Mode, SlotMap};
use crate::txn::{Batch, gate, guarded_request, lock, part};
use crate::upstream::{ArmedLane, ReplySink, UpstreamError, goes_apart};

/// Writes that were dispatched in this turn and go out at its end: one run for each participant.
#[derive(Default)]
pub(super) struct Runs(SmallVec<[Run; 1]>);

struct Run {
    place: Place,
    members: SmallVec<[u64; 4]>,
    commands: Vec<Routed>,
}

/// So many writes are half a batch: where they wait for their turn, what comes now had better go by another connection. Few go together,
/// which costs less.
const CROWD: usize = 64;

/// A script must not keep the shard from other clients for long.
const RUN_COMMANDS_MAX: usize = 256;

impl Session {
    /// Sends a command to the participant that its keys share.
    pub(super) fn forward(&mut self, pending: Pending) -> Step {
        let Pending { spec, request } = pending;
        if command::may_wait(spec, &request) {
            return Step::Alone(Pending { spec, request });
        }
        let map = self.context.upstreams.map();
        match route::route(&map, self.client.profile.db, spec, &request) {
            Ok(Route::One(routed)) => self.send(routed, &map),
            Ok(Route::Several(_)) => Step::Alone(Pending { spec, request }),
            Err(RouteError::Keys(error)) if rescue::is_the_shards_to_tell(error) => match route::anywhere(&map, spec, request) {
                Some(routed) => self.send(routed, &map),
                None => self.refuse(crate::resp::error_reply::CLUSTERDOWN_SLOT),
            },
            Err(RouteError::Keys(KeyError::OtherDatabase | KeyError::Pattern | KeyError::Get)) => Step::Alone(Pending { spec, request }),
            Err(error) => self.refuse(&rescue::route(&error, spec)),
        }
    }

    fn send(&mut self, routed: Routed, map: &SlotMap) -> Step {
        let (mode, affinity) = (map.mode(), map.affinity());
        let (place, write, strict) = (routed.place, routed.writes(), self.context.is_strict());
        if write && (self.context.serves(&routed) || self.context.is_preceded(&routed)) {
            return Step::Alone(routed.into());
        }
        if write {
            // Perhaps too early: who is woken by it looks again after a moment.
            self.context.ring(&routed);
        }
        if goes_apart([&routed.request]) {
            return Step::Alone(routed.into());
        }
        if strict && write {
            if mode == Mode::Static && self.window.may_arm(place) && !self.runs.has(place) && self.arm(&routed) {
                return Step::Sent;
            }
            return if part::survives_script(&routed, self.client.proto()) { self.join_run(routed) } else { Step::Alone(routed.into()) };
        }
        // Without lock checks nothing is sent again behind what follows it, but for redirects of a cluster.
        if (strict || mode == Mode::Cluster) && !self.window.may_send(place, write) {
            return Step::Stalled(routed.into());
        }
        match routed.keys.len() {
            1 if strict && mode == Mode::Static => self.transmit_gated(routed, affinity),
            1 if strict => self.transmit(Shape::Checked, routed, |out, routed| write_checked(out, routed, affinity)),
            2.. if strict => self.transmit(Shape::Atomic, routed, |out, routed| {
                out.extend_from_slice(MULTI);
                lock::write_exists(out, place.slot, affinity.with_groups(routed.key_names()));
                out.extend_from_slice(routed.request.bytes());
                out.extend_from_slice(EXEC);
            }),
            _ => self.transmit(Shape::Bare, routed, |out, routed| out.extend_from_slice(routed.request.bytes())),
        }
        Step::Sent
    }

    /// Gives a write to the armed connection of its participant, if that can be relied on.
    fn arm(&mut self, routed: &Routed) -> bool {
        let place = routed.place;
        let Some(node) = self.context.upstreams.primary(place.shard) else { return false };
        let connection = |lane| node.armed(place.db, self.client.proto(), lane, gate::watch_and_look());
        if !self.window.has_writes() {
            // Nothing is under way that it would overtake.
            let waiting = |lane: &ArmedLane| connection(*lane).waiting();
            let roomy = ArmedLane::all().find(|lane| waiting(lane) < CROWD).or_else(|| ArmedLane::all().min_by_key(waiting));
            self.armed_lane = roomy.filter(|lane| *lane == ArmedLane::default() || connection(*lane).is_ready()).unwrap_or_default();
        }
        let armed = connection(self.armed_lane);
        if !armed.is_ready() {
            return false;
        }
        let ticket = self.window.push(Shape::Bare, place, Lane::Armed, routed.request.clone());
        let sink: Rc<dyn ReplySink> = Rc::<Window>::clone(&self.window);
        armed.send(sink, ticket, 1, |out| out.extend_from_slice(routed.request.bytes()));
        self.last_conn = Some(Rc::clone(armed.conn()));
        true
    }

    /// Sends a read of one key behind a look at the gate, or at the key's own lock where the gate was closed of late.
    fn transmit_gated(&mut self, routed: Routed, affinity: &Affinity) {
        let place = routed.place;
        let Some(node) = self.context.upstreams.primary(place.shard) else {
            return self.reply(|reply| rescue::upstream(reply, UpstreamError::NotSent, false));
        };
        let conn = node.shared(place.db, self.client.proto());
        if !conn.trusts_gate() {
            return self.transmit(Shape::Checked, routed, |out, routed| write_checked(out, routed, affinity));
        }
        let ticket = self.window.push(Shape::Bare, place, Lane::Read, routed.request.clone());
        let sink: Rc<dyn ReplySink> = Rc::<Window>::clone(&self.window);
        conn.send_gated(sink, ticket, gate::look(), |out| out.extend_from_slice(routed.request.bytes()));
        self.last_conn = Some(conn);
    }

    fn transmit(&mut self, shape: Shape, routed: Routed, encode: impl FnOnce(&mut BytesMut, &Routed)) {
        let place = routed.place;
        let Some(node) = self.context.upstreams.primary(place.shard) else {
            return self.reply(|reply| rescue::upstream(reply, UpstreamError::NotSent, false));
        };
        let conn = node.shared(place.db, self.client.proto());
        let lane = if routed.writes() { Lane::Write } else { Lane::Read };
        let ticket = self.window.push(shape, place, lane, routed.request.clone());
        let sink: Rc<dyn ReplySink> = Rc::<Window>::clone(&self.window);
        conn.send(sink, ticket, shape.frames(), |out| encode(out, &routed));
        self.last_conn = Some(conn);
    }

    /// Adds a write to the run for its participant.
    fn join_run(&mut self, routed: Routed) -> Step {
        let place = routed.place;
        let open = self.runs.0.iter().position(|run| run.place == place);
        let full = open.is_some_and(|run| self.runs.0[run].commands.len() >= RUN_COMMANDS_MAX);
        if full || (open.is_none() && !self.window.may_send(place, true)) {
            return Step::Stalled(routed.into());
        }
        let ticket = self.window.push(Shape::Run, place, Lane::Write, routed.request.clone());
        match open {
            Some(run) => {
                let run = &mut self.runs.0[run];
                run.members.push(ticket);
                run.commands.push(routed);
            }
            None => self.runs.0.push(Run { place, members: SmallVec::from_slice(&[ticket]), commands: vec![routed] }),
        }
        Step::Sent
    }

    /// Sends the runs that have gathered.
    pub(super) fn flush_runs(&mut self) {
        if self.runs.0.is_empty() {
            return;
        }
        let proto = self.client.proto();
        let map = self.context.upstreams.map();
        for Run { place, members, commands } in std::mem::take(&mut self.runs).0 {
            let (Some(node), Some(participant)) = (self.context.upstreams.primary(place.shard), part::participant(&map, place)) else {
                members.iter().for_each(|member| self.window.failed(*member, UpstreamError::NotSent));
                continue;
            };
            let Some(&head) = members.first() else { continue };
            let batch: Batch = part::batch(participant, map.affinity(), commands.iter(), &[], false, proto);
            let request = guarded_request(&batch, proto);
            self.window.start_run(members, batch.commands);
            let sink: Rc<dyn ReplySink> = Rc::<Window>::clone(&self.window);
            let conn = node.shared(place.db, proto);
            conn.send(sink, head, 1, |out| out.extend_from_slice(request.bytes()));
            self.last_conn = Some(conn);
        }
    }
}

impl Runs {
    fn has(&self, place: Place) -> bool {
        self.0.iter().any(|run| run.place == place)
    }
}

fn write_checked(out: &mut BytesMut, routed: &Routed, affinity: &Affinity) {
    lock::write_exists(out, routed.place.slot, affinity.with_groups(routed.key_names()));
    out.extend_from_slice(routed.request.bytes());
}

const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
const EXEC: &[u8] = b"*1\r\n$4\r\nEXEC\r\n";

impl From<Routed> for Pending {
    fn from(routed: Routed) -> Self {
        Self { spec: routed.spec, request: routed.request }
    }
}
