//! Hot path: the replies of one session, put back into the order of its requests.
//!
//! The session appends an entry for each request that it sends; connections deliver frames to entries by their number, in any order
//! between shards; whatever is complete at the head moves to the output buffer. An entry whose lock check found a lock, or whose
//! server redirected it, turns to *again*, and takes the later entries of its participant with it: their replies are dropped and the
//! session sends all of them anew, in order, when nothing is in flight any more.

mod messages;
mod traffic;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

pub(super) use self::traffic::Lane;
use self::traffic::Traffic;
use super::{pubsub, rescue};
use crate::metrics::WorkerMetrics;
use crate::resp::{Proto, ReplyWriter, Request};
use crate::route::Place;
use crate::txn::{self, guarded};
use crate::upstream::{ReplySink, UpstreamError};

/// What is in flight for one session, and what can be written to its client. The session holds one end, connections the other.
pub(super) struct Window {
    inner: RefCell<Inner>,
}

struct Inner {
    out: BytesMut,
    /// Bytes of complete replies that wait for an earlier one.
    held: usize,
    /// The number of the entry at the head.
    base: u64,
    entries: VecDeque<Entry>,
    /// What stands behind the request that is being carried out again, whose reply goes out before them.
    behind: VecDeque<Entry>,
    /// Entries of which a frame is still to come.
    open: usize,
    /// Some entry has to be sent again.
    again: bool,
    traffic: Traffic,
    /// Writes that were not answered yet.
    writes: usize,
    /// Messages that came in the middle of a reply; they go behind it.
    withheld: Option<BytesMut>,
    /// The client does not read what it is sent.
    overrun: bool,
    waker: Option<Waker>,
    counts: Arc<WorkerMetrics>,
}

/// One request on its way.
struct Entry {
    state: State,
    lane: Lane,
    place: Option<Place>,
    /// For sending it again; absent for what never is.
    request: Option<Request>,
}

enum State {
    /// The next frame is the reply.
    Reply,
    /// The next frame is the reply to PUBLISH, to which this is added. What was perhaps published is not published again.
    Published { excess: i64 },
    /// The next frame answers EXISTS on the lock, the one after it is the reply.
    Check,
    /// The lock check has found a lock or failed; the reply that follows is to be dropped.
    Refused,
    /// `MULTI, EXISTS, command, EXEC`: how many of the four frames have come, and the error with which the command was not queued.
    Atomic { seen: u8, error: Option<Bytes> },
    /// The head of a run of writes sent as one guarded batch, whose members, itself first, are these entries.
    Run(Box<Run>),
    /// In a run, but not its head.
    Member,
    /// Complete.
    Done(Bytes),
    /// To be sent again.
    Again,
}

/// A run of writes that was sent.
struct Run {
    members: SmallVec<[u64; 4]>,
    /// As they were sent, in the same order.
    commands: Vec<txn::Command>,
}

/// How an entry that is sent will be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// By the reply alone.
    Bare,
    /// By a number of receivers, to which this is added.
    Published {
        /// How many more they are.
        excess: i64,
    },
    /// By a lock check and the reply.
    Checked,
    /// By a transaction of a lock check and the command.
    Atomic,
    /// As part of a run of writes; see [`Window::start_run`].
    Run,
}

impl Shape {
    /// How many reply frames come.
    pub(super) fn frames(self) -> u32 {
        match self {
            Self::Bare | Self::Published { .. } | Self::Run => 1,
            Self::Checked => 2,
            Self::Atomic => 4,
        }
    }
}

impl Window {
    pub(super) fn new(counts: Arc<WorkerMetrics>) -> Rc<Self> {
        Rc::new(Self {
            inner: RefCell::new(Inner {
                out: BytesMut::new(),
                held: 0,
                base: 0,
                entries: VecDeque::new(),
                behind: VecDeque::new(),
                open: 0,
                again: false,
                traffic: Traffic::default(),
                writes: 0,
                withheld: None,
                overrun: false,
                waker: None,
                counts,
            }),
        })
    }

    /// Adds an entry for a request that is about to be sent and returns its number.
    pub(super) fn push(&self, shape: Shape, place: Place, lane: Lane, request: Request) -> u64 {
        let mut inner = self.inner.borrow_mut();
        let state = match shape {
            Shape::Bare => State::Reply,
            Shape::Published { excess } => State::Published { excess },
            Shape::Checked => State::Check,
            Shape::Atomic => State::Atomic { seen: 0, error: None },
            Shape::Run => State::Member,
        };
        inner.open += 1;
        inner.writes += usize::from(lane.is_write());
        inner.traffic.count(place, lane).add();
        inner.entries.push_back(Entry { state, lane, place: Some(place), request: Some(request) });
        inner.base + inner.entries.len() as u64 - 1
    }

    /// Makes the first of `members` the one that the reply of the whole run is delivered to.
    pub(super) fn start_run(&self, members: SmallVec<[u64; 4]>, commands: Vec<txn::Command>) {
        let mut inner = self.inner.borrow_mut();
        let Some(index) = members.first().and_then(|first| inner.index(*first)) else { return };
        inner.entries[index].state = State::Run(Box::new(Run { members, commands }));
    }

    /// Appends a reply of weft's own behind everything that is in flight.
    pub(super) fn reply(&self, write: impl FnOnce(&mut BytesMut)) {
        let mut inner = self.inner.borrow_mut();
        if inner.entries.is_empty() {
            let start = inner.out.len();
            write(&mut inner.out);
            return rescue::count(&inner.counts, &inner.out[start..]);
        }
        let mut reply = BytesMut::new();
        write(&mut reply);
        rescue::count(&inner.counts, &reply);
        inner.held += reply.len();
        inner.entries.push_back(Entry { state: State::Done(reply.freeze()), lane: Lane::Read, place: None, request: None });
    }

    /// Whether a request to `place` may be sent now. Two requests of a session to one participant, one of them a write, are never in
    /// flight apart (protocol §7): the first could find a lock and be sent again behind the second.
    pub(super) fn may_send(&self, place: Place, write: bool) -> bool {
        let traffic = &mut self.inner.borrow_mut().traffic;
        traffic.count(place, Lane::Armed).is_zero()
            && traffic.count(place, Lane::Write).is_zero()
            && (!write || traffic.count(place, Lane::Read).is_zero())
    }

    /// Whether a write to `place` may be given to the armed connection now: behind others there it may, since a batch is sent when the
    /// one before it was carried out, or given back with it.
    pub(super) fn may_arm(&self, place: Place) -> bool {
        let traffic = &mut self.inner.borrow_mut().traffic;
        traffic.count(place, Lane::Write).is_zero() && traffic.count(place, Lane::Read).is_zero()
    }

    /// Whether a write was sent that is not answered yet.
    pub(super) fn has_writes(&self) -> bool {
        self.inner.borrow().writes > 0
    }

    /// Whether the client has more to read than it may.
    pub(super) fn is_overrun(&self) -> bool {
        self.inner.borrow().overrun
    }

    /// How many requests wait for their turn to be answered.
    pub(super) fn len(&self) -> usize {
        self.inner.borrow().entries.len()
    }

    /// How many bytes wait to be written to the client.
    pub(super) fn out_len(&self) -> usize {
        self.inner.borrow().out.len()
    }

    /// How many bytes of replies weft holds for the client, written to it in order or not.
    pub(super) fn held(&self) -> usize {
        let inner = self.inner.borrow();
        inner.out.len() + inner.held
    }

    /// Gives `take` the bytes to write to the client.
    pub(super) fn with_out<T>(&self, take: impl FnOnce(&mut BytesMut) -> T) -> T {
        take(&mut self.inner.borrow_mut().out)
    }

    /// The session's task is to be woken when something can be done.
    pub(super) fn register(&self, cx: &Context<'_>) {
        let mut inner = self.inner.borrow_mut();
        if !inner.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            inner.waker = Some(cx.waker().clone());
        }
    }

    /// Whether no frame is still to come.
    pub(super) fn is_settled(&self) -> bool {
        self.inner.borrow().open == 0
    }

    /// Whether requests must be sent again. Until they were, nothing that comes after them may be sent.
    pub(super) fn is_again(&self) -> bool {
        self.inner.borrow().again
    }

    /// Whether requests must be sent again and nothing is in flight that they would have to wait for.
    pub(super) fn wants_again(&self) -> bool {
        let inner = self.inner.borrow();
        inner.again && inner.open == 0
    }

    /// The first request that is to be carried out again; what was complete before it has moved to the output. What stands behind it is
    /// set aside until the next call, so that the reply that the session appends comes out in its place. `None` when there is none left.
    /// Nothing may be in flight.
    pub(super) fn take_again(&self) -> Option<Request> {
        let mut inner = self.inner.borrow_mut();
        let mut behind = std::mem::take(&mut inner.behind);
        inner.entries.append(&mut behind);
        inner.advance();
        match inner.entries.pop_front() {
            Some(Entry { state: State::Again, request: Some(request), .. }) => {
                inner.base += 1;
                inner.behind = std::mem::take(&mut inner.entries);
                Some(request)
            }
            Some(other) => {
                inner.entries.push_front(other);
                None
            }
            None => {
                inner.again = false;
                None
            }
        }
    }
}

impl Inner {
    fn index(&self, ticket: u64) -> Option<usize> {
        let index = usize::try_from(ticket.checked_sub(self.base)?).ok()?;
        (index < self.entries.len()).then_some(index)
    }

    /// Takes in a frame for the entry at `index`.
    fn frame(&mut self, index: usize, frame: &[u8]) {
        let refused = rescue::is_redirect(frame);
        let entry = &mut self.entries[index];
        match &mut entry.state {
            State::Reply if refused => self.send_again(index),
            State::Reply => self.done(index, frame),
            State::Published { .. } if refused => self.send_again(index),
            State::Published { excess } => {
                let reply = pubsub::add(frame, *excess);
                self.done(index, &reply);
            }
            State::Check => entry.state = if frame == b":0\r\n" { State::Reply } else { State::Refused },
            State::Refused => self.send_again(index),
            State::Atomic { seen, error } => {
                *seen += 1;
                match *seen {
                    1..4 if refused => *error = Some(Bytes::new()),
                    1..4 if frame.first() == Some(&b'-') => *error = Some(Bytes::copy_from_slice(frame)),
                    1..4 => {}
                    _ => self.finish_atomic(index, frame),
                }
            }
            State::Run(_) => {
                if let State::Run(run) = std::mem::replace(&mut entry.state, State::Member) {
                    self.finish_run(&run, frame);
                }
            }
            // Nothing more was expected; the connection's count of frames makes this impossible.
            State::Member | State::Done(_) | State::Again => {}
        }
    }

    fn finish_atomic(&mut self, index: usize, frame: &[u8]) {
        let State::Atomic { error, .. } = &mut self.entries[index].state else { return };
        match error.take() {
            // A server that is out of memory takes no command behind MULTI; there is another way to read.
            Some(error) if !error.is_empty() && !error.starts_with(b"-OOM") => self.done(index, &error),
            _ => match frame.strip_prefix(b"*2\r\n:0\r\n") {
                Some(reply) => self.done(index, reply),
                None => self.send_again(index),
            },
        }
    }

    fn finish_run(&mut self, run: &Run, frame: &[u8]) {
        match guarded::answer(&Bytes::copy_from_slice(frame), &run.commands) {
            Ok(guarded::Answer::Done(replies)) => {
                for (member, reply) in run.members.iter().zip(replies) {
                    if let Some(index) = self.index(*member) {
                        self.done(index, &reply);
                    }
                }
            }
            Ok(guarded::Answer::Locked(_)) => run.members.iter().for_each(|member| self.send_member_again(*member)),
            Err(refusal) if refusal.kind.is_passing() => run.members.iter().for_each(|member| self.send_member_again(*member)),
            // The script was not run, for a reason that holds for each of its commands.
            Err(refusal) => {
                let reply = [b"-", &refusal.text[..], b"\r\n"].concat();
                for member in &run.members {
                    if let Some(index) = self.index(*member) {
                        self.done(index, &reply);
                    }
                }
            }
        }
    }

    fn send_member_again(&mut self, member: u64) {
        if let Some(index) = self.index(member) {
            self.send_again(index);
        }
    }

    fn done(&mut self, index: usize, reply: &[u8]) {
        self.close(index);
        // An earlier request to the same participant is sent again: this read came too early.
        if self.again && !self.entries[index].lane.is_write() && self.is_behind_again(index) {
            return self.entries[index].state = State::Again;
        }
        rescue::count(&self.counts, reply);
        if index == 0 {
            self.out.extend_from_slice(reply);
            self.entries.pop_front();
            self.base += 1;
            self.advance();
        } else {
            self.held += reply.len();
            self.entries[index].state = State::Done(Bytes::copy_from_slice(reply));
        }
    }

    fn is_behind_again(&self, index: usize) -> bool {
        let place = self.entries[index].place;
        self.entries.range(..index).any(|entry| matches!(entry.state, State::Again) && entry.place == place)
    }

    fn send_again(&mut self, index: usize) {
        self.close(index);
        self.again = true;
        let place = self.entries[index].place;
        self.entries[index].state = State::Again;
        for entry in self.entries.range_mut(index + 1..) {
            if let State::Done(reply) = &entry.state
                && entry.place == place
                && !entry.lane.is_write()
            {
                self.held = self.held.saturating_sub(reply.len());
                entry.state = State::Again;
            }
        }
    }

    /// No more frames come for the entry.
    fn close(&mut self, index: usize) {
        self.open -= 1;
        let Entry { place, lane, .. } = self.entries[index];
        self.writes -= usize::from(lane.is_write());
        if let Some(place) = place {
            self.traffic.count(place, lane).remove();
        }
    }

    /// Moves what is complete at the head to the output.
    fn advance(&mut self) {
        while let Some(Entry { state: State::Done(reply), .. }) = self.entries.front() {
            self.held = self.held.saturating_sub(reply.len());
            self.out.extend_from_slice(reply);
            self.entries.pop_front();
            self.base += 1;
        }
    }
}

impl ReplySink for Window {
    fn frame(&self, ticket: u64, frame: &[u8]) {
        let mut inner = self.inner.borrow_mut();
        if let Some(index) = inner.index(ticket) {
            inner.frame(index, frame);
        }
        if let Some(waker) = &inner.waker {
            waker.wake_by_ref();
        }
    }

    fn gated(&self, ticket: u64) {
        let mut inner = self.inner.borrow_mut();
        inner.send_member_again(ticket);
        if let Some(waker) = &inner.waker {
            waker.wake_by_ref();
        }
    }

    fn failed(&self, ticket: u64, error: UpstreamError) {
        let mut inner = self.inner.borrow_mut();
        let Some(index) = inner.index(ticket) else { return };
        let members = match &mut inner.entries[index].state {
            State::Run(run) => std::mem::take(&mut run.members),
            _ => SmallVec::from_slice(&[ticket]),
        };
        for member in members {
            let Some(index) = inner.index(member) else { continue };
            let write = inner.entries[index].lane.is_write() || matches!(inner.entries[index].state, State::Published { .. });
            if error == UpstreamError::MaybeApplied && !write {
                inner.send_again(index);
            } else {
                let mut reply = BytesMut::new();
                rescue::upstream(&mut ReplyWriter::new(&mut reply, Proto::Resp2), error, write);
                inner.done(index, &reply);
            }
        }
        if let Some(waker) = &inner.waker {
            waker.wake_by_ref();
        }
    }
}
