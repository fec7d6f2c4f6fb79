//! What a run came to, in figures: for people, and for whatever reads them later.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use super::client::Notes;
use super::faults;
use super::workload::Kind;
use crate::histories::history::{Operation, Outcome};
use crate::support::Mode;

/// The figures of a run.
pub(super) struct Account {
    pub(super) mode: Mode,
    pub(super) seed: u64,
    /// How long clients were running.
    pub(super) time: Duration,
    pub(super) rounds: usize,
    /// By [`Outcome`].
    operations: BTreeMap<Kind, [u64; 4]>,
    /// Transactions that committed on more than one shard.
    pub(super) across_shards: u64,
    pub(super) faults: BTreeMap<faults::Kind, u64>,
    /// The faults of this round, with when they began and ended.
    pub(super) timeline: Vec<String>,
    /// What no strictly serializable store could have answered.
    pub(super) anomalies: Vec<String>,
    /// Replies that no server may give.
    pub(super) surprises: Vec<String>,
    /// Records and locks that were still there when all should have been gone.
    pub(super) unresolved: Vec<String>,
    /// From the death of each coordinator to the end of its last lock.
    pub(super) recoveries: Vec<Duration>,
    /// The longest that an operation took, and which that was.
    pub(super) longest_stall: (Duration, String),
}

impl Account {
    /// Of a run that has not begun.
    pub(super) fn new(mode: Mode, seed: u64) -> Self {
        Self {
            mode,
            seed,
            time: Duration::ZERO,
            rounds: 0,
            operations: BTreeMap::new(),
            across_shards: 0,
            faults: BTreeMap::new(),
            timeline: Vec::new(),
            anomalies: Vec::new(),
            surprises: Vec::new(),
            unresolved: Vec::new(),
            recoveries: Vec::new(),
            longest_stall: (Duration::ZERO, String::new()),
        }
    }

    /// Counts what a client has written down, and gives its operations. `shard_of` tells where a key is.
    pub(super) fn count(&mut self, notes: Notes, shard_of: impl Fn(u32) -> usize) -> Vec<Operation> {
        self.surprises.extend(notes.surprises);
        for (kind, operation) in &notes.operations {
            self.operations.entry(*kind).or_default()[operation.outcome as usize] += 1;
            let (invoked, took) = (operation.invoked.as_secs_f64(), operation.completed.saturating_sub(operation.invoked));
            if took > self.longest_stall.0 {
                self.longest_stall = (took, format!("{}, {:?}, sent at {invoked:.3} s", kind.name(), operation.outcome));
            }
            let mut shards = operation.steps.iter().map(|step| shard_of(step.key()));
            let first = shards.next();
            let across = shards.any(|shard| Some(shard) != first);
            let committed = matches!(operation.outcome, Outcome::Ok | Outcome::Committed);
            self.across_shards += u64::from(across && committed && kind.is_transaction());
        }
        notes.operations.into_iter().map(|(_, operation)| operation).collect()
    }

    /// Whether nothing was found wrong.
    pub(super) fn is_clean(&self) -> bool {
        self.anomalies.is_empty() && self.surprises.is_empty() && self.unresolved.is_empty()
    }

    /// How many operations ended so.
    pub(super) fn with_outcome(&self, outcome: Outcome) -> u64 {
        self.operations.values().map(|counts| counts[outcome as usize]).sum()
    }

    /// How many operations of this kind were answered.
    pub(super) fn answered(&self, kind: Kind) -> u64 {
        self.operations.get(&kind).map_or(0, |counts| counts[Outcome::Ok as usize])
    }

    /// The longest time from a coordinator's death to the end of its last lock.
    pub(super) fn slowest_recovery(&self) -> Duration {
        self.recoveries.iter().copied().max().unwrap_or_default()
    }

    /// Everything, as JSON.
    pub(super) fn to_json(&self) -> Value {
        let outcomes =
            |counts: &[u64; 4]| -> BTreeMap<_, _> { OUTCOMES.iter().map(|(name, outcome)| (*name, counts[*outcome as usize])).collect() };
        let operations: BTreeMap<_, _> = self.operations.iter().map(|(kind, counts)| (kind.name(), outcomes(counts))).collect();
        let totals: BTreeMap<_, _> = OUTCOMES.iter().map(|(name, outcome)| (*name, self.with_outcome(*outcome))).collect();
        let faults: BTreeMap<_, _> = self.faults.iter().map(|(kind, count)| (kind.name(), *count)).collect();
        json!({
            "mode": self.mode_name(),
            "seed": self.seed,
            "seconds": self.time.as_secs(),
            "rounds": self.rounds,
            "operations": operations,
            "outcomes": totals,
            "transactions_across_shards": self.across_shards,
            "faults": faults,
            "anomalies": self.anomalies,
            "surprises": self.surprises,
            "unresolved": self.unresolved,
            "recoveries": self.recoveries.len(),
            "slowest_recovery_ms": millis(self.slowest_recovery()),
            "longest_stall_ms": millis(self.longest_stall.0),
        })
    }

    /// `static` or `cluster`.
    pub(super) fn mode_name(&self) -> &'static str {
        match self.mode {
            Mode::Static => "static",
            Mode::Cluster => "cluster",
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} shards, {} s in {} rounds, seed {}", self.mode_name(), self.time.as_secs(), self.rounds, self.seed)?;
        writeln!(f, "  {:<40}{:>10}{:>10}{:>10}{:>10}", "operations", "ok", "committed", "failed", "unknown")?;
        for (kind, counts) in &self.operations {
            write!(f, "  {:<40}", kind.name())?;
            counts.iter().try_for_each(|count| write!(f, "{count:>10}"))?;
            writeln!(f)?;
        }
        write!(f, "  {:<40}", "all")?;
        OUTCOMES.iter().try_for_each(|(_, outcome)| write!(f, "{:>10}", self.with_outcome(*outcome)))?;
        writeln!(f, "\n  {:<40}{:>10}", "transactions over several shards", self.across_shards)?;
        for (kind, count) in &self.faults {
            writeln!(f, "  {:<40}{count:>10}", kind.name())?;
        }
        writeln!(f, "  {:<40}{:>7} ms", format!("slowest of {} recoveries", self.recoveries.len()), millis(self.slowest_recovery()))?;
        writeln!(f, "  {:<40}{:>7} ms ({})", "longest stall of a client", millis(self.longest_stall.0), self.longest_stall.1)?;
        for (what, list) in [("anomalies", &self.anomalies), ("surprises", &self.surprises), ("unresolved", &self.unresolved)] {
            writeln!(f, "  {what:<40}{:>10}", list.len())?;
            list.iter().try_for_each(|text| writeln!(f, "{text}"))?;
        }
        if self.is_clean() { Ok(()) } else { writeln!(f, "the faults of the last round:\n{}", self.timeline.join("\n")) }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

const OUTCOMES: [(&str, Outcome); 4] =
    [("ok", Outcome::Ok), ("committed", Outcome::Committed), ("failed", Outcome::Failed), ("unknown", Outcome::Unknown)];
