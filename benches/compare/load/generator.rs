//! The loop of the generator: one thread, one epoll, all connections; warm up, measure, let the last operations end.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token};

use crate::keyspace::Placement;
use crate::load::connection::Connection;
use crate::load::random::Random;
use crate::load::{Order, Sample};
use crate::operation::Draw;
use crate::procfs;

/// How long the operations in flight at the end may take before they are cut off.
const DRAIN: Duration = Duration::from_secs(1);
/// How late the end of a window may be noticed on connections that are all silent.
const POLL_TIMEOUT: Duration = Duration::from_millis(2);
/// The longest latency that the histogram tells apart.
const LATENCY_MAX: Duration = Duration::from_secs(60);

/// Chooses keys, until it is closed.
pub(crate) struct Drawer {
    placement: Placement,
    draw: Draw,
    clients: usize,
    random: Random,
    /// No operation begins any more.
    pub(crate) closed: bool,
}

/// What has happened since the window began.
pub(crate) struct Tally {
    latencies: Histogram<u64>,
    pub(crate) retries: u64,
    /// Operations finished by each connection.
    by_client: Vec<u64>,
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
        let poll = Poll::new()?;
        let mut connections = Vec::with_capacity(order.clients);
        for index in 0..order.clients {
            let mut connection = Connection::connect(order, index)?;
            poll.registry().register(&mut connection.stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
            connections.push(connection);
        }
        let mut drawer = Drawer {
            placement: order.placement.clone(),
            draw: order.operation.draw,
            clients: order.clients,
            random: Random::new(order.seed),
            closed: false,
        };
        connections.iter_mut().try_for_each(|connection| connection.begin(&mut drawer))?;
        Ok(Self { poll, events: Events::with_capacity(order.clients), connections, drawer, tally: Tally::new(order.clients)? })
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
            let client = event.token().0;
            let before = self.tally.latencies.len();
            self.connections[client].on_ready(&mut self.drawer, &mut self.tally)?;
            self.tally.by_client[client] += self.tally.latencies.len() - before;
        }
        Ok(())
    }
}

impl Drawer {
    /// Fills `ids` with keys for the connection `client`.
    pub(crate) fn draw(&mut self, client: usize, ids: &mut [u32]) {
        self.placement.draw(self.draw, (client, self.clients), &mut self.random, ids);
    }
}

impl Tally {
    fn new(clients: usize) -> anyhow::Result<Self> {
        let latencies = Histogram::new_with_bounds(1, LATENCY_MAX.as_nanos() as u64, 3)?;
        Ok(Self { latencies, retries: 0, by_client: vec![0; clients] })
    }

    /// `count` operations were finished, each `latency` after it began.
    pub(crate) fn record(&mut self, latency: Duration, count: u64) {
        self.latencies.saturating_record_n(latency.as_nanos() as u64, count);
    }

    fn clear(&mut self) {
        self.latencies.reset();
        self.retries = 0;
        self.by_client.fill(0);
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
    let least = tally.by_client.iter().copied().min().unwrap_or(0);
    let cpu_us = |before: Duration, after: Duration| after.saturating_sub(before).as_secs_f64() * 1e6 / operations as f64;
    let latency_us = |quantile| tally.latencies.value_at_quantile(quantile) as f64 / 1e3;
    Ok(Sample {
        operations,
        retries: tally.retries,
        seconds: (after.at - before.at).as_secs_f64(),
        p50_us: latency_us(0.5),
        p99_us: latency_us(0.99),
        max_us: tally.latencies.max() as f64 / 1e3,
        least_client_share: least as f64 * tally.by_client.len() as f64 / operations as f64,
        proxy_cpu_us: cpu_us(before.proxy, after.proxy),
        shard_cpu_us: cpu_us(before.shards, after.shards),
        generator_cpu_us: cpu_us(before.generator, after.generator),
    })
}

#[cfg(test)]
mod tests {
    use std::process;

    use tempfile::TempDir;

    use super::*;
    use crate::client::Client;
    use crate::keyspace;
    use crate::process::{Server, free_address};
    use crate::target;
    use crate::workload::Workload;

    /// A filled server and an order to load it.
    fn must_start(workload: &str, keys: u32) -> anyhow::Result<(TempDir, Server, Order)> {
        let (directory, address) = (tempfile::tempdir()?, free_address()?);
        let server = Server::start("server", target::shard(address, directory.path())?, address, directory.path())?;
        keyspace::fill(&mut Client::connect(address)?, keys, 8)?;
        let order = Order {
            addresses: vec![address],
            operation: Workload::named(workload).context("no such workload")?.operation(),
            clients: 5,
            value_bytes: 8,
            warmup_seconds: 0.0,
            seconds: 0.1,
            placement: Placement::on_one_server(keys),
            proxy_processes: vec![process::id()],
            shard_processes: vec![server.id()],
            seed: 1,
        };
        Ok((directory, server, order))
    }

    #[test]
    fn operations_are_counted_once_however_deep_the_pipeline() -> anyhow::Result<()> {
        let (_directory, _server, order) = must_start("set-p16", 100)?;
        let sample = run(&order)?;
        let counted: String = Client::connect(order.addresses[0])?.call_as(&["INFO", "commandstats"])?;
        let calls = counted.split_once("cmdstat_set:calls=").and_then(|(_, rest)| rest.split(',').next()).unwrap_or_default();
        // 100 SETs filled the keyspace; what was in flight when the window closed was done, but not counted.
        let done = calls.parse::<u64>()? - 100;
        assert!((done - 5 * 16..=done).contains(&sample.operations), "{} of {done}", sample.operations);
        Ok(())
    }

    #[test]
    fn broken_watches_are_retries_and_not_operations() -> anyhow::Result<()> {
        let (_directory, _server, order) = must_start("watch-1", 2)?;
        let sample = run(&order)?;
        assert!(sample.operations > 0 && sample.retries > 0, "{sample:?}");
        Ok(())
    }

    #[test]
    fn an_error_reply_fails_the_measurement_with_its_text() -> anyhow::Result<()> {
        let (_directory, _server, order) = must_start("get-p1", 2)?;
        let mut client = Client::connect(order.addresses[0])?;
        client.call(&["DEL", "key:000000000001"])?;
        assert_eq!(run(&order).err().map(|error| error.to_string()).as_deref(), Some("$-1"));
        client.call(&["LPUSH", "key:000000000001", "element"])?;
        let message = run(&order).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(message.starts_with("WRONGTYPE "), "{message}");
        Ok(())
    }

    #[test]
    fn a_server_that_goes_away_fails_the_measurement() -> anyhow::Result<()> {
        let (_directory, server, order) = must_start("get-p1", 2)?;
        let mut generator = Generator::connect(&order)?;
        drop(server);
        let error = generator.spend(Duration::from_secs(10)).err().map(|error| format!("{error:#}")).unwrap_or_default();
        assert!(error.contains("closes the connection") || error.contains("reset"), "{error}");
        Ok(())
    }
}
