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

const COLUMNS: [Column; 13] = [
    Column { heading: "ops/s", content: |_, cell| cell.spread(Figure::Throughput).map(median) },
    Column { heading: "min – max", content: |_, cell| cell.spread(Figure::Throughput).map(range) },
    Column { heading: "× {}", content: |all, cell| all.versus_baseline(cell, Figure::Throughput).map(ratio) },
    Column { heading: "p50 µs", content: |_, cell| cell.spread(Figure::P50).map(median) },
    Column { heading: "× {}", content: |all, cell| all.versus_baseline(cell, Figure::P50).map(ratio) },
    Column { heading: "p99 µs", content: |_, cell| cell.spread(Figure::P99).map(median) },
    Column { heading: "× {}", content: |all, cell| all.versus_baseline(cell, Figure::P99).map(ratio) },
    Column { heading: "proxy µs/op", content: |_, cell| cell.spread(Figure::ProxyCpu).filter(Spread::is_positive).map(median) },
    Column { heading: "min – max", content: |_, cell| cell.spread(Figure::ProxyCpu).filter(Spread::is_positive).map(range) },
    Column { heading: "shard µs/op", content: |_, cell| cell.spread(Figure::ShardCpu).map(median) },
    Column {
        heading: "nil/op",
        content: |_, cell| cell.spread(Figure::Retries).filter(|_| cell.workload.operation().watches()).map(median),
    },
    Column { heading: "max µs", content: |_, cell| cell.spread(Figure::Max).filter(|_| cell.workload.proxies > 1).map(median) },
    Column {
        heading: "least client",
        content: |_, cell| cell.spread(Figure::LeastClient).filter(|_| cell.workload.proxies > 1).map(ratio),
    },
];

/// What weft is held against the other proxies for.
const VERDICTS: [(&str, Figure); 5] = [
    ("ops/s", Figure::Throughput),
    ("p50", Figure::P50),
    ("p99", Figure::P99),
    ("proxy CPU", Figure::ProxyCpu),
    ("shard CPU", Figure::ShardCpu),
];

/// All workloads, one block each, and weft beside the best of its peers.
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
    text + &verdicts(results)
}

fn preamble(results: &Results) -> String {
    let (machine, settings) = (&results.machine, &results.settings);
    let mut text = format!("\n{} · {} · {} cores · {}\n", machine.date, machine.cpu, machine.cores, machine.kernel);
    for (target, version) in &machine.versions {
        writeln!(text, "  {target:<14}{version}").ok();
    }
    let pinned = settings.stage.proxy_cpus.as_ref().map_or(String::new(), |cpus| format!(" on CPUs {cpus}"));
    writeln!(
        text,
        "{} clients, {} keys, {}-byte values, {} workers{pinned}; median of {} rounds of {} s; ratios within a round",
        settings.clients,
        settings.stage.keys,
        settings.stage.value_bytes,
        settings.stage.workers,
        settings.window.rounds,
        settings.window.seconds
    )
    .ok();
    text
}

fn block(results: &Results, cells: &[&Cell], baseline: &str) -> String {
    let used: Vec<&Column> = COLUMNS.iter().filter(|column| cells.iter().any(|cell| (column.content)(results, cell).is_some())).collect();
    let heading = used.iter().map(|column| column.heading.replace("{}", baseline)).collect();
    let mut rows = vec![Row { label: String::new(), contents: heading }];
    for cell in cells {
        let contents = match &cell.unavailable {
            Some(_) => Vec::new(),
            None => used.iter().map(|column| (column.content)(results, cell).unwrap_or_default()).collect(),
        };
        let why = cell.unavailable.as_ref().map_or(String::new(), |why| format!("  {why}"));
        rows.push(Row { label: format!("{:<14}{why}", cell.target.name()), contents });
    }
    aligned(&rows)
}

fn verdicts(results: &Results) -> String {
    let mut rows = vec![Row { label: String::new(), contents: VERDICTS.map(|(heading, _)| heading.to_owned()).into() }];
    for cell in &results.cells {
        let ratios = VERDICTS.map(|(_, figure)| results.versus_best_peer(cell, figure).map(ratio));
        if ratios.iter().any(Option::is_some) {
            let label = format!("{:<10}{:<14}", cell.workload.name, cell.target.name());
            rows.push(Row { label, contents: ratios.map(Option::unwrap_or_default).into() });
        }
    }
    if rows.len() == 1 {
        return String::new();
    }
    format!("\nweft × the best peer of each figure\n{}", aligned(&rows))
}

/// A line of a table; one without contents may be of any length.
pub(crate) struct Row {
    pub(crate) label: String,
    pub(crate) contents: Vec<String>,
}

/// Rows under each other, their contents flush right.
pub(crate) fn aligned(rows: &[Row]) -> String {
    let length = |text: &String| text.chars().count();
    let label_width = rows.iter().filter(|row| !row.contents.is_empty()).map(|row| length(&row.label)).max().unwrap_or(0);
    let columns = rows.first().map_or(0, |row| row.contents.len());
    let width = |column: usize| rows.iter().filter_map(|row| row.contents.get(column)).map(length).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = format!("  {:<label_width$}", row.label);
        for (content, width) in row.contents.iter().zip(&widths) {
            write!(line, "  {content:>width$}").ok();
        }
        writeln!(text, "{}", line.trim_end()).ok();
    }
    text
}

fn median(spread: Spread) -> String {
    number(spread.median)
}

fn range(spread: Spread) -> String {
    format!("{} – {}", number(spread.min), number(spread.max))
}

fn ratio(spread: Spread) -> String {
    format!("{:.2}", spread.median)
}

/// Three digits that matter, thousands as `k`.
pub(crate) fn number(value: f64) -> String {
    match value {
        _ if value >= 99_950.0 => format!("{:.0}k", value / 1000.0),
        _ if value >= 9_995.0 => format!("{:.1}k", value / 1000.0),
        _ if value >= 99.95 => format!("{value:.0}"),
        _ if value >= 9.995 => format!("{value:.1}"),
        _ if value < 0.005 => "0".to_owned(),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::example;

    #[test]
    fn numbers_keep_three_digits() {
        let texts = [844_123.0, 85_432.0, 9_876.0, 123.4, 12.34, 1.234, 0.0].map(number);
        assert_eq!(texts, ["844k", "85.4k", "9876", "123", "12.3", "1.23", "0"]);
    }

    #[test]
    fn a_cell_without_figures_shows_why() {
        let text = render(&example());
        assert!(text.lines().any(|line| line == "  envoy           not installed"), "{text}");
    }

    #[test]
    fn rows_end_where_their_headings_end() {
        let text = render(&example());
        let length = |what: &str| text.lines().find(|line| line.contains(what)).map(|line| line.chars().count());
        assert!(length("shard µs/op").is_some(), "{text}");
        assert_eq!(length("shard µs/op"), length("  twemproxy  "), "{text}");
    }

    #[test]
    fn weft_is_held_against_the_best_peer() {
        let text = render(&example());
        let line = text.lines().find(|line| line.starts_with("  get-p1    weft-strict")).unwrap_or_default();
        assert_eq!(
            line.split_whitespace().collect::<Vec<_>>(),
            ["get-p1", "weft-strict", "1.50", "1.00", "1.00", "0.50", "1.00"],
            "{text}"
        );
    }
}
