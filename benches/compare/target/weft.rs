//! weft as built with the bench, before a static topology, with its defaults apart from what is compared (isolation, worker threads)
//! and the log, which is off for everybody.
//! `WEFT_PROGRAM` measures another build.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::target::Site;

pub(crate) fn program() -> PathBuf {
    std::env::var_os("WEFT_PROGRAM").map_or_else(|| env!("CARGO_BIN_EXE_weft").into(), PathBuf::from)
}

pub(crate) fn command(site: &Site<'_>, isolation: &str) -> anyhow::Result<Command> {
    let path = site.directory.join(format!("weft-{isolation}.yaml"));
    fs::write(&path, configuration(site, isolation))?;
    let mut command = Command::new(program());
    command.arg("--config").arg(path);
    Ok(command)
}

fn configuration(site: &Site<'_>, isolation: &str) -> String {
    let shard = |(index, address)| format!("      - {{name: shard-{index}, address: \"{address}\"}}\n");
    let shards: String = site.shards.iter().enumerate().map(shard).collect();
    format!(
        "listen: \"{}\"\nworkers: {}\nisolation: {isolation}\nlog: {{level: error}}\ntopology:\n  static:\n    shards:\n{shards}",
        site.listen, site.workers
    )
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::path::Path;

    use ::weft::config::{Config, Isolation, TopologyConfig};

    use super::*;

    #[test]
    fn weft_understands_its_configuration() -> anyhow::Result<()> {
        let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let site = Site { listen: address(1), shards: &[address(2), address(3)], workers: 2, directory: Path::new("") };
        let config = Config::parse(&configuration(&site, "relaxed"), "bench")?;
        assert_eq!((config.isolation, config.listen.worker_count().get()), (Isolation::Relaxed, 2));
        assert!(matches!(config.topology, TopologyConfig::Static(topology) if topology.shards.len() == 2));
        Ok(())
    }
}
