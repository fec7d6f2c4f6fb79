//! Hot path: the replies of one session, put back into the order of its requests.
//!
//! The session appends an entry for each request that it sends; connections deliver frames to entries by their number, in any order
//! between shards; whatever is complete at the head moves to the output buffer. An entry whose lock check found a lock, or whose
//! server redirected it, turns to *again*, and takes the later entries of its participant with it: their replies are dropped and the
//! session sends all of them anew, in order, when nothing is in flight any more.

mod frames;
mod messages;
mod output;
mod rest;
mod traffic;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use self::output::Output;
pub use self::rest::Resting;
pub(super) use self::traffic::Lane;
use self::traffic::Traffic;
use super::rescue;
use crate::metrics::WorkerMetrics;
use crate::resp::Request;
use crate::route::Place;
use crate::txn;

/// What is in flight for one session, and what can be written to its client. The session holds one end, connections the other.
pub(super) struct Window {
    inner: RefCell<Inner>,
}

struct Inner {
    out: Output,
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
    /// Bytes of the requests that are kept until they are answered, in case they have to be sent again.
    sent: usize,
    /// Messages that came in the middle of a reply; they go behind it.
    withheld: Option<BytesMut>,
    /// The client does not read what it is sent.
    overrun: bool,
    /// How often the session has gone to wait, and how often it had when that was last looked at; see `rest`.
    turns: u32,
    turns_seen: u32,
    /// It is among those that are looked at.
    listed: bool,
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
                out: Output::default(),
                held: 0,
                base: 0,
                entries: VecDeque::new(),
                behind: VecDeque::new(),
                open: 0,
                again: false,
                traffic: Traffic::default(),
                writes: 0,
                sent: 0,
                withheld: None,
                overrun: false,
                turns: 0,
                turns_seen: 0,
                listed: false,
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
        inner.sent += request.bytes().len();
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
            let Inner { out, counts, .. } = &mut *inner;
            let start = out.tail().len();
            write(out.tail());
            return rescue::count(counts, &out.tail()[start..]);
        }
        let mut reply = BytesMut::new();
        write(&mut reply);
        rescue::count(&inner.counts, &reply);
        inner.held += reply.len();
        inner.entries.push_back(Entry { state: State::Done(reply.freeze()), lane: Lane::Read, place: None, request: None });
    }

    /// Like [`reply`](Self::reply), of whole frames or pieces of one that are at hand: large ones are not copied.
    pub(super) fn reply_with(&self, pieces: impl IntoIterator<Item = Bytes>) {
        let mut inner = self.inner.borrow_mut();
        let Inner { out, held, entries, counts, .. } = &mut *inner;
        for piece in pieces {
            rescue::count(counts, &piece);
            if entries.is_empty() {
                out.append(piece);
            } else {
                *held += piece.len();
                entries.push_back(Entry { state: State::Done(piece), lane: Lane::Read, place: None, request: None });
            }
        }
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

    /// How many bytes of requests are in flight.
    pub(super) fn sent(&self) -> usize {
        self.inner.borrow().sent
    }

    /// Gives `take` the bytes to write to the client.
    pub(super) fn with_out<T>(&self, take: impl FnOnce(&mut Output) -> T) -> T {
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
