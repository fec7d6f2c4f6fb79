//! Who waits for which key, in the order of arrival: one place for the whole process.
//!
//! Clients that wait to take something away from a key stand in line, and only the first in line tries; so they are served in the order
//! in which they came, and a thousand of them ask a shard no more often than one. Readers of streams take nothing away and pass each
//! other. Whoever writes a key that somebody waits for rings: the process sees its own writes at once, those of others by asking.
//!
//! In Redis a writer's reply comes when all whom the write serves have been served, chains of moves included. So the writer of a list or a
//! sorted set hands an [`Errand`] to the first in line, who carries it while trying, and hands it on: to whoever is first then, and,
//! after a move, to whoever is first at the other key. It is done when nobody holds it any more, whatever became of those who did. Those
//! who look by themselves may be ahead of the writer: what they leave for it is [`underway`]'s. Whoever would take a stream away lets those
//! look first who came to it before: [`arrival`].

mod arrival;
mod underway;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, oneshot};

pub(in crate::session) use self::underway::Underway;

/// What a client waits for a key to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::session) enum Family {
    /// A list with an element.
    List,
    /// A sorted set with a member.
    SortedSet,
    /// A stream with news; nobody stands in line for it.
    Stream,
}

const FAMILIES: [Family; 3] = [Family::List, Family::SortedSet, Family::Stream];

/// A line: whoever waits for the same kind of thing under the same key of the same database.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::session) struct Line {
    pub(in crate::session) family: Family,
    pub(in crate::session) db: u32,
    pub(in crate::session) key: Bytes,
}

/// Every client of the process that waits in a blocking command.
#[derive(Debug, Default)]
pub struct WaitingRoom {
    /// How many are in a line: read by every write, without the lock.
    count: AtomicUsize,
    /// How many of them have looked once and found nothing.
    blocked: AtomicUsize,
    /// How many have come to a stream, and have not looked at it yet.
    arriving: AtomicUsize,
    lines: Mutex<Lines>,
}

#[derive(Debug, Default)]
struct Lines {
    by_key: HashMap<Line, VecDeque<Arc<Waiter>>>,
    by_client: HashMap<u64, Arc<Waiter>>,
    /// By number, where what each write or move under way may have brought something to.
    underway: HashMap<u64, Vec<Key>>,
    /// The number of the next one.
    set_out: u64,
}

/// A key and its database.
type Key = (u32, Bytes);

#[derive(Debug)]
struct Waiter {
    bell: Notify,
    /// What those hold out for who have rung.
    errands: Mutex<Vec<Errand>>,
    /// While it has not looked yet at the stream that it came to: what those hold out for who let it look first.
    arrival: Mutex<Option<Vec<Errand>>>,
    /// One of [`Release`], as a number; 0 is none.
    release: AtomicU8,
}

/// Held by those who have yet to look because of one write; the writer has the other end.
pub(in crate::session) type Errand = Arc<oneshot::Sender<()>>;

/// The kinds of things that are taken away, each by one.
const TAKEN: [Family; 2] = [Family::List, Family::SortedSet];

/// What CLIENT UNBLOCK makes of a client that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// It is answered as if its time were over.
    TimedOut = 1,
    /// It is answered with an error.
    Error = 2,
}

impl WaitingRoom {
    /// How many clients wait, having found nothing: what happens from now on they will see.
    pub fn blocked(&self) -> usize {
        self.blocked.load(Ordering::Relaxed)
    }

    /// How many clients wait, or are about to.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Something may have come to `key` of database `db`: wakes who is next to try.
    pub(in crate::session) fn ring(&self, db: u32, key: &Bytes) {
        let lines = self.lock();
        for family in FAMILIES {
            let Some(line) = lines.by_key.get(&Line { family, db, key: key.clone() }) else { continue };
            let served = if family == Family::Stream { line.len() } else { 1 };
            line.iter().take(served).for_each(|waiter| waiter.bell.notify_one());
        }
    }

    /// Whether somebody waits to take something away from `key` of database `db`.
    pub(in crate::session) fn awaits(&self, db: u32, key: &Bytes) -> bool {
        let lines = self.lock();
        TAKEN.iter().any(|&family| lines.by_key.contains_key(&Line { family, db, key: key.clone() }))
    }

    /// Ends the waiting of client `id`; whether it waited.
    pub fn release(&self, id: u64, how: Release) -> bool {
        let lines = self.lock();
        let Some(waiter) = lines.by_client.get(&id) else { return false };
        // The first word counts, as it would for a server that acts at once.
        let first = waiter.release.compare_exchange(0, how as u8, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        waiter.bell.notify_one();
        first
    }

    /// Puts client `id` at the end of `lines`, until the place is dropped.
    pub(in crate::session) fn join(self: &Arc<Self>, id: u64, lines: Vec<Line>) -> PlaceInLine {
        let arrival = Mutex::new(self.arrive(&lines));
        let waiter = Arc::new(Waiter { bell: Notify::new(), errands: Mutex::default(), arrival, release: AtomicU8::new(0) });
        let mut all = self.lock();
        for line in &lines {
            let line = all.by_key.entry(line.clone()).or_default();
            // A key named twice is waited for once.
            if !line.back().is_some_and(|last| Arc::ptr_eq(last, &waiter)) {
                line.push_back(Arc::clone(&waiter));
            }
        }
        all.by_client.insert(id, Arc::clone(&waiter));
        self.count.store(all.by_client.len(), Ordering::Relaxed);
        drop(all);
        PlaceInLine { room: Arc::clone(self), id, waiter, lines, blocked: false }
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    /// Hands `errands` to who is next to try `key` of database `db`, if anybody is.
    fn hand(&self, (db, key): &Key, errands: &[Errand]) {
        for family in TAKEN {
            let line = self.by_key.get(&Line { family, db: *db, key: key.clone() });
            line.and_then(VecDeque::front).into_iter().for_each(|first| first.take_over(errands));
        }
    }

    /// Takes `waiter` out of `lines`, and hands `errands` to whoever is next there.
    fn remove(&mut self, waiter: &Arc<Waiter>, lines: &[Line], errands: &[Errand]) {
        for key in lines {
            let Some(line) = self.by_key.get_mut(key) else { continue };
            line.retain(|other| !Arc::ptr_eq(other, waiter));
            match line.front() {
                Some(next) => next.take_over(errands),
                None => drop(self.by_key.remove(key)),
            }
        }
    }
}

impl Waiter {
    fn take_over(&self, errands: &[Errand]) {
        self.errands().extend_from_slice(errands);
        self.bell.notify_one();
    }

    fn errands(&self) -> MutexGuard<'_, Vec<Errand>> {
        self.errands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client's place in the lines that it waits in. Dropping it leaves them, and wakes whoever is next.
#[derive(Debug)]
pub(in crate::session) struct PlaceInLine {
    room: Arc<WaitingRoom>,
    id: u64,
    waiter: Arc<Waiter>,
    lines: Vec<Line>,
    /// The client has looked and found nothing.
    blocked: bool,
}

impl PlaceInLine {
    /// The client has looked once and found nothing.
    pub(in crate::session) fn block(&mut self) {
        self.settle();
        if !std::mem::replace(&mut self.blocked, true) {
            self.room.blocked.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether it is this client's turn to try `line`.
    pub(in crate::session) fn is_next(&self, line: &Line) -> bool {
        line.family == Family::Stream
            || self.room.lock().by_key.get(line).and_then(VecDeque::front).is_some_and(|first| Arc::ptr_eq(first, &self.waiter))
    }

    /// Whether it is its turn in any of its lines.
    pub(in crate::session) fn is_next_anywhere(&self) -> bool {
        self.lines.iter().any(|line| self.is_next(line))
    }

    /// Ready when somebody has rung since the last time.
    pub(in crate::session) async fn rung(&self) {
        self.waiter.bell.notified().await;
    }

    /// Takes what it was handed: it is about to try.
    pub(in crate::session) fn errands(&self) -> Vec<Errand> {
        std::mem::take(&mut self.waiter.errands())
    }

    /// It was served while it held `errands`, perhaps by a move, which is under way: it leaves its lines, and whoever is next there, or where
    /// the move went, goes on with them. All in one step: nobody may look for who has what was moved, and find it in no hands.
    pub(in crate::session) fn leave(&mut self, moving: Option<&Underway>, mut errands: Vec<Errand>) {
        let mut lines = self.room.lock();
        errands.append(&mut self.waiter.errands());
        lines.remove(&self.waiter, &self.lines, &errands);
        if let Some(moving) = moving {
            lines.moved_on(&self.lines, moving, &errands);
        }
        drop(lines);
        self.lines.clear();
    }

    /// What CLIENT UNBLOCK has said.
    pub(in crate::session) fn released(&self) -> Option<Release> {
        match self.waiter.release.load(Ordering::Relaxed) {
            1 => Some(Release::TimedOut),
            2 => Some(Release::Error),
            _ => None,
        }
    }
}

impl Drop for PlaceInLine {
    fn drop(&mut self) {
        self.settle();
        if self.blocked {
            self.room.blocked.fetch_sub(1, Ordering::Relaxed);
        }
        let mut all = self.room.lock();
        all.remove(&self.waiter, &self.lines, &self.errands());
        all.by_client.remove(&self.id);
        self.room.count.store(all.by_client.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(family: Family, key: &'static str) -> Line {
        Line { family, db: 0, key: Bytes::from_static(key.as_bytes()) }
    }

    #[test]
    fn turns_are_taken_in_the_order_of_arrival() {
        let room = Arc::new(WaitingRoom::default());
        let (a, b) = (line(Family::List, "a"), line(Family::List, "b"));
        let first = room.join(1, vec![a.clone()]);
        let second = room.join(2, vec![a.clone(), b.clone(), a.clone()]);
        assert!(first.is_next(&a) && !second.is_next(&a) && second.is_next(&b));
        assert_eq!(room.len(), 2);
        drop(first);
        assert!(second.is_next(&a));
        drop(second);
        assert!(room.is_empty() && room.lock().by_key.is_empty());
    }

    #[test]
    fn an_errand_goes_from_hand_to_hand_until_nobody_is_left() {
        let room = Arc::new(WaitingRoom::default());
        let (a, b) = (line(Family::List, "a"), line(Family::SortedSet, "b"));
        let (mut first, second, other) = (room.join(1, vec![a.clone()]), room.join(2, vec![a.clone()]), room.join(3, vec![b.clone()]));
        assert!(room.awaits(0, &a.key) && room.awaits(0, &b.key) && !room.awaits(1, &a.key));
        let (errand, mut done) = oneshot::channel();
        room.set_out([(0, a.key)]).arrive([], Arc::new(errand));
        let carried = first.errands();
        assert!(carried.len() == 1 && second.errands().is_empty());
        // It was served, and has moved something to the other key.
        first.leave(Some(&room.set_out([(0, b.key)])), carried);
        assert_eq!(done.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        // Neither finds anything.
        drop(second.errands());
        assert_eq!(done.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        drop(other);
        assert_eq!(done.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    }

    #[test]
    fn readers_of_a_stream_pass_each_other_and_other_families() {
        let room = Arc::new(WaitingRoom::default());
        let (stream, list) = (line(Family::Stream, "k"), line(Family::List, "k"));
        let _first = room.join(1, vec![stream.clone()]);
        let second = room.join(2, vec![stream.clone()]);
        let third = room.join(3, vec![list.clone()]);
        assert!(second.is_next(&stream) && third.is_next(&list));
    }

    #[test]
    fn only_who_waits_can_be_released_and_only_once() {
        let room = Arc::new(WaitingRoom::default());
        assert!(!room.release(1, Release::Error));
        let place = room.join(1, vec![line(Family::List, "k")]);
        assert_eq!(place.released(), None);
        assert!(room.release(1, Release::TimedOut) && !room.release(1, Release::Error));
        assert_eq!(place.released(), Some(Release::TimedOut));
    }
}
