//! A program under callgrind, and the total that it leaves.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::process::{find_program, run_by};

/// The program that counts.
#[derive(Debug)]
pub(crate) struct Callgrind(PathBuf);

impl Callgrind {
    pub(crate) fn find() -> anyhow::Result<Self> {
        find_program("valgrind").map(Self).context("valgrind is not installed: apt-get install valgrind")
    }

    /// `command` under it; the total is at `path` when it has ended.
    pub(crate) fn command(&self, command: &Command, path: &Path) -> Command {
        let out = format!("--callgrind-out-file={}", path.display());
        run_by(&self.0, &["--quiet", "--tool=callgrind", &out], command)
    }

    /// What it says of itself.
    pub(crate) fn version(&self) -> Option<String> {
        let output = Command::new(&self.0).arg("--version").output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

/// How many instructions a whole run took, all its threads together: reads the file that callgrind has left at `path`.
pub(crate) fn instructions(path: &Path) -> anyhow::Result<u64> {
    let text = fs::read_to_string(path).context("callgrind left nothing")?;
    total(&text).context("callgrind left no total")
}

/// A line names the events, another one their sums, in the same order.
fn total(text: &str) -> Option<u64> {
    let fields = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::split_ascii_whitespace);
    let index = fields("events:")?.position(|name| name == "Ir")?;
    fields("totals:")?.nth(index)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_found_by_the_name_of_its_event() {
        assert_eq!(total("version: 1\nevents: Xy Ir\n\nfn=(1) totals.rs\n3 40 1\n\ntotals: 12 4711\n"), Some(4711));
        assert_eq!(total("events: Xy\ntotals: 4711\n"), None);
        assert_eq!(total("events: Ir\n"), None);
    }
}
