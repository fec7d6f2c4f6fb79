//! BullMQ, unchanged, through two proxies of which now one, now the other is killed, before shards that know nothing of each other.
//!
//! It is the queue that Node's applications use most, and made of Lua: each step of a job's life is a script that moves it between lists,
//! sorted sets and a stream, most of whose keys it builds by itself. The documented way to run it on several shards is a hash tag as the
//! prefix of a queue; weft's is the preset `bullmq`, and BullMQ as it is. Either way three queues live on three shards, with priorities,
//! delays, retries, and jobs that wait for others.
//!
//! What BullMQ promises: each job is done, at least once; it runs again only if nobody had heard of its worker for so long that it
//! was counted as stalled. So a job may have run as often as it was to be tried, and once more for each time it stalled; never less.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::{Flavor, Process, Shards, Weft, eventually, in_tests};

/// Workers start slowly on a machine that runs many tests at once.
const PATIENCE: Duration = Duration::from_secs(180);

#[test]
fn no_job_is_lost_while_proxies_die_and_come_back() {
    must_work("yes", ["{reports}", "{images}", "{invoices}"], "[]");
}

#[test]
fn no_job_is_lost_without_hash_tags_by_the_preset() {
    must_work("no", ["bull:reports", "bull:images", "bull:invoices"], "[bullmq]");
}

fn must_work(tagged: &str, groups: [&str; 3], affinity: &str) {
    let shards = Shards::fixed(Flavor::Redis, 3);
    let homes = groups.map(|group| shards.shard_of(group));
    assert!((0..3).all(|shard| homes.contains(&shard)), "{homes:?}");
    let mut proxies = [0, 1].map(|_| Weft::setup(&shards).set("affinity", affinity).start());
    let folder = tempfile::tempdir().unwrap();
    let program = |name: &str| {
        let mut command = program(name);
        command.env("TAGGED", tagged);
        command
    };
    let drive = |act: &str, weft: &Weft| {
        let mut command = program("bullmq_drive.js");
        command.arg(act).arg(weft.address().port().to_string()).arg(folder.path());
        Process::start(act, command, folder.path().join(format!("{act}.log"))).must_succeed(PATIENCE);
    };

    drive("send", &proxies[0]);
    let mut workers = [0, 1].map(|number: usize| {
        let mut command = program("bullmq_worker.js");
        command.arg(proxies[number].address().port().to_string()).arg(folder.path());
        Process::start(&format!("worker {number}"), command, folder.path().join(format!("worker-{number}.log")))
    });
    for (number, runs) in [(0, 40), (1, 120)] {
        eventually(PATIENCE, &format!("{runs} jobs have begun"), || runs_in(folder.path()) >= runs);
        proxies[number].process().kill();
        proxies[number].start_again();
    }
    drive("check", &proxies[1]);
    for worker in &mut workers {
        worker.signal(Signal::TERM);
        worker.must_succeed(PATIENCE);
    }
}

/// How many jobs have begun.
fn runs_in(folder: &Path) -> usize {
    std::fs::read_to_string(folder.join("runs")).unwrap_or_default().lines().count()
}

/// A program beside Node's packages.
fn program(name: &str) -> Command {
    let mut command = Command::new("node");
    command.arg(in_tests("clients/node").join(name));
    command
}
