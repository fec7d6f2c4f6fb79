//! Meeting a lock (protocol §7): first the line for the key's latch, which ends when the owner's transaction does if it is of this process;
//! then short jittered polls while the owner may be alive; and resolving it when its lease is over.
//!
//! Polls are short because they are few: of those in one process who wait for a key, only the first in its line asks a shard.

use std::time::Duration;

use tokio::time::Instant;

use super::attempt::{Attempt, Target};
use super::batch::Batch;
use super::engine::Engine;
use super::latch::Latched;
use super::one_phase::{guarded_answer, guarded_request};
use super::{Locked, TxnId, part, recovery};
use crate::metrics::Counter;
use crate::resp::Proto;

impl Engine {
    /// Waits for `batch`, which has just met a lock, until it is worth trying again: the first time for its turn in this process, which
    /// `latched` then keeps, and later for the lock.
    pub(super) async fn wait_in_line(&self, batch: &Batch, locked: Option<Locked>, tries: u32, latched: &mut Option<Latched>) {
        match part::place(&self.upstreams.map(), &batch.participant) {
            Some(place) if latched.is_none() => {
                self.counts.count(Counter::LockWaits);
                *latched = Some(self.latches.take(&self.latches.wanted_at(&place, &batch.keys)).await);
            }
            _ => self.wait_for_lock(batch, locked, tries).await,
        }
    }

    /// Returns when it is worth trying `batch` again, which met a lock `tries` times before: after a moment, or when an owner whose
    /// lease is over was resolved. `locked` is the owner if the answer named it.
    pub(super) async fn wait_for_lock(&self, batch: &Batch, locked: Option<Locked>, tries: u32) {
        self.counts.count(Counter::LockWaits);
        let locked = match locked {
            // Most locks are gone after the round trip that their commit takes: only who met one before asks whose it is.
            None if tries % OWNER_LOOKS == 1 => self.owner(batch).await,
            known => known,
        };
        match locked {
            Some(Locked { owner, lease_left_ms: ..=0 }) => recovery::resolve(self, owner, &batch.participant, batch.keys.clone()).await,
            _ => self.pause(tries.min(POLL_DOUBLINGS_MAX)).await,
        }
    }

    /// Who stands in the way of `batch`: a guarded run of no commands answers just that.
    pub(super) async fn owner(&self, batch: &Batch) -> Option<Locked> {
        let question = Batch { commands: Vec::new(), ..batch.clone() };
        let target: Target = self.target(&batch.participant, None)?;
        let reply = target.call(Proto::Resp2, &[guarded_request(&question, Proto::Resp2)]).await.ok()?.pop()?;
        match guarded_answer(&reply, &question) {
            Attempt::Locked(locked) => locked,
            _ => None,
        }
    }
}

/// How long an attempt that holds locks has waited for those of others at one participant.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    /// When it gives up.
    pub(super) deadline: Instant,
    owner: Option<TxnId>,
    /// How often it has met the same owner since it met another.
    met: u32,
}

impl Patience {
    /// For as long as `time`.
    pub(super) fn new(time: Duration) -> Self {
        Self { deadline: Instant::now() + time, owner: None, met: 0 }
    }

    /// A lock of `owner` is in the way.
    pub(super) fn meet(&mut self, owner: TxnId) {
        self.met = if self.owner.replace(owner) == Some(owner) { self.met + 1 } else { 0 };
    }

    /// How many pauses it has made for this owner; `None` while it makes none.
    pub(super) fn pauses(&self) -> Option<u32> {
        self.met.checked_sub(EAGER_POLLS)
    }
}

/// How often a lock is asked for without a pause: a transaction that nothing delays holds it for little longer.
const EAGER_POLLS: u32 = 8;

/// A lock of a living owner is gone within a few round trips: 8 ms between two polls are enough.
const POLL_DOUBLINGS_MAX: u32 = 3;

/// Every how many looks at a lock its owner is asked for.
const OWNER_LOOKS: u32 = 4;
