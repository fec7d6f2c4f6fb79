//! `make cost`: how many instructions weft spends on an operation, held against what is recorded.
//!
//! Time cannot be trusted on a machine that others use; instructions can: the same program does the same work for the same bytes, however
//! slowly. They are counted by valgrind's callgrind, which runs a program on a processor of its own making; the kernel's are not among
//! them. A part of weft is counted by itself ([`alone`]), a whole command in a weft with one worker before two servers ([`served`]), whose
//! replies reach it in an order that no load of the machine changes ([`relay`]). Each subject runs twice, once with so many operations and once
//! with twice as many: what the second run spent more is those operations' and nothing else's, since start, set-up and end are the same.
//!
//! Recorded is what *one* compiler made of the program. Another one makes something else of it, by some percent: then the output says so,
//! and holds it against the record all the same.

mod alone;
mod callgrind;
mod record;
mod relay;
mod served;

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use tempfile::TempDir;

use crate::args::{CostArgs, results_directory};
use crate::cost::callgrind::Callgrind;
use crate::cost::record::{Record, Tools};

/// The argument that makes this program do the work of one subject by itself.
pub(crate) const CHILD_ARGUMENT: &str = "work-alone";

/// Something whose instructions are counted.
#[derive(Debug)]
pub(crate) struct Subject {
    /// The name on the command line and in the JSON.
    pub(crate) name: &'static str,
    /// What a reader of the table sees.
    title: &'static str,
    work: Work,
    /// So many, and then twice as many.
    operations: u64,
}

#[derive(Clone, Copy, Debug)]
enum Work {
    /// A part of weft by itself; does so many operations.
    Alone(fn(u64) -> anyhow::Result<()>),
    /// A row of [`crate::workload::WORKLOADS`], by one client of a whole weft.
    Served(&'static str),
}

/// The table of subjects, in the order in which they are counted and shown.
pub(crate) const SUBJECTS: [Subject; 10] = [
    alone("decode", "decoding a request, of 16 SETs that came together", alone::decode),
    alone("scan", "finding a reply's end, of 16 values that came together", alone::scan),
    alone("route", "routing a SET: its row, its key, its slot, its shard", alone::route),
    served("get-p1", "GET, one at a time", 2_000),
    served("set-p1", "SET, one at a time", 2_000),
    served("get-p16", "GET, pipelines of 16", 8_000),
    served("set-p16", "SET, pipelines of 16", 8_000),
    served("multi-1", "MULTI of two SETs on one shard", 1_000),
    served("multi-2", "MULTI of two SETs on two shards", 1_000),
    served("watch-2", "WATCH, read, write on two shards", 500),
];

/// Counts what is wanted; then records it, or holds it against the record.
pub(crate) fn run(args: &CostArgs) -> anyhow::Result<ExitCode> {
    let profiles = args.profiles.as_deref();
    profiles.map_or(Ok(()), std::fs::create_dir_all)?;
    let counter = Counter::new(profiles)?;
    let mut costs = Vec::new();
    for subject in SUBJECTS.iter().filter(|subject| args.only.is_empty() || args.only.iter().any(|name| name == subject.name)) {
        let cost = counter.count(subject).with_context(|| format!("counting {}", subject.name))?;
        eprintln!("{:<10}{cost:>10} instructions", subject.name);
        costs.push((subject, cost));
    }
    let counted = Record::new(Tools::look(&counter.callgrind), &costs);
    let path = results_directory().join("cost.json");
    if args.record {
        print!("\n{}", counted.table(None));
        counted.write(&path)?;
        return Ok(ExitCode::SUCCESS);
    }
    let recorded = Record::read(&path)?;
    print!("\n{}", counted.table(Some(&recorded)));
    let verdict = counted.against(&recorded);
    print!("{}", verdict.text);
    Ok(if verdict.holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The main of this program where it does one subject's work alone.
pub(crate) fn child() -> anyhow::Result<ExitCode> {
    alone::child()
}

/// More than this part of what was counted is not taken for what idleness does: on a machine so busy that a run takes minutes, weft is kept
/// from being idle, too.
const IDLE_SHARE_MAX: f64 = 0.05;

/// What counting takes.
struct Counter {
    callgrind: Callgrind,
    /// Where callgrind's files go.
    directory: PathBuf,
    /// Holds that directory if it is not to be kept.
    _temporary: TempDir,
    /// Instructions of a second in which nothing is asked.
    idle: OnceCell<f64>,
}

impl Counter {
    fn new(profiles: Option<&Path>) -> anyhow::Result<Self> {
        let temporary = tempfile::Builder::new().prefix("weft-cost").tempdir()?;
        let directory = profiles.unwrap_or(temporary.path()).to_owned();
        Ok(Self { callgrind: Callgrind::find()?, directory, _temporary: temporary, idle: OnceCell::new() })
    }

    /// Instructions of one operation.
    fn count(&self, subject: &Subject) -> anyhow::Result<u64> {
        let path = |operations: u64| self.directory.join(format!("{}-{operations}.callgrind", subject.name));
        let (few, many) = (subject.operations, subject.operations * 2);
        let spent = match subject.work {
            Work::Alone(_) => {
                let total = |operations| alone::total(subject.name, operations, &self.callgrind, &path(operations));
                let (few, many) = (total(few)?, total(many)?);
                many.saturating_sub(few) as f64
            }
            Work::Served(workload) => {
                let run = |operations| served::total(workload, operations, &self.callgrind, &path(operations));
                let (few, many) = (run(few)?, run(many)?);
                // The longer run may have been the faster one.
                let longer = (many.time.as_secs_f64() - few.time.as_secs_f64()).max(0.0);
                let spent = many.instructions.saturating_sub(few.instructions) as f64;
                spent - (self.idle()? * longer).min(spent * IDLE_SHARE_MAX)
            }
        };
        Ok((spent / (many - few) as f64).round() as u64)
    }

    fn idle(&self) -> anyhow::Result<f64> {
        if let Some(idle) = self.idle.get() {
            return Ok(*idle);
        }
        let idle = served::idle(&self.callgrind, &self.directory.join("idle.callgrind"))?;
        Ok(*self.idle.get_or_init(|| idle))
    }
}

const fn alone(name: &'static str, title: &'static str, work: fn(u64) -> anyhow::Result<()>) -> Subject {
    Subject { name, title, work: Work::Alone(work), operations: 16_000 }
}

const fn served(name: &'static str, title: &'static str, operations: u64) -> Subject {
    Subject { name, title, work: Work::Served(name), operations }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Workload;

    #[test]
    fn what_is_served_is_a_workload_and_fills_whole_pipelines() {
        for subject in &SUBJECTS {
            if let Work::Served(name) = subject.work {
                let pipeline = Workload::named(name).map(|workload| workload.pipeline as u64);
                assert!(pipeline.is_some_and(|pipeline| subject.operations.is_multiple_of(pipeline)), "{name}");
            }
        }
    }
}
