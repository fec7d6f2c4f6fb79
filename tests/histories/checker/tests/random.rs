//! Random histories of a store that keeps its word pass, and their mutants do not.

use super::*;

/// How far the operations of a serial execution are apart, in seconds; several are under way at once.
const APART: u64 = 10;

/// An operation of a serial execution: whether its steps append and to or from which key, what becomes of it, and for how long it is under
/// way before and after it takes effect.
type Draft = (Vec<(Key, bool)>, (Outcome, bool), (u64, u64));

fn drafts() -> impl Strategy<Value = Vec<Draft>> {
    let steps = prop::collection::vec((0..4_u32, any::<bool>()), 1..5);
    prop::collection::vec((steps, outcomes(), (1..60_u64, 1..60_u64)), 1..40)
}

/// The history of the serial execution of `drafts`, each at one instant within its time, and the final read.
fn run(drafts: &[Draft]) -> Vec<Operation> {
    let mut lists: Vec<Vec<Value>> = vec![Vec::new(); 4];
    let mut values = 1..;
    let operations = drafts.iter().zip(0..).map(|((draft, (outcome, applied), (before, after)), number)| {
        let mut state = lists.clone();
        let steps: Vec<Step> = draft.iter().map(|(key, is_append)| take_step(&mut state, *key, *is_append, &mut values)).collect();
        if matches!(outcome, Outcome::Ok | Outcome::Committed) || *outcome == Outcome::Unknown && *applied {
            lists = state;
        }
        let at = 100 + APART * number;
        // A client that is told nothing may give up before its operation takes effect.
        let end = if *outcome == Outcome::Unknown { at - before + 1 } else { at + after };
        but(*outcome, op(number as usize, (at - before, end), &steps))
    });
    let mut history: Vec<Operation> = operations.collect();
    history.push(finally_all(&lists));
    history
}

fn take_step(lists: &mut [Vec<Value>], key: Key, is_append: bool, values: &mut impl Iterator<Item = Value>) -> Step {
    let list = &mut lists[key as usize];
    if !is_append {
        return read(key, list);
    }
    let value = values.next().unwrap();
    list.push(value);
    append(key, value)
}

/// The operation that appended `wanted`.
fn writer(history: &[Operation], wanted: Value) -> &Operation {
    let appends = |step: &Step| matches!(step, Step::Append { value, .. } if *value == wanted);
    history.iter().find(|operation| operation.steps.iter().any(appends)).unwrap()
}

/// `history` with a change to what all reads of `wanted` saw.
fn change_reads(history: &[Operation], wanted: Key, change: impl Fn(&mut Vec<Value>)) -> Vec<Operation> {
    let mut mutant = history.to_vec();
    for step in mutant.iter_mut().flat_map(|operation| &mut operation.steps) {
        if let Step::Read { key, seen } = step
            && *key == wanted
        {
            change(seen);
        }
    }
    mutant
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn what_a_serial_execution_explains_passes(drafts in drafts()) {
        must_pass(&run(&drafts));
    }

    #[test]
    fn a_read_that_is_older_than_a_completed_write_is_reported(drafts in drafts()) {
        let history = run(&drafts);
        for (number, operation) in history.iter().enumerate().filter(|(_, operation)| operation.outcome == Outcome::Ok) {
            for (index, step) in operation.steps.iter().enumerate() {
                let Step::Read { key, seen } = step else { continue };
                let [older @ .., last] = &seen[..] else { continue };
                if precedes(writer(&history, *last), operation) {
                    let mut mutant = history.clone();
                    mutant[number].steps[index] = read(*key, older);
                    assert!(!check(&mutant).is_clean(), "#{number} no longer sees {last} in key {key}");
                }
            }
        }
    }

    #[test]
    fn an_append_that_vanishes_is_reported(drafts in drafts()) {
        let history = run(&drafts);
        for step in history.iter().filter(|operation| happened(operation)).flat_map(|operation| &operation.steps) {
            let Step::Append { key, value } = step else { continue };
            let report = check(&change_reads(&history, *key, |seen| seen.retain(|other| other != value)));
            let is_named = [Kind::LostAppend, Kind::HalfApplied].iter().any(|kind| report.counts.contains_key(kind));
            assert!(is_named, "nobody sees {value} in key {key}: {report}");
        }
    }

    #[test]
    fn a_value_that_moves_before_an_earlier_one_is_reported(drafts in drafts()) {
        let history = run(&drafts);
        for step in &history.last().unwrap().steps {
            let Step::Read { key, seen } = step else { continue };
            for pair in seen.windows(2).filter(|pair| precedes(writer(&history, pair[0]), writer(&history, pair[1]))) {
                let mutant = change_reads(&history, *key, |seen| {
                    if let Some(at) = seen.windows(2).position(|other| other == pair) {
                        seen.swap(at, at + 1);
                    }
                });
                assert!(!check(&mutant).is_clean(), "{pair:?} are swapped in key {key}");
            }
        }
    }
}
