//! Serving: from a configuration to the last drained client.

use anyhow::Context as _;

use crate::config::Config;
use crate::topology::Topology;

/// Serves until SIGTERM or Ctrl-C.
pub fn run(config: Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(async {
        let _topology = Topology::start(&config.topology, &config.upstream).await?;
        tokio::signal::ctrl_c().await.context("no signal handler")
    })
}
