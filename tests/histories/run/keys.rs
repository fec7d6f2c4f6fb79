//! The keys of a history: which are in use, what they are called, and how values are appended to them and read from them.
//!
//! They come in pairs that lie in one slot, a string and a list. A pair is retired after some appends, and another takes its place, so
//! that reads stay short however long the history gets; the first pairs of the pool are much hotter than the last.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use fastrand::Rng;

use crate::histories::history::{Key, Step, Value};
use crate::support::Reply;

/// The keys of one round. Names of different rounds are different.
pub(super) struct Keys {
    round: usize,
    pool: Mutex<Pool>,
    values: AtomicU64,
}

struct Pool {
    /// The pairs in use, hot ones first, each with the appends that it has been given.
    pairs: Vec<(u32, usize)>,
    next: u32,
}

impl Keys {
    /// The keys of round number `round`.
    pub(super) fn new(round: usize) -> Self {
        let pairs: Vec<_> = (0..PAIRS).map(|pair| (pair, 0)).collect();
        Self { round, pool: Mutex::new(Pool { pairs, next: PAIRS }), values: AtomicU64::new(1) }
    }

    /// Some different keys, hot ones more often.
    pub(super) fn pick(&self, rng: &mut Rng, count: usize) -> Vec<Key> {
        let mut keys = Vec::new();
        while keys.len() < count {
            let key = 2 * self.pick_pair(rng) + rng.u32(..2);
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        keys
    }

    /// Some different strings, hot ones more often.
    pub(super) fn pick_strings(&self, rng: &mut Rng, count: usize) -> Vec<Key> {
        let mut keys = Vec::new();
        while keys.len() < count {
            let key = 2 * self.pick_pair(rng);
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        keys
    }

    /// Both keys of a pair.
    pub(super) fn pick_both(&self, rng: &mut Rng) -> [Key; 2] {
        let pair = self.pick_pair(rng);
        [2 * pair, 2 * pair + 1]
    }

    fn pick_pair(&self, rng: &mut Rng) -> u32 {
        let pool = self.pool.lock().unwrap();
        let place = (rng.f64().powi(2) * pool.pairs.len() as f64) as usize;
        pool.pairs[place].0
    }

    /// An append of a new value to `key`.
    pub(super) fn append(&self, key: Key) -> Step {
        let mut pool = self.pool.lock().unwrap();
        let Pool { pairs, next } = &mut *pool;
        if let Some(used) = pairs.iter_mut().find(|(pair, _)| *pair == key / 2) {
            used.1 += 1;
            if used.1 == APPENDS_MAX {
                *used = (*next, 0);
                *next += 1;
            }
        }
        Step::Append { key, value: self.values.fetch_add(1, Ordering::Relaxed) }
    }

    /// Every key that was ever in use.
    pub(super) fn all(&self) -> Vec<Key> {
        (0..2 * self.pool.lock().unwrap().next).collect()
    }

    /// What `key` is called at the shards.
    pub(super) fn name(&self, key: Key) -> String {
        format!("{{h{}:{}}}{}", self.round, key / 2, if is_list(key) { "list" } else { "string" })
    }

    /// The command that does `step`.
    pub(super) fn command(&self, step: &Step) -> Vec<String> {
        let (words, key, value) = match step {
            Step::Append { key, value } if is_list(*key) => (["RPUSH"].as_slice(), *key, vec![value.to_string()]),
            Step::Append { key, value } => (["APPEND"].as_slice(), *key, vec![format!("{value} ")]),
            Step::Read { key, .. } if is_list(*key) => (["LRANGE"].as_slice(), *key, vec!["0".to_owned(), "-1".to_owned()]),
            Step::Read { key, .. } => (["GET"].as_slice(), *key, vec![]),
        };
        words.iter().map(|&word| word.to_owned()).chain([self.name(key)]).chain(value).collect()
    }
}

/// `step` with what `reply` answered to it; `None` if that is no answer to such a step.
pub(super) fn answered(step: &Step, reply: &Reply) -> Option<Step> {
    match (step, reply) {
        (Step::Append { .. }, Reply::Integer(1..)) => Some(step.clone()),
        (Step::Read { key, .. }, Reply::Array(items)) if is_list(*key) => {
            let seen = items.iter().map(|item| item.text()?.parse().ok()).collect::<Option<Vec<Value>>>()?;
            Some(Step::Read { key: *key, seen })
        }
        (Step::Read { key, .. }, Reply::Nil | Reply::Bulk(_)) if !is_list(*key) => {
            let text = reply.text().unwrap_or_default();
            let seen = text.split_terminator(' ').map(|word| word.parse().ok()).collect::<Option<Vec<Value>>>()?;
            Some(Step::Read { key: *key, seen })
        }
        _ => None,
    }
}

/// A read of `key` that has seen nothing yet.
pub(super) fn read(key: Key) -> Step {
    Step::Read { key, seen: Vec::new() }
}

fn is_list(key: Key) -> bool {
    key % 2 == 1
}

/// Few enough that transactions meet, enough that most do not.
const PAIRS: u32 = 16;
const APPENDS_MAX: usize = 60;
