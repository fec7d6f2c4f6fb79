//! Latches (protocol §9): in memory, one for each key that somebody of this process waits or works for, first come, first served.
//!
//! Transactions that want the same keys would find each other's locks at the shards, abort and try again: at any load worth the name most
//! of the work would be in vain, and who gets through would be a matter of luck. Within one process nobody has to find out at the
//! shards: a transaction takes the latches of its keys first, and whoever comes later stands in line. All workers share them, because
//! the clients of one hot key are spread over all workers.
//!
//! - **Politeness, not safety.** What keeps transactions apart are the locks at the shards. A latch that is lost, given up early or
//!   shared by accident (two keys may have the same number) costs time and nothing else.
//! - **No deadlock.** Everybody takes latches in the order of their numbers, and nobody who holds a lock at a shard takes one.
//! - **First come, first served**, of readers too: who shares a latch does not pass a writer that came before. The one exception is
//!   argued in [`line`](super::line).
//! - **Whoever goes away leaves**: dropping [`Latched`], or the future that waits for it, is all it takes, at any moment.
//! - **Bounded.** A transaction gives its latches up when its outcome is told, or when an attempt has lasted for longer than a lease:
//!   whoever comes next finds its locks, and may resolve it. A command that waits for a lock of another proxy
//!   gives them up when its own time is over. Until then those behind it, who would meet the same lock, do not even ask.
//!
//! Hot: a transaction that meets nobody pays, for each key, a hash, and two short turns in one of many mutexes. Plain commands and
//! transactions of one participant pay nothing before they have met a lock. The mutex is never held across an await.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::batch::{KeyLock, LockMode};
use super::part::Part;
use crate::command::Access;
use crate::route::Place;

/// All latches of a process.
pub struct Latches {
    numbers: RandomState,
    shelves: Box<[Mutex<HashMap<u64, Latch>>]>,
}

/// One that is held. Those that nobody holds do not exist.
#[derive(Default)]
struct Latch {
    exclusive: bool,
    shared: usize,
    /// How often a holder has changed the key since the latch exists.
    changes: u64,
    queue: VecDeque<Waiter>,
}

/// Somebody in the queue. The other end is in [`Waiting`].
struct Waiter {
    exclusive: bool,
    /// The latch's when it came.
    changes: u64,
    /// Told whether the key has changed while it waited.
    grant: oneshot::Sender<bool>,
}

/// At which end of a queue one begins to wait.
type Push = fn(&mut VecDeque<Waiter>, Waiter);

/// The latches that a transaction needs, in the order in which everybody takes them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Wanted(SmallVec<[Want; 4]>);

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Want {
    number: u64,
    exclusive: bool,
}

/// Latches that are held until this is dropped.
pub(super) struct Latched {
    latches: Arc<Latches>,
    /// Each with whether its key changed while it was waited for.
    held: SmallVec<[(Want, bool); 4]>,
    changed: bool,
}

impl Default for Latches {
    fn default() -> Self {
        Self { numbers: RandomState::new(), shelves: (0..SHELVES).map(|_| Mutex::default()).collect() }
    }
}

impl Latches {
    /// What a transaction of `parts` needs.
    pub(super) fn wanted<'a>(&self, parts: impl IntoIterator<Item = (&'a Place, &'a Part)>) -> Wanted {
        let mut wants = SmallVec::new();
        for (place, part) in parts {
            for (_, command) in &part.commands {
                wants.extend(command.keys.iter().map(|key| Want {
                    number: self.number(place, command.request.arg(key.index as usize)),
                    exclusive: part.absent || key.access == Access::Write,
                }));
            }
            wants.extend(part.watched.iter().map(|key| Want { number: self.number(place, key), exclusive: false }));
        }
        Wanted::of(wants)
    }

    /// What holding `keys` at `place` needs.
    pub(super) fn wanted_at(&self, place: &Place, keys: &[KeyLock]) -> Wanted {
        let want = |lock: &KeyLock| Want { number: self.number(place, &lock.key), exclusive: lock.mode != LockMode::Shared };
        Wanted::of(keys.iter().map(want).collect())
    }

    /// All of `wanted`, if nobody has to be waited for.
    ///
    /// # Errors
    /// The first that somebody else holds or waits for.
    pub(super) fn try_take(self: &Arc<Self>, wanted: &Wanted) -> Result<Latched, Want> {
        let mut latched = self.nothing();
        latched.try_add(wanted).map(|()| latched)
    }

    /// All of `wanted`, each when its turn comes.
    pub(super) async fn take(self: &Arc<Self>, wanted: &Wanted) -> Latched {
        self.take_behind(wanted, VecDeque::push_back).await
    }

    /// All of `wanted`, each before everybody who waits for it.
    pub(super) async fn take_ahead(self: &Arc<Self>, wanted: &Wanted) -> Latched {
        self.take_behind(wanted, VecDeque::push_front).await
    }

    async fn take_behind(self: &Arc<Self>, wanted: &Wanted, push: Push) -> Latched {
        let mut latched = self.nothing();
        for want in &wanted.0 {
            let changed = match self.queue(*want, push) {
                Some(waiting) => waiting.granted().await,
                None => false,
            };
            latched.held.push((*want, changed));
        }
        latched
    }

    /// None yet.
    pub(super) fn nothing(self: &Arc<Self>) -> Latched {
        Latched { latches: Arc::clone(self), held: SmallVec::new(), changed: false }
    }

    fn number(&self, place: &Place, key: &[u8]) -> u64 {
        self.numbers.hash_one((place, key))
    }

    /// The number of the line of those who watch `key` at `place`: a latch like the others, and another one than transactions take.
    pub(super) fn line(&self, place: &Place, key: &[u8]) -> u64 {
        self.numbers.hash_one((LINE, place, key))
    }

    /// Whether anybody holds one of `wanted`.
    pub(super) fn is_any_held(&self, wanted: &Wanted) -> bool {
        wanted.0.iter().any(|want| self.shelf(want.number).contains_key(&want.number))
    }

    /// The latches among which `number` is.
    fn shelf(&self, number: u64) -> MutexGuard<'_, HashMap<u64, Latch>> {
        self.shelves[number as usize % self.shelves.len()].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, want: Want) -> bool {
        self.shelf(want.number).entry(want.number).or_default().enter(want.exclusive)
    }

    /// Enters, or stands in line.
    fn queue(&self, want: Want, push: Push) -> Option<Waiting<'_>> {
        let mut shelf = self.shelf(want.number);
        let latch = shelf.entry(want.number).or_default();
        if latch.enter(want.exclusive) {
            return None;
        }
        let (grant, grants) = oneshot::channel();
        push(&mut latch.queue, Waiter { exclusive: want.exclusive, changes: latch.changes, grant });
        Some(Waiting { latches: self, want, grants })
    }

    fn leave(&self, want: Want, changed: bool) {
        self.settle(want.number, |latch| latch.leave(want.exclusive, changed));
    }

    /// Changes a latch, and lets in whoever can enter then.
    fn settle(&self, number: u64, change: impl FnOnce(&mut Latch)) {
        let mut shelf = self.shelf(number);
        let Entry::Occupied(mut entry) = shelf.entry(number) else { return };
        change(entry.get_mut());
        entry.get_mut().admit();
        if entry.get().is_idle() {
            entry.remove();
        }
    }
}

impl Latch {
    fn is_free(&self, exclusive: bool) -> bool {
        !self.exclusive && (!exclusive || self.shared == 0)
    }

    fn is_idle(&self) -> bool {
        self.is_free(true) && self.queue.is_empty()
    }

    fn enter(&mut self, exclusive: bool) -> bool {
        let enters = self.queue.is_empty() && self.is_free(exclusive);
        if enters {
            self.hold(exclusive);
        }
        enters
    }

    fn hold(&mut self, exclusive: bool) {
        if exclusive {
            self.exclusive = true;
        } else {
            self.shared += 1;
        }
    }

    fn leave(&mut self, exclusive: bool, changed: bool) {
        if exclusive {
            self.exclusive = false;
            self.changes += u64::from(changed);
        } else {
            self.shared -= 1;
        }
    }

    fn admit(&mut self) {
        while let Some(first) = self.queue.front()
            && self.is_free(first.exclusive)
            && let Some(Waiter { exclusive, changes, grant }) = self.queue.pop_front()
        {
            // Whoever has gone is passed over.
            if grant.send(self.changes != changes).is_ok() {
                self.hold(exclusive);
            }
        }
    }
}

impl From<Want> for Wanted {
    fn from(want: Want) -> Self {
        Self(SmallVec::from_slice(&[want]))
    }
}

impl FromIterator<(u64, bool)> for Wanted {
    /// Of numbers, each with whether it is wanted exclusively.
    fn from_iter<I: IntoIterator<Item = (u64, bool)>>(wants: I) -> Self {
        Self::of(wants.into_iter().map(|(number, exclusive)| Want { number, exclusive }).collect())
    }
}

impl Wanted {
    /// How many latches.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether one of them is wanted exclusively.
    pub(super) fn is_exclusive(&self) -> bool {
        self.0.iter().any(|want| want.exclusive)
    }

    fn of(mut wants: SmallVec<[Want; 4]>) -> Self {
        // Of one number the exclusive comes first, and stays.
        wants.sort_unstable_by_key(|want| (want.number, !want.exclusive));
        wants.dedup_by_key(|want| want.number);
        Self(wants)
    }
}

impl Latched {
    /// Adds all of `wanted` if nobody has to be waited for: so the order in which latches are taken does not matter.
    ///
    /// # Errors
    /// The first that cannot be had; none was added.
    pub(super) fn try_add(&mut self, wanted: &Wanted) -> Result<(), Want> {
        let before = self.held.len();
        for want in &wanted.0 {
            let enters = match self.held[..before].iter().find(|(held, _)| held.number == want.number) {
                Some((held, _)) if held.exclusive || !want.exclusive => continue,
                Some(_) => false,
                None => self.latches.enter(*want),
            };
            if !enters {
                self.held.drain(before..).for_each(|(added, _)| self.latches.leave(added, false));
                return Err(*want);
            }
            self.held.push((*want, false));
        }
        Ok(())
    }

    /// The holder has, or may have, changed the keys that it holds exclusively.
    pub(super) fn set_changed(&mut self) {
        self.changed = true;
    }

    /// Whether a holder before this one has said that it changed something while a latch was waited for.
    pub(super) fn saw_change(&self) -> bool {
        self.held.iter().any(|(_, changed)| *changed)
    }

    /// Whether a holder has changed one of `keys` while its latch was waited for.
    pub(super) fn saw_change_of<'a>(&self, keys: impl IntoIterator<Item = (&'a Place, &'a Bytes)>) -> bool {
        let mut keys = keys.into_iter().map(|(place, key)| self.latches.number(place, key));
        self.held.iter().any(|(_, changed)| *changed)
            && keys.any(|number| self.held.iter().any(|(want, changed)| *changed && want.number == number))
    }
}

impl Drop for Latched {
    fn drop(&mut self) {
        // The first last: who waits for that finds the others free.
        for (want, _) in self.held.iter().rev() {
            self.latches.leave(*want, self.changed);
        }
    }
}

/// A place in the queue of one latch, which is left when this is dropped.
struct Waiting<'a> {
    latches: &'a Latches,
    want: Want,
    grants: oneshot::Receiver<bool>,
}

impl Waiting<'_> {
    async fn granted(mut self) -> bool {
        // No waiter is dropped unasked.
        (&mut self.grants).await.unwrap_or(false)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.grants.is_terminated() {
            return;
        }
        self.grants.close();
        match self.grants.try_recv() {
            // It was let in at the same moment.
            Ok(_) => self.latches.leave(self.want, false),
            Err(_) => self.latches.settle(self.want.number, |latch| latch.queue.retain(|waiter| !waiter.grant.is_closed())),
        }
    }
}

/// What tells the line of a key from its latch.
const LINE: &str = "line";

/// Enough that the workers of a large machine seldom meet.
const SHELVES: usize = 256;

#[cfg(test)]
mod tests;
