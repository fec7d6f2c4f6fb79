//! Standing in line to WATCH (protocol §9): of clients that read, change and write the same keys, one goes at a time.
//!
//! WATCH is optimistic. That is right as long as clients seldom meet; of fifty that increment one key each round lets one through and
//! breaks forty-nine, whose reads, prepares and aborts were in vain, and delayed the one. So those who are known to break each other
//! wait at WATCH, which is a barrier anyway, for those before them to execute, discard, unwatch or disconnect.
//!
//! - **Politeness, not safety.** A line is a [latch](super::latch), for each watched key, in the order in which everybody takes them. Whether
//!   EXEC answers nil is decided at the shards as ever; whoever passes a line, or is of another proxy, is caught there.
//! - **Who waits.** Those whose last EXEC over the key was broken although it would have written the key itself: they begin the line,
//!   and go one at a time. While it exists, whoever comes for the key stands in it, too, one at a time if its last EXEC has written
//!   the key, together with others if not. So many clients that watch a key which they only read never wait for each other, however often
//!   it changes, and a line ends when nobody is left in it.
//! - **What it costs.** While nobody contends for a key, a hash and a lookup at WATCH, and a hash at EXEC. No round trip ever.
//! - **Bounded.** A client that is let in has `watch_turn_ms` for its WATCH, and as long again until its EXEC, which may take a lease. If it
//!   thinks for longer, it keeps its watches and is merely no longer waited for. It gives its place up by whatever ends its watches. Nobody
//!   waits for longer than `lock_wait_timeout_ms`; then it goes ahead, as optimistic as without a line. Who already has a place never waits
//!   for another.
//!
//! # Several proxies
//!
//! Each has lines of its own, so as many clients meet as there are proxies. One of them wins each time, provided that they do not stop each
//! other at different shards: whoever has been broken although it was its turn, and everybody who waited meanwhile, prepares one
//! participant after the other, so that all meet at the first ([`Order::Ordered`](super::state::Order)). The loser is told nil by the first
//! participant, and whoever is next in its line watches as soon as the winner's locks are gone. It has stood in line already, and need not
//! for its next try: it comes after the one whose turn it is now. So a turn that is lost costs two turns, not a whole line.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::engine::Engine;
use super::latch::{Latched, Latches, Wanted};
use super::watch::Watch;
use crate::metrics::Counter;
use crate::route::Place;

/// What a session's last EXEC over watched keys tells of its next one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Habit {
    /// The lines of the keys that it watched and wrote.
    wrote: SmallVec<[u64; 2]>,
    /// A watched key had changed.
    broken: bool,
    /// It was still its turn.
    had_turn: bool,
}

/// A place in the lines of some keys; dropping it lets the next in.
pub(super) struct Spot {
    turn: Rc<Turn>,
    /// Ends the turn.
    timer: AbortHandle,
    /// Somebody is after the keys who does not stand in this line.
    contested: bool,
}

/// What a place and its timer share.
struct Turn {
    /// Empty when the turn is over.
    latched: RefCell<Option<Latched>>,
    until: Cell<Instant>,
}

impl Habit {
    /// That of somebody who writes all of `written`.
    fn of_writing<'a>(latches: &Latches, written: impl Iterator<Item = (&'a Place, &'a [u8])>) -> Self {
        Self { wrote: written.map(|(place, key)| latches.line(place, key)).take(KEYS_MAX).collect(), ..Self::default() }
    }

    /// What became of the EXEC: whether a watched key had changed.
    pub fn set_broken(&mut self, broken: bool) {
        self.broken = broken;
    }

    /// The lines of `keys`.
    fn wanted(&self, latches: &Latches, keys: &[(Place, Vec<Bytes>)]) -> Wanted {
        let lines = keys.iter().flat_map(|(place, names)| names.iter().map(|name| latches.line(place, name)));
        lines.map(|line| (line, self.wrote.contains(&line))).collect()
    }
}

impl Spot {
    /// Whether the turn is not over.
    fn is_turn(&self) -> bool {
        self.turn.latched.borrow().is_some()
    }

    /// Prolongs a turn that is not over: it ends so long from now.
    pub(super) fn prolong(&self, time: Duration) {
        self.turn.until.set(Instant::now() + time);
    }

    /// Whether somebody is after the keys who does not stand in this line: a client of another proxy, as a rule.
    pub(super) fn is_contested(&self) -> bool {
        self.contested
    }

    /// The watch was broken although it was its turn: those who wait are told that the line is not all there is.
    pub(super) fn set_broken(&mut self) {
        if let Some(latched) = &mut *self.turn.latched.borrow_mut() {
            latched.set_changed();
        }
    }
}

impl Drop for Spot {
    fn drop(&mut self) {
        self.timer.abort();
        self.turn.latched.take();
    }
}

impl Turn {
    /// Ends when the turn does.
    async fn end(self: Rc<Self>) {
        while Instant::now() < self.until.get() {
            sleep_until(self.until.get()).await;
        }
        self.latched.take();
    }
}

impl Engine {
    /// What EXEC with `watch` that writes `written` tells of the session's next one.
    pub fn habit<'a>(&self, watch: &Watch, written: impl Iterator<Item = (&'a Place, &'a [u8])>) -> Habit {
        let mut written: SmallVec<[(&Place, &[u8]); 8]> = written.collect();
        written.sort_unstable();
        let wrote = watch.keys().filter(|key| written.binary_search(key).is_ok());
        Habit { had_turn: watch.spot().is_some_and(Spot::is_turn), ..Habit::of_writing(&self.latches, wrote) }
    }

    /// That of somebody who watches `keys` in order to write them.
    pub fn habit_of_writing<'a>(&self, keys: impl Iterator<Item = (&'a Place, &'a [u8])>) -> Habit {
        Habit::of_writing(&self.latches, keys)
    }

    /// Waits for a turn to watch `keys`; `None` if there is no reason to take turns.
    pub(super) async fn stand_in_line(&self, keys: &[(Place, Vec<Bytes>)], habit: &Habit) -> Option<Spot> {
        if self.config.watch_turn.is_zero() {
            return None;
        }
        let wanted = habit.wanted(&self.latches, keys);
        let begins = habit.broken && wanted.is_exclusive();
        if !begins && !self.latches.is_any_held(&wanted) {
            return None;
        }
        let latched = match self.latches.try_take(&wanted) {
            Ok(latched) => latched,
            Err(_) => {
                self.counts.count(Counter::LockWaits);
                let turn = async {
                    match habit.broken && habit.had_turn {
                        true => self.latches.take_ahead(&wanted).await,
                        false => self.latches.take(&wanted).await,
                    }
                };
                timeout(self.config.lock_wait_timeout, turn).await.ok()?
            }
        };
        let contested = habit.broken || latched.saw_change();
        let until = Cell::new(Instant::now() + self.config.watch_turn);
        let turn = Rc::new(Turn { latched: RefCell::new(Some(latched)), until });
        let timer = self.tasks.borrow_mut().spawn_local(Rc::clone(&turn).end());
        Some(Spot { turn, timer, contested })
    }

    /// Adds the lines of `keys` to `spot`, unless somebody would have to be waited for.
    pub(super) fn stand_in_line_too(&self, spot: &mut Spot, keys: &[(Place, Vec<Bytes>)], habit: &Habit) {
        if let Some(latched) = &mut *spot.turn.latched.borrow_mut() {
            // Whoever waits while others wait for it might wait for one of them.
            let _ = latched.try_add(&habit.wanted(&self.latches, keys));
        }
    }
}

/// Of who writes more of what it watches, that much is remembered.
const KEYS_MAX: usize = 64;

#[cfg(test)]
mod tests;
