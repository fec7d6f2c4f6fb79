//! Hot path: what a session has in flight, counted by participant.

use crate::route::Place;

/// How a request goes to its participant, as far as order is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::session) enum Lane {
    /// It changes nothing.
    Read,
    /// It may change something.
    Write,
    /// Likewise, on the armed connection, which keeps its own order whatever happens.
    Armed,
}

impl Lane {
    /// Whether it may change something.
    pub(in crate::session) fn is_write(self) -> bool {
        self != Self::Read
    }
}

/// How many requests are in flight to each participant, by a hash of it: two participants that share a count only wait needlessly.
#[derive(Default)]
pub(super) struct Traffic {
    counts: [[Count; 3]; 32],
}

#[derive(Clone, Copy, Default)]
pub(super) struct Count(u16);

impl Count {
    pub(super) fn add(&mut self) {
        self.0 += 1;
    }

    pub(super) fn remove(&mut self) {
        self.0 -= 1;
    }

    pub(super) fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl Traffic {
    pub(super) fn count(&mut self, place: Place, lane: Lane) -> &mut Count {
        let number = match place.slot {
            Some(slot) => slot.index(),
            None => place.shard.index() + place.db as usize * 5,
        };
        let len = self.counts.len();
        &mut self.counts[number % len][lane as usize]
    }
}
