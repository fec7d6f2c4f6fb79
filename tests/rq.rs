//! RQ, unchanged: its workers, as the processes that people start, through two proxies before shards that know nothing of each other and
//! before a cluster.
//!
//! RQ keeps a job, its queue, its registries and its dependents under different keys and changes them in MULTI with WATCH, moves jobs
//! from queue to queue (BLMOVE), waits on several queues (BLPOP), reads results from streams (XREAD BLOCK), calls scripts, and steers its
//! workers by publish and subscribe.
//!
//! What RQ promises of a worker whose connection dies: one that waits for a job goes on waiting, and one whose job runs tells of its end
//! by way of a new connection. Such jobs run once. In between, where a job is popped and has not begun, or has ended and is being told of,
//! it may be lost, run again, or wait for a maintenance that believes another to be at it, with any server. Therefore the proxies are killed
//! once when every worker waits, and once when every worker's job runs.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::support::{Flavor, Mode, Process, Shards, Weft, in_tests, venv};

/// Workers are Python processes that fork for each job, on a machine that runs many tests at once.
const PATIENCE: Duration = Duration::from_secs(180);

/// The queues of each worker: one queue is waited for by BLMOVE, several by BLPOP.
const WORKERS: [(&str, &[&str]); 4] =
    [("first", &["high"]), ("second", &["high", "default", "low"]), ("third", &["low", "default"]), ("fourth", &["default"])];

/// When two workers change the registry of ready jobs at once, RQ leaves the loser's job to its maintenance, on any server. These look
/// every second: the lifetime of one less 15 seconds is how long it waits for a job.
const EAGER: [&str; 4] = ["--maintenance-interval", "1", "--worker-ttl", "16"];

/// These wait for minutes. A worker does not survive that there is no server when it says that its job still runs; so none says so.
const CALM: [&str; 2] = ["--job-monitoring-interval", "600"];

#[test]
fn every_job_runs_once_with_its_dependencies_on_static_shards() {
    must_work_all_jobs(Mode::Static);
}

#[test]
fn every_job_runs_once_with_its_dependencies_on_a_cluster() {
    must_work_all_jobs(Mode::Cluster);
}

fn must_work_all_jobs(mode: Mode) {
    let office = Office::open(mode);
    office.act("enqueue");
    let workers = office.workers(&EAGER);
    office.act("check");
    workers.into_iter().for_each(must_go_home);
}

#[test]
fn no_job_is_lost_or_runs_twice_while_proxies_die_and_come_back() {
    let mut office = Office::open(Mode::Static);
    let workers = office.workers(&CALM);
    office.act("idle");
    office.proxies_die_and_come_back();
    office.act("idle");
    office.act("hold");
    office.proxies_die_and_come_back();
    office.act("release");
    workers.into_iter().for_each(must_go_home);
}

/// Where RQ works: what its jobs note is in the folder.
struct Office {
    proxies: [Weft; 2],
    folder: tempfile::TempDir,
    _shards: Shards,
}

impl Office {
    fn open(mode: Mode) -> Self {
        let shards = Shards::start(mode, Flavor::Redis, 3);
        Self { proxies: [Weft::start(&shards), Weft::start(&shards)], folder: tempfile::tempdir().unwrap(), _shards: shards }
    }

    /// One of the acts of `drive.py`.
    #[track_caller]
    fn act(&self, name: &str) {
        let mut command = self.program("python");
        command.arg(in_tests("rq/drive.py")).arg(name).args([self.url(0), self.url(1)]).args(WORKERS.map(|(worker, _)| worker));
        Process::start(name, command, self.log(name)).must_succeed(PATIENCE);
    }

    fn workers(&self, options: &[&str]) -> [Process; 4] {
        [0, 1, 2, 3].map(|number| {
            let ((name, queues), mut command) = (WORKERS[number], self.program("rq"));
            command
                .args(["worker", "--name", name, "--url", &self.url(number % 2), "--path"])
                .arg(in_tests("rq"))
                .args(options)
                .args(queues);
            Process::start(&format!("the worker {name}"), command, self.log(name))
        })
    }

    fn proxies_die_and_come_back(&mut self) {
        for proxy in &mut self.proxies {
            proxy.process().kill();
            proxy.start_again();
        }
    }

    fn program(&self, name: &str) -> Command {
        let mut command = venv(name);
        command.env("FOLDER", self.folder.path());
        command
    }

    fn url(&self, proxy: usize) -> String {
        format!("redis://{}", self.proxies[proxy].address())
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.log"))
    }
}

fn must_go_home(mut worker: Process) {
    assert!(worker.must_exit().success());
}
