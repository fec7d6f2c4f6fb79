//! Which worker serves a client.
//!
//! What goes to a shard together costs less: one write, one read, one lock check for the requests of all clients of a worker. So
//! clients are *packed* on as few workers as can carry them. Newcomers go to the first worker that has room; a worker that is busy hands
//! a part of its clients to the one that has least to do; two that together would not fill one become one. Each worker decides for
//! itself, ten times a second, from what all have noted of themselves; who decides on stale figures is put right the next time.
//!
//! A client moves between two requests, when nothing is in flight for it: with its socket, what was read from it, and its state. It stays
//! where it is as long as the worker holds something for it: MULTI, WATCH, channels, tracking, MONITOR. Who has just been picked to move
//! is not read from until it has its replies, so that those who always have something in flight move too.
//!
//! Load is CPU time, not the number of clients: a worker that waits for its turn on a core that others use is not busy, and a second
//! one would only wait beside it.
//!
//! `WEFT_ROVING=1` in the environment, for the tests, has each client move on ten times a second.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::BytesMut;
use tokio::sync::Notify;

use super::everywhere::Writes;
use super::tracking::mail::Mailbox;
use super::{ClientState, Mode, Pending, Registration, Session};
use crate::config::Spread;
use crate::metrics::Counter;
use crate::resp::RequestDecoder;
use crate::txn::Habit;

/// Where the clients of the process are served.
pub struct Placement {
    policy: Policy,
    /// One for each worker.
    desks: Box<[Desk]>,
}

enum Policy {
    Packed,
    Even,
    Roving,
}

/// What the other workers know of one.
#[derive(Default)]
struct Desk {
    mailbox: Arc<Mailbox>,
    load: AtomicU32,
    arrivals: Mutex<Vec<Guest>>,
    arrived: Notify,
}

/// A client on its way to another worker.
pub struct Guest {
    pub(super) client: ClientState,
    pub(super) registration: Registration,
    pub(super) stream: std::net::TcpStream,
    pub(super) baggage: Baggage,
}

/// What it takes along beside its state.
#[derive(Default)]
pub(super) struct Baggage {
    pub(super) input: BytesMut,
    pub(super) decoder: RequestDecoder,
    pub(super) stalled: Option<Pending>,
    pub(super) habit: Habit,
    pub(super) writes: Writes,
}

impl Placement {
    /// Places clients of `workers` workers as `spread` says.
    pub fn new(spread: Spread, workers: usize) -> Self {
        let policy = match spread {
            _ if std::env::var_os("WEFT_ROVING").is_some() => Policy::Roving,
            Spread::Packed => Policy::Packed,
            Spread::Even => Policy::Even,
        };
        Self { policy, desks: (0..workers).map(|_| Desk::default()).collect() }
    }

    /// Where news for the clients of worker `index` are put.
    pub fn mailbox(&self, index: usize) -> &Arc<Mailbox> {
        &self.desks[index].mailbox
    }

    /// Which worker serves a client that `index` has accepted.
    pub fn home(&self, index: usize) -> usize {
        match self.policy {
            Policy::Packed => home(&self.loads()),
            Policy::Even | Policy::Roving => index,
        }
    }

    /// Hands `guest` over to worker `index`.
    pub fn send(&self, index: usize, guest: Guest) {
        let desk = &self.desks[index];
        guest.client.is_moved_to(&desk.mailbox);
        desk.arrivals.lock().unwrap_or_else(PoisonError::into_inner).push(guest);
        desk.arrived.notify_one();
    }

    /// Those who have come to worker `index`; waits for them if there are none.
    pub async fn arrivals(&self, index: usize) -> Vec<Guest> {
        let desk = &self.desks[index];
        desk.arrived.notified().await;
        std::mem::take(&mut *desk.arrivals.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Worker `index` was busy for `load` thousandths of the time since it last said so: notes it, and says who is to leave.
    pub fn review(&self, index: usize, load: u32, roster: &Roster) {
        self.desks[index].load.store(load, Ordering::Relaxed);
        let active = roster.active.replace(0);
        roster.turn.set(roster.turn.get().wrapping_add(1));
        let leaving = match self.policy {
            Policy::Packed => departures(index, active, &self.loads()),
            Policy::Even => None,
            Policy::Roving => Some(((index + 1) % self.desks.len(), active)),
        };
        roster.leaving.set(leaving.unwrap_or_default());
    }

    fn loads(&self) -> Vec<u32> {
        self.desks.iter().map(|desk| desk.load.load(Ordering::Relaxed)).collect()
    }
}

/// Which of a worker's clients had something to do of late, and how many of them are to leave.
#[derive(Default)]
pub struct Roster {
    /// Counts the worker's reviews.
    turn: Cell<u32>,
    active: Cell<u32>,
    /// Where to, and how many are still to go.
    leaving: Cell<(usize, u32)>,
}

impl Roster {
    /// What a client has seen who has just come: who comes and goes between two reviews does not count.
    pub(super) fn turn(&self) -> u32 {
        self.turn.get()
    }

    /// Counts a client that has something to do, once a review; `seen` is the client's own.
    fn see(&self, seen: &mut u32) {
        if *seen != self.turn.get() {
            *seen = self.turn.get();
            self.active.set(self.active.get() + 1);
        }
    }

    /// Where a client that may leave is to go.
    fn pick(&self) -> Option<usize> {
        let (target, left) = self.leaving.get();
        self.leaving.set((target, left.checked_sub(1)?));
        Some(target)
    }
}

impl Session {
    /// Notes that the client has something to do, and whether it is one of those to leave.
    pub(super) fn report(&mut self) {
        self.context.roster.see(&mut self.seen);
        if self.leaving.is_none() && self.context.roster.leaving.get().1 > 0 && self.is_free() {
            self.leaving = self.context.roster.pick();
        }
    }

    /// Whether the worker holds nothing for the client beyond what is in flight.
    fn is_free(&self) -> bool {
        matches!(self.mode, Mode::Plain)
            && self.watch.is_none()
            && self.watching.is_none()
            && self.client.profile.tracking.is_none()
            && !self.client.profile.subscriptions.any()
            && !self.closing
    }

    /// Where the client goes now, all of its requests having been answered.
    pub(super) fn departs(&self) -> Option<usize> {
        self.leaving.filter(|_| self.window.len() == 0 && self.window.out_len() == 0 && !self.window.is_again())
    }

    /// Sends the client, of whom `stream` and the rest was read, to worker `target`.
    pub(super) fn depart(self: Box<Self>, target: usize, stream: tokio::net::TcpStream, input: BytesMut, decoder: RequestDecoder) {
        let context = std::rc::Rc::clone(&self.context);
        // Its connection breaks if the socket cannot be taken along, which does not happen.
        let Ok(stream) = stream.into_std() else { return };
        context.counts.count(Counter::ClientsMoved);
        let guest = self.into_guest(stream, input, decoder);
        context.placement.send(target, guest);
    }

    /// All else that the session holds is given up before the next worker may claim it.
    fn into_guest(self: Box<Self>, stream: std::net::TcpStream, input: BytesMut, decoder: RequestDecoder) -> Guest {
        let Self { client, registration, stalled, habit, writes, .. } = *self;
        Guest { client, registration, stream, baggage: Baggage { input, decoder, stalled, habit, writes } }
    }
}

impl Guest {
    /// Somebody who has just connected.
    pub fn newcomer(client: ClientState, registration: Registration, stream: std::net::TcpStream) -> Self {
        Self { client, registration, stream, baggage: Baggage::default() }
    }
}

/// The worker that a newcomer goes to.
fn home(loads: &[u32]) -> usize {
    loads.iter().position(|load| *load <= ROOMY).or_else(|| least(loads, |_| true)).unwrap_or_default()
}

/// Where clients of worker `me` are to go, of whom `active` had something to do, and how many of these.
fn departures(me: usize, active: u32, loads: &[u32]) -> Option<(usize, u32)> {
    let mine = loads[me];
    if mine <= BUSY {
        return (0..me).find(|other| loads[*other] + mine <= ROOMY).map(|target| (target, active));
    }
    let target = least(loads, |other| other != me)?;
    let surplus = mine.saturating_sub(loads[target]) / 2;
    // A single client keeps any worker as busy as this one.
    (active > 1 && surplus >= SURPLUS_MIN).then(|| (target, (active * surplus).div_ceil(mine)))
}

fn least(loads: &[u32], of: impl Fn(usize) -> bool) -> Option<usize> {
    (0..loads.len()).filter(|index| of(*index)).min_by_key(|index| loads[*index])
}

/// A worker that uses more of a core, in thousandths, has others help it.
const BUSY: u32 = 800;

/// What two workers may use together to become one, and one that newcomers go to. So far below [`BUSY`] that what was divided is not
/// put together again at once, although one worker needs less than two for the same clients.
const ROOMY: u32 = 700;

/// The least that it is worth to move clients for.
const SURPLUS_MIN: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newcomers_go_to_the_first_worker_with_room_or_to_the_least_busy() {
        assert_eq!([home(&[0, 0]), home(&[700, 0]), home(&[701, 0]), home(&[900, 750, 800])], [0, 0, 1, 1]);
    }

    #[test]
    fn a_busy_worker_sends_half_of_what_it_has_too_much_to_the_least_busy() {
        assert_eq!(departures(0, 50, &[1000, 0]), Some((1, 25)));
        assert_eq!(departures(1, 50, &[600, 1000, 200, 900]), Some((2, 20)));
        assert_eq!(departures(0, 50, &[950, 850]), None, "it would gain nothing");
        assert_eq!(departures(0, 1, &[1000, 0]), None, "a client cannot be divided");
        assert_eq!(departures(0, 50, &[1000]), None, "there is nobody else");
    }

    #[test]
    fn workers_that_one_can_replace_send_all_clients_to_the_first_with_room() {
        assert_eq!(departures(2, 7, &[400, 350, 350]), Some((1, 7)));
        assert_eq!(departures(1, 7, &[400, 350, 0]), None);
        assert_eq!(departures(0, 7, &[0, 0]), None, "the first one stays");
    }

    #[test]
    fn what_was_divided_stays_so() {
        let (half, other) = (1000 / 2, 1000 / 2);
        assert_eq!((departures(0, 25, &[half, other]), departures(1, 25, &[half, other])), (None, None));
    }

    #[test]
    fn as_many_leave_as_were_told_to_and_each_client_is_counted_once_a_review() {
        let (placement, roster) = (Placement::new(Spread::Packed, 2), Roster::default());
        placement.review(0, 0, &roster);
        let mut clients = [0; 3];
        for _ in 0..2 {
            clients.iter_mut().for_each(|seen| roster.see(seen));
        }
        assert_eq!((roster.active.get(), roster.pick()), (3, None));
        placement.review(0, 1000, &roster);
        assert_eq!([roster.pick(), roster.pick(), roster.pick()], [Some(1), Some(1), None]);
    }
}
