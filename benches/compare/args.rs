//! The command line: what to measure, how long, how often, and which part of it.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::{Parser, Subcommand};
use serde::Serialize;

use crate::cost::SUBJECTS;
use crate::sweep::SWEEPS;
use crate::target::Target;
use crate::workload::{WORKLOADS, Workload};

/// Compares weft with direct Redis, twemproxy and Envoy.
#[derive(Parser, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) job: Option<Job>,
    #[command(flatten)]
    pub(crate) compare: CompareArgs,
    /// Given by `cargo bench`.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

/// What is measured instead of the comparison.
#[derive(Subcommand, Debug)]
pub(crate) enum Job {
    /// How everybody fares as one thing grows: clients, pipelines, values, shards, transactions.
    Sweep(SweepArgs),
    /// Instructions of weft for each operation, held against those recorded.
    Cost(CostArgs),
}

/// The comparison's own.
#[derive(clap::Args, Debug)]
pub(crate) struct CompareArgs {
    #[command(flatten)]
    pub(crate) window: Window,
    /// Connections of the load generator.
    #[arg(long, default_value_t = 50)]
    pub(crate) clients: usize,
    #[command(flatten)]
    pub(crate) stage: Stage,
    /// Workloads and targets to keep; see --list.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Where the JSON and the plots go [default: benches/results, for a complete run only].
    #[arg(long)]
    out: Option<PathBuf>,
    /// Print the names of workloads and targets.
    #[arg(long)]
    pub(crate) list: bool,
}

/// When is measured, and how often.
#[derive(clap::Args, Clone, Debug, Serialize)]
pub(crate) struct Window {
    /// Length of each measured window.
    #[arg(long, default_value_t = 3.0)]
    pub(crate) seconds: f64,
    /// Length of the warm-up before each window.
    #[arg(long, default_value_t = 0.5)]
    pub(crate) warmup_seconds: f64,
    /// How often each cell is measured.
    #[arg(long, default_value_t = 3)]
    pub(crate) rounds: usize,
}

/// What is there before any load comes.
#[derive(clap::Args, Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Stage {
    /// Keys in the keyspace, all of them present.
    #[arg(long, default_value_t = 100_000)]
    pub(crate) keys: u32,
    /// Length of every value.
    #[arg(long, default_value_t = 64)]
    pub(crate) value_bytes: usize,
    /// Worker threads of each proxy that has threads.
    #[arg(long, default_value_t = 2)]
    pub(crate) workers: usize,
    /// Bind every proxy to these CPUs (a list as taskset takes it).
    #[arg(long)]
    pub(crate) proxy_cpus: Option<String>,
}

/// The sweeps' own.
#[derive(clap::Args, Debug)]
pub(crate) struct SweepArgs {
    /// Length of the window of each point.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) seconds: f64,
    /// Length of the warm-up before each window.
    #[arg(long, default_value_t = 0.2)]
    pub(crate) warmup_seconds: f64,
    #[command(flatten)]
    pub(crate) stage: Stage,
    /// Sweeps to make [default: all].
    #[arg(long, value_delimiter = ',', value_parser = SWEEPS.map(|sweep| sweep.name))]
    pub(crate) only: Vec<String>,
    /// Where the JSON and the plots go.
    #[arg(long, default_value_os_t = results_directory())]
    pub(crate) out: PathBuf,
}

/// The counts' own.
#[derive(clap::Args, Debug)]
pub(crate) struct CostArgs {
    /// Write what was counted instead of holding it against what is written.
    #[arg(long)]
    pub(crate) record: bool,
    /// Subjects to count [default: all].
    #[arg(long, value_delimiter = ',', conflicts_with = "record", value_parser = SUBJECTS.map(|subject| subject.name))]
    pub(crate) only: Vec<String>,
    /// Keep callgrind's files there, for callgrind_annotate.
    #[arg(long)]
    pub(crate) profiles: Option<PathBuf>,
}

/// The part of the table that is wanted.
#[derive(Debug)]
pub(crate) struct Selection {
    pub(crate) workloads: Vec<&'static Workload>,
    pub(crate) targets: Vec<Target>,
}

impl CompareArgs {
    /// What `--only` leaves: naming no workload means all of them, naming no target likewise.
    pub(crate) fn selection(&self) -> anyhow::Result<Selection> {
        let known = |name: &String| Target::ALL.iter().any(|t| t.name() == name) || WORKLOADS.iter().any(|w| w.name == name);
        if let Some(name) = self.only.iter().find(|name| !known(name)) {
            bail!("there is no workload or target named {name:?}; known are\n{}", listing());
        }
        Ok(Selection {
            workloads: narrow(WORKLOADS.iter(), |workload| self.wants(workload.name)),
            targets: narrow(Target::ALL.into_iter(), |target| self.wants(target.name())),
        })
    }

    /// Where results are written, if they are.
    pub(crate) fn output_directory(&self) -> Option<PathBuf> {
        self.out.clone().or_else(|| self.only.is_empty().then(results_directory))
    }

    fn wants(&self, name: &str) -> bool {
        self.only.iter().any(|wanted| wanted == name)
    }
}

/// Where everything that is measured is kept.
pub(crate) fn results_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results")
}

/// The names that `--only` understands.
pub(crate) fn listing() -> String {
    let workloads = WORKLOADS.iter().map(|workload| format!("  {:<14}{}\n", workload.name, workload.title));
    let targets = Target::ALL.iter().map(|target| format!("  {}\n", target.name()));
    format!("workloads\n{}targets\n{}", workloads.collect::<String>(), targets.collect::<String>())
}

fn narrow<T>(all: impl Iterator<Item = T> + Clone, wanted: impl Fn(&T) -> bool) -> Vec<T> {
    let some: Vec<T> = all.clone().filter(wanted).collect();
    if some.is_empty() { all.collect() } else { some }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(only: &str) -> anyhow::Result<Selection> {
        let mut arguments = vec!["compare", "--bench"];
        arguments.extend((!only.is_empty()).then_some(["--only", only]).into_iter().flatten());
        Args::try_parse_from(arguments)?.compare.selection()
    }

    #[test]
    fn everything_is_measured_unless_narrowed() -> anyhow::Result<()> {
        let all = selection("")?;
        assert_eq!((all.workloads.len(), all.targets.len()), (WORKLOADS.len(), Target::ALL.len()));
        Ok(())
    }

    #[test]
    fn naming_a_workload_leaves_all_targets() -> anyhow::Result<()> {
        let some = selection("get-p1,multi-2")?;
        assert_eq!(some.workloads.iter().map(|w| w.name).collect::<Vec<_>>(), ["get-p1", "multi-2"]);
        assert_eq!(some.targets.len(), Target::ALL.len());
        Ok(())
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_known_ones() {
        let message = selection("get-p3").map(|_| String::new()).unwrap_or_else(|error| error.to_string());
        assert!(message.contains("get-p3") && message.contains("get-p16"), "{message}");
    }

    #[test]
    fn other_jobs_have_arguments_of_their_own_and_cargo_adds_its() -> anyhow::Result<()> {
        let args = Args::try_parse_from(["compare", "sweep", "--only", "clients,shards", "--bench"])?;
        assert!(matches!(args.job, Some(Job::Sweep(sweep)) if sweep.only == ["clients", "shards"]));
        let args = Args::try_parse_from(["compare", "cost", "--record", "--bench"])?;
        assert!(matches!(args.job, Some(Job::Cost(cost)) if cost.record));
        assert!(Args::try_parse_from(["compare", "sweep", "--only", "moons"]).is_err());
        Ok(())
    }
}
