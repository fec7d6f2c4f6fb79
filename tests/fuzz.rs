//! What arrives is not what should: bytes from clients, and from shards, that were made by changing valid traffic at random. weft must
//! survive it in bounded memory, and nobody else may notice: clients that behave check all the while that each reply is their own.
//!
//! A few seconds of it, from a seed that a failure names and `WEFT_FUZZ_SEED` repeats; the targets in `fuzz/` go on for as long as one
//! likes, guided by coverage.

mod traffic;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::support::{Client, FaultProxy, Flavor, Mode, PATIENCE, Reply, Shards, Weft, eventually};

/// How long traffic is changed.
const DURATION: Duration = Duration::from_secs(4);

/// How many rounds the witnesses need at least.
const ROUNDS_MIN: u64 = 20;

/// More than weft needs for this traffic in a build for debugging, and less than one of the lengths that are announced to it.
const MEMORY_MAX: u64 = 150 << 20;

/// The seed of this run.
fn seed() -> u64 {
    let seed = std::env::var("WEFT_FUZZ_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    eprintln!("WEFT_FUZZ_SEED={seed} repeats this");
    seed
}

/// A client that behaves, and whose every reply says whose it is.
struct Witness {
    client: Option<Client>,
    name: String,
    keys: [String; 2],
    round: u64,
}

impl Witness {
    fn new(shards: &Shards, number: usize) -> Self {
        let keys = [0, 1].map(|shard| shards.key_on(shard, &format!("witness{number}-")));
        Self { client: None, name: format!("<{number}>"), keys, round: 0 }
    }

    /// A round of commands in one pipeline; whether all were carried out. Where `well` does not say that they must be, errors are
    /// allowed: a shard may be unreachable, or weft have its hands full. Somebody else's reply never is.
    fn look(&mut self, weft: &Weft, well: bool) -> bool {
        self.round += 1;
        let (value, [a, b]) = (format!("{}{}", self.name, self.round), &self.keys);
        let mut client = self.client.take().unwrap_or_else(|| weft.client());
        client.set_patience(3 * PATIENCE);
        client.send_raw(format!(
            "ECHO {value}\r\nSET {a} {value}\r\nGET {a}\r\nSET {b} {value}\r\nMGET {a} {b}\r\nMULTI\r\nGETSET {a} {value}\r\nGETSET {b} {value}\r\nEXEC\r\nEXISTS {a} {b}\r\nGET {b}\r\n"
        ));
        let mut carried_out = true;
        for index in 0..11 {
            let reply = match client.try_receive() {
                Ok(reply) => reply,
                Err(error) => panic!("{}: the reply to command {index}: {error}", self.name),
            };
            let whole = match (&reply, index) {
                (Reply::Error(_), _) => false,
                (_, 0 | 2 | 10) => reply == Reply::from(value.as_str()),
                (_, 1 | 3 | 5) => reply == Reply::ok(),
                (_, 4 | 8) => reply == Reply::Array(vec![value.as_str().into(), value.as_str().into()]),
                (_, 6 | 7) => reply == Reply::Simple("QUEUED".to_owned()),
                _ => reply == Reply::Integer(2),
            };
            carried_out &= whole;
            assert!(whole || (!well && self.may_be(&reply, index)), "{}: {reply:?} to command {index} of round {}", self.name, self.round);
        }
        self.client = Some(client);
        carried_out
    }

    /// Whether `reply` may come from an earlier round, or says that nothing is known.
    fn may_be(&self, reply: &Reply, index: usize) -> bool {
        match reply {
            Reply::Error(_) => true,
            Reply::Nil => [2, 10].contains(&index),
            Reply::Integer(count) => index == 9 && (0..=2).contains(count),
            Reply::Bulk(_) => [2, 10].contains(&index) && reply.text().is_some_and(|text| text.starts_with(&self.name)),
            Reply::Array(items) => {
                let own = |item: &Reply| *item == Reply::Nil || item.text().is_some_and(|text| text.starts_with(&self.name));
                [4, 8].contains(&index) && items.len() == 2 && items.iter().all(|item| own(item) || matches!(item, Reply::Error(_)))
            }
            _ => false,
        }
    }
}

/// Lets witnesses look until `over`, and counts their rounds.
fn witness(shards: &Shards, weft: &Weft, over: &AtomicBool, rounds: &AtomicU64) {
    std::thread::scope(|scope| {
        for number in 0..3 {
            scope.spawn(move || {
                let mut witness = Witness::new(shards, number);
                while !over.load(Ordering::Relaxed) {
                    witness.look(weft, false);
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
}

/// Tells everyone that it is over, also when the test fails.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[track_caller]
fn must_be_sound(weft: &mut Weft) {
    weft.client().must_reply("PING", Reply::Simple("PONG".to_owned()));
    let log = weft.process().log();
    assert!(!log.contains("panicked"), "{log}");
    let peak = weft.process().memory_peak();
    assert!(peak < MEMORY_MAX, "{} MB", peak >> 20);
}

#[test]
fn what_clients_send_harms_nobody_else() {
    let seed = seed();
    for mode in Mode::ALL {
        let shards = Shards::start(mode, Flavor::Redis, 2);
        let mut weft = Weft::start(&shards);
        let over = AtomicBool::new(false);
        let (rounds, connections) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for attacker in 0..4 {
                let (weft, over, connections) = (&weft, &over, &connections);
                scope.spawn(move || {
                    let mut rng = Rng::with_seed(seed + attacker);
                    while !over.load(Ordering::Relaxed) {
                        traffic::attack(weft.address(), &mut rng);
                        connections.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            let watching = scope.spawn(|| witness(&shards, &weft, &over, &rounds));
            let _ending = Ending(&over);
            wait_for_enough(|| seen(&rounds) >= ROUNDS_MIN && seen(&connections) >= 2 * ROUNDS_MIN || watching.is_finished());
        });
        must_be_sound(&mut weft);
        must_be_well(&shards, &weft);
    }
}

#[test]
fn what_shards_send_never_reaches_the_wrong_client() {
    let seed = seed();
    let shards = Shards::start(Mode::Static, Flavor::Redis, 2);
    let proxy = FaultProxy::start(shards.servers()[1].address());
    let setup = Weft::setup(&shards).set("upstream.reply_timeout_ms", 300).set("transactions.lease_ms", 300);
    let mut weft = setup.set("transactions.patience_ms", 1000).through(&proxy, &shards.servers()[1]).start();
    let over = AtomicBool::new(false);
    let mut rng = Rng::with_seed(seed);
    proxy.mangle(move |chunk| traffic::mangled(chunk, &mut rng));
    let rounds = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| witness(&shards, &weft, &over, &rounds));
        let _ending = Ending(&over);
        wait_for_enough(|| seen(&rounds) >= ROUNDS_MIN || watching.is_finished());
    });
    proxy.leave_alone();
    must_be_sound(&mut weft);
    must_be_well(&shards, &weft);
}

/// Everything is carried out again, soon and then always.
#[track_caller]
fn must_be_well(shards: &Shards, weft: &Weft) {
    let mut witness = Witness::new(shards, 9);
    eventually(3 * PATIENCE, "everything is carried out", || witness.look(weft, false));
    witness.look(weft, true);
}

/// Waits until the time is over and there was enough to see, or a witness has failed.
#[track_caller]
fn wait_for_enough(enough: impl Fn() -> bool) {
    let start = Instant::now();
    eventually(6 * PATIENCE, "the witnesses have seen enough", || start.elapsed() >= DURATION && enough());
}

fn seen(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}
