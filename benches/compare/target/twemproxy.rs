//! twemproxy (`nutcracker`): one thread, one connection to each server (its default, and what lets it pipeline many clients' commands),
//! opened at the start; emergencies alone are logged.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;

use crate::process::{find_program, free_address};
use crate::target::Site;

pub(crate) fn program() -> anyhow::Result<PathBuf> {
    find_program("nutcracker").context("nutcracker is not installed: apt-get install nutcracker")
}

pub(crate) fn command(site: &Site<'_>) -> anyhow::Result<Command> {
    let path = site.directory.join("nutcracker.yml");
    fs::write(&path, configuration(site))?;
    let mut command = Command::new(program()?);
    command
        .args(["--verbose", "0", "--stats-addr", "127.0.0.1", "--stats-port", &free_address()?.port().to_string()])
        .arg("--pid-file")
        .arg(site.directory.join("nutcracker.pid"))
        .arg("--conf-file")
        .arg(path);
    Ok(command)
}

fn configuration(site: &Site<'_>) -> String {
    let servers: String = site.shards.iter().map(|shard| format!("  - {shard}:1\n")).collect();
    format!(
        "bench:\n  listen: {}\n  redis: true\n  hash: fnv1a_64\n  distribution: ketama\n  preconnect: true\n  auto_eject_hosts: false\n  \
         servers:\n{servers}",
        site.listen
    )
}
