//! The servers and proxies of a run, started when first needed and kept to its end, so that rounds can alternate between them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use tempfile::TempDir;

use crate::args::Args;
use crate::client::Client;
use crate::keyspace::{self, Placement};
use crate::process::{Server, find_program, free_address, run_by};
use crate::target::{self, Role, Site, Target};
use crate::workload::{Draw, Workload};

/// How many servers stand behind each proxy of the transactions.
const SHARDS: usize = 2;

/// Everything that runs.
pub(crate) struct Fleet<'a> {
    args: &'a Args,
    deployments: HashMap<(Target, Backend, usize), Result<Deployment, String>>,
    /// The one server of the single commands.
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

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Backend {
    Common,
    OwnShards,
}

impl<'a> Fleet<'a> {
    /// Starts the common server and fills it.
    pub(crate) fn start(args: &'a Args) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("weft-bench").tempdir()?;
        let common = start_shard("common", directory.path())?;
        keyspace::fill(&mut Client::connect(common.address())?, args.keys, args.value_bytes)?;
        Ok(Self { args, deployments: HashMap::new(), common, directory })
    }

    /// `target` as it has to stand for `workload`, or why it does not.
    pub(crate) fn deployment(&mut self, target: Target, workload: &Workload) -> Result<&Deployment, String> {
        let backend = if workload.draw == Draw::OneServer || target.role() == Role::Direct { Backend::Common } else { Backend::OwnShards };
        let deployment = match self.deployments.entry((target, backend, workload.proxies)) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let builder = Builder { args: self.args, common: &self.common, directory: self.directory.path() };
                entry.insert(builder.build(target, backend, workload.proxies).map_err(|error| format!("{error:#}")))
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
    args: &'a Args,
    common: &'a Server,
    directory: &'a Path,
}

impl Builder<'_> {
    fn build(&self, target: Target, backend: Backend, proxies: usize) -> anyhow::Result<Deployment> {
        let kind = if backend == Backend::Common { "common" } else { "shards" };
        let directory = self.directory.join(format!("{}-{kind}-{proxies}", target.name()));
        fs::create_dir_all(&directory)?;
        let shards = match backend {
            Backend::Common => Vec::new(),
            Backend::OwnShards => start_shards(&directory)?,
        };
        let behind: Vec<&Server> = if shards.is_empty() { vec![self.common] } else { shards.iter().collect() };
        let servers: Vec<SocketAddr> = behind.iter().map(|shard| shard.address()).collect();
        let shard_processes = behind.iter().map(|shard| shard.id()).collect();

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
        let placement = match backend {
            Backend::Common => Placement::on_one_server(self.args.keys),
            Backend::OwnShards => self.fill_through(addresses[0], &servers)?,
        };
        Ok(Deployment { addresses, placement, proxies: started, _shards: shards, shard_processes })
    }

    fn start_proxy(&self, target: Target, shards: &[SocketAddr], directory: &Path) -> anyhow::Result<Option<Server>> {
        let site = Site { listen: free_address()?, shards, workers: self.args.workers, directory };
        let Some(command) = target.proxy(&site)? else { return Ok(None) };
        let command = match &self.args.proxy_cpus {
            Some(cpus) => bound_to(cpus, &command)?,
            None => command,
        };
        Server::start(target.name(), command, site.listen, directory).map(Some)
    }

    fn fill_through(&self, proxy: SocketAddr, shards: &[SocketAddr]) -> anyhow::Result<Placement> {
        keyspace::fill(&mut Client::connect(proxy)?, self.args.keys, self.args.value_bytes).context("filling the keyspace")?;
        let mut clients = shards.iter().map(|&shard| Client::connect(shard)).collect::<anyhow::Result<Vec<_>>>()?;
        Placement::learn(&mut clients, self.args.keys)
    }
}

fn start_shards(directory: &Path) -> anyhow::Result<Vec<Server>> {
    (0..SHARDS).map(|index| start_shard(&format!("shard-{index}"), directory)).collect()
}

fn start_shard(name: &str, directory: &Path) -> anyhow::Result<Server> {
    let address = free_address()?;
    Server::start(name, target::shard(address, directory)?, address, directory)
}

fn bound_to(cpus: &str, command: &Command) -> anyhow::Result<Command> {
    let taskset = find_program("taskset").context("--proxy-cpus needs taskset: apt-get install util-linux")?;
    Ok(run_by(&taskset, &["--cpu-list", cpus], command))
}
