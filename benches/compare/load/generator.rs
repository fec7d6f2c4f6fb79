//! The loop of the generator: one thread, one epoll, all connections; warm up, measure, let the last operations end.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token};

use crate::keyspace::Placement;
use crate::load::connection::Connection;
use crate::load::random::Random;
use crate::load::{Order, Sample};
use crate::procfs;
use crate::workload::{Draw, Workload};

/// How long the operations in flight at the end may take before they are cut off.
const DRAIN: Duration = Duration::from_secs(1);
/// How late the end of a window may be noticed on connections that are all silent.
const POLL_TIMEOUT: Duration = Duration::from_millis(2);
/// The longest latency that the histogram tells apart.
const LATENCY_MAX: Duration = Duration::from_secs(60);

/// Chooses keys, until it is closed.
pub(crate) struct Drawer {
    placement: Placement,
    random: Random,
    /// No operation begins any more.
    pub(crate) closed: bool,
}

/// What has happened since the window began.
pub(crate) struct Tally {
    latencies: Histogram<u64>,
    pub(crate) retries: u64,
}

/// Measures what `order` says.
pub(crate) fn run(order: &Order) -> anyhow::Result<Sample> {
    let mut generator = Generator::connect(order)?;
    generator.spend(Duration::from_secs_f64(order.warmup_seconds))?;
    generator.tally.clear();
    let before = Mark::set(order)?;
    generator.spend(Duration::from_secs_f64(order.seconds))?;
    let after = Mark::set(order)?;
    let sample = sample(&generator.tally, &before, &after);
    generator.drain();
    sample
}

struct Generator {
    poll: Poll,
    events: Events,
    connections: Vec<Connection>,
    drawer: Drawer,
    tally: Tally,
}

impl Generator {
    fn connect(order: &Order) -> anyhow::Result<Self> {
        let workload = Workload::named(&order.workload).with_context(|| format!("no workload {}", order.workload))?;
        let poll = Poll::new()?;
        let mut connections = Vec::with_capacity(order.clients);
        for index in 0..order.clients {
            let mut connection = Connection::connect(order.address, workload, order.value_bytes)?;
            poll.registry().register(&mut connection.stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
            connections.push(connection);
        }
        let mut drawer = Drawer { placement: order.placement.clone(), random: Random::new(order.seed), closed: false };
        connections.iter_mut().try_for_each(|connection| connection.begin(&mut drawer))?;
        Ok(Self { poll, events: Events::with_capacity(order.clients), connections, drawer, tally: Tally::new()? })
    }

    /// Keeps the loops going for `time`.
    fn spend(&mut self, time: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.turn()?;
        }
        Ok(())
    }

    /// Lets the operations in flight end, so that they do not reach into the next measurement.
    fn drain(mut self) {
        self.drawer.closed = true;
        let end = Instant::now() + DRAIN;
        while self.connections.iter().any(|connection| !connection.is_idle()) && Instant::now() < end {
            // The sample is taken; an error now is the next measurement's to find.
            if self.turn().is_err() {
                break;
            }
        }
    }

    fn turn(&mut self) -> anyhow::Result<()> {
        self.poll.poll(&mut self.events, Some(POLL_TIMEOUT))?;
        for event in &self.events {
            self.connections[event.token().0].on_ready(&mut self.drawer, &mut self.tally)?;
        }
        Ok(())
    }
}

impl Drawer {
    /// Fills `ids` with keys, a pair for each operation.
    pub(crate) fn draw(&mut self, draw: Draw, ids: &mut [u32]) {
        for pair in ids.chunks_exact_mut(2) {
            pair.copy_from_slice(&self.placement.draw(draw, &mut self.random));
        }
    }
}

impl Tally {
    fn new() -> anyhow::Result<Self> {
        let latencies = Histogram::new_with_bounds(1, LATENCY_MAX.as_nanos() as u64, 3)?;
        Ok(Self { latencies, retries: 0 })
    }

    /// `count` operations were finished, each `latency` after it began.
    pub(crate) fn record(&mut self, latency: Duration, count: u64) {
        self.latencies.saturating_record_n(latency.as_nanos() as u64, count);
    }

    fn clear(&mut self) {
        self.latencies.reset();
        self.retries = 0;
    }
}

/// One end of the window.
struct Mark {
    at: Instant,
    proxy: Duration,
    shards: Duration,
    generator: Duration,
}

impl Mark {
    fn set(order: &Order) -> anyhow::Result<Self> {
        Ok(Self {
            at: Instant::now(),
            proxy: procfs::cpu_time(&order.proxy_processes).context("the proxy is gone")?,
            shards: procfs::cpu_time(&order.shard_processes).context("a shard is gone")?,
            generator: procfs::cpu_time(&[std::process::id()])?,
        })
    }
}

fn sample(tally: &Tally, before: &Mark, after: &Mark) -> anyhow::Result<Sample> {
    let operations = tally.latencies.len();
    if operations == 0 {
        bail!("finishes no operation in the window");
    }
    let cpu_us = |before: Duration, after: Duration| after.saturating_sub(before).as_secs_f64() * 1e6 / operations as f64;
    let latency_us = |quantile| tally.latencies.value_at_quantile(quantile) as f64 / 1e3;
    Ok(Sample {
        operations,
        retries: tally.retries,
        seconds: (after.at - before.at).as_secs_f64(),
        p50_us: latency_us(0.5),
        p99_us: latency_us(0.99),
        max_us: tally.latencies.max() as f64 / 1e3,
        proxy_cpu_us: cpu_us(before.proxy, after.proxy),
        shard_cpu_us: cpu_us(before.shards, after.shards),
        generator_cpu_us: cpu_us(before.generator, after.generator),
    })
}
