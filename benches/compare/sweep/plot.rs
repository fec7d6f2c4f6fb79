//! A sweep as an SVG: a row for each kind of operation, a panel for each figure, a line for each target, both axes logarithmic.

use crate::load::Sample;
use crate::svg::{colour, curve, line, opening, text};
use crate::sweep::{Axis, Line, Row, Swept};
use crate::table::number;

const MARGIN: f64 = 16.0;
const HEADER_HEIGHT: f64 = 58.0;
/// Left of a panel, for the numbers of its axis.
const SCALE_WIDTH: f64 = 44.0;
const PANEL_WIDTH: f64 = 270.0;
const PANEL_HEIGHT: f64 = 190.0;
const PANEL_STEP: f64 = SCALE_WIDTH + PANEL_WIDTH + 16.0;
const TITLE_HEIGHT: f64 = 26.0;
/// Below a panel, for the values and what they are.
const FOOT_HEIGHT: f64 = 48.0;

const GRID: &str = "#e4e4e4";
const FRAME: &str = "#999";

/// A figure of a sample, its heading.
type Panel = (fn(&Sample) -> f64, &'static str);

const PANELS: [Panel; 3] = [
    (|sample| sample.operations as f64 / sample.seconds, "operations/s (more is better)"),
    (|sample| sample.p99_us, "p99, µs (less is better)"),
    (|sample| sample.proxy_cpu_us, "proxy CPU, µs/operation (less is better)"),
];

/// The plot of a sweep.
pub(super) fn render(swept: &Swept) -> String {
    let row_height = TITLE_HEIGHT + PANEL_HEIGHT + FOOT_HEIGHT;
    let width = 2.0 * MARGIN + PANELS.len() as f64 * PANEL_STEP;
    let height = 2.0 * MARGIN + HEADER_HEIGHT + swept.sweep.rows.len() as f64 * row_height;
    let mut out = opening(width, height);
    header(&mut out, swept);
    for (index, row) in swept.sweep.rows.iter().enumerate() {
        let top = MARGIN + HEADER_HEIGHT + index as f64 * row_height;
        legend(&mut out, top, row);
        for (panel, (figure, _)) in PANELS.iter().enumerate() {
            let origin = (MARGIN + SCALE_WIDTH + panel as f64 * PANEL_STEP, top + TITLE_HEIGHT);
            draw(&mut out, origin, swept, index, *figure);
        }
    }
    out + "</svg>\n"
}

fn header(out: &mut String, swept: &Swept) {
    let machine = &swept.machine;
    let setting = format!("{} · {} cores · {} · {} · {}", machine.cpu, machine.cores, machine.kernel, machine.date, swept.command());
    text(out, MARGIN, MARGIN + 12.0, "small", &setting);
    for (panel, (_, heading)) in PANELS.iter().enumerate() {
        text(out, MARGIN + SCALE_WIDTH + panel as f64 * PANEL_STEP, MARGIN + 42.0, "title", heading);
    }
}

/// The row's title and what its lines are.
fn legend(out: &mut String, top: f64, row: &Row) {
    text(out, MARGIN, top + 14.0, "title", row.title);
    let mut x = MARGIN + SCALE_WIDTH + row.title.chars().count() as f64 * 7.0;
    for of in row.lines {
        curve(out, &[(x, top + 10.0), (x + 24.0, top + 10.0)], colour(of.target), of.dashed);
        text(out, x + 32.0, top + 14.0, "label", of.label);
        x += 56.0 + of.label.chars().count() as f64 * 6.5;
    }
}

fn draw(out: &mut String, (left, top): (f64, f64), swept: &Swept, row: usize, figure: fn(&Sample) -> f64) {
    let (sweep, bottom) = (swept.sweep, top + PANEL_HEIGHT);
    let lines: Vec<(&Line, Vec<(usize, f64)>)> =
        sweep.rows[row].lines.iter().zip(&swept.outcomes[row]).map(|(of, outcomes)| (of, points(sweep.values, outcomes, figure))).collect();
    let scale = Scale::around(lines.iter().flat_map(|(_, points)| points).map(|(_, y)| *y));
    let widest = sweep.values.iter().fold((f64::MAX, f64::MIN), |(least, most), &x| (least.min(x as f64), most.max(x as f64)));
    let x = |value: usize| left + PANEL_WIDTH * (0.03 + 0.94 * fraction(value as f64, widest));
    let y = |value: f64| bottom - PANEL_HEIGHT * fraction(value, (scale.low, scale.high));

    for tick in scale.ticks() {
        line(out, (left, y(tick)), (left + PANEL_WIDTH, y(tick)), GRID);
        text(out, left - 5.0, y(tick) + 4.0, "end", &number(tick).replace(".0", ""));
    }
    for &value in sweep.values {
        line(out, (x(value), top), (x(value), bottom), GRID);
        text(out, x(value), bottom + 16.0, "middle", &tick_label(sweep.axis, value));
    }
    text(out, left + PANEL_WIDTH / 2.0, bottom + 32.0, "middle", sweep.axis.heading());
    line(out, (left, top), (left, bottom), FRAME);
    line(out, (left, bottom), (left + PANEL_WIDTH, bottom), FRAME);
    for (of, points) in &lines {
        let places: Vec<(f64, f64)> = points.iter().map(|(value, figure)| (x(*value), y(*figure))).collect();
        curve(out, &places, colour(of.target), of.dashed);
    }
}

/// Where a line has a point: a target that cannot do it has none, and a proxy that is not there uses no CPU.
fn points(values: &[usize], outcomes: &[Result<Sample, String>], figure: fn(&Sample) -> f64) -> Vec<(usize, f64)> {
    let measured = values.iter().zip(outcomes).filter_map(|(value, outcome)| Some((*value, figure(outcome.as_ref().ok()?))));
    measured.filter(|(_, figure)| *figure > 0.0).collect()
}

/// How far `value` is from the low end to the high one, in orders of magnitude.
fn fraction(value: f64, (low, high): (f64, f64)) -> f64 {
    if high > low { (value / low).log10() / (high / low).log10() } else { 0.5 }
}

/// Bytes as powers of two, anything else as it is.
fn tick_label(axis: Axis, value: usize) -> String {
    match value {
        _ if axis != Axis::ValueBytes => value.to_string(),
        _ if value >= 1 << 20 => format!("{}M", value >> 20),
        _ if value >= 1 << 10 => format!("{}k", value >> 10),
        _ => value.to_string(),
    }
}

/// A logarithmic axis between two round numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Scale {
    low: f64,
    high: f64,
}

impl Scale {
    /// The round numbers next below and above `values`.
    fn around(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = values.fold((f64::MAX, f64::MIN_POSITIVE), |(low, high), value| (low.min(value), high.max(value)));
        if low > high {
            return Self { low: 1.0, high: 10.0 };
        }
        let round = |value: f64, up: bool| {
            let decade = 10_f64.powf(value.log10().floor());
            let mut steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * decade).into_iter();
            if up { steps.find(|step| *step >= value * 0.999) } else { steps.rev().find(|step| *step <= value * 1.001) }
        };
        Self { low: round(low, false).unwrap_or(low), high: round(high, true).unwrap_or(high) }
    }

    /// Round numbers in it: fewer to a decade where there are many decades.
    fn ticks(self) -> Vec<f64> {
        let decades = (self.high / self.low).log10();
        let steps: &[f64] = if decades > 2.5 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let first = self.low.log10().floor() as i32;
        let all = (first..=first + decades.ceil() as i32 + 1).flat_map(|decade| steps.iter().map(move |step| step * 10_f64.powi(decade)));
        all.filter(|tick| (self.low * 0.999..=self.high * 1.001).contains(tick)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Machine;
    use crate::sweep::SWEEPS;

    fn sample(operations: u64) -> Sample {
        Sample {
            operations,
            retries: 0,
            seconds: 1.0,
            p50_us: 1.0,
            p99_us: 2.0,
            max_us: 3.0,
            least_client_share: 1.0,
            proxy_cpu_us: 0.0,
            shard_cpu_us: 1.0,
            generator_cpu_us: 1.0,
        }
    }

    #[test]
    fn a_scale_ends_at_round_numbers_and_shows_them() {
        let scale = Scale::around([130.0, 4_100.0].into_iter());
        assert_eq!(scale, Scale { low: 100.0, high: 5_000.0 });
        assert_eq!(scale.ticks(), [100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0]);
        assert_eq!(Scale::around([].into_iter()), Scale { low: 1.0, high: 10.0 });
    }

    #[test]
    fn every_line_has_a_point_for_each_value_that_could_be_measured() {
        let sweep = &SWEEPS[3];
        let mut outcomes = vec![sweep.rows[0].lines.iter().map(|_| vec![Ok(sample(1000)); sweep.values.len()]).collect::<Vec<_>>()];
        outcomes[0][2][4] = Err("refused".to_owned());
        let svg = render(&Swept { sweep, machine: Machine::default(), outcomes });
        let legend = 2 * sweep.rows[0].lines.len();
        // Two panels have lines: no proxy in this example uses CPU.
        let points = 2 * (sweep.rows[0].lines.len() * sweep.values.len() - 1);
        assert_eq!(svg.matches("<circle").count(), legend + points, "{svg}");
        assert!(svg.contains("make sweep ARGS='--only shards'") && svg.contains(sweep.axis.heading()));
    }
}
