//! Real servers on free loopback ports, static or formed into a cluster.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use redis::aio::MultiplexedConnection;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::locate;
use super::process::Process;
use crate::config::{ClusterConfig, StaticConfig, StaticShard, TopologyConfig};
use crate::node_addr::NodeAddr;
use crate::slot::SLOT_COUNT;
use crate::topology::{Mode, share};

/// What to start.
#[derive(Clone, Debug)]
pub struct ShardOptions {
    /// How many servers, at least one.
    pub count: u16,
    /// Static servers or a cluster.
    pub mode: Mode,
    /// The server's executable; `None` searches PATH for `redis-server` and `valkey-server`.
    pub server: Option<PathBuf>,
    /// Further arguments for each server, such as `--maxmemory-policy allkeys-lru`.
    pub arguments: Vec<String>,
}

impl ShardOptions {
    /// `count` servers as they come.
    pub fn new(count: u16, mode: Mode) -> Self {
        Self { count, mode, server: None, arguments: Vec::new() }
    }
}

/// Running servers in a temporary folder. Dropping this kills them and removes the folder; if this process is killed, they are killed too
/// and only the folder stays.
#[derive(Debug)]
pub struct Shards {
    mode: Mode,
    server: PathBuf,
    arguments: Vec<String>,
    /// Dropped before the folder they run in.
    shards: Vec<Server>,
    folder: TempDir,
}

impl Shards {
    /// Starts the servers and waits until they serve, in cluster mode every slot.
    pub async fn start(options: &ShardOptions) -> anyhow::Result<Self> {
        ensure!((1..=SHARDS_MAX).contains(&options.count), "{} shards; start 1 to {SHARDS_MAX}", options.count);
        let server = locate::server(options.server.as_deref())?;
        // Not canonical: redis-server may be a link to a program that looks at the name it was called by.
        let server = std::path::absolute(server)?;
        let folder = tempfile::Builder::new().prefix("weft-dev-").tempdir().context("no temporary folder")?;
        let mut shards = Self { mode: options.mode, server, arguments: options.arguments.clone(), shards: Vec::new(), folder };
        for index in 0..options.count {
            let started = shards.start_on_free_ports(usize::from(index)).await?;
            shards.shards.push(started);
        }
        if options.mode == Mode::Cluster {
            shards.form_cluster().await?;
        }
        Ok(shards)
    }

    /// Where the servers listen, in order.
    pub fn addresses(&self) -> impl ExactSizeIterator<Item = NodeAddr> + '_ {
        self.shards.iter().filter_map(|shard| NodeAddr::new(HOST, shard.ports.client)).collect::<Vec<_>>().into_iter()
    }

    /// The servers' ports, in order.
    pub fn ports(&self) -> Vec<u16> {
        self.shards.iter().map(|shard| shard.ports.client).collect()
    }

    /// The executable that runs.
    pub fn server(&self) -> &Path {
        &self.server
    }

    /// Static servers or a cluster.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// What to configure weft with.
    pub fn topology(&self) -> TopologyConfig {
        match self.mode {
            Mode::Static => TopologyConfig::Static(StaticConfig {
                affinity: Vec::new(),
                databases: StaticConfig::DATABASES,
                shards: self
                    .addresses()
                    .zip(1..)
                    .map(|(address, number)| StaticShard { name: format!("shard-{number}"), address, slots: Vec::new() })
                    .collect(),
            }),
            Mode::Cluster => TopologyConfig::Cluster(ClusterConfig {
                seeds: self.addresses().collect(),
                refresh_interval: ClusterConfig::REFRESH_INTERVAL,
            }),
        }
    }

    /// A new connection to server `index` itself.
    pub async fn connect(&self, index: usize) -> anyhow::Result<MultiplexedConnection> {
        connect(self.shard(index)?.ports.client).await
    }

    /// Kills server `index` with SIGKILL and waits until it is gone. Its ports stay reserved for [`Self::restart`].
    pub fn kill(&mut self, index: usize) -> anyhow::Result<()> {
        self.shard_mut(index)?.process = None;
        Ok(())
    }

    /// Stops server `index` with SIGSTOP: its connections stay open and nothing answers.
    pub fn pause(&mut self, index: usize) -> anyhow::Result<()> {
        self.signal(index, "STOP")
    }

    /// Lets a paused server go on.
    pub fn resume(&mut self, index: usize) -> anyhow::Result<()> {
        self.signal(index, "CONT")
    }

    /// Starts server `index` anew on its ports, in its folder, and waits until it answers. A running one is killed before.
    pub async fn restart(&mut self, index: usize) -> anyhow::Result<()> {
        let shard = self.shard_mut(index)?;
        shard.process = None;
        let (folder, ports) = (shard.folder.clone(), shard.ports);
        let process = Process::start(&self.server, &self.command_line(ports), &folder)?;
        self.shard_mut(index)?.process = Some(process);
        let port = must_answer(ports.client, &folder).await?;
        ensure!(port == Port::Ours, "another server took port {}", ports.client);
        Ok(())
    }

    fn signal(&mut self, index: usize, name: &str) -> anyhow::Result<()> {
        self.shard_mut(index)?.process.as_mut().context("the server was killed")?.signal(name)
    }

    fn shard(&self, index: usize) -> anyhow::Result<&Server> {
        self.shards.get(index).with_context(|| format!("no shard {index}"))
    }

    fn shard_mut(&mut self, index: usize) -> anyhow::Result<&mut Server> {
        self.shards.get_mut(index).with_context(|| format!("no shard {index}"))
    }

    /// Between the search for free ports and the server's start somebody else may take them; then others are tried.
    async fn start_on_free_ports(&self, index: usize) -> anyhow::Result<Server> {
        let folder = self.folder.path().join(format!("shard-{}", index + 1));
        std::fs::create_dir(&folder).context("no folder for a shard")?;
        for _ in 0..START_ATTEMPTS {
            let ports = Ports::free()?;
            let process = Process::start(&self.server, &self.command_line(ports), &folder)?;
            if must_answer(ports.client, &folder).await? == Port::Ours {
                return Ok(Server { ports, folder, process: Some(process) });
            }
        }
        bail!("no port stays free long enough to start a server on it")
    }

    fn command_line(&self, ports: Ports) -> Vec<String> {
        let mut line = format!("--port {} --bind {HOST} --appendonly no --daemonize no", ports.client);
        if self.mode == Mode::Cluster {
            line += &format!(" --cluster-enabled yes --cluster-port {} --cluster-node-timeout 2000", ports.bus);
        }
        let save = ["--save".to_owned(), String::new()];
        save.into_iter().chain(line.split(' ').map(str::to_owned)).chain(self.arguments.iter().cloned()).collect()
    }

    /// Divides the slots evenly, introduces the nodes to each other and waits until each serves the whole keyspace.
    async fn form_cluster(&self) -> anyhow::Result<()> {
        let mut nodes = Vec::new();
        for index in 0..self.shards.len() {
            nodes.push(self.connect(index).await?);
        }
        for (index, node) in nodes.iter_mut().enumerate() {
            let slots = share(index, self.shards.len()).context("more shards than slots")?;
            let () = cluster("ADDSLOTSRANGE").arg(*slots.start()).arg(*slots.end()).query_async(node).await?;
            // Epochs of their own, or the nodes would first have to agree on some.
            let () = cluster("SET-CONFIG-EPOCH").arg(index + 1).query_async(node).await?;
        }
        for shard in self.shards.iter().skip(1) {
            let first = nodes.first_mut().context("no shards")?;
            let () = cluster("MEET").arg(HOST).arg(shard.ports.client).arg(shard.ports.bus).query_async(first).await?;
        }
        let wanted =
            ["cluster_state:ok".to_owned(), format!("cluster_slots_ok:{SLOT_COUNT}"), format!("cluster_known_nodes:{}", nodes.len())];
        let deadline = Instant::now() + CLUSTER_PATIENCE;
        for node in &mut nodes {
            loop {
                let info: String = cluster("INFO").query_async(node).await?;
                if wanted.iter().all(|line| info.lines().any(|told| told == line)) {
                    break;
                }
                ensure!(Instant::now() < deadline, "the cluster does not form within {CLUSTER_PATIENCE:?}: {info}");
                sleep(POLL).await;
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Server {
    ports: Ports,
    folder: PathBuf,
    /// `None` after a kill.
    process: Option<Process>,
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    client: u16,
    bus: u16,
}

impl Ports {
    fn free() -> anyhow::Result<Self> {
        // Both are held until both are known, so that they differ.
        let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port");
        let (client, bus) = (bind()?, bind()?);
        Ok(Self { client: client.local_addr()?.port(), bus: bus.local_addr()?.port() })
    }
}

/// Who has a port.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Port {
    Ours,
    Taken,
}

/// Waits until the server in `folder` answers on `port`, or has found it taken.
async fn must_answer(port: u16, folder: &Path) -> anyhow::Result<Port> {
    let folder = folder.canonicalize().context("the shard's folder is gone")?;
    let deadline = Instant::now() + START_PATIENCE;
    loop {
        if let Ok(answered) = folder_of(port).await {
            return Ok(if answered == folder { Port::Ours } else { Port::Taken });
        }
        let log = std::fs::read_to_string(folder.join("server.log")).unwrap_or_default();
        if log.contains("Address already in use") {
            return Ok(Port::Taken);
        }
        let gave_up = ["aborting", "FATAL", "not found", "Permission denied"].iter().any(|word| log.contains(word));
        if gave_up || Instant::now() >= deadline {
            bail!("the server does not start: {}", log.trim());
        }
        sleep(POLL).await;
    }
}

async fn folder_of(port: u16) -> anyhow::Result<PathBuf> {
    let mut connection = connect(port).await?;
    let (_, folder): (String, String) = redis::cmd("CONFIG").arg("GET").arg("dir").query_async(&mut connection).await?;
    Ok(PathBuf::from(folder).canonicalize()?)
}

async fn connect(port: u16) -> anyhow::Result<MultiplexedConnection> {
    let client = redis::Client::open((HOST, port))?;
    Ok(client.get_multiplexed_async_connection().await?)
}

fn cluster(subcommand: &str) -> redis::Cmd {
    let mut command = redis::cmd("CLUSTER");
    command.arg(subcommand);
    command
}

const HOST: &str = "127.0.0.1";
const SHARDS_MAX: u16 = 64;
const START_ATTEMPTS: usize = 5;
const START_PATIENCE: Duration = Duration::from_secs(10);
/// Nodes gossip once a second, and a new cluster waits two seconds before it serves.
const CLUSTER_PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests;
