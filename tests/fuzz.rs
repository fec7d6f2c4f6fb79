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

    /// A round of commands in one pipeline; whether all were carried out. An error is allowed where the `shards` are not to be trusted,
    /// somebody else's reply is not.
    fn look(&mut self, weft: &Weft, trust: bool) -> bool {
        self.round += 1;
        let (value, [a, b]) = (format!("{}{}", self.name, self.round), &self.keys);
        let mut client = self.client.take().unwrap_or_else(|| weft.client());
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
            assert!(whole || (!trust && self.may_be(&reply, index)), "{}: {reply:?} to command {index} of round {}", self.name, self.round);
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

/// Lets witnesses look until `over`; how many rounds there were.
fn witness(shards: &Shards, weft: &Weft, trust: bool, over: &AtomicBool) -> u64 {
    let rounds = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for number in 0..3 {
            let rounds = &rounds;
            scope.spawn(move || {
                let mut witness = Witness::new(shards, number);
                while !over.load(Ordering::Relaxed) {
                    witness.look(weft, trust);
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    rounds.load(Ordering::Relaxed)
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
        let connections = AtomicU64::new(0);
        let rounds = std::thread::scope(|scope| {
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
            let watching = scope.spawn(|| witness(&shards, &weft, true, &over));
            sleep_unless(DURATION, || watching.is_finished());
            over.store(true, Ordering::Relaxed);
            watching.join().unwrap()
        });
        let connections = connections.into_inner();
        assert!(rounds > 20 && connections > 50, "{rounds} rounds, {connections} connections");
        must_be_sound(&mut weft);
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
    let rounds = std::thread::scope(|scope| {
        let watching = scope.spawn(|| witness(&shards, &weft, false, &over));
        sleep_unless(DURATION, || watching.is_finished());
        over.store(true, Ordering::Relaxed);
        watching.join().unwrap()
    });
    assert!(rounds > 20, "{rounds} rounds");
    proxy.leave_alone();
    must_be_sound(&mut weft);
    // And all is well again, as soon as the shard is.
    let mut witness = Witness::new(&shards, 9);
    eventually(PATIENCE, "everything is carried out", || witness.look(&weft, false));
    witness.look(&weft, true);
}

/// Waits for `duration`, or until `early`.
fn sleep_unless(duration: Duration, early: impl Fn() -> bool) {
    let start = Instant::now();
    eventually(2 * duration, "the time is over", || start.elapsed() >= duration || early());
}
