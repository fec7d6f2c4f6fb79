//! A server's process that cannot outlive weft.
//!
//! No safe call binds a child's life to its parent's, so each server runs under a shell that reads a pipe from weft: when weft ends, by
//! whatever signal, the kernel closes the pipe and the shell kills the server. The same pipe carries signals to it. The shell stands in a
//! process group of its own, so that Ctrl-C reaches weft alone, which then drains before its shards go.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::Context as _;

/// A running server. Dropping it kills the server at once and waits until it is gone.
#[derive(Debug)]
pub(super) struct Process {
    shell: Child,
    /// Signals by name, a line each; the shell holds the other end.
    signals: Option<ChildStdin>,
}

impl Process {
    /// Starts `server` with `arguments` in `folder`, where its output goes to `server.log`.
    pub(super) fn start(server: &Path, arguments: &[String], folder: &Path) -> anyhow::Result<Self> {
        let log = File::create(folder.join("server.log")).context("no server.log")?;
        let mut shell = Command::new("/bin/sh")
            .args(["-c", WATCH, "weft-dev"])
            .arg(server)
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stderr(log.try_clone().context("no server.log")?)
            .stdout(log)
            .process_group(0)
            .spawn()
            .context("/bin/sh does not start")?;
        let signals = shell.stdin.take();
        Ok(Self { shell, signals })
    }

    /// Sends the signal called `name`, such as `STOP` or `CONT`, to the server.
    pub(super) fn signal(&mut self, name: &str) -> anyhow::Result<()> {
        let signals = self.signals.as_mut().context("the server was stopped")?;
        signals.write_all(format!("{name}\n").as_bytes()).context("the server's shell is gone")
    }

    /// What the kernel does when this process is killed.
    #[cfg(test)]
    pub(super) fn close_pipe(&mut self) {
        self.signals = None;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signals = None;
        // The shell ends as soon as it has reaped the server; there is nothing left to do if it cannot be waited for.
        let _ = self.shell.wait();
    }
}

/// Runs the server, passes on signals, and kills it when the pipe ends.
const WATCH: &str = r#"
"$@" </dev/null &
server=$!
while read -r signal; do kill -"$signal" "$server"; done
kill -KILL "$server" 2>/dev/null
wait "$server" 2>/dev/null
"#;
