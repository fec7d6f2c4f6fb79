//! What is promised when things break: a transaction is applied on all its shards or on none, whoever dies where, and whoever comes next
//! finds no lock that stays.
//!
//! Every test runs real servers and at least one weft; most a second one, which has to live with what the first left behind. Deaths are
//! chosen by `WEFT_FAILPOINT`, faults of the wire by a `FaultProxy`, wrong clocks by a `Clock`. What is answered where, fault by fault and
//! phase by phase, stands in `faults/matrix.rs`.

mod clock;
mod crash;
mod desync;
mod durable;
mod durable_failover;
mod failover;
mod forgotten;
mod locks;
mod lost;
mod matrix;
pub(crate) mod moves;
mod native;
mod pause;
mod refusal;
mod resolvers;
mod sweep;
mod wire;

use std::time::Duration;

use crate::support::{Client, Flavor, Mode, Reply, Setup, Shards, Weft};

/// Short, so that tests need not wait for it; long enough that a busy machine does not outlast it between two steps.
const LEASE: Duration = Duration::from_millis(500);

/// A weft before `shards` whose lease is [`LEASE`].
fn setup(shards: &Shards) -> Setup {
    Weft::setup(shards).set("transactions.lease_ms", LEASE.as_millis()).set("transactions.lock_wait_timeout_ms", 10_000)
}

/// Two or three static shards.
fn static_shards(count: usize) -> Shards {
    Shards::start(Mode::Static, Flavor::Redis, count)
}

/// A key on each of the first `count` shards.
fn keys(shards: &Shards, count: usize, prefix: &str) -> Vec<String> {
    (0..count).map(|index| shards.key_on(index, prefix)).collect()
}

/// Queues `commands` and sends EXEC, whose reply is not waited for.
#[track_caller]
fn send_transaction(client: &mut Client, commands: impl IntoIterator<Item = String>) {
    client.must_ok("MULTI");
    for command in commands {
        client.must_queue(&command);
    }
    client.send("EXEC");
}

/// `INCR` of each key.
fn increments(keys: &[String]) -> impl Iterator<Item = String> {
    keys.iter().map(|key| format!("INCR {key}"))
}

/// An array of integers.
fn integers(numbers: impl IntoIterator<Item = i64>) -> Reply {
    Reply::array(numbers)
}

/// The kinds of the internal keys that are there and are not among `before`, with their shards: `(0, "x")`. Gates are left out: they
/// are there where a prepared record is.
fn left(shards: &Shards, before: &[(usize, String)]) -> Vec<(usize, char)> {
    let new = shards.internal_keys().into_iter().filter(|key| !before.contains(key));
    let mut kinds: Vec<_> = new.map(|(shard, name)| (shard, kind(&name))).filter(|(_, kind)| *kind != 'g').collect();
    kinds.sort_unstable();
    kinds
}

/// `x`, `s`, `t` or `g`: an internal key's letter behind the prefix and perhaps a tag.
fn kind(name: &str) -> char {
    let rest = name.strip_prefix("__weft:").unwrap();
    let rest = rest.strip_prefix('{').map_or(rest, |tagged| tagged.split_once('}').unwrap().1);
    rest.chars().next().unwrap()
}

/// No lock is held anywhere, and no gate is closed.
#[track_caller]
fn must_have_no_locks(shards: &Shards) {
    let locks: Vec<_> = shards.internal_keys().into_iter().filter(|(_, name)| kind(name) != 't').collect();
    assert!(locks.is_empty(), "{locks:?}");
}
