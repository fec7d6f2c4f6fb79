//! `weft dev`: real shards in a temporary folder, weft before them, all gone when it ends.
//!
//! [`Shards`] is also what the integration tests stand on. This is a tool around the proxy, not a part of it: nothing else imports it.

mod demo;
mod locate;
mod process;
mod shards;

use std::path::PathBuf;
use std::thread;

use anyhow::Context as _;

use crate::config::{Config, ListenConfig};
use crate::topology::Mode;

pub use shards::{ShardOptions, Shards};

/// What `weft dev` was asked for.
#[derive(Clone, Debug)]
pub struct DevOptions {
    /// Shards to start.
    pub count: u16,
    /// Static servers or a cluster.
    pub mode: Mode,
    /// Where weft listens, and with how many workers; it must be loopback, since there is no password.
    pub listen: ListenConfig,
    /// The server's executable; `None` searches PATH.
    pub server: Option<PathBuf>,
    /// Move money between the shards once weft serves.
    pub demo: bool,
}

/// Starts the shards and serves before them until weft is told to stop.
pub fn run(options: &DevOptions) -> anyhow::Result<()> {
    let listen = options.listen.address;
    anyhow::ensure!(listen.ip().is_loopback(), "{listen} is open to other machines; `weft dev` listens on loopback only");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    let shard_options = ShardOptions { count: options.count, mode: options.mode, server: options.server.clone(), arguments: Vec::new() };
    let shards = runtime.block_on(Shards::start(&shard_options))?;
    println!("{} is serving on {}", shards.server().display(), list(&shards));
    let config = Config { listen: options.listen.clone(), ..Config::with_topology(shards.topology()) };
    crate::telemetry::init(&config.log);
    let companion = {
        let accounts = options.demo.then(|| demo::accounts(&shards));
        thread::spawn(move || runtime.block_on(demo::accompany(listen, accounts)))
    };
    crate::server::run(config)?;
    match companion.join() {
        Ok(outcome) => outcome,
        Err(_) => anyhow::bail!("the demonstration stopped half way"),
    }
}

fn list(shards: &Shards) -> String {
    let addresses: Vec<String> = shards.addresses().map(|address| address.to_string()).collect();
    addresses.join(", ")
}
