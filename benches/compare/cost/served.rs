//! Commands of one client, who waits for each reply, through a weft with one worker under callgrind, before two real servers.
//!
//! A transaction over several shards is paid for only when its records are deleted again, some seconds after its reply. So the end of
//! a run is when the servers hold the users' keys alone. What weft does as time passes, whether there is work or not, is counted as well,
//! and taken off again ([`idle`]): a slow machine gives it more time.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::client::Client;
use crate::cost::callgrind::{Callgrind, instructions};
use crate::cost::relay::{self, Process, Turn, wait_until_asleep};
use crate::keyspace::{self, Placement};
use crate::load::random::Random;
use crate::load::script::Script;
use crate::operation::Operation;
use crate::probe::must_succeed;
use crate::process::{Server, free_address};
use crate::target::{self, Site, Target};
use crate::workload::Workload;

const KEYS: u32 = 100;
const VALUE_BYTES: usize = 64;
/// How long weft's records may outlive the last reply.
const RECORDS_END: Duration = Duration::from_secs(60);
const RECORDS_POLL: Duration = Duration::from_millis(50);
/// For how long idleness is watched.
const IDLE: Duration = Duration::from_secs(6);

/// What a run spent, and how long it took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) instructions: u64,
    pub(super) time: Duration,
}

/// Counts `operations` of `workload`.
pub(super) fn total(workload: &str, operations: u64, callgrind: &Callgrind, path: &Path) -> anyhow::Result<Run> {
    let operation = Workload::named(workload).context("no such workload")?.operation();
    run(callgrind, path, |stage| {
        let placement = Placement::learn(&mut stage.direct, KEYS)?;
        stage.load(&operation, &placement, operations)?;
        wait_for_records_to_end(&mut stage.direct)
    })
}

/// What weft spends in a second in which nobody asks it for anything.
pub(super) fn idle(callgrind: &Callgrind, path: &Path) -> anyhow::Result<f64> {
    let none = run(callgrind, path, |_| Ok(()))?;
    let some = run(callgrind, path, |_| {
        thread::sleep(IDLE);
        Ok(())
    })?;
    Ok(some.instructions.saturating_sub(none.instructions) as f64 / some.time.saturating_sub(none.time).as_secs_f64())
}

/// A weft with a filled keyspace, and who talks to it and to the servers behind.
struct Stage {
    weft: Process,
    client: Client,
    direct: Vec<Client>,
}

fn run(callgrind: &Callgrind, path: &Path, work: impl FnOnce(&mut Stage) -> anyhow::Result<()>) -> anyhow::Result<Run> {
    let directory = tempfile::Builder::new().prefix("weft-cost").tempdir()?;
    let directory = directory.path();
    let shards = ["shard-0", "shard-1"].map(|name| {
        let address = free_address()?;
        Server::start(name, target::shard(address, directory)?, address, directory)
    });
    let shards = shards.into_iter().collect::<anyhow::Result<Vec<Server>>>()?;
    let (process, turn) = (Process::default(), Turn::default());
    let relays = shards.iter().map(|shard| relay::start(&process, shard.address(), shard.id(), &turn));
    let relays = relays.collect::<anyhow::Result<Vec<SocketAddr>>>()?;

    let site = Site { listen: free_address()?, shards: &relays, workers: 1, directory };
    let weft = Target::WeftStrict.proxy(&site)?.context("weft is a proxy")?;
    let started = Instant::now();
    let weft = Server::start("weft", callgrind.command(&weft, path), site.listen, directory)?;
    process.store(weft.id(), Ordering::Relaxed);
    let direct = shards.iter().map(|shard| Client::connect(shard.address())).collect::<anyhow::Result<_>>()?;
    let mut stage = Stage { weft: Arc::clone(&process), client: Client::connect(weft.address())?, direct };
    stage.fill()?;
    work(&mut stage)?;
    drop(stage);
    weft.finish()?;
    Ok(Run { instructions: instructions(path)?, time: started.elapsed() })
}

impl Stage {
    /// Sets every key, one after the other: a set-up that took another course each time would be counted as work.
    fn fill(&mut self) -> anyhow::Result<()> {
        let value = "x".repeat(VALUE_BYTES);
        (0..KEYS).try_for_each(|id| {
            wait_until_asleep(&self.weft);
            self.client.call(&["SET", &String::from_utf8_lossy(&keyspace::key(id)), &value]).map(drop)
        })
    }

    fn load(&mut self, operation: &Operation, placement: &Placement, operations: u64) -> anyhow::Result<()> {
        let mut script = Script::new(operation, VALUE_BYTES, b'x');
        let (mut ids, mut random) = (vec![0; script.key_count()], Random::new(1));
        for _ in 0..operations / operation.pipeline as u64 {
            placement.draw(operation.draw, (0, 1), &mut random, &mut ids);
            script.aim(&ids);
            for hop in &script.hops {
                wait_until_asleep(&self.weft);
                self.client.send(&hop.bytes)?;
                hop.expected.iter().try_for_each(|_| must_succeed(&self.client.receive()?))?;
            }
        }
        Ok(())
    }
}

fn wait_for_records_to_end(shards: &mut [Client]) -> anyhow::Result<()> {
    let deadline = Instant::now() + RECORDS_END;
    loop {
        let mut records = 0;
        for shard in &mut *shards {
            records += shard.call_as::<Vec<String>>(&["KEYS", "__weft:t:*"])?.len();
        }
        if records == 0 {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("{records} records of transactions are still there");
        }
        thread::sleep(RECORDS_POLL);
    }
}
