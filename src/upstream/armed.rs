//! Hot path: writes under a watch that is already set.
//!
//! A connection is **armed** when it watches its participant's gate (see `txn::gate`) and has seen that the gate was free: nobody held a
//! lock then. The writes that sessions of the worker make meanwhile are sent together as
//!
//! ```text
//! MULTI, writes, EXEC, WATCH gate, EXISTS gate
//! ```
//!
//! Whoever takes a lock touches the gate, so if EXEC carries the writes out there was no lock in their way, and it has carried them out
//! by itself: native commands, native replies, no script, no check for each key. The tail arms the connection for the next batch, which
//! is why one batch is in flight at a time; what comes meanwhile gathers. Where much is written there are more connections of this kind,
//! each for a part of the sessions, which keep to one while anything they wrote is under way. EXEC answers nil when somebody has taken a
//! lock: nothing ran, every write goes back to its session, and the sessions make their writes in another way until the gate is free again.
//!
//! | what happens | the writes of the batch | what gathered behind it |
//! |---|---|---|
//! | EXEC answers an array | each gets its replies | goes next, if the gate is free |
//! | EXEC answers nil or an error, a write is not queued | go back: nothing ran | goes back |
//! | MULTI is not accepted, the connection is lost | `MaybeApplied` or `NotSent`, as on any connection | goes back |
//!
//! Not on a node of a cluster: there a participant is a slot, and the writes of one EXEC must be in one slot.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::error::UpstreamError;
use super::node::Link;
use super::shared::{LARGE_FRAME_BYTES, Pace, ReplySink, SharedConn};
use crate::resp::ReplyScanner;

/// A connection for the writes of a worker to one participant; cheap to share inside its worker.
pub struct ArmedConn {
    conn: Rc<SharedConn>,
    /// `WATCH gate, EXISTS gate`: two requests.
    tail: Bytes,
    state: RefCell<State>,
}

struct State {
    phase: Phase,
    /// Sent, and not answered to the end.
    flying: Batch,
    /// How many of its frames have come.
    seen: usize,
    /// Whether the flying batch is carried out.
    verdict: Verdict,
    /// What goes next; only the last one still grows.
    gathered: VecDeque<Batch>,
    /// How many writes go past the connection until it is armed again, and how many after it fails once more.
    avoid: (u32, u32),
    /// Of the task that sends.
    waker: Option<Waker>,
    closed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The gate is not watched, or was not free.
    Unarmed,
    /// A batch is in flight, perhaps an empty one whose tail arms the connection.
    Flying,
    /// The gate is watched and was free, as long as the connection has been lost no more often than this.
    Armed { losses: u64 },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It is, as far as is known.
    CarriedOut,
    /// EXEC answered nil or an error: nothing ran. What gathered behind it may belong to the same sessions and must not overtake it.
    NotRun,
    /// MULTI was not accepted: what came behind it may have been carried out, each write by itself.
    Unsafe,
}

#[derive(Default)]
struct Batch {
    bytes: BytesMut,
    members: Vec<Member>,
    commands: usize,
}

/// Commands of one sender, next to each other.
struct Member {
    sink: Rc<dyn ReplySink>,
    ticket: u64,
    commands: u32,
}

impl ArmedConn {
    /// A connection along `link` whose participant's gate is watched and looked at by `tail`. Its tasks end after [`close`](Self::close).
    pub fn open(link: Link, tail: Bytes) -> Rc<Self> {
        let this = Rc::new(Self {
            conn: SharedConn::open(link, Pace::Prompt),
            tail,
            state: RefCell::new(State {
                phase: Phase::Unarmed,
                flying: Batch::default(),
                seen: 0,
                verdict: Verdict::CarriedOut,
                gathered: VecDeque::new(),
                avoid: (0, 0),
                waker: None,
                closed: false,
            }),
        });
        let sender = Rc::clone(&this);
        tokio::task::spawn_local(async move { poll_fn(|cx| sender.poll_send(cx)).await });
        this
    }

    /// Whether writes can be given to it now. If it is not armed it arms itself, for those that come later.
    pub fn is_ready(&self) -> bool {
        let mut state = self.state.borrow_mut();
        match state.phase {
            _ if state.closed => false,
            Phase::Flying => !state.flying.members.is_empty(),
            Phase::Armed { losses } if losses == self.conn.losses() => true,
            Phase::Unarmed | Phase::Armed { .. } => {
                if state.avoid.0 > 0 {
                    state.avoid.0 -= 1;
                } else if state.gathered.is_empty() {
                    state.phase = Phase::Unarmed;
                    state.gathered.push_back(Batch::default());
                    state.wake();
                }
                false
            }
        }
    }

    /// How many commands wait for a batch to be answered.
    pub fn waiting(&self) -> usize {
        self.state.borrow().gathered.iter().map(|batch| batch.commands).sum()
    }

    /// Sends `requests`, all in one step, each of whose replies is given to `sink` with `ticket`, in their order; or `sink` is told that
    /// they were not carried out. To be called when [`is_ready`](Self::is_ready) has said so in the same turn.
    pub fn send(&self, sink: Rc<dyn ReplySink>, ticket: u64, commands: u32, write: impl FnOnce(&mut BytesMut)) {
        let mut state = self.state.borrow_mut();
        if state.gathered.back().is_none_or(Batch::is_full) {
            state.gathered.push_back(Batch::default());
        }
        let Some(batch) = state.gathered.back_mut() else { return };
        let before = batch.bytes.len();
        if batch.bytes.is_empty() {
            batch.bytes.extend_from_slice(MULTI);
        }
        write(&mut batch.bytes);
        self.conn.note_behind(batch.bytes.len() - before);
        batch.members.push(Member { sink, ticket, commands });
        batch.commands += commands as usize;
        if state.phase != Phase::Flying {
            state.wake();
        }
    }

    /// The connection below.
    pub fn conn(&self) -> &Rc<SharedConn> {
        &self.conn
    }

    /// As [`SharedConn::watch`].
    pub fn watch(&self, now: Instant, limit: Duration) {
        self.conn.watch(now, limit);
    }

    /// Ends the connection.
    pub fn close(&self) {
        {
            let mut state = self.state.borrow_mut();
            state.closed = true;
            state.wake();
        }
        self.conn.close();
    }

    /// Sends the next batch whenever there is one and the connection may; ready when it is closed.
    ///
    /// A task of its own, so that all sessions that have something to write in this turn of the event loop are in the batch.
    fn poll_send(self: &Rc<Self>, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state.borrow_mut();
        state.waker = Some(cx.waker().clone());
        if state.closed {
            let gathered = std::mem::take(&mut state.gathered);
            drop(state);
            self.give_back(gathered);
            return Poll::Ready(());
        }
        if state.phase == Phase::Flying {
            return Poll::Pending;
        }
        let Some(front) = state.gathered.front() else { return Poll::Pending };
        let armed = matches!(state.phase, Phase::Armed { losses } if losses == self.conn.losses());
        if !armed && !front.members.is_empty() {
            state.phase = Phase::Unarmed;
            let gathered = std::mem::take(&mut state.gathered);
            drop(state);
            self.give_back(gathered);
            return Poll::Pending;
        }
        let Some(mut batch) = state.gathered.pop_front() else { return Poll::Pending };
        let bytes = std::mem::take(&mut batch.bytes);
        let frames = batch.commands as u32 + FRAMES_AROUND;
        state.phase = Phase::Flying;
        state.seen = 0;
        state.verdict = Verdict::CarriedOut;
        state.flying = batch;
        drop(state);
        let sink: Rc<dyn ReplySink> = Rc::<Self>::clone(self);
        self.conn.forget_behind(bytes.len());
        self.conn.send(sink, 0, frames, |out| {
            out.extend_from_slice(if bytes.is_empty() { MULTI } else { &bytes });
            out.extend_from_slice(EXEC);
            out.extend_from_slice(&self.tail);
        });
        Poll::Pending
    }
}

impl ReplySink for ArmedConn {
    fn frame(&self, _ticket: u64, frame: &[u8]) {
        self.take_in(frame, None);
    }

    fn large_frame(&self, _ticket: u64, frame: Bytes) {
        self.take_in(&frame, Some(&frame));
    }

    fn failed(&self, _ticket: u64, error: UpstreamError) {
        let (flying, gathered) = {
            let mut state = self.state.borrow_mut();
            (std::mem::take(&mut state.flying), state.disarm())
        };
        for member in flying.members {
            member.sink.failed(member.ticket, error);
        }
        self.give_back(gathered);
    }

    fn gated(&self, _ticket: u64) {}
}

impl ArmedConn {
    /// Tells those who sent the commands of `batches` that nothing ran.
    fn give_back(&self, batches: VecDeque<Batch>) {
        self.conn.forget_behind(batches.iter().map(|batch| batch.bytes.len()).sum());
        for member in batches.into_iter().flat_map(|batch| batch.members) {
            member.sink.gated(member.ticket);
        }
    }

    /// Takes in the next frame of the batch that is flying; `whole` is the same, if it is large.
    fn take_in(&self, frame: &[u8], whole: Option<&Bytes>) {
        let mut state = self.state.borrow_mut();
        let (at, commands) = (state.seen, state.flying.commands);
        state.seen += 1;
        if at == 0 {
            if frame != b"+OK\r\n" {
                state.verdict = Verdict::Unsafe;
            }
        } else if at == commands + 1 {
            let members = std::mem::take(&mut state.flying.members);
            let replies = array_of(commands, frame);
            if state.verdict == Verdict::CarriedOut && replies.is_none() {
                state.verdict = Verdict::NotRun;
            }
            let verdict = state.verdict;
            drop(state);
            match (verdict, replies) {
                (Verdict::CarriedOut, Some(replies)) => deliver(members, replies, whole),
                (Verdict::Unsafe, _) => members.iter().for_each(|member| member.sink.failed(member.ticket, UpstreamError::MaybeApplied)),
                _ => members.iter().for_each(|member| member.sink.gated(member.ticket)),
            }
        } else if at == commands + 3 {
            state.flying = Batch::default();
            let free = frame == b":0\r\n";
            if free && state.verdict == Verdict::CarriedOut {
                state.phase = Phase::Armed { losses: self.conn.losses() };
                state.avoid = (0, 0);
                if !state.gathered.is_empty() {
                    state.wake();
                }
            } else {
                let gathered = state.disarm();
                drop(state);
                self.give_back(gathered);
            }
        }
    }
}

impl State {
    fn wake(&mut self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    /// The gate was not free, or nobody knows: what gathered is to be given back.
    fn disarm(&mut self) -> VecDeque<Batch> {
        let next = self.avoid.1.clamp(AVOID.0, AVOID.1);
        self.avoid = (next, next * 2);
        self.phase = Phase::Unarmed;
        std::mem::take(&mut self.gathered)
    }
}

impl Batch {
    fn is_full(&self) -> bool {
        self.commands >= BATCH_COMMANDS_MAX || self.bytes.len() >= BATCH_BYTES_MAX
    }
}

/// The elements, still joined, of what EXEC answered if it is an array of `count`. nil says that a lock was taken, an error that the
/// server did not want the whole.
fn array_of(count: usize, executed: &[u8]) -> Option<&[u8]> {
    let digits = executed.strip_prefix(b"*")?.strip_prefix(itoa::Buffer::new().format(count).as_bytes())?;
    digits.strip_prefix(b"\r\n")
}

/// Gives the replies, a part of `whole` if they are large, to those who sent the commands.
fn deliver(members: Vec<Member>, mut replies: &[u8], whole: Option<&Bytes>) {
    let mut scanner = ReplyScanner::new();
    for member in members {
        for _ in 0..member.commands {
            match scanner.scan(replies) {
                Ok(Some(len)) => {
                    match whole {
                        Some(whole) if len >= LARGE_FRAME_BYTES => member.sink.large_frame(member.ticket, whole.slice_ref(&replies[..len])),
                        _ => member.sink.frame(member.ticket, &replies[..len]),
                    }
                    replies = &replies[len..];
                }
                // The connection has scanned the array already: this does not happen.
                Ok(None) | Err(_) => return member.sink.failed(member.ticket, UpstreamError::MaybeApplied),
            }
        }
    }
}

/// The shard answers a batch when it has carried out the whole, and meanwhile nobody else: small ones are answered sooner, and what stands
/// around this many costs little. Of short values they are just what Redis reads at once (`PROTO_IOBUF_LEN` in its `server.h`: 16 KiB).
const BATCH_COMMANDS_MAX: usize = 128;
const BATCH_BYTES_MAX: usize = 256 * 1024;

/// The replies to MULTI, EXEC, WATCH and EXISTS.
const FRAMES_AROUND: u32 = 4;

/// How many writes go past a gate that was closed: at first, and at most.
const AVOID: (u32, u32) = (16, 1024);

const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
const EXEC: &[u8] = b"*1\r\n$4\r\nEXEC\r\n";
