//! `make sweep`: how everybody fares as one thing grows while everything else stays as it is.
//!
//! A point is one short window: what is looked for is the shape of a line, above all where it breaks off, and that is seen in
//! neighbours of the same line. At each value all targets of a row come one after the other, so that lines can be compared where
//! they are; for exact ratios there is the comparison. Everything else is as its header says.
//!
//! Connections of transactions write keys of their own, so that a transaction of many commands costs what it does and not what it waits
//! for others. Large values leave room for fewer keys ([`VALUES_BYTES_MAX`]).

mod plot;
mod table;

use std::fs;

use anyhow::Context;
use serde_json::{Value, json};

use crate::args::{Stage, SweepArgs};
use crate::fleet::{Behind, Fleet};
use crate::load::{self, Order, Outcome};
use crate::machine::Machine;
use crate::operation::{A, Draw, Operation, Step};
use crate::probe::probe;
use crate::target::Target;

pub(crate) use table::SWEEPS;

/// Bytes of all values together: what a server of the sweep may hold.
const VALUES_BYTES_MAX: usize = 128 << 20;
/// What is not varied. The clients are fewer than in the comparison: with 1,000 commands each they already keep all cores busy.
const CLIENTS: usize = 50;
const TRANSACTION_CLIENTS: usize = 20;
const PIPELINE: usize = 1;
const SHARDS: usize = 2;
const COMMANDS: usize = 2;

/// One thing that grows, and who is measured meanwhile.
#[derive(Debug)]
pub(crate) struct Sweep {
    /// The name on the command line and of the files.
    pub(crate) name: &'static str,
    axis: Axis,
    values: &'static [usize],
    rows: &'static [Row],
}

/// Lines that stand in one plot.
#[derive(Debug)]
struct Row {
    title: &'static str,
    lines: &'static [Line],
}

/// A target and what it is asked to do.
#[derive(Clone, Copy, Debug)]
struct Line {
    target: Target,
    kind: Kind,
    label: &'static str,
    dashed: bool,
}

/// What grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Axis {
    Clients,
    Pipeline,
    ValueBytes,
    Shards,
    Commands,
}

/// What an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Get,
    Set,
    /// MULTI of some SETs, all on one shard.
    OnOneShard,
    /// MULTI of some SETs, dealt to some shards.
    OnShards,
}

/// All that a measurement depends on.
#[derive(Clone, Debug, PartialEq)]
struct Point {
    stage: Stage,
    clients: usize,
    pipeline: usize,
    /// How many shards a transaction touches, and how many there are.
    shards: usize,
    shards_there: usize,
    /// SETs in a transaction.
    commands: usize,
}

/// A sweep and what came of it, by row, line and value.
struct Swept {
    sweep: &'static Sweep,
    machine: Machine,
    outcomes: Vec<Vec<Vec<Outcome>>>,
}

/// Makes the sweeps that are wanted, and writes each as soon as it is made.
pub(crate) fn run(args: &SweepArgs) -> anyhow::Result<()> {
    fs::create_dir_all(&args.out)?;
    for sweep in SWEEPS.iter().filter(|sweep| args.only.is_empty() || args.only.iter().any(|name| name == sweep.name)) {
        let swept = sweep.measure(args)?;
        let path = args.out.join(format!("sweep-{}", sweep.name));
        fs::write(path.with_extension("json"), serde_json::to_string_pretty(&swept.to_json(args))? + "\n")?;
        fs::write(path.with_extension("svg"), plot::render(&swept))?;
        eprintln!("written to {}.{{json,svg}}", path.display());
    }
    Ok(())
}

impl Sweep {
    fn measure(&'static self, args: &SweepArgs) -> anyhow::Result<Swept> {
        let mut targets: Vec<Target> = self.rows.iter().flat_map(|row| row.lines).map(|line| line.target).collect();
        targets.dedup();
        let machine = Machine::look(&targets);
        let mut outcomes: Vec<Vec<Vec<Outcome>>> = self.rows.iter().map(|row| vec![Vec::new(); row.lines.len()]).collect();
        let mut fleet: Option<(Stage, Fleet)> = None;
        for &value in self.values {
            let point = self.axis.point(&args.stage, value);
            let standing = fleet.take().filter(|(stage, _)| *stage == point.stage);
            let (_, fleet) = fleet.insert(match standing {
                Some(standing) => standing,
                None => (point.stage.clone(), Fleet::start(point.stage.clone())?),
            });
            for (row, outcomes) in self.rows.iter().zip(&mut outcomes) {
                for (line, outcomes) in row.lines.iter().zip(outcomes) {
                    let outcome = measure(args, fleet, &point, line).context(line.label)?;
                    self.report(row, line, value, &outcome);
                    outcomes.push(outcome);
                }
            }
        }
        Ok(Swept { sweep: self, machine, outcomes })
    }

    fn report(&self, row: &Row, line: &Line, value: usize, outcome: &Outcome) {
        let said = match outcome {
            Ok(sample) => format!(
                "{:.0}/s, p99 {:.0} µs, proxy {:.1} µs/op",
                sample.operations as f64 / sample.seconds,
                sample.p99_us,
                sample.proxy_cpu_us
            ),
            Err(why) => why.clone(),
        };
        eprintln!("{} {value}: {}, {}: {said}", self.axis.name(), row.title, line.label);
    }
}

/// One window of one line; the outer error is the bench's own.
fn measure(args: &SweepArgs, fleet: &mut Fleet, point: &Point, line: &Line) -> anyhow::Result<Outcome> {
    let operation = point.operation(line.kind);
    let deployment = match fleet.deployment(line.target, point.behind(line.kind), 1) {
        Ok(deployment) => deployment,
        Err(why) => return Ok(Err(why)),
    };
    if let Err(why) = probe(deployment, &operation, point.stage.value_bytes) {
        return Ok(Err(format!("{why:#}")));
    }
    load::run(&Order {
        addresses: deployment.addresses.clone(),
        operation,
        clients: point.clients,
        value_bytes: point.stage.value_bytes,
        warmup_seconds: args.warmup_seconds,
        seconds: args.seconds,
        placement: deployment.placement.clone(),
        proxy_processes: deployment.proxy_processes(),
        shard_processes: deployment.shard_processes(),
        seed: 1,
    })
}

impl Axis {
    /// What it is called in the JSON.
    fn name(self) -> &'static str {
        match self {
            Self::Clients => "clients",
            Self::Pipeline => "pipeline",
            Self::ValueBytes => "value_bytes",
            Self::Shards => "shards",
            Self::Commands => "commands",
        }
    }

    /// What it is called under a plot.
    fn heading(self) -> &'static str {
        match self {
            Self::Clients => "clients",
            Self::Pipeline => "requests in flight on each connection",
            Self::ValueBytes => "bytes of a value",
            Self::Shards => "shards touched by a transaction, of 16",
            Self::Commands => "commands of a transaction",
        }
    }

    /// What everything is when this is `value`.
    fn point(self, stage: &Stage, value: usize) -> Point {
        let mut point =
            Point { stage: stage.clone(), clients: CLIENTS, pipeline: PIPELINE, shards: SHARDS, shards_there: SHARDS, commands: COMMANDS };
        match self {
            Self::Clients => point.clients = value,
            Self::Pipeline => point.pipeline = value,
            Self::ValueBytes => {
                point.stage.value_bytes = value;
                point.stage.keys = stage.keys.min(u32::try_from(VALUES_BYTES_MAX / value).unwrap_or(u32::MAX));
            }
            Self::Shards => {
                (point.shards, point.commands) = (value, value);
                (point.shards_there, point.clients) = (16, TRANSACTION_CLIENTS);
            }
            Self::Commands => (point.commands, point.clients) = (value, TRANSACTION_CLIENTS),
        }
        point
    }
}

impl Point {
    fn operation(&self, kind: Kind) -> Operation {
        let transaction = || {
            let sets = (0..self.commands).map(Step::Set);
            [Step::Multi].into_iter().chain(sets).chain([Step::Exec]).collect()
        };
        let (hop, draw) = match kind {
            Kind::Get => (vec![Step::Get(A)], Draw::OneServer),
            Kind::Set => (vec![Step::Set(A)], Draw::OneServer),
            Kind::OnOneShard => (transaction(), Draw::Apart(1)),
            Kind::OnShards => (transaction(), Draw::Apart(self.shards)),
        };
        Operation { hops: vec![hop], pipeline: self.pipeline, draw }
    }

    fn behind(&self, kind: Kind) -> Behind {
        match kind {
            Kind::Get | Kind::Set => Behind::Common,
            Kind::OnOneShard | Kind::OnShards => Behind::OwnShards(self.shards_there),
        }
    }
}

impl Swept {
    /// The command that makes it again.
    fn command(&self) -> String {
        format!("make sweep ARGS='--only {}'", self.sweep.name)
    }

    fn to_json(&self, args: &SweepArgs) -> Value {
        let point = |value: &usize, outcome: &Outcome| match outcome {
            Ok(sample) => json!({self.sweep.axis.name(): value, "sample": sample}),
            Err(why) => json!({self.sweep.axis.name(): value, "unavailable": why}),
        };
        let line = |line: &Line, outcomes: &Vec<Outcome>| {
            let points: Vec<Value> = self.sweep.values.iter().zip(outcomes).map(|(value, outcome)| point(value, outcome)).collect();
            json!({"target": line.target.name(), "label": line.label, "points": points})
        };
        let row = |row: &Row, outcomes: &Vec<Vec<Outcome>>| {
            let lines: Vec<Value> = row.lines.iter().zip(outcomes).map(|(of, outcomes)| line(of, outcomes)).collect();
            json!({"title": row.title, "lines": lines})
        };
        let rows: Vec<Value> = self.sweep.rows.iter().zip(&self.outcomes).map(|(of, outcomes)| row(of, outcomes)).collect();
        json!({
            "command": self.command(),
            "machine": self.machine,
            "axis": self.sweep.axis.name(),
            "seconds": args.seconds,
            "workers": args.stage.workers,
            "rows": rows,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage() -> Stage {
        Stage { keys: 100_000, value_bytes: 64, workers: 2, proxy_cpus: None }
    }

    #[test]
    fn one_thing_grows_and_the_rest_stays() {
        let usual = Axis::Pipeline.point(&stage(), PIPELINE);
        assert_eq!(Axis::Clients.point(&stage(), 300), Point { clients: 300, ..usual.clone() });
        assert_eq!(Axis::Pipeline.point(&stage(), 64), Point { pipeline: 64, ..usual });
    }

    #[test]
    fn large_values_leave_room_for_fewer_keys() {
        assert_eq!(Axis::ValueBytes.point(&stage(), 8).stage.keys, 100_000);
        assert_eq!(Axis::ValueBytes.point(&stage(), 1 << 20).stage.keys, 128);
    }

    #[test]
    fn a_transaction_touches_the_shards_it_is_meant_to() {
        let point = Axis::Shards.point(&stage(), 8);
        let operation = point.operation(Kind::OnShards);
        assert_eq!((operation.draw, operation.written().count()), (Draw::Apart(8), 8));
        assert_eq!(point.operation(Kind::OnOneShard).draw, Draw::Apart(1));
        assert_eq!(point.behind(Kind::OnShards), Behind::OwnShards(16));
    }

    #[test]
    fn names_are_unique_and_values_ascend() {
        for (index, sweep) in SWEEPS.iter().enumerate() {
            assert!(SWEEPS[..index].iter().all(|other| other.name != sweep.name));
            assert!(sweep.values.is_sorted(), "{}", sweep.name);
        }
    }
}
