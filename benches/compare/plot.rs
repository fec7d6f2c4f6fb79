//! A group of workloads as an SVG: a row a workload, a panel a figure, a bar a target, a whisker from the lowest to the highest round.

use std::fmt::Write;

use crate::results::{Cell, Figure, Results};
use crate::stats::Spread;
use crate::svg::{colour, line, opening, text};
use crate::table::number;
use crate::workload::{Group, WORKLOADS, Workload};

const LABEL_WIDTH: f64 = 120.0;
const PANEL_WIDTH: f64 = 270.0;
/// The part of a panel that bars may fill; the rest is for their numbers.
const BAR_WIDTH: f64 = 190.0;
const BAR_HEIGHT: f64 = 14.0;
const BAR_STEP: f64 = 19.0;
const TITLE_HEIGHT: f64 = 24.0;
const MARGIN: f64 = 16.0;
const HEADER_HEIGHT: f64 = 58.0;

const PANELS: [(Figure, &str); 3] = [
    (Figure::Throughput, "operations/s (more is better)"),
    (Figure::P99, "p99, µs (less is better)"),
    (Figure::ProxyCpu, "proxy CPU, µs/operation (less is better)"),
];

/// The plot of `group`; `None` if none of it was measured.
pub(crate) fn render(results: &Results, group: Group) -> Option<String> {
    let blocks: Vec<(&Workload, Vec<&Cell>)> = WORKLOADS
        .iter()
        .filter(|workload| workload.group == group)
        .map(|workload| (workload, results.cells.iter().filter(|cell| cell.workload == workload).collect::<Vec<_>>()))
        .filter(|(_, cells)| !cells.is_empty())
        .collect();
    if blocks.is_empty() {
        return None;
    }
    let mut body = String::new();
    let mut y = MARGIN + HEADER_HEIGHT;
    for (workload, cells) in blocks {
        text(&mut body, MARGIN, y + 14.0, "title", workload.title);
        y += TITLE_HEIGHT;
        for (panel, (figure, _)) in PANELS.iter().enumerate() {
            bars(&mut body, (MARGIN + LABEL_WIDTH + panel as f64 * PANEL_WIDTH, y), &cells, *figure);
        }
        labels(&mut body, y, &cells);
        y += cells.len() as f64 * BAR_STEP + MARGIN;
    }
    let width = 2.0 * MARGIN + LABEL_WIDTH + PANELS.len() as f64 * PANEL_WIDTH;
    Some(format!("{}{}{body}</svg>\n", opening(width, y), header(results)))
}

fn header(results: &Results) -> String {
    let (machine, settings) = (&results.machine, &results.settings);
    let mut out = String::new();
    let setting = format!(
        "{} · {} cores · {} · {} clients · {}-byte values · median of {} rounds, whiskers: lowest and highest · {}",
        machine.cpu, machine.cores, machine.kernel, settings.clients, settings.stage.value_bytes, settings.window.rounds, machine.date
    );
    text(&mut out, MARGIN, MARGIN + 12.0, "small", &setting);
    for (panel, (_, heading)) in PANELS.iter().enumerate() {
        text(&mut out, MARGIN + LABEL_WIDTH + panel as f64 * PANEL_WIDTH, MARGIN + 40.0, "title", heading);
    }
    out
}

fn labels(out: &mut String, top: f64, cells: &[&Cell]) {
    for (row, cell) in cells.iter().enumerate() {
        let y = top + row as f64 * BAR_STEP + 11.0;
        text(out, MARGIN, y, "label", cell.target.name());
        if let Some(why) = &cell.unavailable {
            text(out, MARGIN + LABEL_WIDTH, y, "small", why);
        }
    }
}

fn bars(out: &mut String, (left, top): (f64, f64), cells: &[&Cell], figure: Figure) {
    let spreads: Vec<_> = cells.iter().map(|cell| cell.spread(figure).filter(Spread::is_positive)).collect();
    let longest = spreads.iter().flatten().map(|spread| spread.max).fold(f64::MIN_POSITIVE, f64::max);
    let x = |value: f64| left + value / longest * BAR_WIDTH;
    for (row, (cell, spread)) in cells.iter().zip(&spreads).enumerate() {
        let Some(spread) = spread else { continue };
        let y = top + row as f64 * BAR_STEP;
        // Writing to a String cannot fail.
        writeln!(
            out,
            "<rect x=\"{left:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{BAR_HEIGHT}\" fill=\"{}\"/>",
            x(spread.median) - left,
            colour(cell.target)
        )
        .ok();
        let middle = y + BAR_HEIGHT / 2.0;
        line(out, (x(spread.min), middle), (x(spread.max), middle), "#222");
        text(out, x(spread.max) + 5.0, y + 11.0, "label", &number(spread.median));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::example;
    use crate::target::Target;

    #[test]
    fn every_measured_target_has_a_bar_in_every_panel_it_can() {
        let svg = render(&example(), Group::Commands).unwrap_or_default();
        let bars = |target| svg.matches(&format!("fill=\"{}\"", colour(target))).count();
        assert_eq!((bars(Target::Direct), bars(Target::Twemproxy), bars(Target::Envoy)), (2, 3, 0), "{svg}");
        assert!(svg.contains(">not installed</text>"), "{svg}");
    }

    #[test]
    fn a_group_that_was_not_measured_has_no_plot() {
        assert_eq!(render(&example(), Group::Transactions), None);
    }
}
