//! The server behind every proxy, and the measure of all: `redis-server` as it is, without persistence (a fork in the middle of a window
//! would be measured as somebody's latency) and without its log.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::process::find_program;

pub(crate) fn program() -> anyhow::Result<PathBuf> {
    find_program("redis-server").context("redis-server is not installed: apt-get install redis-server")
}

pub(crate) fn command(address: SocketAddr, directory: &Path) -> anyhow::Result<Command> {
    let mut command = Command::new(program()?);
    command
        .args(["--bind", &address.ip().to_string(), "--port", &address.port().to_string()])
        .args(["--save", "", "--appendonly", "no", "--loglevel", "warning"])
        .arg("--dir")
        .arg(directory);
    Ok(command)
}
