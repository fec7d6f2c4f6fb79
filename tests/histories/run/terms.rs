//! How long a run is, and how soon things happen in it.

use std::time::Duration;

use super::faults;
use crate::support::{Mode, Setup};

/// The terms of a run.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) mode: Mode,
    /// A number that repeats what clients and faults do, as far as chance decides it.
    pub(super) seed: u64,
    pub(super) clients: usize,
    /// The run ends with the first round that ends later than this.
    pub(super) time: Duration,
    /// After so long, faults stop and what was seen is judged; not before every kind of fault has happened and enough was answered.
    pub(super) round: Duration,
    /// How many operations that is, at least.
    pub(super) answered_min: u64,
    /// What is done to the world.
    pub(super) faults: Vec<faults::Kind>,
    /// How long a fault lasts, at least and at most.
    pub(super) fault_time: (Duration, Duration),
    pub(super) isolation: &'static str,
    pub(super) lease: Duration,
    /// At which age the records of transactions are deleted. Longer than anything is held up, or evidence would be gone before what
    /// depends on it.
    pub(super) record_age: Duration,
}

impl Terms {
    /// A run that belongs to the tests.
    pub(super) fn short(mode: Mode) -> Self {
        Self {
            mode,
            seed: fastrand::u64(..),
            clients: 12,
            time: Duration::ZERO,
            round: Duration::from_secs(4),
            answered_min: 1_000,
            faults: faults::Kind::all(mode),
            isolation: "strict",
            fault_time: (Duration::from_millis(50), Duration::from_millis(600)),
            lease: Duration::from_millis(400),
            record_age: Duration::from_secs(6),
        }
    }

    /// A run of `time`.
    pub(super) fn long(mode: Mode, time: Duration) -> Self {
        Self {
            clients: 16,
            time,
            round: Duration::from_secs(100),
            answered_min: 5_000,
            fault_time: (Duration::from_millis(100), Duration::from_secs(6)),
            lease: Duration::from_secs(2),
            record_age: Duration::from_secs(25),
            ..Self::short(mode)
        }
    }

    /// A weft that obeys these terms.
    pub(super) fn setup(&self, setup: Setup) -> Setup {
        setup
            .set("isolation", self.isolation)
            .set("transactions.lease_ms", self.lease.as_millis())
            .set("sweep.interval_ms", 500)
            .set("sweep.prepared_age_ms", 3 * self.lease.as_millis() / 2)
            .set("sweep.committed_age_ms", self.record_age.as_millis())
            .set("sweep.aborted_age_ms", self.record_age.as_millis())
    }
}
