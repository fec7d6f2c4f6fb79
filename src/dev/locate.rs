//! Finding a server to run, and telling how to get one.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::bail;

/// The executable to run: `wanted`, or the first of `redis-server` and `valkey-server` in PATH.
pub(super) fn server(wanted: Option<&Path>) -> anyhow::Result<PathBuf> {
    match wanted {
        Some(path) if path.components().count() > 1 => {
            if path.is_file() {
                return Ok(path.to_path_buf());
            }
            bail!("there is no server at {}; name the executable of redis-server or valkey-server", path.display());
        }
        Some(name) => in_path(name).ok_or_else(|| missing(&name.display().to_string())),
        None => SERVERS.iter().find_map(|name| in_path(Path::new(name))).ok_or_else(|| missing(&SERVERS.join(" or "))),
    }
}

fn in_path(name: &Path) -> Option<PathBuf> {
    let folders = env::var_os("PATH")?;
    env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file())
}

fn missing(what: &str) -> anyhow::Error {
    let install = INSTALL.iter().find(|(manager, _)| in_path(Path::new(manager)).is_some());
    let remedy = install.map_or("see https://redis.io/docs/install or https://valkey.io/download", |(_, command)| command);
    anyhow::anyhow!("{what} is not in PATH; install it: {remedy}")
}

const SERVERS: [&str; 2] = ["redis-server", "valkey-server"];

/// A package manager and the command that installs a server with it.
const INSTALL: [(&str, &str); 7] = [
    ("apt-get", "sudo apt-get install -y redis-server"),
    ("brew", "brew install redis"),
    ("dnf", "sudo dnf install -y valkey"),
    ("apk", "sudo apk add redis"),
    ("pacman", "sudo pacman -S --noconfirm valkey"),
    ("zypper", "sudo zypper install -y redis"),
    ("pkg", "sudo pkg install -y redis"),
];

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_server_that_is_not_there_is_told_with_a_remedy() {
        let error = server(Some(Path::new("no-such-server"))).unwrap_err().to_string();
        assert!(error.starts_with("no-such-server is not in PATH; install it: "), "{error}");
        let error = server(Some(Path::new("/no/such/server"))).unwrap_err().to_string();
        assert_eq!(error, "there is no server at /no/such/server; name the executable of redis-server or valkey-server");
    }
}
