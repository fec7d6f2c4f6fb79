//! The process: worker threads in front of a control plane.
//!
//! Each worker is a thread with a single-threaded runtime, a listener of its own on the shared port (`SO_REUSEPORT`: the kernel spreads
//! new connections) and its own connections to the shards, so that a request never crosses threads. The control plane, on the calling
//! thread, keeps the topology and waits for the signal to stop.

mod listener;
mod worker;

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow};
use tokio::sync::watch;

use crate::config::Config;
use crate::metrics::Metrics;
use crate::session::ClientRegistry;
use crate::topology::Topology;

/// What all workers share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) config: Arc<Config>,
    pub(crate) topology: Topology,
    pub(crate) registry: Arc<ClientRegistry>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) started: Instant,
    /// Becomes true when the process is to stop.
    pub(crate) stop: watch::Receiver<bool>,
}

/// Serves clients as `config` says until `stopped` completes, then closes all connections and returns.
///
/// # Errors
/// When the shards cannot be found or the port cannot be bound, before any client was served.
pub async fn serve(config: Config, stopped: impl Future<Output = ()>) -> Result<()> {
    let config = Arc::new(config);
    let topology = Topology::start(&config.topology, &config.upstream).await.context("cannot find the shards")?;
    let workers = config.listen.worker_count().get();
    let listeners = listener::bind(config.listen.address, workers)
        .with_context(|| format!("cannot listen on {}", config.listen.address))?;
    let (stop, stop_seen) = watch::channel(false);
    let shared = Shared {
        registry: Arc::new(ClientRegistry::new(config.limits.clients_max)),
        metrics: Arc::new(Metrics::new(workers)),
        started: Instant::now(),
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
    stopped.await;
    tracing::info!("stopping");
    // Fails only when all workers have ended already.
    let _ = stop.send(true);
    tokio::task::spawn_blocking(move || threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow!("a worker panicked"))?))
        .await?
}
