//! Celery, unchanged, with Redis as its broker and for its results, through two proxies before shards that know nothing of each other.
//!
//! A worker waits by one BRPOP for all its queues, each with a list for every step of priority, on whatever shards they are. Taking a
//! message, acknowledging it and storing a result are transactions over shards; results, and what workers are told, come by
//! publish and subscribe.
//!
//! What Celery promises of a job whose connection dies: one that runs goes on and was acknowledged when it began, so it runs once. One
//! that was popped and never came to the worker is lost, with any server. Therefore a proxy is killed when no worker waits for a job: all
//! are busy, and take no more than they can run.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::{Flavor, Process, Shards, Weft, in_tests, venv};

/// Workers are Python processes that start slowly, on a machine that runs many tests at once.
const PATIENCE: Duration = Duration::from_secs(180);

#[test]
fn every_job_runs_once_by_its_priority_while_a_proxy_dies_and_comes_back() {
    let shards = Shards::fixed(Flavor::Redis, 3);
    let [mut mortal, other] = [Weft::start(&shards), Weft::start(&shards)];
    let folder = tempfile::tempdir().unwrap();
    let act = |name: &str, weft: &Weft| {
        let mut command = within(folder.path(), weft, "python");
        command.arg(in_tests("celery/drive.py")).arg(name);
        Process::start(name, command, folder.path().join(format!("{name}.log"))).must_succeed(PATIENCE);
    };
    let worker = |name: &str, queues: &str, slots: &str, weft: &Weft| {
        let mut command = within(folder.path(), weft, "celery");
        command.args(["-A", "jobs", "worker", "--loglevel", "INFO", "-n", name, "-Q", queues, "-c", slots]);
        Process::start(&format!("the worker {name}"), command, folder.path().join(format!("{name}.log")))
    };

    act("ordered", &mortal);
    let mut first = worker("first", "ordered", "1", &other);
    act("order", &mortal);
    first.signal(Signal::TERM);
    first.must_succeed(PATIENCE);

    let mut workers = [worker("one", "high,default,low", "2", &mortal), worker("two", "high,default,low", "2", &other)];
    act("work", &mortal);
    act("hold", &mortal);
    mortal.process().kill();
    act("release", &other);
    mortal.start_again();
    act("end", &mortal);
    workers.iter_mut().for_each(|worker| worker.must_succeed(PATIENCE));
}

/// A program of Celery's whose jobs note in `folder` that they run, and which knows of `weft` alone.
fn within(folder: &Path, weft: &Weft, program: &str) -> Command {
    let mut command = venv(program);
    command.current_dir(in_tests("celery")).env("FOLDER", folder).env("URL", format!("redis://{}", weft.address()));
    command
}
