//! Histories under faults: clients of three proxies append to lists and read them in every way there is, while proxies, wires and shards
//! break; then the checker judges all that they were told.
//!
//! Nothing that breaks here loses what a shard has acknowledged, so the guarantee has no exception to hide behind: one anomaly, one record
//! that stays, one reply that no server may give, and the run has failed. So it has when too little has happened. A run prints its
//! seed, which repeats the plans of clients and faults (`WEFT_SOAK_SEED`), though not the moments at which threads meet.

mod account;
mod client;
mod faults;
mod keys;
mod locks;
mod terms;
mod told;
mod workload;
mod world;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::json;

use super::checker;
use super::history::{Operation, Outcome};
use crate::support::{Mode, PATIENCE, eventually};
use account::Account;
use client::Scene;
use faults::{Death, Fault};
use keys::Keys;
use terms::Terms;
use workload::OFTEN;
use world::World;

#[test]
fn histories_over_static_shards_are_strictly_serializable_whatever_dies() {
    must_hold(&run(&Terms::short(Mode::Static)), 50);
}

#[test]
fn histories_over_a_cluster_are_strictly_serializable_whatever_dies() {
    must_hold(&run(&Terms::short(Mode::Cluster)), 50);
}

/// What these histories are worth: where less is promised, they show it.
#[test]
fn histories_with_relaxed_isolation_are_not_strictly_serializable() {
    let (round, time) = (Duration::from_secs(1), 5 * PATIENCE);
    let terms = Terms { isolation: "relaxed", faults: Vec::new(), round, time, ..Terms::short(Mode::Static) };
    let account = run(&terms);
    assert!(!account.anomalies.is_empty(), "\n{account}");
    assert!(account.surprises.is_empty() && account.unresolved.is_empty(), "\n{account}");
}

/// `make soak`: as long as `WEFT_SOAK_MINUTES` says, one half for each mode. Writes what it came to into `benches/results/soak.json`.
#[test]
#[ignore = "it runs for minutes: make soak MINUTES=n"]
fn soak() {
    let minutes: f64 = std::env::var("WEFT_SOAK_MINUTES").map_or(4.0, |text| text.parse().expect("WEFT_SOAK_MINUTES is a number"));
    let each = Duration::from_secs_f64(minutes * 60.0 / 2.0);
    let accounts = Mode::ALL.map(|mode| run(&Terms::long(mode, each)));
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/results/soak.json");
    let date = Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]).output().unwrap().stdout;
    let (date, cores) = (String::from_utf8_lossy(&date), std::thread::available_parallelism().map_or(0, usize::from));
    let clients = Terms::long(Mode::Static, each).clients;
    let results = json!({"date": date.trim(), "cores": cores, "clients": clients, "runs": accounts.each_ref().map(Account::to_json)});
    std::fs::write(path, serde_json::to_string_pretty(&results).unwrap() + "\n").unwrap();
    accounts.iter().for_each(|account| must_hold(account, 1_000));
}

/// A run on these terms.
fn run(terms: &Terms) -> Account {
    let seed = std::env::var("WEFT_SOAK_SEED").map_or(terms.seed, |text| text.parse().expect("WEFT_SOAK_SEED is a number"));
    println!("{:?}, WEFT_SOAK_SEED={seed}", terms.mode);
    let (mut rng, mut account) = (Rng::with_seed(seed), Account::new(terms.mode, seed));
    let (mut world, began) = (World::start(terms), Instant::now());
    loop {
        round(&mut world, terms, &mut rng, &mut account);
        report(&account);
        if began.elapsed() >= terms.time || !account.is_clean() {
            return account;
        }
    }
}

/// Clients and faults for a while; then everything is well again, everything is settled, and everything is judged.
fn round(world: &mut World, terms: &Terms, rng: &mut Rng, account: &mut Account) {
    let keys = Keys::new(account.rounds);
    let (over, began) = (AtomicBool::new(false), Instant::now());
    let progress: Vec<AtomicU64> = (0..terms.clients).map(|_| AtomicU64::new(0)).collect();
    let doors = Arc::clone(&world.doors);
    let scene = Scene { keys: &keys, doors: &doors, began, over: &over, progress: &progress };
    let notes = std::thread::scope(|scope| {
        // Also when a fault cannot be done and this thread panics: nobody waits for the clients then.
        let _over = OnDrop(&over);
        let clients: Vec<_> = (0..terms.clients)
            .map(|number| {
                let (scene, rng) = (&scene, rng.fork());
                scope.spawn(move || client::run(scene, number, rng))
            })
            .collect();
        afflict(world, terms, rng, &scene, account);
        let before: Vec<u64> = progress.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        eventually(3 * PATIENCE, "every client gets on when nothing is broken any more", || {
            progress.iter().zip(&before).all(|(count, before)| count.load(Ordering::Relaxed) > *before)
        });
        over.store(true, Ordering::Relaxed);
        clients.into_iter().map(|client| client.join().expect("a client does not fail")).collect::<Vec<_>>()
    });
    account.time += began.elapsed();
    account.rounds += 1;

    let left = world.settle(terms.record_age + PATIENCE);
    account.unresolved.extend(left.iter().map(|(shard, name)| format!("{name} at shard {shard}")));
    let shard_of = |key| world.shards.shard_of(&keys.name(key));
    let mut history: Vec<Operation> = notes.into_iter().flat_map(|notes| account.count(notes, shard_of)).collect();
    let invoked = began.elapsed();
    let steps = world.contents(&keys);
    history.push(Operation { client: terms.clients, steps, invoked, completed: began.elapsed(), outcome: Outcome::Ok });
    account.anomalies.extend(checker::check(&history).anomalies.iter().map(ToString::to_string));
    world.clear();
}

/// One fault after the other, or two at a time, until the round is over.
fn afflict(world: &mut World, terms: &Terms, rng: &mut Rng, scene: &Scene<'_>, account: &mut Account) {
    let (began, mut due) = (Instant::now(), Vec::new());
    account.timeline.clear();
    let lacking = |account: &Account| -> Vec<faults::Kind> {
        terms.faults.iter().filter(|kind| !account.faults.contains_key(kind)).copied().collect()
    };
    let answered = || scene.progress.iter().map(|count| count.load(Ordering::Relaxed)).sum::<u64>();
    while began.elapsed() < terms.round || !lacking(account).is_empty() || answered() < terms.answered_min {
        assert!(began.elapsed() < terms.round + ROUND_GRACE, "{} were answered; faults: {:?}", answered(), account.faults);
        if due.is_empty() {
            // At the end what has not come along is tried alone, as long as it takes.
            due = if began.elapsed() < terms.round { Vec::new() } else { lacking(account) };
            if due.is_empty() {
                due.clone_from(&terms.faults);
            }
            rng.shuffle(&mut due);
        }
        let Some(first) = due.pop() else {
            std::thread::sleep(terms.round);
            continue;
        };
        let second = due.pop_if(|second| first.goes_with(*second) && rng.u32(..TOGETHER) == 0);
        let mut plan = |kind| {
            let key = scene.keys.name(scene.keys.pick(rng, 1)[0]);
            Fault::plan(kind, rng, world.links(), terms.fault_time, key)
        };
        let (first, second) = (plan(first), second.map(plan));
        let (start, what) = (began.elapsed(), format!("{first} {}", second.as_ref().map(ToString::to_string).unwrap_or_default()));
        match second {
            None => alone(world, &first, account),
            Some(second) => together(world, [&first, &second], account),
        }
        account.timeline.push(format!("  {:.3} to {:.3} s: {what}", start.as_secs_f64(), began.elapsed().as_secs_f64()));
    }
    eventually(3 * PATIENCE, "the shards are in agreement", || world.shards.agree());
}

/// A fault while everything else is well. If it may leave locks behind, it lasts until they are gone.
fn alone(world: &mut World, fault: &Fault, account: &mut Account) {
    eventually(3 * PATIENCE, "the shards are in agreement", || world.shards.agree());
    let happened = fault.begin(world);
    if fault.leaves_locks() {
        account.recoveries.push(Death::now().until_released(world));
    } else {
        std::thread::sleep(fault.time());
    }
    fault.end(world);
    if happened {
        *account.faults.entry(fault.kind).or_default() += 1;
    }
}

/// Two faults that overlap. What waits for something comes first, or it would wait for what the other has stopped.
fn together(world: &mut World, mut faults: [&Fault; 2], account: &mut Account) {
    faults.sort_by_key(|fault| !fault.kind.waits());
    let happened = faults.map(|fault| fault.begin(world));
    std::thread::sleep(faults.map(Fault::time).into_iter().max().unwrap_or_default());
    for (fault, happened) in faults.into_iter().zip(happened) {
        fault.end(world);
        if happened {
            *account.faults.entry(fault.kind).or_default() += 1;
        }
    }
}

/// Nothing is wrong, and enough has happened for that to mean something.
#[track_caller]
fn must_hold(account: &Account, transactions_min: u64) {
    assert!(account.is_clean(), "\n{account}");
    assert!(account.across_shards >= transactions_min, "too little has happened\n{account}");
    assert!(OFTEN.iter().all(|(kind, _)| account.answered(*kind) > 0), "some kind of operation never succeeds\n{account}");
}

/// Prints how it stands, and writes it as a line of JSON into a file of its mode beside what was built.
fn report(account: &Account) {
    println!("{account}");
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("soak");
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(account.mode_name()).with_extension("jsonl");
    let mut file = std::fs::File::options().create(true).append(true).open(path).unwrap();
    writeln!(file, "{}", account.to_json()).unwrap();
}

struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One of so many faults is joined by another.
const TOGETHER: u32 = 3;
const ROUND_GRACE: Duration = Duration::from_secs(120);
