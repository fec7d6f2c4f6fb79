//! What weft counts of itself, for INFO and for Prometheus.
//!
//! The counters are one list of rows; what is counted under which name and labels is data, and no label ever holds a client's words. Each
//! worker counts into cells of its own that no other thread writes, so that counting is an uncontended addition; a [`Snapshot`] sums
//! them. Gauges are differences of two counters, so that they need no third cell that could disagree.

mod process;
mod throughput;

use std::collections::{BTreeMap, HashMap};
use std::ops::Index;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

pub use process::ProcessUsage;
use throughput::Gauge;
pub use throughput::Throughput;

/// All counters of the process.
#[derive(Debug, Default)]
pub struct Metrics {
    workers: Mutex<Vec<Arc<WorkerMetrics>>>,
    gauge: Mutex<Gauge>,
    /// The counters when they were last reset, in the eyes of those who reset them.
    reset: Mutex<Option<Snapshot>>,
}

impl Metrics {
    /// Cells for one more thread that counts.
    pub fn worker(&self) -> Arc<WorkerMetrics> {
        let worker = Arc::new(WorkerMetrics::default());
        lock(&self.workers).push(Arc::clone(&worker));
        worker
    }

    /// The sums over all workers. Counters are read one after the other: a sum may miss what happens meanwhile, never invent it.
    pub fn snapshot(&self) -> Snapshot {
        let mut values = [0u64; Counter::COUNT];
        for worker in lock(&self.workers).iter() {
            for (value, cell) in values.iter_mut().zip(&worker.cells) {
                *value = value.wrapping_add(cell.load(Ordering::Relaxed));
            }
        }
        Snapshot { values, throughput: lock(&self.gauge).throughput() }
    }

    /// Like [`snapshot`](Self::snapshot), of what was counted since the last [`reset`](Self::reset).
    pub fn since_reset(&self) -> Snapshot {
        let mut snapshot = self.snapshot();
        if let Some(reset) = &*lock(&self.reset) {
            snapshot.values.iter_mut().zip(&reset.values).for_each(|(value, before)| *value = value.wrapping_sub(*before));
        }
        snapshot
    }

    /// Begins to count anew for INFO. The counters that Prometheus reads go on: they never decrease.
    pub fn reset(&self) {
        *lock(&self.reset) = Some(self.snapshot());
        lock(&self.workers).iter().for_each(|worker| *lock(&worker.calls) = Calls::default());
    }

    /// How often the commands were called that [`count_call`](WorkerMetrics::count_call) was told of, since the last reset.
    pub fn calls(&self) -> BTreeMap<&'static str, u64> {
        self.sums(|calls| &calls.made)
    }

    /// How often shards were given the commands that [`count_try`](WorkerMetrics::count_try) was told of, since the last reset.
    pub fn tries(&self) -> BTreeMap<&'static str, u64> {
        self.sums(|calls| &calls.tried)
    }

    fn sums(&self, of: impl Fn(&Calls) -> &HashMap<&'static str, u64>) -> BTreeMap<&'static str, u64> {
        let mut sums = BTreeMap::new();
        for worker in lock(&self.workers).iter() {
            of(&lock(&worker.calls)).iter().for_each(|(name, calls)| *sums.entry(*name).or_default() += calls);
        }
        sums
    }

    /// Takes a sample for the figures per second. Called ten times a second by one thread.
    pub fn sample(&self, now: Instant) {
        let snapshot = self.snapshot();
        lock(&self.gauge).sample(now, &snapshot);
    }
}

/// The counters of one thread. It has whole cache lines to itself.
#[derive(Debug)]
#[repr(align(128))]
pub struct WorkerMetrics {
    cells: [AtomicU64; Counter::COUNT],
    /// Calls by the name of the command.
    calls: Mutex<Calls>,
}

impl WorkerMetrics {
    /// Counts one.
    #[inline]
    pub fn count(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Counts `amount`.
    #[inline]
    pub fn add(&self, counter: Counter, amount: u64) {
        self.cells[counter as usize].fetch_add(amount, Ordering::Relaxed);
    }

    /// Counts a call of the command `name`, of those few that no shard counts.
    pub fn count_call(&self, name: &'static str) {
        *lock(&self.calls).made.entry(name).or_default() += 1;
    }

    /// Counts that a shard was given the command `name` in place of one that waits, and so counts a call that no client has made.
    pub fn count_try(&self, name: &'static str) {
        *lock(&self.calls).tried.entry(name).or_default() += 1;
    }

    /// Counts an error reply, weft's own or a shard's, by the code it begins with. `text` lacks the leading `-`.
    pub fn count_error(&self, text: &[u8]) {
        self.count(Counter::of_error(text));
    }
}

/// Calls that the shards' own counts do not tell, by the names of the commands.
#[derive(Debug, Default)]
struct Calls {
    made: HashMap<&'static str, u64>,
    tried: HashMap<&'static str, u64>,
}

impl Default for WorkerMetrics {
    fn default() -> Self {
        Self { cells: [const { AtomicU64::new(0) }; Counter::COUNT], calls: Mutex::default() }
    }
}

/// The counters at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    values: [u64; Counter::COUNT],
    /// The figures per second.
    pub throughput: Throughput,
}

impl Snapshot {
    /// Transactions whose outcome is being found out right now.
    pub fn in_doubt(&self) -> u64 {
        self[Counter::InDoubtBegan].saturating_sub(self[Counter::InDoubtEnded])
    }

    /// How often each error code was answered, for those that were.
    pub fn errors(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Counter::ALL.iter().filter_map(|&counter| counter.error_code().map(|code| (code, self[counter]))).filter(|&(_, count)| count > 0)
    }
}

impl Index<Counter> for Snapshot {
    type Output = u64;

    fn index(&self, counter: Counter) -> &u64 {
        &self.values[counter as usize]
    }
}

/// Declares the counters: variant, metric, label.
macro_rules! counters {
    ($($(#[$doc:meta])* $variant:ident = $metric:literal $($label:literal)?;)*) => {
        /// Everything that is counted: a metric and, where it has labels, their values. Rows of one metric stand together.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Counter {
            $($(#[$doc])* $variant,)*
        }

        impl Counter {
            /// All counters, in the order of the list.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            const COUNT: usize = Self::ALL.len();

            /// The metric's name, as Prometheus is told it.
            pub const fn metric(self) -> &'static str {
                match self { $(Self::$variant => $metric,)* }
            }

            /// Its labels, as Prometheus is told them (`kind="moved"`); empty if it has none.
            pub const fn labels(self) -> &'static str {
                match self { $(Self::$variant => concat!($($label)?),)* }
            }
        }
    };
}

counters! {
    /// A command was answered, whatever the answer.
    Commands = "weft_commands_total";
    /// A client was admitted.
    ConnectionsAccepted = "weft_client_connections_accepted_total";
    /// A client moved to another worker.
    ClientsMoved = "weft_client_moves_total";
    /// A client was one too many.
    RejectedByLimit = "weft_client_connections_rejected_total" r#"reason="clients_max""#;
    /// A client came from elsewhere while no password is set.
    RejectedByProtectedMode = "weft_client_connections_rejected_total" r#"reason="protected_mode""#;
    /// Bytes read from clients.
    BytesRead = "weft_client_bytes_total" r#"direction="in""#;
    /// Bytes written to clients.
    BytesWritten = "weft_client_bytes_total" r#"direction="out""#;
    /// A connection to a shard was opened.
    UpstreamOpened = "weft_upstream_connections_total" r#"event="opened""#;
    /// Connecting to a shard failed.
    UpstreamFailed = "weft_upstream_connections_total" r#"event="failed""#;
    /// A connection to a shard broke, or was given up because it was late or out of step.
    UpstreamLost = "weft_upstream_connections_total" r#"event="lost""#;
    /// A command over several participants was computed again, because a key of it changed meanwhile.
    ComputeAgain = "weft_compute_retries_total";
    /// A shard said that the slot is elsewhere.
    RedirectMoved = "weft_redirects_total" r#"kind="moved""#;
    /// A shard said that the key may be elsewhere already.
    RedirectAsk = "weft_redirects_total" r#"kind="ask""#;
    /// A shard said that the keys are on two nodes for now.
    RedirectTryAgain = "weft_redirects_total" r#"kind="tryagain""#;
    /// An EXEC on one participant was applied.
    OnePhaseCommitted = "weft_txn_total" r#"kind="one_phase",outcome="committed""#;
    /// An EXEC on one participant found a watched key changed.
    OnePhaseWatch = "weft_txn_total" r#"kind="one_phase",outcome="aborted_watch""#;
    /// An EXEC on one participant was refused or waited too long for a lock; nothing was applied.
    OnePhaseRefused = "weft_txn_total" r#"kind="one_phase",outcome="aborted_refused""#;
    /// The reply to an EXEC on one participant was lost.
    OnePhaseUnknown = "weft_txn_total" r#"kind="one_phase",outcome="unknown""#;
    /// A transaction over several participants was applied on all.
    TwoPhaseCommitted = "weft_txn_total" r#"kind="two_phase",outcome="committed""#;
    /// It gave way because of locks until its attempts were used up.
    TwoPhaseLocked = "weft_txn_total" r#"kind="two_phase",outcome="aborted_locked""#;
    /// It found a watched key changed.
    TwoPhaseWatch = "weft_txn_total" r#"kind="two_phase",outcome="aborted_watch""#;
    /// A shard refused to prepare it (memory, permission, cluster state), or could not be reached.
    TwoPhaseRefused = "weft_txn_total" r#"kind="two_phase",outcome="aborted_refused""#;
    /// A resolver aborted it before all participants were prepared.
    TwoPhaseFenced = "weft_txn_total" r#"kind="two_phase",outcome="aborted_fenced""#;
    /// It is decided; its replies, or a shard, were out of reach for longer than the client's patience.
    TwoPhasePending = "weft_txn_total" r#"kind="two_phase",outcome="pending""#;
    /// Whether it was applied could not be found out within the client's patience.
    TwoPhaseUnknown = "weft_txn_total" r#"kind="two_phase",outcome="unknown""#;
    /// A transaction began to be in doubt.
    InDoubtBegan = "weft_txn_in_doubt_total" r#"event="began""#;
    /// A transaction in doubt was settled.
    InDoubtEnded = "weft_txn_in_doubt_total" r#"event="ended""#;
    /// A transaction of somebody else was found and committed.
    RecoveredCommitted = "weft_txn_recovered_total" r#"outcome="committed""#;
    /// A transaction of somebody else was found and aborted.
    RecoveredAborted = "weft_txn_recovered_total" r#"outcome="aborted""#;
    /// A committed batch was applied again, at a shard that had lost it.
    Reapplied = "weft_txn_reapplied_total";
    /// A shard was asked whether its replicas, or its file, have what it was told; one time may serve many transactions.
    WaitRounds = "weft_wait_rounds_total";
    /// They did not have it in time: a transaction was committed unconfirmed, or refused.
    WaitTimeouts = "weft_wait_timeouts_total";
    /// A shard lost its part of a committed transaction for good.
    Torn = "weft_txn_torn_total";
    /// A record that nobody needed any more was deleted for its age.
    SweptCommitted = "weft_txn_swept_total" r#"state="committed""#;
    /// A tombstone was deleted for its age.
    SweptAborted = "weft_txn_swept_total" r#"state="aborted""#;
    /// A lock whose record was lost was taken away.
    LocksOrphaned = "weft_locks_orphaned_total";
    /// EXEC answered nil because a watched key had changed.
    WatchAborts = "weft_watch_aborts_total";
    /// A command met a lock and waited.
    LockWaits = "weft_lock_waits_total";
    /// A transaction waited to go together with others over the same shards.
    LaneWaits = "weft_lane_waits_total";
    /// A command waited for a lock until its time was up.
    LockTimeouts = "weft_lock_timeouts_total";
    /// The request was at fault, or Redis has no code for what was.
    ErrorErr = "weft_errors_total" r#"code="ERR""#;
    /// The key holds another type.
    ErrorWrongType = "weft_errors_total" r#"code="WRONGTYPE""#;
    /// Not authenticated.
    ErrorNoAuth = "weft_errors_total" r#"code="NOAUTH""#;
    /// A wrong user or password.
    ErrorWrongPass = "weft_errors_total" r#"code="WRONGPASS""#;
    /// The user may not do this.
    ErrorNoPerm = "weft_errors_total" r#"code="NOPERM""#;
    /// A protocol version that does not exist.
    ErrorNoProto = "weft_errors_total" r#"code="NOPROTO""#;
    /// Refused by protected mode.
    ErrorDenied = "weft_errors_total" r#"code="DENIED""#;
    /// A queued command was refused.
    ErrorExecAbort = "weft_errors_total" r#"code="EXECABORT""#;
    /// A script that is not loaded.
    ErrorNoScript = "weft_errors_total" r#"code="NOSCRIPT""#;
    /// Keys of several slots.
    ErrorCrossSlot = "weft_errors_total" r#"code="CROSSSLOT""#;
    /// The cluster, or the slot, is down.
    ErrorClusterDown = "weft_errors_total" r#"code="CLUSTERDOWN""#;
    /// The shard's memory is full.
    ErrorOom = "weft_errors_total" r#"code="OOM""#;
    /// The shard is a replica.
    ErrorReadOnly = "weft_errors_total" r#"code="READONLY""#;
    /// The shard loads its data.
    ErrorLoading = "weft_errors_total" r#"code="LOADING""#;
    /// The shard runs a slow script.
    ErrorBusy = "weft_errors_total" r#"code="BUSY""#;
    /// The shard cannot persist.
    ErrorMisconf = "weft_errors_total" r#"code="MISCONF""#;
    /// The shard has too few replicas.
    ErrorNoReplicas = "weft_errors_total" r#"code="NOREPLICAS""#;
    /// The shard cannot be reached.
    ErrorUnavailable = "weft_errors_total" r#"code="UNAVAILABLE""#;
    /// The reply to a write was lost.
    ErrorUnknown = "weft_errors_total" r#"code="UNKNOWN""#;
    /// A lock was held for too long.
    ErrorLockWait = "weft_errors_total" r#"code="LOCKWAIT""#;
    /// A transaction over several shards was refused.
    ErrorTxnRefused = "weft_errors_total" r#"code="TXNREFUSED""#;
    /// All shards lost a transaction.
    ErrorTxnLost = "weft_errors_total" r#"code="TXNLOST""#;
    /// A transaction committed, its replies are gone.
    ErrorTxnPending = "weft_errors_total" r#"code="TXNPENDING""#;
    /// A transaction committed, too few replicas have confirmed it.
    ErrorTxnUnconfirmed = "weft_errors_total" r#"code="TXNUNCONFIRMED""#;
    /// Whether a transaction was applied is not known.
    ErrorTxnUnknown = "weft_errors_total" r#"code="TXNUNKNOWN""#;
    /// Any other code: of a module, of a user's script, of a server newer than this list.
    ErrorOther = "weft_errors_total" r#"code="OTHER""#;
}

impl Counter {
    /// The counter of error replies that begin like `text`.
    fn of_error(text: &[u8]) -> Self {
        let code = text.split(|&byte| byte == b' ').next().unwrap_or_default();
        let is_code = |counter: &&Self| counter.error_code().is_some_and(|known| known.as_bytes() == code);
        Self::ALL.iter().find(is_code).copied().unwrap_or(Self::ErrorOther)
    }

    /// Whether errors with this code are counted apart from others.
    pub fn is_error_code(code: &str) -> bool {
        Self::ALL.iter().any(|counter| *counter != Self::ErrorOther && counter.error_code() == Some(code))
    }

    /// The code, if this counts error replies.
    fn error_code(self) -> Option<&'static str> {
        self.labels().strip_prefix("code=\"")?.strip_suffix('"')
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_snapshot_sums_the_workers() {
        let metrics = Metrics::default();
        let (one, other) = (metrics.worker(), metrics.worker());
        one.count(Counter::Commands);
        other.add(Counter::Commands, 2);
        other.count(Counter::InDoubtBegan);
        let snapshot = metrics.snapshot();
        assert_eq!((snapshot[Counter::Commands], snapshot[Counter::LockWaits], snapshot.in_doubt()), (3, 0, 1));
        one.count(Counter::InDoubtEnded);
        assert_eq!(metrics.snapshot().in_doubt(), 0);
    }

    #[test]
    fn errors_are_counted_by_code_and_unknown_codes_together() {
        let metrics = Metrics::default();
        let worker = metrics.worker();
        for text in [&b"ERR x"[..], b"ERR y", b"BUSY", b"BUSYGROUP exists", b"", b"TXNPENDING z"] {
            worker.count_error(text);
        }
        let errors: Vec<_> = metrics.snapshot().errors().collect();
        assert_eq!(errors, [("ERR", 2), ("BUSY", 1), ("TXNPENDING", 1), ("OTHER", 2)]);
    }

    #[test]
    fn every_counter_has_a_name_of_its_own_and_rows_of_a_metric_stand_together() {
        let unique: HashSet<_> = Counter::ALL.iter().map(|counter| (counter.metric(), counter.labels())).collect();
        assert_eq!(unique.len(), Counter::ALL.len());
        let metrics: HashSet<_> = Counter::ALL.iter().map(|counter| counter.metric()).collect();
        let runs = Counter::ALL.chunk_by(|one, other| one.metric() == other.metric()).count();
        assert_eq!(runs, metrics.len());
    }
}
