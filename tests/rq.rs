//! RQ, unchanged: its workers, as the processes that people start, before shards that know nothing of each other and before a cluster.
//!
//! RQ keeps a job, its queue, its registries and its dependents under different keys and changes them in MULTI with WATCH, moves jobs
//! from queue to queue (BLMOVE), waits on several queues (BLPOP), reads results from streams (XREAD BLOCK), calls scripts, and steers its
//! workers by publish and subscribe.

use std::net::SocketAddr;
use std::time::Duration;

use crate::support::{Flavor, Mode, Process, Shards, Weft, in_tests, venv};

/// Workers are Python processes that fork for each job, on a machine that runs many tests at once.
const PATIENCE: Duration = Duration::from_secs(180);

/// The queues of each worker: one queue is waited for by BLMOVE, several by BLPOP.
const WORKERS: [(&str, &[&str]); 4] =
    [("first", &["high"]), ("second", &["high", "default", "low"]), ("third", &["low", "default"]), ("fourth", &["default"])];

#[test]
fn every_job_runs_once_with_its_dependencies_on_static_shards() {
    must_work_all_jobs(Mode::Static);
}

#[test]
fn every_job_runs_once_with_its_dependencies_on_a_cluster() {
    must_work_all_jobs(Mode::Cluster);
}

fn must_work_all_jobs(mode: Mode) {
    let shards = Shards::start(mode, Flavor::Redis, 3);
    let proxies = [Weft::start(&shards), Weft::start(&shards)];
    let folder = tempfile::tempdir().unwrap();
    let urls = proxies.each_ref().map(|proxy| url(proxy.address()));
    must_drive(&[&["enqueue"][..], &urls.each_ref().map(String::as_str)].concat());
    let mut workers: Vec<Process> = WORKERS
        .iter()
        .enumerate()
        .map(|(number, (name, queues))| {
            let mut command = venv("rq");
            command.args(["worker", "--name", name, "--url", &urls[number % 2], "--path"]).arg(in_tests("rq"));
            // When two workers change the registry of ready jobs at once, RQ leaves the loser's job to its maintenance, on any server.
            // These have it look every second: its lifetime less 15 seconds is how long a worker waits for a job.
            command.args(["--maintenance-interval", "1", "--worker-ttl", "16"]).args(*queues);
            Process::start(&format!("the worker {name}"), command, folder.path().join(name))
        })
        .collect();
    must_drive(&[&["check"][..], &urls.each_ref().map(String::as_str), &WORKERS.map(|(name, _)| name)].concat());
    for worker in &mut workers {
        assert!(worker.must_exit().success());
    }
}

#[track_caller]
fn must_drive(args: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = venv("python");
    command.arg(in_tests("rq/drive.py")).args(args);
    Process::start("drive.py", command, folder.path().join("log")).must_succeed(PATIENCE);
}

fn url(address: SocketAddr) -> String {
    format!("redis://{address}")
}
