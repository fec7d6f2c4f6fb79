//! What a run found, and the ratios that follow from it.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::args::{CompareArgs, Stage, Window};
use crate::load::{Outcome, Sample};
use crate::machine::Machine;
use crate::stats::Spread;
use crate::target::{Role, Target};
use crate::workload::{Baseline, Workload};

/// A whole run.
pub(crate) struct Results {
    pub(crate) machine: Machine,
    pub(crate) settings: Settings,
    pub(crate) cells: Vec<Cell>,
}

/// One target under one workload.
pub(crate) struct Cell {
    pub(crate) workload: &'static Workload,
    pub(crate) target: Target,
    /// One a round.
    pub(crate) samples: Vec<Sample>,
    /// Why there are no figures.
    pub(crate) unavailable: Option<String>,
}

/// The settings that the figures depend on.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Settings {
    pub(crate) clients: usize,
    #[serde(flatten)]
    pub(crate) stage: Stage,
    #[serde(flatten)]
    pub(crate) window: Window,
}

/// A number that a sample yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Figure {
    Throughput,
    P50,
    P99,
    ProxyCpu,
    ShardCpu,
    GeneratorCpu,
    Retries,
    Max,
    LeastClient,
}

impl Figure {
    pub(crate) const ALL: [Self; 9] = [
        Self::Throughput,
        Self::P50,
        Self::P99,
        Self::ProxyCpu,
        Self::ShardCpu,
        Self::GeneratorCpu,
        Self::Retries,
        Self::Max,
        Self::LeastClient,
    ];

    /// The name in the JSON, unit last.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Throughput => "operations_per_s",
            Self::P50 => "p50_us",
            Self::P99 => "p99_us",
            Self::ProxyCpu => "proxy_cpu_us_per_operation",
            Self::ShardCpu => "shard_cpu_us_per_operation",
            Self::GeneratorCpu => "generator_cpu_us_per_operation",
            Self::Retries => "retries_per_operation",
            Self::Max => "max_us",
            Self::LeastClient => "least_client_share",
        }
    }

    fn of(self, sample: &Sample) -> f64 {
        match self {
            Self::Throughput => sample.operations as f64 / sample.seconds,
            Self::P50 => sample.p50_us,
            Self::P99 => sample.p99_us,
            Self::ProxyCpu => sample.proxy_cpu_us,
            Self::ShardCpu => sample.shard_cpu_us,
            Self::GeneratorCpu => sample.generator_cpu_us,
            Self::Retries => sample.retries as f64 / sample.operations as f64,
            Self::Max => sample.max_us,
            Self::LeastClient => sample.least_client_share,
        }
    }

    /// Orders medians so that the best comes first.
    fn badness(self, median: f64) -> f64 {
        if matches!(self, Self::Throughput | Self::LeastClient) { -median } else { median }
    }
}

impl Cell {
    pub(crate) fn new(workload: &'static Workload, target: Target) -> Self {
        Self { workload, target, samples: Vec::new(), unavailable: None }
    }

    /// Takes a round's outcome. A cell that failed once has no figures: half of its rounds would not be comparable.
    pub(crate) fn add(&mut self, outcome: Outcome) {
        match outcome {
            Ok(sample) => self.samples.push(sample),
            Err(why) => {
                self.samples.clear();
                self.unavailable = Some(why);
            }
        }
    }

    /// `figure` over the rounds.
    pub(crate) fn spread(&self, figure: Figure) -> Option<Spread> {
        Spread::of(self.rounds(figure))
    }

    fn rounds(&self, figure: Figure) -> Vec<f64> {
        self.samples.iter().map(|sample| figure.of(sample)).collect()
    }

    fn ratio(&self, other: &Self, figure: Figure) -> Option<Spread> {
        Spread::of_ratios(&self.rounds(figure), &other.rounds(figure))
    }
}

impl Results {
    /// `figure` of `cell` by that of the cell it is held against; `None` for that cell itself.
    pub(crate) fn versus_baseline(&self, cell: &Cell, figure: Figure) -> Option<Spread> {
        let is_baseline = |other: &&Cell| match cell.workload.baseline {
            Baseline::Direct => other.workload == cell.workload && other.target.role() == Role::Direct,
            Baseline::OwnWorkload(name) | Baseline::Apart(name) => other.workload.name == name && other.target == cell.target,
        };
        let baseline = self.cells.iter().find(is_baseline).filter(|other| !std::ptr::eq(*other, cell))?;
        cell.ratio(baseline, figure)
    }

    /// `figure` of one of our cells by the best that another proxy reached under the same workload.
    pub(crate) fn versus_best_peer(&self, cell: &Cell, figure: Figure) -> Option<Spread> {
        if cell.target.role() != Role::Ours {
            return None;
        }
        let peers = self.cells.iter().filter(|other| other.workload == cell.workload && other.target.role() == Role::Peer);
        let medians = peers.filter_map(|peer| Some((peer, figure.badness(peer.spread(figure)?.median))));
        let (best, _) = medians.min_by(|(_, one), (_, other)| one.total_cmp(other))?;
        cell.ratio(best, figure)
    }

    /// Everything, for other programs.
    pub(crate) fn to_json(&self) -> Value {
        let cells: Vec<Value> = self.cells.iter().map(|cell| self.cell_to_json(cell)).collect();
        json!({"machine": self.machine, "settings": self.settings, "cells": cells})
    }

    fn cell_to_json(&self, cell: &Cell) -> Value {
        let figures = |spread: &dyn Fn(Figure) -> Option<Spread>| -> Map<String, Value> {
            Figure::ALL.into_iter().filter_map(|figure| Some((figure.name().to_owned(), json!(spread(figure)?)))).collect()
        };
        json!({
            "workload": cell.workload.name,
            "group": cell.workload.group,
            "target": cell.target.name(),
            "unavailable": cell.unavailable,
            "figures": figures(&|figure| cell.spread(figure)),
            "baseline": cell.workload.baseline.label(),
            "versus_baseline": figures(&|figure| self.versus_baseline(cell, figure)),
            "versus_best_peer": figures(&|figure| self.versus_best_peer(cell, figure)),
            "samples": cell.samples,
        })
    }
}

impl From<&CompareArgs> for Settings {
    fn from(args: &CompareArgs) -> Self {
        Self { clients: args.clients, stage: args.stage.clone(), window: args.window.clone() }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::workload::WORKLOADS;

    /// Two rounds of GET: the second at half the speed for everybody, and Envoy missing.
    pub(crate) fn example() -> Results {
        let cells = [(Target::Direct, 800, 0.0), (Target::Twemproxy, 400, 10.0), (Target::WeftStrict, 600, 5.0)].map(
            |(target, operations, proxy_cpu_us)| {
                let mut cell = Cell::new(&WORKLOADS[0], target);
                for slowness in [1, 2] {
                    cell.add(Ok(sample(operations / slowness, proxy_cpu_us)));
                }
                cell
            },
        );
        let mut missing = Cell::new(&WORKLOADS[0], Target::Envoy);
        missing.add(Err("not installed".to_owned()));
        let stage = Stage { keys: 10, value_bytes: 64, workers: 2, proxy_cpus: None };
        let window = Window { seconds: 1.0, warmup_seconds: 0.0, rounds: 2 };
        let settings = Settings { clients: 50, stage, window };
        Results { machine: Machine::default(), settings, cells: cells.into_iter().chain([missing]).collect() }
    }

    fn sample(operations: u64, proxy_cpu_us: f64) -> Sample {
        Sample {
            operations,
            retries: 0,
            seconds: 1.0,
            p50_us: 100.0,
            p99_us: 200.0,
            max_us: 300.0,
            least_client_share: 1.0,
            proxy_cpu_us,
            shard_cpu_us: 4.0,
            generator_cpu_us: 8.0,
        }
    }

    #[test]
    fn a_slow_round_cancels_out_of_ratios() {
        let results = example();
        let versus = results.versus_baseline(&results.cells[1], Figure::Throughput);
        assert_eq!(versus, Some(Spread { median: 0.5, min: 0.5, max: 0.5 }));
    }

    #[test]
    fn a_baseline_is_not_held_against_itself() {
        let results = example();
        assert_eq!(results.versus_baseline(&results.cells[0], Figure::Throughput), None);
    }

    #[test]
    fn only_weft_is_held_against_peers_and_only_against_those_that_ran() {
        let results = example();
        let versus = |cell: usize| results.versus_best_peer(&results.cells[cell], Figure::ProxyCpu).map(|spread| spread.median);
        assert_eq!((versus(0), versus(1), versus(2)), (None, None, Some(0.5)));
    }

    #[test]
    fn a_cell_that_failed_once_has_no_figures() {
        let mut cell = Cell::new(&WORKLOADS[0], Target::Direct);
        cell.add(Ok(sample(1, 0.0)));
        cell.add(Err("ERR no".to_owned()));
        assert_eq!(cell.spread(Figure::Throughput), None);
    }

    #[test]
    fn the_json_names_cells_figures_and_reasons() {
        let json = example().to_json();
        assert_eq!(json["cells"][1]["figures"]["proxy_cpu_us_per_operation"]["median"], 10.0);
        assert_eq!(json["cells"][2]["versus_best_peer"]["operations_per_s"]["median"], 1.5);
        assert_eq!(json["cells"][3]["unavailable"], "not installed");
    }
}
