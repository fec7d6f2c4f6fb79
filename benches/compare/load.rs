//! The load generator: this program once more as a child process, told what to do by one JSON document on stdin ([`Order`]), answering
//! with one on stdout ([`Outcome`]).
//!
//! A process of its own, so that its CPU time is not mixed with anything that is measured; one thread, so that it disturbs the machine
//! as little as redis-benchmark would. It samples the CPU time of the processes under test itself, at the very ends of its window.

mod connection;
mod generator;
pub(crate) mod random;
mod scan;
pub(crate) mod script;

use std::io::{Write, stdin, stdout};
use std::net::SocketAddr;
use std::process::{Command, ExitCode, Stdio};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::keyspace::Placement;
use crate::operation::Operation;

/// The argument that makes this program the generator.
pub(crate) const CHILD_ARGUMENT: &str = "generate-load";

/// What the generator is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Connections are dealt out to them in turn.
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) operation: Operation,
    pub(crate) clients: usize,
    pub(crate) value_bytes: usize,
    pub(crate) warmup_seconds: f64,
    pub(crate) seconds: f64,
    pub(crate) placement: Placement,
    /// The processes whose CPU time is "the proxy's".
    pub(crate) proxy_processes: Vec<u32>,
    /// The processes whose CPU time is "the shards'".
    pub(crate) shard_processes: Vec<u32>,
    /// Seeds the drawing of keys.
    pub(crate) seed: u64,
}

/// What one window yielded. Times are in microseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) operations: u64,
    /// EXECs that answered nil, after which the operation was begun again.
    pub(crate) retries: u64,
    pub(crate) seconds: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) max_us: f64,
    /// Of the connection that finished the fewest operations, relative to the mean: 1 is fair, 0 is starved.
    pub(crate) least_client_share: f64,
    /// CPU per operation; zero where there is no proxy.
    pub(crate) proxy_cpu_us: f64,
    pub(crate) shard_cpu_us: f64,
    pub(crate) generator_cpu_us: f64,
}

/// A sample, or why there is none.
pub(crate) type Outcome = Result<Sample, String>;

/// Runs `order` in a child process.
pub(crate) fn run(order: &Order) -> anyhow::Result<Outcome> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg(CHILD_ARGUMENT)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting the load generator")?;
    let mut input = child.stdin.take().context("the load generator has no stdin")?;
    input.write_all(&serde_json::to_vec(order)?)?;
    drop(input);
    let output = child.wait_with_output()?;
    serde_json::from_slice(&output.stdout).context("the load generator said nothing that can be read")
}

/// The child's main: order in, outcome out.
pub(crate) fn child() -> anyhow::Result<ExitCode> {
    let order: Order = serde_json::from_reader(stdin().lock())?;
    let outcome: Outcome = generator::run(&order).map_err(|error| format!("{error:#}"));
    serde_json::to_writer(stdout().lock(), &outcome)?;
    Ok(ExitCode::SUCCESS)
}
