//! The table on stdout.

use std::fmt::Write;

use crate::results::{Cell, Figure, Results};
use crate::stats::Spread;
use crate::workload::WORKLOADS;

/// A column: its heading (`{}` is what the workload is held against) and what stands in it.
struct Column {
    heading: &'static str,
    content: fn(&Results, &Cell) -> Option<String>,
}

const COLUMNS: [Column; 12] = [
    Column { heading: "ops/s", content: |_, cell| cell.spread(Figure::Throughput).map(|spread| number(spread.median)) },
    Column { heading: "min – max", content: |_, cell| cell.spread(Figure::Throughput).map(range) },
    Column { heading: "× {}", content: |all, cell| ratio(all.versus_baseline(cell, Figure::Throughput)) },
    Column { heading: "p50 µs", content: |_, cell| cell.spread(Figure::P50).map(|spread| number(spread.median)) },
    Column { heading: "× {}", content: |all, cell| ratio(all.versus_baseline(cell, Figure::P50)) },
    Column { heading: "p99 µs", content: |_, cell| cell.spread(Figure::P99).map(|spread| number(spread.median)) },
    Column { heading: "× {}", content: |all, cell| ratio(all.versus_baseline(cell, Figure::P99)) },
    Column { heading: "proxy µs/op", content: |_, cell| cost(cell.spread(Figure::ProxyCpu)) },
    Column { heading: "min – max", content: |_, cell| cell.spread(Figure::ProxyCpu).filter(|spread| spread.max > 0.0).map(range) },
    Column { heading: "× best peer", content: |all, cell| ratio(all.versus_best_peer(cell, Figure::ProxyCpu)) },
    Column { heading: "shard µs/op", content: |_, cell| cost(cell.spread(Figure::ShardCpu)) },
    Column { heading: "nil/op", content: |_, cell| cell.workload.watches().then(|| cost(cell.spread(Figure::Retries))).flatten() },
];

/// All workloads, one block each.
pub(crate) fn render(results: &Results) -> String {
    let mut text = preamble(results);
    for workload in &WORKLOADS {
        let cells: Vec<&Cell> = results.cells.iter().filter(|cell| cell.workload == workload).collect();
        if !cells.is_empty() {
            // Writing to a String cannot fail.
            writeln!(text, "\n{}  [{}]", workload.title, workload.name).ok();
            text.push_str(&block(results, &cells, workload.baseline.label()));
        }
    }
    text
}

fn preamble(results: &Results) -> String {
    let (machine, settings) = (&results.machine, &results.settings);
    let mut text = format!("\n{} · {} · {} cores · {}\n", machine.date, machine.cpu, machine.cores, machine.kernel);
    for (target, version) in &machine.versions {
        writeln!(text, "{target:<14}{version}").ok();
    }
    let pinned = settings.proxy_cpus.as_ref().map_or(String::new(), |cpus| format!(" on CPUs {cpus}"));
    writeln!(
        text,
        "{} clients, {} keys, {}-byte values, {} workers{pinned}; median of {} rounds of {} s; ratios within a round",
        settings.clients, settings.keys, settings.value_bytes, settings.workers, settings.rounds, settings.seconds
    )
    .ok();
    text
}

fn block(results: &Results, cells: &[&Cell], baseline: &str) -> String {
    let headings = COLUMNS.iter().map(|column| column.heading.replace("{}", baseline));
    let mut rows: Vec<Vec<String>> = vec![std::iter::once(String::new()).chain(headings).collect()];
    for cell in cells {
        let contents = COLUMNS.iter().map(|column| (column.content)(results, cell).unwrap_or_default());
        rows.push(std::iter::once(cell.target.name().to_owned()).chain(contents).collect());
    }
    let used: Vec<usize> = (0..rows[0].len()).filter(|&column| rows[1..].iter().any(|row| !row[column].is_empty())).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();

    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        write!(text, "  {:<width$}", row[0], width = widths[0]).ok();
        match index.checked_sub(1).and_then(|cell| cells[cell].unavailable.as_deref()) {
            Some(why) => write!(text, "  {why}").ok(),
            None => used[1..].iter().try_for_each(|&column| write!(text, "  {:>width$}", row[column], width = widths[column])).ok(),
        };
        text.push('\n');
    }
    text
}

fn range(spread: Spread) -> String {
    format!("{} – {}", number(spread.min), number(spread.max))
}

fn ratio(spread: Option<Spread>) -> Option<String> {
    spread.map(|spread| format!("{:.2}", spread.median))
}

fn cost(spread: Option<Spread>) -> Option<String> {
    spread.filter(|spread| spread.max > 0.0).map(|spread| number(spread.median))
}

/// Three digits that matter, thousands as `k`.
pub(crate) fn number(value: f64) -> String {
    match value {
        _ if value >= 99_950.0 => format!("{:.0}k", value / 1000.0),
        _ if value >= 9_995.0 => format!("{:.1}k", value / 1000.0),
        _ if value >= 99.95 => format!("{value:.0}"),
        _ if value >= 9.995 => format!("{value:.1}"),
        _ if value == 0.0 => "0".to_owned(),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_digits() {
        let texts = [844_123.0, 85_432.0, 9_876.0, 123.4, 12.34, 1.234, 0.0].map(number);
        assert_eq!(texts, ["844k", "85.4k", "9876", "123", "12.3", "1.23", "0"]);
    }
}
