//! Long histories are checked in seconds, good and bad.

use super::*;

/// How many operations there are.
const OPERATIONS: u64 = 60_000;
/// How many keys are in use at a time, and for how many operations.
const KEYS: u64 = 40;
const TURN: u64 = 20_000;

#[test]
fn a_long_history_is_checked() {
    let mut history = history();
    must_pass(&history);

    // The worst for the search: the last read misses one of the first appends, so that all that came between is on a cycle.
    let Step::Read { seen, .. } = &mut history.last_mut().unwrap().steps[0] else { unreachable!() };
    seen.truncate(1);
    let report = check(&history);
    assert!(report.kinds().contains(&Kind::LostAppend) && report.kinds().contains(&Kind::StaleRead), "{report}");
    assert!(report.to_string().len() < 100_000, "it can be read");
}

/// Reads, plain appends and transactions on two keys, some 200 of them under way at a time.
fn history() -> Vec<Operation> {
    let mut random = random(1);
    let mut lists: Vec<Vec<Value>> = vec![Vec::new(); (OPERATIONS / TURN * KEYS) as usize];
    let mut history = Vec::new();
    for number in 0..OPERATIONS {
        let base = (number / TURN * KEYS) as usize;
        let keys = [base + random(KEYS as usize), base + random(KEYS as usize)];
        let mut add = |key: usize, value| {
            lists[key].push(value);
            append(key as Key, value)
        };
        let steps = match random(3) {
            0 => vec![read(keys[0] as Key, &lists[keys[0]])],
            1 => vec![add(keys[0], 2 * number)],
            _ => vec![add(keys[0], 2 * number), add(keys[1], 2 * number + 1)],
        };
        let at = 1_000 + 10 * number;
        history.push(op(random(200), (at - random(1_000) as u64, at + random(1_000) as u64), &steps));
    }
    history.push(finally_all(&lists));
    history
}
