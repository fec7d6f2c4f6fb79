//! What most tests of commands run on: three static shards and a cluster of Redis, and static shards of Valkey, each with a weft before
//! them and, to compare with, one server that weft does not know.
//!
//! Starting them takes seconds, so the tests that run at the same time share them: each works on [`Stage::keys`] of its own, and whoever
//! changes a server's settings starts a [`Fleet`] for itself. The last test to end takes the servers with it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::{Args as _, Client, Flavor, Mode, Server, Shards, Weft, encode};

/// Three shards, a weft before them, and a server alone.
pub(crate) struct Fleet {
    mode: Mode,
    flavor: Flavor,
    /// The shards.
    pub(crate) shards: Shards,
    /// The proxy.
    pub(crate) weft: Weft,
    alone: Server,
}

impl Fleet {
    /// The kinds that tests run on.
    pub(crate) const KINDS: [(Mode, Flavor); 3] =
        [(Mode::Static, Flavor::Redis), (Mode::Cluster, Flavor::Redis), (Mode::Static, Flavor::Valkey)];

    /// Starts one with the default configuration.
    #[track_caller]
    pub(crate) fn start((mode, flavor): (Mode, Flavor)) -> Self {
        let shards = Shards::start(mode, flavor, 3);
        let weft = Weft::start(&shards);
        Self { mode, flavor, shards, weft, alone: Server::start(flavor, &[]) }
    }
}

/// Runs `scene` on every kind of fleet.
#[track_caller]
pub(crate) fn on_each(scene: impl Fn(&Stage<'_>)) {
    let fleets = shared();
    fleets.iter().for_each(|fleet| on(fleet, &scene));
}

/// Runs `scene` on fleets that no other test sees, of every kind.
#[track_caller]
pub(crate) fn on_each_alone(scene: impl Fn(&Stage<'_>)) {
    Fleet::KINDS.into_iter().for_each(|kind| on(&Fleet::start(kind), &scene));
}

fn on(fleet: &Fleet, scene: impl Fn(&Stage<'_>)) {
    let _named = Named(fleet);
    scene(&Stage { fleet });
}

/// One fleet as one test uses it.
pub(crate) struct Stage<'a> {
    fleet: &'a Fleet,
}

impl Stage<'_> {
    /// A client of weft that speaks RESP2.
    #[track_caller]
    pub(crate) fn client(&self) -> Client {
        self.fleet.weft.client()
    }

    /// A client of weft that speaks RESP3.
    #[track_caller]
    pub(crate) fn client_resp3(&self) -> Client {
        self.fleet.weft.client_resp3()
    }

    /// The shards.
    pub(crate) fn shards(&self) -> &Shards {
        &self.fleet.shards
    }

    /// The proxy.
    pub(crate) fn weft(&self) -> &Weft {
        &self.fleet.weft
    }

    /// Whether the shards have several databases.
    pub(crate) fn is_static(&self) -> bool {
        self.fleet.mode == Mode::Static
    }

    /// Whose servers these are.
    pub(crate) fn flavor(&self) -> Flavor {
        self.fleet.flavor
    }

    /// Three keys, one on each shard, that no test has used before.
    pub(crate) fn keys(&self) -> [String; 3] {
        static SETS: AtomicU32 = AtomicU32::new(0);
        let set = SETS.fetch_add(1, Ordering::Relaxed);
        [0, 1, 2].map(|shard| self.fleet.shards.key_on(shard, &format!("k{set}:")))
    }

    /// weft answers `commands`, which are divided by semicolons, as the server alone does, byte for byte, in RESP2 and in RESP3. `X`, `Y`
    /// and `Z` in them are keys on three shards. They are sent one by one, and then once more in one write with other keys.
    #[track_caller]
    pub(crate) fn must_agree(&self, commands: &str) {
        let commands: Vec<Vec<Vec<u8>>> = commands.split(';').map(|command| command.args()).collect();
        self.must_agree_on(&commands);
    }

    /// Like [`Self::must_agree`] for commands that are not words.
    #[track_caller]
    pub(crate) fn must_agree_on(&self, commands: &[Vec<Vec<u8>>]) {
        for connect in [Client::connect, Client::connect_resp3] {
            let [mut proxy, mut server] = [self.fleet.weft.address(), self.fleet.alone.address()].map(connect);
            for at_once in [false, true] {
                let commands = with_keys(commands, &self.keys());
                if at_once {
                    let pipeline: Vec<u8> = commands.iter().flat_map(|command| encode(command.as_slice())).collect();
                    proxy.send_raw(&pipeline);
                    server.send_raw(&pipeline);
                }
                for command in &commands {
                    if !at_once {
                        proxy.send(command.as_slice());
                        server.send(command.as_slice());
                    }
                    let [ours, theirs] = [&mut proxy, &mut server].map(|client| shown(&client.receive_frame()));
                    let command: Vec<_> = command.iter().map(|word| shown(word)).collect();
                    assert_eq!(ours, theirs, "weft and the server disagree about {}", command.join(" "));
                }
            }
        }
    }
}

/// `commands` with the words `X`, `Y` and `Z` replaced by keys.
fn with_keys(commands: &[Vec<Vec<u8>>], keys: &[String; 3]) -> Vec<Vec<Vec<u8>>> {
    let word = |word: &Vec<u8>| match &word[..] {
        [letter @ b'X'..=b'Z'] => keys[usize::from(letter - b'X')].clone().into_bytes(),
        _ => word.clone(),
    };
    commands.iter().map(|command| command.iter().map(word).collect()).collect()
}

fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string().chars().take(400).collect()
}

/// Says which fleet a test failed on.
struct Named<'a>(&'a Fleet);

impl Drop for Named<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- that was on {:?} shards of {:?}", self.0.mode, self.0.flavor);
        }
    }
}

/// The fleets that tests running now have in common.
#[track_caller]
fn shared() -> Arc<Vec<Fleet>> {
    static FLEETS: Mutex<Weak<Vec<Fleet>>> = Mutex::new(Weak::new());
    let mut fleets = FLEETS.lock().unwrap_or_else(PoisonError::into_inner);
    fleets.upgrade().unwrap_or_else(|| {
        let started = std::thread::scope(|scope| {
            let starting = Fleet::KINDS.map(|kind| scope.spawn(move || Fleet::start(kind)));
            starting.into_iter().map(|fleet| fleet.join().expect("the fleet starts")).collect()
        });
        let started = Arc::new(started);
        *fleets = Arc::downgrade(&started);
        started
    })
}
