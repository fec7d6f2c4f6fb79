//! The checker against the definition: for small histories, good and bad, its verdict is that of trying all orders.

use std::cell::Cell;

use proptest::test_runner::TestRunner;

use super::*;

const KEYS: Key = 2;
const CASES: u32 = 4_000;

#[test]
fn the_verdict_is_that_of_trying_all_orders() {
    let (good, bad) = (Cell::new(0), Cell::new(0));
    let mut runner = TestRunner::new(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() });
    let result = runner.run(&(drafts(), any::<u64>()), |(drafts, seed)| {
        let history = history(&drafts, seed);
        let is_good = has_an_order(&history, &(0..history.len()).collect::<Vec<_>>(), &vec![Vec::new(); KEYS as usize]);
        let count = if is_good { &good } else { &bad };
        count.set(count.get() + 1);
        let report = check(&history);
        prop_assert_eq!(report.is_clean(), is_good, "{}", report);
        Ok(())
    });
    result.unwrap();
    assert!(good.get() > CASES / 5 && bad.get() > CASES / 5, "{} good and {} bad histories say little", good.get(), bad.get());
}

/// Whether some order of the operations `left` explains what they saw from `lists` on: those that happened are all in it, those of unknown
/// outcome or not.
fn has_an_order(history: &[Operation], left: &[usize], lists: &[Vec<Value>]) -> bool {
    if !left.iter().any(|number| happened(&history[*number])) {
        return true;
    }
    left.iter().any(|&number| {
        let operation = &history[number];
        let is_next = operation.outcome != Outcome::Failed && !left.iter().any(|other| precedes(&history[*other], operation));
        let mut lists = lists.to_vec();
        let left: Vec<usize> = left.iter().copied().filter(|other| *other != number).collect();
        is_next && explains(operation, &mut lists) && has_an_order(history, &left, &lists)
    })
}

/// Whether `operation` sees what it saw where `lists` are there; changes them.
fn explains(operation: &Operation, lists: &mut [Vec<Value>]) -> bool {
    operation.steps.iter().all(|step| match step {
        Step::Append { key, value } => {
            lists[*key as usize].push(*value);
            true
        }
        Step::Read { key, seen } => operation.outcome != Outcome::Ok || *seen == lists[*key as usize],
    })
}

/// An operation: whether its steps append and to or from which key, what becomes of it, when it begins and how long it lasts.
type Draft = (Vec<(Key, bool)>, (Outcome, bool), (u64, u64));

fn drafts() -> impl Strategy<Value = Vec<Draft>> {
    let steps = prop::collection::vec((0..KEYS, any::<bool>()), 1..4);
    prop::collection::vec((steps, outcomes(), (0..20_u64, 1..20_u64)), 1..5)
}

/// A history whose lists grow in the order of `drafts`, more or less, and whose reads see of them what chance decides, more or less.
fn history(drafts: &[Draft], seed: u64) -> Vec<Operation> {
    let mut random = random(seed);
    let mut lists: Vec<Vec<Value>> = vec![Vec::new(); KEYS as usize];
    let mut history = Vec::new();
    for ((draft, (outcome, applied), (invoked, length)), client) in drafts.iter().zip(0..) {
        let happens = happened(&but(*outcome, op(0, ONCE, &[]))) || *outcome == Outcome::Unknown && *applied;
        let steps = draft.iter().zip(1..).map(|(&(key, is_append), number)| {
            let value = 10 * client as Value + number;
            let list = &mut lists[key as usize];
            if is_append && happens != (random(30) == 0) {
                let at = if random(10) == 0 { random(list.len() + 1) } else { list.len() };
                list.insert(at, value);
            }
            if is_append { append(key, value) } else { read(key, &[]) }
        });
        let steps: Vec<Step> = steps.collect();
        history.push(but(*outcome, op(client, (*invoked, invoked + length), &steps)));
    }
    for operation in history.iter_mut().filter(|operation| operation.outcome == Outcome::Ok) {
        let own = operation.steps.clone();
        for index in 0..own.len() {
            if let Step::Read { key, seen } = &mut operation.steps[index] {
                *seen = look(*key, &lists[*key as usize], &own, index, &mut random);
            }
        }
    }
    history.push(finally_all(&lists));
    history
}

/// A guess at what the read at `index` of the steps `own` saw of `list`: all up to its own appends before, or part of what others appended.
fn look(key: Key, list: &[Value], own: &[Step], index: usize, random: &mut impl FnMut(usize) -> usize) -> Vec<Value> {
    let is_own = |value: &Value, steps: &[Step]| steps.contains(&append(key, *value));
    let before = list.iter().rposition(|value| is_own(value, &own[..index])).map(|at| at + 1);
    let after = list.iter().position(|value| is_own(value, &own[index..])).unwrap_or(list.len());
    let length = match before {
        Some(before) if random(10) > 0 => before,
        _ if random(10) > 0 => after - random(after + 1).min(random(after + 1)),
        _ => random(list.len() + 1),
    };
    list[..length].to_vec()
}
