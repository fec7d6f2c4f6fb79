//! The process: worker threads in front of a control plane.
//!
//! Each worker is a thread with a single-threaded runtime, a listener of its own on the shared port (`SO_REUSEPORT`: the kernel spreads
//! new connections) and its own connections to the shards, so that a request never crosses threads. Clients do, between two requests:
//! `session/placement.rs`. The control plane, on the calling
//! thread, keeps the topology and waits for the signal to stop.

mod listener;
mod worker;

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::config::Config;
use crate::metrics::{Metrics, WorkerMetrics};
use crate::session::{Budget, Census, ClientRegistry, Monitors, Placement, Scripts, ServerIdentity, TrackingTotals, WaitingRoom};
use crate::topology::Topology;
use crate::txn::Latches;

/// What all workers share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) config: Arc<Config>,
    pub(crate) topology: Topology,
    pub(crate) registry: Arc<ClientRegistry>,
    pub(crate) placement: Arc<Placement>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) scripts: Arc<Scripts>,
    pub(crate) waiting: Arc<WaitingRoom>,
    pub(crate) census: Arc<Census>,
    pub(crate) monitors: Arc<Monitors>,
    pub(crate) tracking: Arc<TrackingTotals>,
    pub(crate) identity: Arc<ServerIdentity>,
    pub(crate) latches: Arc<Latches>,
    pub(crate) metrics: Arc<Metrics>,
    /// One for each worker.
    pub(crate) counts: Arc<[Arc<WorkerMetrics>]>,
    /// Becomes true when the process is to stop.
    pub(crate) stop: watch::Receiver<bool>,
}

/// Serves clients as `config` says until SIGTERM or SIGINT, then closes all connections and returns.
///
/// # Errors
/// When the shards cannot be used or the port cannot be bound, before any client was served.
pub fn run(config: Config) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start a runtime")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
        let stopped = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        serve(config, stopped).await
    })
}

async fn serve(config: Config, stopped: impl Future<Output = ()>) -> Result<()> {
    let config = Arc::new(config);
    allow_descriptors(config.limits.clients_max);
    let mut stopped = pin!(stopped);
    let topology = tokio::select! {
        topology = Topology::start(&config.topology, &config.upstream) => topology.context("cannot use the shards")?,
        () = &mut stopped => return Ok(()),
    };
    let workers = config.listen.worker_count().get();
    let listeners =
        listener::bind(config.listen.address, workers).with_context(|| format!("cannot listen on {}", config.listen.address))?;
    let (stop, stop_seen) = watch::channel(false);
    let metrics = Arc::new(Metrics::default());
    let shared = Shared {
        placement: Arc::new(Placement::new(config.listen.spread, workers)),
        budget: Arc::new(Budget::new(config.limits.clients_bytes_max)),
        scripts: Arc::new(Scripts::new(&config.topology)),
        registry: Arc::new(ClientRegistry::new(config.limits.clients_max)),
        waiting: Arc::default(),
        census: Arc::default(),
        monitors: Arc::default(),
        tracking: Arc::new(TrackingTotals::new(config.limits.tracked_keys_max)),
        latches: Arc::default(),
        identity: Arc::new(identity(&config, workers)),
        counts: (0..workers).map(|_| metrics.worker()).collect(),
        metrics,
        stop: stop_seen,
        config,
        topology,
    };
    let mut threads = Vec::new();
    for (index, listener) in listeners.into_iter().enumerate() {
        let shared = shared.clone();
        let thread = std::thread::Builder::new().name(format!("weft-{index}"));
        threads.push(thread.spawn(move || worker::run(index, listener, shared)).context("cannot start a worker thread")?);
    }
    tracing::info!(address = %shared.config.listen.address, workers, "serving");
    tokio::select! {
        () = &mut stopped => {}
        () = sample(&shared.metrics) => {}
    }
    tracing::info!("stopping");
    // Fails only when all workers have ended already.
    let _ = stop.send(true);
    tokio::task::spawn_blocking(move || {
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow!("a worker panicked"))?)
    })
    .await?
}

/// Has the process use as many descriptors as it may, as Redis does: each client takes one.
fn allow_descriptors(clients_max: usize) {
    let limit = getrlimit(Resource::Nofile);
    // What it may not have it does without.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    if let Some(most) = limit.maximum.filter(|most| *most < (clients_max + DESCRIPTORS_BESIDE) as u64) {
        tracing::warn!(most, clients_max, "too few descriptors for so many clients: raise `ulimit -Hn` or lower limits.clients_max");
    }
}

/// Descriptors for other things than clients: connections to the shards, for the most part.
const DESCRIPTORS_BESIDE: usize = 1000;

/// What INFO says of this process.
fn identity(config: &Config, workers: usize) -> ServerIdentity {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    ServerIdentity {
        run_id: (0..40).map(|_| char::from_digit(fastrand::u32(..16), 16).unwrap_or('0')).collect(),
        os: format!("Linux {} {}", read("/proc/sys/kernel/osrelease"), std::env::consts::ARCH),
        process_id: std::process::id(),
        tcp_port: config.listen.address.port(),
        config_file: String::new(),
        started: Instant::now(),
        clients_max: config.limits.clients_max,
        workers,
        isolation: config.isolation,
    }
}

/// Keeps the figures per second.
async fn sample(metrics: &Metrics) {
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    loop {
        metrics.sample(ticks.tick().await.into_std());
    }
}
