//! One worker thread: accepts clients, and looks after what they share.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::BytesMut;
use cpu_time::ThreadTime;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinSet, LocalSet, spawn_local};
use tokio::time::MissedTickBehavior;

use super::Shared;
use crate::config::{Secret, TopologyConfig};
use crate::metrics::Counter;
use crate::session::{self, Context, Databases, Guest, Hub, LocalSettings, Peer, Resting, Roster, Tracker};
use crate::txn::{Engine, Script, TxnIds};
use crate::upstream::{Handshake, Upstreams};

/// Runs worker `index` until the process stops.
///
/// # Errors
/// When the runtime or the listener cannot be set up.
pub(super) fn run(index: usize, listener: std::net::TcpListener, shared: Shared) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start a runtime")?;
    LocalSet::new().block_on(&runtime, async move {
        // In a task of its own: what is awaited here is polled whenever any task of the worker has something to do.
        spawn_local(work(index, listener, shared)).await.context("a worker has ended too early")?
    })
}

async fn work(index: usize, listener: std::net::TcpListener, shared: Shared) -> Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let mut stop = shared.stop.clone();
    let context = context(index, &shared);
    let mut sessions = JoinSet::new();
    tokio::select! {
        () = accept(index, &listener, &context, &mut sessions) => {}
        () = context.tracker.deliver() => {}
        () = housekeeping(index, &context) => {}
        () = forget(&context) => {}
        () = follow_topology(&context) => {}
        // One sweeper is enough for all workers.
        () = context.engine.sweep(&context.config.sweep), if index == 0 => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    sessions.shutdown().await;
    context.engine.finish().await;
    Ok(())
}

/// What the sessions of this worker share.
fn context(index: usize, shared: &Shared) -> Rc<Context> {
    let upstream = &shared.config.upstream;
    let handshake = Handshake {
        username: upstream.username.clone(),
        password: upstream.password.as_ref().map(|password: &Secret| password.expose().to_owned()),
        preload: Script::ALL.map(Script::load).into(),
    };
    let upstreams = Upstreams::new(shared.topology.current(), handshake, upstream.clone(), Arc::clone(&shared.counts[index]));
    let ids = TxnIds::new(shared.identity.proxy_id(), index as u32);
    let engine = Engine::new(
        Rc::clone(&upstreams),
        shared.topology.clone(),
        &shared.config,
        ids,
        Arc::clone(&shared.counts[index]),
        Arc::clone(&shared.latches),
    );
    let output_bytes_max = shared.config.limits.client_output_bytes_max;
    Rc::new(Context {
        tracker: Tracker::new(
            Rc::clone(&upstreams),
            Arc::clone(&shared.registry),
            Arc::clone(&shared.tracking),
            Arc::clone(shared.placement.mailbox(index)),
            output_bytes_max,
        ),
        hub: Hub::new(Rc::clone(&upstreams), shared.topology.clone(), Arc::clone(&shared.census), output_bytes_max),
        config: Arc::clone(&shared.config),
        upstreams,
        engine,
        registry: Arc::clone(&shared.registry),
        placement: Arc::clone(&shared.placement),
        roster: Roster::default(),
        budget: Arc::clone(&shared.budget),
        scripts: Arc::clone(&shared.scripts),
        waiting: Arc::clone(&shared.waiting),
        monitors: Arc::clone(&shared.monitors),
        topology: shared.topology.clone(),
        settings: LocalSettings { password: shared.config.listen.password.clone(), databases: databases(&shared.config.topology) },
        identity: Arc::clone(&shared.identity),
        metrics: Arc::clone(&shared.metrics),
        counts: Arc::clone(&shared.counts[index]),
        scratch: RefCell::new(BytesMut::new()),
        resting: Resting::default(),
    })
}

fn databases(topology: &TopologyConfig) -> Databases {
    match topology {
        TopologyConfig::Cluster(_) => Databases::Cluster,
        TopologyConfig::Static(fixed) => Databases::Count(fixed.databases),
    }
}

async fn accept(index: usize, listener: &TcpListener, context: &Rc<Context>, sessions: &mut JoinSet<()>) {
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, addr)) => admit(index, stream, addr, context, sessions),
                Err(error) => {
                    // Out of descriptors, most likely: wait for one instead of spinning.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            guests = context.placement.arrivals(index) => {
                for guest in guests {
                    // Its connection breaks if the runtime does not take it, as if it could not have been accepted.
                    let Ok(session) = session::receive(Rc::clone(context), guest) else { continue };
                    sessions.spawn_local(session);
                }
            }
            Some(_) = sessions.join_next(), if !sessions.is_empty() => {}
        }
    }
}

fn admit(index: usize, stream: TcpStream, addr: SocketAddr, context: &Rc<Context>, sessions: &mut JoinSet<()>) {
    let Ok(laddr) = stream.local_addr() else { return };
    // Without it replies wait for acknowledgements; a socket that refuses it is closed already.
    let _ = stream.set_nodelay(true);
    let peer = Peer { addr, laddr, fd: stream.as_raw_fd() };
    let authenticated = context.config.listen.password.is_none();
    let home = context.placement.home(index);
    match context.registry.admit(peer, authenticated, context.engine.now(), context.placement.mailbox(home)) {
        Some((client, registration)) => {
            context.counts.count(Counter::ConnectionsAccepted);
            if home != index {
                // A socket that cannot be handed over is closed.
                return stream.into_std().map_or((), |stream| context.placement.send(home, Guest::newcomer(client, registration, stream)));
            }
            sessions.spawn_local(session::serve(Rc::clone(context), client, registration, stream));
        }
        None => {
            context.counts.count(Counter::RejectedByLimit);
            sessions.spawn_local(session::turn_away(stream));
        }
    }
}

/// Keeps the clock that sessions read, looks for connections that do not answer, and takes back what silent clients hold.
async fn housekeeping(index: usize, context: &Context) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut meter = Meter::start();
    loop {
        ticks.tick().await;
        let now = Instant::now();
        context.engine.set_now(now);
        context.placement.review(index, meter.read(now), &context.roster);
        context.resting.look();
        context.budget.watch(now);
        context.upstreams.watch(now);
        context.tracker.watch(now, context.config.upstream.reply_timeout);
    }
}

/// How busy this thread is.
struct Meter {
    at: Instant,
    used: Option<ThreadTime>,
}

impl Meter {
    fn start() -> Self {
        Self { at: Instant::now(), used: ThreadTime::try_now().ok() }
    }

    /// How many thousandths of the time since the last reading the thread has used; all of it, if the kernel does not tell.
    fn read(&mut self, now: Instant) -> u32 {
        let before = std::mem::replace(self, Self { at: now, used: ThreadTime::try_now().ok() });
        let passed = now.saturating_duration_since(before.at).as_nanos().max(1);
        let used = self.used.zip(before.used).map_or(passed, |(used, before)| used.duration_since(before).as_nanos());
        (used * 1000 / passed).min(1000) as u32
    }
}

/// Deletes the records of transactions that are over. A task apart: while a shard does not answer, [`housekeeping`] must go on, because it
/// is what gives the connection up.
async fn forget(context: &Context) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        context.engine.forget_due().await;
    }
}

async fn follow_topology(context: &Context) {
    loop {
        let map = context.topology.changed_since(context.upstreams.map().epoch()).await;
        context.upstreams.apply(map);
        context.hub.follow_topology();
        context.tracker.follow_topology();
    }
}

/// How often a worker looks at the clock; ages in CLIENT LIST and time-outs of replies are as fine as this.
const TICK: Duration = Duration::from_millis(100);

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
