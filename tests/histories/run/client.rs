//! A client: does one operation after the other through whatever proxy answers, and writes down what it was told.
//!
//! It believes nothing but replies. A connection that breaks leaves what was under way unknown; the client goes on with another proxy.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::keys::{Keys, answered};
use super::told;
use super::workload::{self, Kind, Plan};
use crate::histories::history::{Operation, Outcome, Step};
use crate::support::{Client, Reply, encode};

/// Where the proxies are reached. One that is started again listens elsewhere.
pub(super) type Doors = Mutex<Vec<SocketAddr>>;

/// What all clients of a round have in common.
pub(super) struct Scene<'a> {
    pub(super) keys: &'a Keys,
    pub(super) doors: &'a Doors,
    pub(super) began: Instant,
    pub(super) over: &'a AtomicBool,
    /// For each client, how many of its operations were answered.
    pub(super) progress: &'a [AtomicU64],
}

/// What a client has written down.
#[derive(Default)]
pub(super) struct Notes {
    pub(super) operations: Vec<(Kind, Operation)>,
    /// Replies that no server may give, whatever breaks.
    pub(super) surprises: Vec<String>,
}

/// Does operations until the scene is over.
pub(super) fn run(scene: &Scene<'_>, number: usize, mut rng: Rng) -> Notes {
    let mut actor = Actor { scene, number, connection: None, notes: Notes::default() };
    while !scene.over.load(Ordering::Relaxed) {
        // Now and then another proxy, so that those that were away get clients again.
        if actor.connection.is_none() || rng.u32(..STAY) == 0 {
            actor.connection = actor.connect(&mut rng);
        }
        if actor.connection.is_some() {
            let plan = workload::next(&mut rng, scene.keys);
            actor.carry_out(plan);
        }
    }
    actor.notes
}

struct Actor<'a> {
    scene: &'a Scene<'a>,
    number: usize,
    connection: Option<Client>,
    notes: Notes,
}

impl Actor<'_> {
    /// A connection to any proxy, in either version of the protocol. `None` if that one does not answer.
    fn connect(&self, rng: &mut Rng) -> Option<Client> {
        let door = {
            let doors = self.scene.doors.lock().unwrap();
            doors[rng.usize(..doors.len())]
        };
        let mut client = Client::try_connect(door).ok()?;
        client.set_patience(STALL_MAX);
        if rng.bool() {
            client.try_send_raw(encode("HELLO 3")).ok()?;
            client.try_receive().ok()?;
        }
        Some(client)
    }

    fn carry_out(&mut self, plan: Plan) {
        let commands: Vec<Vec<String>> = plan.steps.iter().map(|step| self.scene.keys.command(step)).collect();
        match plan.kind {
            Kind::Append | Kind::Read | Kind::Pipeline => self.plain(&plan, &commands),
            Kind::Snapshot => self.snapshot(&plan),
            Kind::Script | Kind::WideScript => self.script(&plan),
            Kind::OneSlot | Kind::Transaction | Kind::ReadTransaction => self.transaction(&plan, &commands),
            Kind::WatchLoop => self.watch_loop(&plan, &commands),
        }
    }

    /// Commands in one write; each is an operation. They are on one key, so they take effect in their order.
    fn plain(&mut self, plan: &Plan, commands: &[Vec<String>]) {
        let invoked = self.now();
        let mut replies = self.call(commands).into_iter();
        // The session's own order, which the history does not show: there its pipelined operations count as concurrent.
        let (mut seen_before, mut own) = (Vec::new(), Vec::new());
        for step in &plan.steps {
            let (outcome, steps) = self.one_reply(std::slice::from_ref(step), replies.next(), |reply| Some(vec![answered(step, reply)?]));
            match (&steps[0], outcome) {
                (Step::Append { value, .. }, Outcome::Ok) => own.push(*value),
                (Step::Read { seen, .. }, Outcome::Ok) => {
                    if !seen.starts_with(&seen_before) || !own.iter().all(|value| seen.contains(value)) {
                        self.surprise(&format!("a pipelined read saw {seen:?} after {seen_before:?} and appends of {own:?}"));
                    }
                    seen_before.clone_from(seen);
                }
                _ => {}
            }
            self.note(plan.kind, steps, invoked, outcome);
        }
    }

    /// MGET.
    fn snapshot(&mut self, plan: &Plan) {
        let command = [vec!["MGET".to_owned()], self.names(&plan.steps)].concat();
        let invoked = self.now();
        let reply = self.call(&[command]).pop();
        let (outcome, steps) = self.one_reply(&plan.steps, reply, |reply| all_answered(&plan.steps, reply.items()?));
        self.note(plan.kind, steps, invoked, outcome);
    }

    /// EVAL of the three steps of its plan.
    fn script(&mut self, plan: &Plan) {
        let [Step::Append { key: string, value: first }, Step::Append { key: list, value: second }, last] = &plan.steps[..] else { return };
        let keys = [string, list].map(|key| self.scene.keys.name(*key));
        let words = ["EVAL", SCRIPT, "2", &keys[0], &keys[1], &format!("{first} "), &second.to_string()];
        let invoked = self.now();
        let reply = self.call(&[words.map(str::to_owned).to_vec()]).pop();
        let (outcome, steps) =
            self.one_reply(&plan.steps, reply, |reply| Some(vec![plan.steps[0].clone(), plan.steps[1].clone(), answered(last, reply)?]));
        self.note(plan.kind, steps, invoked, outcome);
    }

    /// MULTI, all steps, EXEC in one write.
    fn transaction(&mut self, plan: &Plan, commands: &[Vec<String>]) {
        let invoked = self.now();
        let reply = self.exec(commands);
        let (outcome, steps) = self.one_reply(&plan.steps, reply, |reply| all_answered(&plan.steps, reply.items()?));
        self.note(plan.kind, steps, invoked, outcome);
    }

    /// WATCH, the reads one after the other, then MULTI, the appends, EXEC. If that succeeds, all of it has happened at once, at some
    /// moment after EXEC was sent: what was watched had not changed.
    fn watch_loop(&mut self, plan: &Plan, commands: &[Vec<String>]) {
        let reads = plan.steps.iter().take_while(|step| matches!(step, Step::Read { .. })).count();
        let watch = [vec!["WATCH".to_owned()], self.names(&plan.steps[..reads])].concat();
        if self.call(&[watch]) != [Reply::ok()] {
            self.call(&[vec!["UNWATCH".to_owned()]]);
            return;
        }
        let mut done = Vec::new();
        for (step, command) in plan.steps[..reads].iter().zip(commands) {
            let invoked = self.now();
            let reply = self.call(std::slice::from_ref(command)).pop();
            let (outcome, steps) = self.one_reply(std::slice::from_ref(step), reply, |reply| Some(vec![answered(step, reply)?]));
            self.note(Kind::Read, steps.clone(), invoked, outcome);
            if outcome != Outcome::Ok {
                self.call(&[vec!["UNWATCH".to_owned()]]);
                return;
            }
            done.extend(steps);
        }
        let appends = &plan.steps[reads..];
        let invoked = self.now();
        let reply = self.exec(&commands[reads..]);
        if matches!(reply, Some(Reply::Nil | Reply::NilArray)) {
            return self.note(plan.kind, plan.steps.clone(), invoked, Outcome::Failed);
        }
        let (outcome, appended) = self.one_reply(appends, reply, |reply| all_answered(appends, reply.items()?));
        let steps = if outcome == Outcome::Ok { [done, appended].concat() } else { plan.steps.clone() };
        self.note(plan.kind, steps, invoked, outcome);
    }

    /// The reply of EXEC to a transaction of `commands`; `None` if it was not received.
    fn exec(&mut self, commands: &[Vec<String>]) -> Option<Reply> {
        let [multi, exec] = ["MULTI", "EXEC"].map(|word| vec![vec![word.to_owned()]]);
        let replies = self.call(&[multi, commands.to_vec(), exec].concat());
        if replies.first().is_some_and(|reply| *reply != Reply::ok()) {
            self.surprise(&format!("{:?} to MULTI", replies[0]));
        }
        replies.into_iter().nth(commands.len() + 1)
    }

    /// The outcome of an operation that has one reply, and its steps with what they saw.
    fn one_reply(&mut self, steps: &[Step], reply: Option<Reply>, read: impl FnOnce(&Reply) -> Option<Vec<Step>>) -> (Outcome, Vec<Step>) {
        let Some(reply) = reply else { return (Outcome::Unknown, steps.to_vec()) };
        let outcome = match &reply {
            Reply::Error(text) => told::outcome(text),
            other => match read(other) {
                Some(steps) => return (Outcome::Ok, steps),
                None => None,
            },
        };
        if outcome.is_none() {
            self.surprise(&format!("{reply:?} to {steps:?}"));
        }
        (outcome.unwrap_or(Outcome::Unknown), steps.to_vec())
    }

    /// The replies to `commands`, sent in one write: fewer if the connection breaks.
    fn call(&mut self, commands: &[Vec<String>]) -> Vec<Reply> {
        let Some(client) = &mut self.connection else { return Vec::new() };
        let bytes: Vec<u8> = commands.iter().flat_map(|command| encode(command.as_slice())).collect();
        let mut replies = Vec::new();
        if client.try_send_raw(bytes).is_ok() {
            replies.extend(commands.iter().map_while(|_| client.try_receive().ok()));
        }
        if replies.len() < commands.len() {
            self.connection = None;
        }
        replies
    }

    fn note(&mut self, kind: Kind, steps: Vec<Step>, invoked: Duration, outcome: Outcome) {
        let completed = self.now();
        if outcome == Outcome::Ok {
            self.scene.progress[self.number].fetch_add(1, Ordering::Relaxed);
        }
        self.notes.operations.push((kind, Operation { client: self.number, steps, invoked, completed, outcome }));
    }

    fn surprise(&mut self, what: &str) {
        if self.notes.surprises.len() < SURPRISES_MAX {
            self.notes.surprises.push(what.chars().take(500).collect());
        }
    }

    fn names(&self, steps: &[Step]) -> Vec<String> {
        steps.iter().map(|step| self.scene.keys.name(step.key())).collect()
    }

    fn now(&self) -> Duration {
        self.scene.began.elapsed()
    }
}

/// `steps` with what `replies` answered to them, one to each.
fn all_answered(steps: &[Step], replies: &[Reply]) -> Option<Vec<Step>> {
    let answers = steps.iter().zip(replies).map(|(step, reply)| answered(step, reply));
    answers.collect::<Option<Vec<_>>>().filter(|answers| answers.len() == steps.len() && replies.len() == steps.len())
}

/// Appends to both keys, and answers the first.
const SCRIPT: &str = "redis.call('APPEND', KEYS[1], ARGV[1]) redis.call('RPUSH', KEYS[2], ARGV[2]) return redis.call('GET', KEYS[1])";

/// Operations between two changes of the proxy, on the average.
const STAY: u32 = 30;

/// Longer than anything that is broken on purpose, and than weft's own patience after that.
const STALL_MAX: Duration = Duration::from_secs(30);

const SURPRISES_MAX: usize = 10;
