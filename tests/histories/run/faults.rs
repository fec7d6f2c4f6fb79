//! What is done to the world while clients run: each fault begins, lasts a while, and is made good again.
//!
//! Nothing here loses what was acknowledged. Two faults may overlap, if they befall things of different kinds.

use std::fmt;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fastrand::Rng;
use weft::txn::Script;

use super::locks;
use super::world::{SHARDS, WEFTS, World};
use crate::support::{Fault as Trap, FaultProxy, Mode, PATIENCE, Way};

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// SIGKILL of a weft, and another in its place.
    WeftKilled,
    /// A weft that kills itself at a step of a transaction.
    WeftDies,
    /// The same, when all is prepared and nothing is committed: its locks are there, and nobody but others can release them.
    WeftDiesDecided,
    /// SIGSTOP of a weft, then SIGCONT.
    WeftPaused,
    /// Every connection of a wire is closed.
    LinkCut,
    /// One connection is closed in front of bytes that go this way.
    BytesLost(Way),
    /// A connection passes nothing this way for a while.
    BytesHeld(Way),
    /// The same, and then it is closed with what it held.
    BytesHeldAndLost(Way),
    /// SIGKILL of a shard, and again with its append-only file.
    ShardKilled,
    /// The same, before it gets a step of a transaction or after it has answered.
    ShardKilledAt(Step),
    /// SIGSTOP of a shard, then SIGCONT.
    ShardPaused,
    /// A slot goes to another node, key by key.
    SlotMoved,
}

/// A step of a transaction over several shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Prepare,
    Commit,
}

impl Kind {
    /// All that can be done in a world of this mode.
    pub(super) fn all(mode: Mode) -> Vec<Self> {
        let both = |kind: fn(Way) -> Self| [kind(Way::Requests), kind(Way::Replies)];
        let mut all = vec![Self::WeftKilled, Self::WeftDies, Self::WeftDiesDecided, Self::WeftPaused];
        all.extend([Self::LinkCut, Self::ShardKilled, Self::ShardPaused]);
        all.extend([both(Self::BytesLost), both(Self::BytesHeld), both(Self::BytesHeldAndLost)].concat());
        all.extend([Self::ShardKilledAt(Step::Prepare), Self::ShardKilledAt(Step::Commit)]);
        if mode == Mode::Cluster {
            all.push(Self::SlotMoved);
        }
        all
    }

    /// What reports call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::WeftKilled => "weft killed and started again",
            Self::WeftDies => "weft killed at a step of a transaction",
            Self::WeftDiesDecided => "weft killed between prepare and commit",
            Self::WeftPaused => "weft stopped for a while",
            Self::LinkCut => "wire to a shard cut",
            Self::BytesLost(Way::Requests) => "connection cut before a request",
            Self::BytesLost(Way::Replies) => "connection cut before a reply",
            Self::BytesHeld(Way::Requests) => "requests held up",
            Self::BytesHeld(Way::Replies) => "replies held up",
            Self::BytesHeldAndLost(Way::Requests) => "requests held up, then lost",
            Self::BytesHeldAndLost(Way::Replies) => "replies held up, then lost",
            Self::ShardKilled => "shard killed and started again",
            Self::ShardKilledAt(Step::Prepare) => "shard killed in the middle of prepare",
            Self::ShardKilledAt(Step::Commit) => "shard killed in the middle of commit",
            Self::ShardPaused => "shard stopped for a while",
            Self::SlotMoved => "slot moved",
        }
    }

    /// Whether it begins only when something comes along.
    pub(super) fn waits(self) -> bool {
        !matches!(self, Self::WeftKilled | Self::WeftPaused | Self::LinkCut | Self::ShardKilled | Self::ShardPaused)
    }

    /// What it befalls.
    fn victim(self) -> Victim {
        match self {
            Self::WeftKilled | Self::WeftDies | Self::WeftPaused => Victim::Weft,
            Self::LinkCut | Self::BytesLost(_) | Self::BytesHeld(_) | Self::BytesHeldAndLost(_) => Victim::Link,
            Self::ShardKilled | Self::ShardKilledAt(_) | Self::ShardPaused => Victim::Shard,
            Self::WeftDiesDecided | Self::SlotMoved => Victim::Everything,
        }
    }

    /// Whether the two may overlap.
    pub(super) fn goes_with(self, other: Self) -> bool {
        ![self.victim(), other.victim()].contains(&Victim::Everything) && self.victim() != other.victim()
    }
}

#[derive(PartialEq, Eq)]
enum Victim {
    Weft,
    Link,
    Shard,
    Everything,
}

/// A fault as it was planned: all that is left to chance has been chosen.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) kind: Kind,
    /// Which weft, wire or shard, or which of the other nodes a slot goes to.
    index: usize,
    time: Duration,
    failpoint: String,
    way: Way,
    /// A key whose slot moves.
    key: String,
}

impl Fault {
    /// A fault of `kind` that lasts as long as `bounds` say.
    pub(super) fn plan(kind: Kind, rng: &mut Rng, links: usize, bounds: (Duration, Duration), key: String) -> Self {
        let index = match kind.victim() {
            Victim::Link => rng.usize(..links),
            Victim::Weft | Victim::Shard | Victim::Everything => rng.usize(..WEFTS.min(SHARDS)),
        };
        let time = bounds.0 + (bounds.1 - bounds.0).mul_f64(rng.f64());
        let moment = if kind == Kind::WeftDiesDecided { "before-commit" } else { rng.choice(MOMENTS).unwrap_or_default() };
        // The first participant of the first transaction is the only turn at which no other can have got its commit already.
        let turn = if kind == Kind::WeftDiesDecided { 1 } else { rng.usize(1..TURNS_MAX) };
        let failpoint = format!("{moment}:{turn}");
        let way = if rng.bool() { Way::Requests } else { Way::Replies };
        Self { kind, index, time, failpoint, way, key }
    }

    /// Lets it happen; `false` if what it waits for did not come along.
    pub(super) fn begin(&self, world: &mut World) -> bool {
        match self.kind {
            Kind::WeftKilled => world.wefts[self.index].process().kill(),
            Kind::WeftDies | Kind::WeftDiesDecided => return self.die(world),
            Kind::WeftPaused => world.wefts[self.index].process().pause(),
            Kind::LinkCut => world.link(self.index).cut_all(),
            Kind::BytesLost(way) => return spring(world, self.index, way, b"\r\n", Trap::Cut),
            Kind::BytesHeld(way) | Kind::BytesHeldAndLost(way) => return spring(world, self.index, way, b"\r\n", Trap::Hold),
            Kind::ShardKilled => world.shards.server(self.index).process().kill(),
            Kind::ShardPaused => world.shards.server(self.index).process().pause(),
            Kind::ShardKilledAt(step) => return self.kill_shard_at(step, world),
            Kind::SlotMoved => world.move_slot(&self.key, self.index, self.time),
        }
        true
    }

    /// How long it lasts after it has begun.
    pub(super) fn time(&self) -> Duration {
        if self.kind == Kind::SlotMoved { Duration::ZERO } else { self.time }
    }

    /// Makes it good again.
    pub(super) fn end(&self, world: &mut World) {
        match self.kind {
            Kind::WeftKilled | Kind::WeftDies | Kind::WeftDiesDecided => world.start_weft(self.index, None),
            Kind::WeftPaused => world.wefts[self.index].process().resume(),
            Kind::BytesHeld(_) => world.link(self.index).release(),
            Kind::BytesHeldAndLost(_) => world.link(self.index).cut_all(),
            Kind::ShardKilled | Kind::ShardKilledAt(_) => world.shards.server(self.index).restart(),
            Kind::ShardPaused => world.shards.server(self.index).process().resume(),
            Kind::LinkCut | Kind::BytesLost(_) | Kind::SlotMoved => {}
        }
    }

    /// Whether a coordinator may have died, whose locks others have to release.
    pub(super) fn leaves_locks(&self) -> bool {
        matches!(self.kind, Kind::WeftKilled | Kind::WeftDies | Kind::WeftDiesDecided)
    }

    /// A weft takes the place of another, and kills itself.
    fn die(&self, world: &mut World) -> bool {
        world.start_weft(self.index, Some(("WEFT_FAILPOINT", &self.failpoint)));
        let died = wait(PATIENCE / 4, || world.wefts[self.index].process().exit_status().is_some());
        if !died {
            world.wefts[self.index].process().kill();
        }
        died
    }

    /// Holds a step on its way to a shard, or the answer to it, and kills the shard.
    fn kill_shard_at(&self, step: Step, world: &mut World) -> bool {
        let pattern = match (step, self.way) {
            (Step::Prepare, Way::Requests) => Script::Prepare.sha1(),
            (Step::Prepare, Way::Replies) => "prepared",
            (Step::Commit, Way::Requests) => Script::Commit.sha1(),
            (Step::Commit, Way::Replies) => "committed",
        };
        let wires: Vec<&FaultProxy> = world.links_to(self.index).collect();
        wires.iter().for_each(|wire| wire.set(self.way, pattern, Trap::Hold));
        let sprung = wait(PATIENCE / 4, || wires.iter().any(|wire| wire.has_sprung()));
        wires.iter().for_each(|wire| wire.disarm());
        world.shards.server(self.index).process().kill();
        world.links_to(self.index).for_each(FaultProxy::cut_all);
        sprung
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, number {}, {} ms", self.kind.name(), self.index, self.time.as_millis())?;
        match self.kind {
            Kind::WeftDies | Kind::WeftDiesDecided => write!(f, ", {}]", self.failpoint),
            Kind::ShardKilledAt(_) => write!(f, ", at {:?}]", self.way),
            Kind::SlotMoved => write!(f, ", of {}]", self.key),
            _ => f.write_str("]"),
        }
    }
}

/// A moment for measuring from.
#[derive(Clone, Copy)]
pub(super) struct Death {
    at: Instant,
    unix_ms: u64,
}

impl Death {
    /// It was just now.
    pub(super) fn now() -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Self { at: Instant::now(), unix_ms: u64::try_from(since_1970.as_millis()).unwrap() }
    }

    /// How long it takes from then until the last lock of the dead is released; nothing else may be broken meanwhile.
    pub(super) fn until_released(self, world: &World) -> Duration {
        locks::until_released(&world.shards, self.at, self.unix_ms)
    }
}

/// Sets a trap and waits until it springs; takes it back if it does not.
fn spring(world: &World, link: usize, way: Way, pattern: &[u8], trap: Trap) -> bool {
    let link = world.link(link);
    link.set(way, pattern, trap);
    let sprung = wait(PATIENCE / 4, || link.has_sprung());
    link.disarm();
    sprung
}

fn wait(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    while !condition() {
        if began.elapsed() > patience {
            return false;
        }
        sleep(Duration::from_millis(2));
    }
    true
}

/// Where a weft may die: the steps that come in every transaction, and some of a resolver's.
const MOMENTS: [&str; 11] = [
    "before-prepare",
    "after-prepare",
    "after-prepare",
    "before-commit",
    "before-commit",
    "before-commit",
    "before-commit",
    "after-commit",
    "before-abort",
    "after-abort",
    "before-forget",
];

/// A weft dies at one of so many turns of its moment.
const TURNS_MAX: usize = 16;
