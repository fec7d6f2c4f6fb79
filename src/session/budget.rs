//! How much memory the clients of the process may take together.
//!
//! What a client holds beyond [`FREE_BYTES`] (a request that is being read, sent or carried out, commands queued after MULTI, replies that
//! it has not read) it claims from one budget. While that is used up, a client that would need more is not read from: its bytes wait in
//! its socket, and it goes on when others are done. Replies are not held back, because nobody knows their size before they come; they
//! count, so that others wait instead.
//!
//! Nobody waits for ever. One client at a time may go *beyond* the budget, so that of several that each hold a part of what they need one
//! can end; with it the process holds at most the budget and one request more. And a client that neither sends nor reads for
//! [`PATIENCE`] while the budget is used up is sent away, so that what it holds comes free.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::client::ClientShared;

/// What all clients together may claim. Shared by all workers; locked only for clients that hold much.
#[derive(Debug)]
pub struct Budget {
    bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    used: usize,
    holders: BTreeMap<u64, Holder>,
    /// The tasks of the clients that need more.
    waiting: BTreeMap<u64, Waker>,
    /// The client that goes on all the same.
    beyond: Option<u64>,
}

#[derive(Debug)]
struct Holder {
    client: Arc<ClientShared>,
    bytes: usize,
    /// Since when it is the client's turn to do something.
    since: Option<Instant>,
}

impl State {
    /// `client` holds `bytes` in place of `before`.
    fn hold(&mut self, client: &Arc<ClientShared>, before: usize, bytes: usize, bytes_max: usize) {
        let id = client.id;
        self.used = self.used - before + bytes;
        if bytes == 0 {
            self.holders.remove(&id);
        } else {
            self.holders.entry(id).or_insert_with(|| Holder { client: Arc::clone(client), bytes, since: None }).bytes = bytes;
        }
        if self.used <= bytes_max || (bytes == 0 && self.beyond == Some(id)) {
            self.beyond = None;
        }
    }
}

impl Budget {
    /// A budget of `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, state: Mutex::default() }
    }

    /// Sends away those who hold much and do nothing, if others need it. To be called now and then.
    pub fn watch(&self, now: Instant) {
        let state = self.lock();
        if state.waiting.is_empty() && state.used <= self.bytes_max {
            return;
        }
        for (id, holder) in &state.holders {
            if holder.since.is_some_and(|since| now.saturating_duration_since(since) >= PATIENCE) {
                tracing::warn!(client = id, bytes = holder.bytes, "disconnected: it holds what others need, and neither sends nor reads");
                holder.client.kill();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one client holds of the budget.
pub(super) struct Claim {
    budget: Arc<Budget>,
    client: Arc<ClientShared>,
    bytes: usize,
}

impl Claim {
    /// Nothing yet, for `client`.
    pub(super) fn new(budget: Arc<Budget>, client: Arc<ClientShared>) -> Self {
        Self { budget, client, bytes: 0 }
    }

    /// How much it is.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Ready when the client may hold `bytes` in all; else the task of `cx` is woken when that may have changed.
    pub(super) fn poll_grow(&mut self, bytes: usize, cx: &Context<'_>) -> Poll<()> {
        let bytes = counted(bytes);
        if bytes <= self.bytes {
            return Poll::Ready(());
        }
        let (id, bytes_max) = (self.client.id, self.budget.bytes_max);
        let mut state = self.budget.lock();
        if state.used - self.bytes + bytes > bytes_max {
            if *state.beyond.get_or_insert(id) != id {
                state.waiting.insert(id, cx.waker().clone());
                return Poll::Pending;
            }
            tracing::debug!(client = id, bytes, "goes beyond what clients may hold together");
        }
        state.waiting.remove(&id);
        state.hold(&self.client, self.bytes, bytes, bytes_max);
        drop(state);
        self.bytes = bytes;
        Poll::Ready(())
    }

    /// The client holds `bytes` in all now, whether or not there is room for them.
    pub(super) fn set(&mut self, bytes: usize) {
        let bytes = counted(bytes);
        if bytes == self.bytes {
            return;
        }
        let woken = {
            let mut state = self.budget.lock();
            state.hold(&self.client, self.bytes, bytes, self.budget.bytes_max);
            if bytes < self.bytes { std::mem::take(&mut state.waiting) } else { BTreeMap::new() }
        };
        self.bytes = bytes;
        woken.into_values().for_each(Waker::wake);
    }

    /// It is the client's turn, from `now` on, unless it waits for room.
    pub(super) fn rests(&self, now: Instant) {
        self.note(Some(now));
    }

    /// It is not the client's turn: something is carried out for it.
    pub(super) fn works(&self) {
        self.note(None);
    }

    fn note(&self, since: Option<Instant>) {
        if self.bytes == 0 {
            return;
        }
        let mut state = self.budget.lock();
        let waits = state.waiting.contains_key(&self.client.id);
        if let Some(holder) = state.holders.get_mut(&self.client.id) {
            holder.since = since.filter(|_| !waits);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.budget.lock().waiting.remove(&self.client.id);
        self.set(0);
    }
}

/// What is counted for a client that holds `bytes`. In steps, so that what grows little by little does not count anew each time.
fn counted(bytes: usize) -> usize {
    if bytes <= FREE_BYTES { 0 } else { bytes.next_multiple_of(FREE_BYTES) }
}

/// What every client may hold without being counted.
pub(super) const FREE_BYTES: usize = 64 * 1024;

/// How long a client that holds what others need may do nothing.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::session::client::{ClientState, Peer};

    const MIB: usize = 1024 * 1024;

    fn claim(budget: &Arc<Budget>, id: u64) -> (Claim, ClientState) {
        let addr = (std::net::Ipv4Addr::LOCALHOST, 1).into();
        let client = ClientState::new(id, Peer { addr, laddr: addr, fd: 0 }, true, Instant::now(), Arc::default());
        (Claim::new(Arc::clone(budget), Arc::clone(client.shared())), client)
    }

    fn grows(claim: &mut Claim, bytes: usize) -> bool {
        claim.poll_grow(bytes, &Context::from_waker(Waker::noop())).is_ready()
    }

    fn is_killed(client: &ClientState) -> bool {
        client.is_killed(&Context::from_waker(Waker::noop()))
    }

    #[test]
    fn little_is_not_counted_and_much_waits_for_room() {
        let budget = Arc::new(Budget::new(10 * MIB));
        let [mut a, mut b, mut c] = [1, 2, 3].map(|id| claim(&budget, id).0);
        assert!(grows(&mut a, 6 * MIB) && grows(&mut b, 6 * MIB), "one goes beyond");
        assert!(!grows(&mut c, MIB) && grows(&mut c, FREE_BYTES));
        a.set(0);
        assert!(grows(&mut c, MIB) && budget.lock().waiting.is_empty());
        drop((b, c));
        let state = budget.lock();
        assert_eq!((state.used, state.beyond), (0, None));
    }

    #[test]
    fn of_several_that_hold_a_part_one_goes_on_and_the_next_one_after_it() {
        let budget = Arc::new(Budget::new(10 * MIB));
        let [mut a, mut b, mut c] = [1, 2, 3].map(|id| claim(&budget, id).0);
        assert!(grows(&mut a, 3 * MIB) && grows(&mut b, 3 * MIB) && grows(&mut c, 3 * MIB));
        assert!(grows(&mut b, 100 * MIB) && !grows(&mut a, 5 * MIB) && !grows(&mut c, 5 * MIB));
        assert!(grows(&mut b, 101 * MIB), "it can always go on");
        b.set(0);
        assert!(grows(&mut c, 100 * MIB) && !grows(&mut a, 5 * MIB));
        drop(c);
        assert!(grows(&mut a, 5 * MIB));
    }

    #[test]
    fn who_does_nothing_is_sent_away_when_others_need_what_it_holds() {
        let budget = Arc::new(Budget::new(10 * MIB));
        let [(mut a, idle), (mut b, busy), (mut c, waiting)] = [1, 2, 3].map(|id| claim(&budget, id));
        let (start, late) = (Instant::now(), Instant::now() + PATIENCE);
        assert!(grows(&mut a, 4 * MIB) && grows(&mut c, 2 * MIB) && grows(&mut b, 3 * MIB));
        a.rests(start);
        b.works();
        budget.watch(late);
        assert!(!is_killed(&idle), "nobody needs it");
        b.set(20 * MIB);
        assert!(grows(&mut b, 21 * MIB) && !grows(&mut c, 8 * MIB));
        c.rests(start);
        budget.watch(start);
        assert!(!is_killed(&idle), "it may yet do something");
        budget.watch(late);
        assert_eq!([&idle, &busy, &waiting].map(is_killed), [true, false, false]);
    }
}
