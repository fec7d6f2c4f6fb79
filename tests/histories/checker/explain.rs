//! Words for operations.

use std::fmt::Write;

use crate::histories::history::{Key, Operation, Outcome, Step, Value};

/// How many values of a list are shown: its end, for that is where reads differ.
const VALUES_MAX: usize = 8;
/// Up to how many steps an operation is shown with all of them.
const STEPS_MAX: usize = 6;

/// The operation at `number` in a line, if it is long with its steps of `keys` alone: `#7 client 2, 1.250000 s to 1.251200 s, ok: append 5 to key 1; read key 2: [3 4]`.
pub(super) fn operation(history: &[Operation], number: usize, keys: &[Key]) -> String {
    let Operation { client, steps, invoked, completed, outcome } = &history[number];
    let outcome = match outcome {
        Outcome::Ok => "ok",
        Outcome::Committed => "committed",
        Outcome::Failed => "failed",
        Outcome::Unknown => "unknown",
    };
    let is_shown = |step: &&Step| steps.len() <= STEPS_MAX || keys.contains(&step.key());
    let mut shown: Vec<String> = steps.iter().filter(is_shown).map(|step| self::step(step, outcome == "ok")).collect();
    if shown.len() < steps.len() {
        shown.push(format!("{} more steps", steps.len() - shown.len()));
    }
    format!(
        "#{number} client {client}, {:.6} s to {:.6} s, {outcome}: {}",
        invoked.as_secs_f64(),
        completed.as_secs_f64(),
        shown.join("; ")
    )
}

/// A list, shortened to its end.
pub(super) fn list(values: &[Value]) -> String {
    let hidden = values.len().saturating_sub(VALUES_MAX);
    let mut text = if hidden > 0 { format!("[({hidden} values) …") } else { "[".to_owned() };
    for (index, value) in values[hidden..].iter().enumerate() {
        let blank = if index > 0 || hidden > 0 { " " } else { "" };
        let _ = write!(text, "{blank}{value}");
    }
    text + "]"
}

fn step(step: &Step, answered: bool) -> String {
    match step {
        Step::Append { key, value } => format!("append {value} to key {key}"),
        Step::Read { key, seen } if answered => format!("read key {key}: {}", list(seen)),
        Step::Read { key, .. } => format!("read key {key}, unanswered"),
    }
}
