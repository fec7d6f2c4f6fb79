//! dramatiq, unchanged, with Redis as its broker, through two proxies before shards that know nothing of each other.
//!
//! All it does is one script, which declares one key, the name of its namespace, and builds all others from that, even a pattern for KEYS. The
//! preset `dramatiq` keeps them on one shard.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::{Flavor, Process, Shards, Weft, in_tests, venv};

/// Workers are Python processes that start slowly, on a machine that runs many tests at once.
const PATIENCE: Duration = Duration::from_secs(180);

#[test]
fn every_job_runs_with_the_preset() {
    let shards = Shards::fixed(Flavor::Redis, 3);
    let proxies = [0, 1].map(|_| Weft::setup(&shards).set("affinity", "[dramatiq]").start());
    let folder = tempfile::tempdir().unwrap();
    let start = |act: &str, name: &str, weft: &Weft| {
        Process::start(name, drive(act, folder.path(), weft), folder.path().join(format!("{name}.log")))
    };
    start("send", "send", &proxies[0]).must_succeed(PATIENCE);
    let mut workers = [0, 1].map(|number: usize| start("work", &format!("worker-{number}"), &proxies[number]));
    start("check", "check", &proxies[1]).must_succeed(PATIENCE);
    for worker in &mut workers {
        worker.signal(Signal::TERM);
        worker.must_succeed(PATIENCE);
    }
    let home = shards.shard_of("dramatiq");
    for (shard, server) in shards.servers().iter().enumerate().filter(|(shard, _)| *shard != home) {
        server.client().must_int("DBSIZE", 0);
        assert_ne!(shard, home);
    }
}

fn drive(act: &str, folder: &Path, weft: &Weft) -> Command {
    let mut command = venv("python");
    command.arg(in_tests("dramatiq/drive.py")).arg(act).env("FOLDER", folder).env("URL", format!("redis://{}", weft.address()));
    command
}
