//! The servers and proxies of a run, started when first needed and kept to its end, so that rounds can alternate between them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use tempfile::TempDir;

use crate::args::Stage;
use crate::client::Client;
use crate::keyspace::{self, Placement};
use crate::process::{Server, find_program, free_address, run_by};
use crate::target::{self, Role, Site, Target};

/// Everything that runs.
pub(crate) struct Fleet {
    stage: Stage,
    deployments: HashMap<(Target, Behind, usize), Result<Deployment, String>>,
    /// The one server that all targets share.
    common: Server,
    directory: TempDir,
}

/// A target ready to be measured, its keys in place.
pub(crate) struct Deployment {
    /// Of its proxies, or of the server itself.
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) placement: Placement,
    proxies: Vec<Server>,
    /// The servers that are its own; held so that they run as long as it does.
    _shards: Vec<Server>,
    shard_processes: Vec<u32>,
}

/// What stands behind a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Behind {
    /// The server that all targets share.
    Common,
    /// So many servers of its own.
    OwnShards(usize),
}

impl Fleet {
    /// Starts the common server and fills it.
    pub(crate) fn start(stage: Stage) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("weft-bench").tempdir()?;
        let common = start_shard("common", directory.path())?;
        keyspace::fill(&mut Client::connect(common.address())?, stage.keys, stage.value_bytes)?;
        Ok(Self { stage, deployments: HashMap::new(), common, directory })
    }

    /// `target` before what is to stand behind it, as so many proxies; or why it does not stand. Direct is always the common server.
    pub(crate) fn deployment(&mut self, target: Target, behind: Behind, proxies: usize) -> Result<&Deployment, String> {
        let behind = if target.role() == Role::Direct { Behind::Common } else { behind };
        let deployment = match self.deployments.entry((target, behind, proxies)) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let builder = Builder { stage: &self.stage, common: &self.common, directory: self.directory.path() };
                entry.insert(builder.build(target, behind, proxies).map_err(|error| format!("{error:#}")))
            }
        };
        deployment.as_ref().map_err(Clone::clone)
    }
}

impl Deployment {
    /// The first of its addresses.
    pub(crate) fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// The proxies' processes, if there are any.
    pub(crate) fn proxy_processes(&self) -> Vec<u32> {
        self.proxies.iter().map(Server::id).collect()
    }

    /// The processes of the servers behind it.
    pub(crate) fn shard_processes(&self) -> Vec<u32> {
        self.shard_processes.clone()
    }
}

struct Builder<'a> {
    stage: &'a Stage,
    common: &'a Server,
    directory: &'a Path,
}

impl Builder<'_> {
    fn build(&self, target: Target, behind: Behind, proxies: usize) -> anyhow::Result<Deployment> {
        let directory = self.directory.join(format!("{}-{behind:?}-{proxies}", target.name()));
        fs::create_dir_all(&directory)?;
        let shards = match behind {
            Behind::Common => Vec::new(),
            Behind::OwnShards(count) => start_shards(count, &directory)?,
        };
        let servers: Vec<&Server> = if shards.is_empty() { vec![self.common] } else { shards.iter().collect() };
        let shard_processes = servers.iter().map(|shard| shard.id()).collect();
        let servers: Vec<SocketAddr> = servers.iter().map(|shard| shard.address()).collect();

        let mut started = Vec::new();
        for index in 0..proxies {
            let directory = directory.join(index.to_string());
            fs::create_dir_all(&directory)?;
            started.extend(self.start_proxy(target, &servers, &directory)?);
        }
        let mut addresses: Vec<SocketAddr> = started.iter().map(Server::address).collect();
        if addresses.is_empty() {
            addresses.push(self.common.address());
        }
        let placement = match behind {
            Behind::Common => Placement::on_one_server(self.stage.keys),
            Behind::OwnShards(_) => self.fill_through(addresses[0], &servers)?,
        };
        Ok(Deployment { addresses, placement, proxies: started, _shards: shards, shard_processes })
    }

    fn start_proxy(&self, target: Target, shards: &[SocketAddr], directory: &Path) -> anyhow::Result<Option<Server>> {
        let site = Site { listen: free_address()?, shards, workers: self.stage.workers, directory };
        let Some(command) = target.proxy(&site)? else { return Ok(None) };
        let command = match &self.stage.proxy_cpus {
            Some(cpus) => bound_to(cpus, &command)?,
            None => command,
        };
        Server::start(target.name(), command, site.listen, directory).map(Some)
    }

    fn fill_through(&self, proxy: SocketAddr, shards: &[SocketAddr]) -> anyhow::Result<Placement> {
        keyspace::fill(&mut Client::connect(proxy)?, self.stage.keys, self.stage.value_bytes).context("filling the keyspace")?;
        let mut clients = shards.iter().map(|&shard| Client::connect(shard)).collect::<anyhow::Result<Vec<_>>>()?;
        Placement::learn(&mut clients, self.stage.keys)
    }
}

fn start_shards(count: usize, directory: &Path) -> anyhow::Result<Vec<Server>> {
    (0..count).map(|index| start_shard(&format!("shard-{index}"), directory)).collect()
}

fn start_shard(name: &str, directory: &Path) -> anyhow::Result<Server> {
    let address = free_address()?;
    Server::start(name, target::shard(address, directory)?, address, directory)
}

fn bound_to(cpus: &str, command: &Command) -> anyhow::Result<Command> {
    let taskset = find_program("taskset").context("--proxy-cpus needs taskset: apt-get install util-linux")?;
    Ok(run_by(&taskset, &["--cpu-list", cpus], command))
}
