//! Server processes that end with the bench: started on a free port of the loopback, ready when they answer, killed when dropped, and,
//! where there is `setpriv`, by the kernel if the bench is killed first.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::client::Client;

/// How long a server may take until it answers.
const READY_TIMEOUT: Duration = Duration::from_secs(15);
const READY_POLL: Duration = Duration::from_millis(20);
/// How long it may take to end when asked to.
const END_TIMEOUT: Duration = Duration::from_secs(30);

/// A running server.
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    /// Starts `command`, which is to listen on `address`, and waits until it answers. Its output goes to `<name>.log` in `directory`.
    pub(crate) fn start(name: &str, command: Command, address: SocketAddr, directory: &Path) -> anyhow::Result<Self> {
        let path = directory.join(format!("{name}.log"));
        let log = File::create(&path)?;
        let mut command = match find_program("setpriv") {
            Some(setpriv) => run_by(&setpriv, &["--pdeathsig", "KILL"], &command),
            None => command,
        };
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", command.get_program().display()))?;
        let mut server = Self { child, address };
        server.wait_until_ready(&path).with_context(|| format!("{name} does not start"))?;
        Ok(server)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn finish(mut self) -> anyhow::Result<()> {
        let process = Pid::from_raw(i32::try_from(self.id())?).context("a process has an id")?;
        kill_process(process, Signal::TERM)?;
        let deadline = Instant::now() + END_TIMEOUT;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                bail!("it does not end");
            }
            thread::sleep(READY_POLL);
        }
        Ok(())
    }

    fn wait_until_ready(&mut self, log: &Path) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            // Not PING: some proxies answer that themselves before they have reached a shard.
            let answer = Client::connect(self.address).and_then(|mut client| client.call(&["GET", "ready"]));
            let Err(error) = answer else { return Ok(()) };
            if let Some(status) = self.child.try_wait()? {
                bail!("{status}: {}", last_line(log));
            }
            if Instant::now() > deadline {
                bail!("{error:#}: {}", last_line(log));
            }
            thread::sleep(READY_POLL);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing that it holds is worth keeping, and there is nobody left to tell of an error.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// An address of the loopback that nobody listens on just now.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// The program called `name` in PATH.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|directory| directory.join(name)).find(|path| path.is_file())
}

/// `command` by way of a program that sets something up and replaces itself by it: the process id stays the same.
pub(crate) fn run_by(wrapper: &Path, arguments: &[&str], command: &Command) -> Command {
    let mut wrapped = Command::new(wrapper);
    wrapped.args(arguments).arg(command.get_program()).args(command.get_args());
    wrapped
}

fn last_line(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_exits_is_reported_with_its_last_words() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let mut command = Command::new("sh");
        command.args(["-c", "echo first; echo no such option >&2; exit 3"]);
        let error = Server::start("it", command, free_address()?, directory.path()).err().map(|error| format!("{error:#}"));
        assert_eq!(error.as_deref(), Some("it does not start: exit status: 3: no such option"));
        Ok(())
    }

    #[test]
    fn programs_are_found_in_the_path() {
        assert!(find_program("sh").is_some_and(|path| path.is_absolute()));
        assert_eq!(find_program("no-such-program-here"), None);
    }
}
