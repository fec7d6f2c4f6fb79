//! What the integration tests stand on: servers, clusters and proxies that live as long as the value that owns them, and clients whose
//! verbs assert.
//!
//! Three rules hold here. Nothing hangs: every wait has a deadline, and a test that runs into it says what it waited for. Nothing sleeps
//! to let something happen: [`eventually`] polls a condition. Nothing is shared: each test has its own processes, folders and ports.

#![allow(dead_code, unused_imports, reason = "a kit: not every tool is used by a test yet")]

mod client;
mod clock;
mod fault_proxy;
mod fleet;
mod ports;
mod process;
mod programs;
mod reply;
mod server;
mod shards;
mod weft;

use std::time::{Duration, Instant};

pub(crate) use client::{Args, Client, encode};
pub(crate) use clock::Clock;
pub(crate) use fault_proxy::{Fault, FaultProxy, Way};
pub(crate) use fleet::{Fleet, Stage, on_each, on_each_alone};
pub(crate) use ports::free_port;
pub(crate) use process::Process;
pub(crate) use programs::{in_tests, venv};
pub(crate) use reply::{Reply, decode};
pub(crate) use server::{Flavor, Server};
pub(crate) use shards::{Mode, Shards};
pub(crate) use weft::{Setup, Weft};

/// How long anything may take that takes milliseconds on an idle machine. Two cores run many tests at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Polls `condition` until it holds; fails with `what` when `deadline` passes first.
#[track_caller]
pub(crate) fn eventually(deadline: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    eventually_some(deadline, what, || condition().then_some(()));
}

/// Polls `attempt` until it gives a value; fails with `what` when `deadline` passes first.
#[track_caller]
pub(crate) fn eventually_some<T>(deadline: Duration, what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(start.elapsed() < deadline, "not within {deadline:?}: {what}");
        std::thread::sleep(POLL);
    }
}

const POLL: Duration = Duration::from_millis(5);
