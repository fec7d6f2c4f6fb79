//! The order of a run: round by round, workload by workload, target after target, so that what is compared is measured close together.

use crate::args::{CompareArgs, Selection};
use crate::fleet::Fleet;
use crate::load::{self, Order, Outcome};
use crate::machine::Machine;
use crate::probe::probe;
use crate::results::{Cell, Results, Settings};

/// Measures everything in `selection`.
pub(crate) fn run(args: &CompareArgs, selection: &Selection) -> anyhow::Result<Results> {
    // First of all, since a program that is missing may be installed by being asked for.
    let machine = Machine::look(&selection.targets);
    let mut fleet = Fleet::start(args.stage.clone())?;
    let mut cells: Vec<Cell> =
        selection.workloads.iter().flat_map(|&workload| selection.targets.iter().map(move |&target| Cell::new(workload, target))).collect();
    for round in 0..args.window.rounds {
        for cell in &mut cells {
            if cell.unavailable.is_none() {
                let outcome = measure(args, &mut fleet, cell, round)?;
                report(args, cell, round, &outcome);
                cell.add(outcome);
            }
        }
    }
    Ok(Results { machine, settings: Settings::from(args), cells })
}

/// One window of one cell; the outer error is the bench's own.
fn measure(args: &CompareArgs, fleet: &mut Fleet, cell: &Cell, round: usize) -> anyhow::Result<Outcome> {
    let deployment = match fleet.deployment(cell.target, cell.workload.behind(), cell.workload.proxies) {
        Ok(deployment) => deployment,
        Err(why) => return Ok(Err(why)),
    };
    let operation = cell.workload.operation();
    if round == 0
        && let Err(why) = probe(deployment, &operation, args.stage.value_bytes)
    {
        return Ok(Err(format!("{why:#}")));
    }
    load::run(&Order {
        addresses: deployment.addresses.clone(),
        operation,
        clients: args.clients,
        value_bytes: args.stage.value_bytes,
        warmup_seconds: args.window.warmup_seconds,
        seconds: args.window.seconds,
        placement: deployment.placement.clone(),
        proxy_processes: deployment.proxy_processes(),
        shard_processes: deployment.shard_processes(),
        seed: round as u64,
    })
}

fn report(args: &CompareArgs, cell: &Cell, round: usize, outcome: &Outcome) {
    let said = match outcome {
        Ok(sample) => format!("{:.0}/s, generator {:.1} µs/op", sample.operations as f64 / sample.seconds, sample.generator_cpu_us),
        Err(why) => why.clone(),
    };
    eprintln!("round {}/{}  {:<10}{:<14}{said}", round + 1, args.window.rounds, cell.workload.name, cell.target.name());
}
