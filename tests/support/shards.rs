//! Several servers that share the keyspace: strangers to each other, or a Redis Cluster.

use std::ops::Range;

use weft::slot::{SLOT_COUNT, Slot};
use weft::txn::{Participant, internal_keys};

use super::{Clock, FaultProxy, Flavor, PATIENCE, Reply, Server, eventually, free_port};

/// Who knows where the slots are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// weft alone: `topology.static`.
    Static,
    /// The nodes: `topology.cluster`.
    Cluster,
}

impl Mode {
    /// Both, for tests that hold in either.
    pub(crate) const ALL: [Self; 2] = [Self::Static, Self::Cluster];
}

/// Servers, each with an even part of the slots.
pub(crate) struct Shards {
    mode: Mode,
    servers: Vec<Server>,
}

impl Shards {
    /// Starts `count` shards and waits until they agree on the slots.
    #[track_caller]
    pub(crate) fn start(mode: Mode, flavor: Flavor, count: usize) -> Self {
        match mode {
            Mode::Static => Self::fixed(flavor, count),
            Mode::Cluster => Self::cluster(flavor, count),
        }
    }

    /// Likewise, with options of the servers' command line.
    #[track_caller]
    pub(crate) fn start_with(mode: Mode, flavor: Flavor, count: usize, options: &[&str]) -> Self {
        match mode {
            Mode::Static => Self::fixed_with(flavor, count, options),
            Mode::Cluster => Self::cluster_with(flavor, count, options),
        }
    }

    /// Servers that know nothing of each other.
    #[track_caller]
    pub(crate) fn fixed(flavor: Flavor, count: usize) -> Self {
        Self::fixed_with(flavor, count, &[])
    }

    /// Servers that know nothing of each other, with options of their command line.
    #[track_caller]
    pub(crate) fn fixed_with(flavor: Flavor, count: usize, options: &[&str]) -> Self {
        Self { mode: Mode::Static, servers: (0..count).map(|_| Server::start(flavor, options)).collect() }
    }

    /// A shard for each of `clocks`, which it lives by.
    #[track_caller]
    pub(crate) fn with_clocks(mode: Mode, clocks: impl IntoIterator<Item = Clock>) -> Self {
        let clocks = clocks.into_iter().map(Some);
        match mode {
            Mode::Static => Self { mode, servers: clocks.map(|clock| Server::start_with(Flavor::Redis, &[], clock)).collect() },
            Mode::Cluster => Self::cluster_of(clocks.map(|clock| node(Flavor::Redis, &[], clock)).collect()),
        }
    }

    /// A cluster of primaries.
    #[track_caller]
    pub(crate) fn cluster(flavor: Flavor, count: usize) -> Self {
        Self::cluster_with(flavor, count, &[])
    }

    /// A cluster of primaries, with options of their command line.
    #[track_caller]
    pub(crate) fn cluster_with(flavor: Flavor, count: usize, options: &[&str]) -> Self {
        Self::cluster_of((0..count).map(|_| node(flavor, options, None)).collect())
    }

    #[track_caller]
    fn cluster_of(servers: Vec<Server>) -> Self {
        let shards = Self { mode: Mode::Cluster, servers };
        for (index, server) in shards.servers.iter().enumerate() {
            let (slots, first) = (shards.slots(index), shards.servers[0].address());
            let mut client = server.client();
            client.must_ok(&format!("CLUSTER ADDSLOTSRANGE {} {}", slots.start, slots.end - 1));
            // Distinct epochs from the start, so that the nodes need not settle a collision later.
            client.must_ok(&format!("CLUSTER SET-CONFIG-EPOCH {}", index + 1));
            client.must_ok(&format!("CLUSTER MEET {} {} {}", first.ip(), first.port(), bus_port(&shards.servers[0])));
        }
        eventually(PATIENCE, "the nodes form a cluster", || shards.agree());
        shards
    }

    /// Puts `proxies` before the nodes of a cluster: they name the proxies' ports to clients in place of their own, now and when they
    /// are started again.
    #[track_caller]
    pub(crate) fn announce(&mut self, proxies: &[FaultProxy]) {
        let ports: Vec<u16> = proxies.iter().map(|proxy| proxy.address().port()).collect();
        for (server, port) in self.servers.iter_mut().zip(&ports) {
            server.set_option("cluster-announce-port", &port.to_string());
        }
        eventually(PATIENCE, "every node knows the announced ports", || {
            let views: Vec<String> = self.servers.iter().filter_map(|server| server.client().call("CLUSTER NODES").text()).collect();
            views.iter().all(|view| ports.iter().all(|port| view.contains(&format!(":{port}@"))))
        });
    }

    /// Adds a replica of the node at `index`, and waits until it has everything.
    #[track_caller]
    pub(crate) fn replica_of(&self, index: usize, flavor: Flavor) -> Server {
        let (replica, first, primary) = (node(flavor, &[], None), &self.servers[0], &self.servers[index]);
        let id = primary.client().call("CLUSTER MYID").text().expect("a node has an id");
        let mut client = replica.client();
        client.must_ok(&format!("CLUSTER MEET {} {} {}", first.address().ip(), first.address().port(), bus_port(first)));
        // It can follow a node only when it has heard of it, and take over only the slots that it has heard of; and who does not know it would
        // not believe it.
        eventually(PATIENCE, "the replica may follow", || client.call(&format!("CLUSTER REPLICATE {id}")) == Reply::ok());
        eventually(PATIENCE, "the replica has everything", || {
            client.call("INFO replication").text().is_some_and(|text| text.contains("master_link_status:up"))
        });
        eventually(PATIENCE, "the replica knows all slots", || knows_slots(&replica));
        let own = client.call("CLUSTER MYID").text().expect("a node has an id");
        let is_known = |server: &Server| {
            let nodes = server.client().call("CLUSTER NODES").text().unwrap_or_default();
            nodes.lines().any(|line| line.starts_with(&own) && line.contains(&id) && line.contains("slave"))
        };
        eventually(PATIENCE, "every primary knows the replica", || self.servers.iter().all(is_known));
        replica
    }

    /// Whether all servers are there and, in a cluster, in agreement about it.
    pub(crate) fn agree(&self) -> bool {
        self.mode == Mode::Static || self.servers.iter().all(|server| knows_all(server, self.servers.len()))
    }

    /// Who knows where the slots are.
    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    /// The servers, in the order of their slots.
    pub(crate) fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// One of them, to kill or pause.
    pub(crate) fn server(&mut self, index: usize) -> &mut Server {
        &mut self.servers[index]
    }

    /// The slots of the shard at `index`, as they were dealt at the start.
    pub(crate) fn slots(&self, index: usize) -> Range<usize> {
        let border = |index| index * usize::from(SLOT_COUNT) / self.servers.len();
        border(index)..border(index + 1)
    }

    /// The index of the shard that has `key`.
    pub(crate) fn shard_of(&self, key: &str) -> usize {
        let slot = Slot::of(key.as_bytes()).index();
        (0..self.servers.len()).find(|&index| self.slots(index).contains(&slot)).expect("every slot was dealt")
    }

    /// A key that begins with `prefix` and lives on the shard at `index`: the same at each call.
    pub(crate) fn key_on(&self, index: usize, prefix: &str) -> String {
        (0..).map(|number| format!("{prefix}{number}")).find(|key| self.shard_of(key) == index).expect("some key is there")
    }

    /// The participant that has `key`.
    pub(crate) fn participant(&self, key: &str) -> Participant {
        match self.mode {
            Mode::Static => Participant::Shard { name: format!("s{}", self.shard_of(key)).into(), db: 0 },
            Mode::Cluster => Participant::Slot(Slot::of(key.as_bytes())),
        }
    }

    /// The name of the lock of whoever will write `key`.
    pub(crate) fn lock_of(&self, key: &str) -> String {
        let lock = internal_keys::exclusive_lock(&self.participant(key), key.as_bytes());
        String::from_utf8(lock.to_vec()).expect("a text")
    }

    /// Locks `key` in the name of `owner`, by hand.
    #[track_caller]
    pub(crate) fn lock(&self, key: &str, owner: &str, deadline: u64) {
        let mut shard = self.servers[self.shard_of(key)].client();
        shard.must_ok(&["SET", &self.lock_of(key), &format!("{owner} {deadline}")]);
        shard.must_int(&[b"SADD", &internal_keys::gate(&self.participant(key))[..], owner.as_bytes()], 1);
    }

    /// Undoes [`Self::lock`].
    #[track_caller]
    pub(crate) fn unlock(&self, key: &str, owner: &str) {
        let mut shard = self.servers[self.shard_of(key)].client();
        shard.must_int(&format!("DEL {}", self.lock_of(key)), 1);
        shard.must_int(&[b"SREM", &internal_keys::gate(&self.participant(key))[..], owner.as_bytes()], 1);
    }

    /// What weft leaves in the shards: every key of its own, with the index of its shard. Empty when nothing is in flight.
    pub(crate) fn internal_keys(&self) -> Vec<(usize, String)> {
        let keys = |(index, server): (usize, &Server)| {
            let reply = server.client().call("KEYS __weft:*");
            let names: Vec<_> = reply.items().expect("KEYS answers an array").iter().filter_map(Reply::text).collect();
            names.into_iter().map(move |name| (index, name))
        };
        self.servers.iter().enumerate().flat_map(keys).collect()
    }

    /// The `topology:` part of a `proxy.yaml`, in flow style.
    pub(crate) fn topology(&self) -> String {
        match self.mode {
            Mode::Cluster => format!("{{cluster: {{seeds: [\"{}\"]}}}}", self.servers[0].address()),
            Mode::Static => {
                let shard = |(index, server): (usize, &Server)| {
                    let (slots, address) = (self.slots(index), server.address());
                    format!("{{name: s{index}, address: \"{address}\", slots: [\"{}-{}\"]}}", slots.start, slots.end - 1)
                };
                let shards: Vec<_> = self.servers.iter().enumerate().map(shard).collect();
                format!("{{static: {{shards: [{}]}}}}", shards.join(", "))
            }
        }
    }
}

fn node(flavor: Flavor, options: &[&str], clock: Option<Clock>) -> Server {
    let bus = free_port().to_string();
    let cluster =
        ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-announce-ip", "127.0.0.1", "--cluster-node-timeout", "5000"];
    // A replica need not wait for others that want to be copied to as well.
    Server::start_with(flavor, &[&cluster[..], &["--repl-diskless-sync-delay", "0"], options].concat(), clock)
}

fn bus_port(server: &Server) -> String {
    let nodes = server.client().call("CLUSTER MYID").text().expect("a node has an id");
    let line = server.client().call("CLUSTER NODES").text().expect("a node knows itself");
    let (_, rest) = line.lines().find(|line| line.starts_with(&nodes)).and_then(|line| line.split_once('@')).expect("the bus port");
    rest.split([',', ' ']).next().expect("the bus port").to_owned()
}

fn knows_all(server: &Server, count: usize) -> bool {
    let info = server.client().call("CLUSTER INFO").text().unwrap_or_default();
    info.contains("cluster_state:ok") && info.contains(&format!("cluster_known_nodes:{count}\r")) && knows_slots(server)
}

/// Whether it knows an owner of every slot.
fn knows_slots(server: &Server) -> bool {
    let info = server.client().call("CLUSTER INFO").text().unwrap_or_default();
    info.contains(&format!("cluster_slots_assigned:{SLOT_COUNT}\r"))
}
