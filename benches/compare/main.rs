//! `cargo bench --bench compare`: weft beside direct Redis, twemproxy and Envoy, on this machine, in one run.
//!
//! A figure taken on one machine says little about another, and a small shared machine drifts within minutes. So nothing here is
//! compared across runs: every target of a workload is measured in every round, one after the other (A, B, C, A, B, C …), ratios are
//! formed between neighbours of the same round, and the table shows the median over rounds with its lowest and highest value.
//!
//! What is the same for everybody:
//! - **The generator** ([`load`]): this program again, as a child process with one thread, so that its own CPU time is nobody else's. A
//!   fixed number of connections, each a closed loop: send one operation (or a pipeline of them), wait for all replies, send the next.
//!   Every reply is checked; one error reply fails the cell, and the cell shows the text.
//! - **The shards**: plain `redis-server` processes, no persistence. Single commands: all proxies stand before the *same* one server.
//!   Transactions: every proxy stands before two servers of its own, since each places keys its own way; where a key lives is learned by
//!   asking the servers, not by imitating anyone's hash.
//! - **The proxies**: logs off, no TLS, no pinning unless `--proxy-cpus` is given (then `taskset`, the same CPUs for each), two worker
//!   threads (`--workers`) for those that have threads; twemproxy has one by design. Each `target/*.rs` argues its configuration.
//!
//! How each figure is taken:
//! - *throughput*: operations finished in the window, by its length. The window starts after the warm-up. An operation is one command
//!   or one whole transaction; a pipeline of 16 is 16 operations.
//! - *p50, p99*: from sending an operation (its pipeline) to reading its last reply, from an HDR histogram of every operation.
//! - *CPU per operation*: on-CPU time of all threads of the process ([`procfs`]) over the same window, by the same operations; the
//!   shards' is the sum over the servers behind the target.
//! - *× direct*, *× one shard*, *× best peer*: ratio to that cell, round by round; the median of the ratios.
//!
//! Two more jobs live here: [`sweep`] shows how everybody fares as one thing grows, [`cost`] counts instructions instead of time.
//!
//! Whether a target supports a workload is asked, not assumed ([`probe`]). A complete run writes `latest.json` and a plot per group to
//! `benches/results/`; a run narrowed by `--only` writes only where `--out` says.

#![cfg_attr(
    test,
    allow(dead_code, unused_imports, reason = "cargo sets cfg(test) without libtest here: the tests vanish, their helpers stay")
)]

mod args;
mod client;
mod cost;
mod fleet;
mod keyspace;
mod load;
mod machine;
mod operation;
mod plot;
mod probe;
mod process;
mod procfs;
mod results;
mod run;
mod stats;
mod svg;
mod sweep;
mod table;
mod target;
mod workload;

use std::fs;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use crate::args::{Args, CompareArgs, Job};
use crate::results::Results;
use crate::workload::Group;

fn main() -> anyhow::Result<ExitCode> {
    match std::env::args().nth(1).as_deref() {
        Some(load::CHILD_ARGUMENT) => return load::child(),
        Some(cost::CHILD_ARGUMENT) => return cost::child(),
        _ => {}
    }
    let args = Args::parse();
    match &args.job {
        Some(Job::Sweep(args)) => sweep::run(args).map(|()| ExitCode::SUCCESS),
        Some(Job::Cost(args)) => cost::run(args),
        None => compare(&args.compare).map(|()| ExitCode::SUCCESS),
    }
}

fn compare(args: &CompareArgs) -> anyhow::Result<()> {
    let selection = args.selection()?;
    if args.list {
        print!("{}", args::listing());
        return Ok(());
    }
    let results = run::run(args, &selection)?;
    print!("{}", table::render(&results));
    if let Some(directory) = args.output_directory() {
        write(&results, &directory).with_context(|| format!("writing to {}", directory.display()))?;
        eprintln!("written to {}", directory.display());
    }
    Ok(())
}

fn write(results: &Results, directory: &std::path::Path) -> anyhow::Result<()> {
    fs::create_dir_all(directory)?;
    fs::write(directory.join("latest.json"), serde_json::to_string_pretty(&results.to_json())? + "\n")?;
    for group in Group::ALL {
        if let Some(svg) = plot::render(results, group) {
            fs::write(directory.join(format!("{}.svg", group.name())), svg)?;
        }
    }
    Ok(())
}
