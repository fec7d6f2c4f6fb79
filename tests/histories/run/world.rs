//! What the clients of a run stand before: three shards that forget nothing, three proxies, and the wires between them.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::client::Doors;
use super::keys::{Keys, answered, read};
use super::terms::Terms;
use crate::faults::moves::Move;
use crate::histories::history::Step;
use crate::support::{FaultProxy, Flavor, Mode, Reply, Server, Setup, Shards, Weft};

/// Everything that can break.
pub(super) struct World {
    pub(super) shards: Shards,
    pub(super) wefts: Vec<Weft>,
    pub(super) doors: Arc<Doors>,
    setups: Vec<Setup>,
    /// The wires from the first weft to each shard, then from the second ... In a cluster, whose nodes name one address to everyone, all
    /// wefts share three.
    links: Vec<FaultProxy>,
}

impl World {
    /// Starts it.
    #[track_caller]
    pub(super) fn start(terms: &Terms) -> Self {
        let mut shards = Shards::start_with(terms.mode, Flavor::Redis, SHARDS, &KEEPING_EVERYTHING);
        let sets = if terms.mode == Mode::Cluster { 1 } else { WEFTS };
        let links: Vec<FaultProxy> = (0..sets).flat_map(|_| shards.servers()).map(|server| FaultProxy::start(server.address())).collect();
        if terms.mode == Mode::Cluster {
            shards.announce(&links);
        }
        let mut setups: Vec<Setup> = (0..WEFTS).map(|weft| terms.setup(wired(&shards, &links, weft))).collect();
        // The clients of the last one move between its workers.
        setups[WEFTS - 1] = setups[WEFTS - 1].clone().env("WEFT_ROVING", "1");
        let wefts: Vec<Weft> = setups.iter().map(|setup| setup.clone().start()).collect();
        let doors = Arc::new(Mutex::new(wefts.iter().map(Weft::address).collect()));
        Self { shards, wefts, doors, setups, links }
    }

    /// Puts another weft in the place of the one at `index`: one that does what the environment variable says, if one is given.
    #[track_caller]
    pub(super) fn start_weft(&mut self, index: usize, variable: Option<(&str, &str)>) {
        let setup = self.setups[index].clone();
        let setup = variable.into_iter().fold(setup, |setup, (name, value)| setup.env(name, value));
        self.wefts[index] = setup.start();
        self.doors.lock().unwrap()[index] = self.wefts[index].address();
    }

    /// How many wires there are.
    pub(super) fn links(&self) -> usize {
        self.links.len()
    }

    /// The wire at `index`.
    pub(super) fn link(&self, index: usize) -> &FaultProxy {
        &self.links[index]
    }

    /// The wires to the shard at `index`.
    pub(super) fn links_to(&self, index: usize) -> impl Iterator<Item = &FaultProxy> {
        self.links.iter().skip(index).step_by(SHARDS)
    }

    /// Moves the slot of `key` to another node of the cluster, over some time; which of the others, `choice` says.
    #[track_caller]
    pub(super) fn move_slot(&self, key: &str, choice: usize, time: Duration) {
        let has_it = |server: &Server| !matches!(server.client().call(&format!("EXISTS {key}")), Reply::Error(_));
        let owner = self.shards.servers().iter().position(has_it).expect("some node has the slot");
        let moving = Move::begin(&self.shards, key, owner, (owner + 1 + choice % (SHARDS - 1)) % SHARDS);
        std::thread::sleep(time / 2);
        moving.move_keys();
        std::thread::sleep(time / 2);
        moving.finish();
    }

    /// Waits until weft has left nothing at the shards, as long as `patience`; what is left then.
    pub(super) fn settle(&self, patience: Duration) -> Vec<(usize, String)> {
        let began = Instant::now();
        loop {
            let left = self.shards.internal_keys();
            if left.is_empty() || began.elapsed() > patience {
                return left;
            }
            std::thread::sleep(SETTLING_POLL);
        }
    }

    /// What the shards hold, asked directly: reads of all keys. To be called when nothing is under way any more.
    #[track_caller]
    pub(super) fn contents(&self, keys: &Keys) -> Vec<Step> {
        let mut clients: Vec<_> = self.shards.servers().iter().map(|server| server.client()).collect();
        let mut contents = Vec::new();
        for step in keys.all().into_iter().map(read) {
            let command = keys.command(&step);
            let first = self.shards.shard_of(&command[1]);
            let replies = (0..SHARDS).map(|turn| clients[(first + turn) % SHARDS].call(command.as_slice()));
            // A slot that has moved is at another node.
            let reply = replies.into_iter().find(|reply| !matches!(reply, Reply::Error(text) if text.starts_with("MOVED")));
            let reply = reply.expect("some node has the slot");
            contents.push(answered(&step, &reply).unwrap_or_else(|| panic!("{reply:?} to {command:?}")));
        }
        contents
    }

    /// Empties the shards. To be called when nothing is under way any more.
    #[track_caller]
    pub(super) fn clear(&self) {
        self.shards.servers().iter().for_each(|server| server.client().must_ok("FLUSHALL"));
    }
}

/// A weft's setup over its wires.
fn wired(shards: &Shards, links: &[FaultProxy], weft: usize) -> Setup {
    let setup = Weft::setup(shards);
    if shards.mode() == Mode::Cluster {
        return setup.seeded_by_all(shards);
    }
    let own = links.iter().skip(weft * SHARDS).take(SHARDS);
    own.zip(shards.servers()).fold(setup, |setup, (link, server)| setup.through(link, server))
}

/// How many shards there are.
pub(super) const SHARDS: usize = 3;
/// How many proxies there are.
pub(super) const WEFTS: usize = 3;

/// What was acknowledged has been written to the file: a shard that is killed comes back with it. `no` leaves to the system when that is
/// written to the disk, which only matters when the machine dies; unlike `everysec` it never puts off the write itself.
const KEEPING_EVERYTHING: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "no"];

const SETTLING_POLL: Duration = Duration::from_millis(50);
