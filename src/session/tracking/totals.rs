//! What the ledgers of all workers hold together: for INFO, and for the bound that they share.

use std::sync::atomic::{AtomicUsize, Ordering};

/// How much there is in a ledger, or in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Clients that are told of changes.
    pub clients: usize,
    /// Keys whose changes are to be told to somebody who has read them.
    pub keys: usize,
    /// Pairs of such a key and a client.
    pub items: usize,
    /// Prefixes whose keys are told of.
    pub prefixes: usize,
}

/// The totals of all workers.
#[derive(Debug)]
pub struct TrackingTotals {
    counts: [AtomicUsize; 4],
    /// Keys at most; 0 is no bound.
    keys_max: AtomicUsize,
}

impl TrackingTotals {
    /// Nothing yet, and no more than `keys_max` keys ever; 0 is no bound.
    pub fn new(keys_max: usize) -> Self {
        Self { counts: Default::default(), keys_max: AtomicUsize::new(keys_max) }
    }

    /// How many keys there may be.
    pub fn keys_max(&self) -> usize {
        self.keys_max.load(Ordering::Relaxed)
    }

    /// There may be `keys_max` keys from now on.
    pub fn set_keys_max(&self, keys_max: usize) {
        self.keys_max.store(keys_max, Ordering::Relaxed);
    }

    /// Whether there are more keys than there may be.
    pub(super) fn is_over(&self) -> bool {
        let max = self.keys_max();
        max > 0 && self.now().keys > max
    }

    /// How much there is.
    pub fn now(&self) -> Totals {
        let [clients, keys, items, prefixes] = self.counts.each_ref().map(|count| count.load(Ordering::Relaxed));
        Totals { clients, keys, items, prefixes }
    }

    /// A worker that had `before` has `after`.
    pub(super) fn replace(&self, before: Totals, after: Totals) {
        let all = |totals: Totals| [totals.clients, totals.keys, totals.items, totals.prefixes];
        for (count, (before, after)) in self.counts.iter().zip(all(before).into_iter().zip(all(after))) {
            if before != after {
                // Modulo the word, so that a decrease is an increase as well.
                count.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
            }
        }
    }
}
