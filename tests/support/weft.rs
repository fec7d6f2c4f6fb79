//! The proxy under test: the binary that cargo built, with a configuration of its own.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use rustix::process::Signal;
use tempfile::TempDir;

use super::ports::{Reservation, reserved_port};
use super::{Client, Clock, FaultProxy, PATIENCE, Process, Server, Shards, eventually_some};

/// A running proxy.
pub(crate) struct Weft {
    process: Process,
    address: SocketAddr,
    setup: Setup,
    /// For as long as it may be started again.
    _reservation: Reservation,
    folder: TempDir,
}

impl Weft {
    /// A proxy before `shards`, with defaults.
    #[track_caller]
    pub(crate) fn start(shards: &Shards) -> Self {
        Self::setup(shards).start()
    }

    /// A proxy before `shards` that differs from the defaults.
    pub(crate) fn setup(shards: &Shards) -> Setup {
        Setup { topology: shards.topology(), settings: BTreeMap::new(), environment: Vec::new() }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A client of it that speaks RESP2.
    #[track_caller]
    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// A client of it that speaks RESP3.
    #[track_caller]
    pub(crate) fn client_resp3(&self) -> Client {
        Client::connect_resp3(self.address)
    }

    /// Its process: `kill`, `pause`, `resume`, `signal`, `must_exit`, `log`.
    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Starts it again where it was, after [`Process::kill`].
    #[track_caller]
    pub(crate) fn start_again(&mut self) {
        assert!(self.process.exit_status().is_some(), "it has not ended");
        self.process = self.setup.spawn(self.address, self.folder.path());
        assert!(comes_up(&mut self.process, self.address), "it does not start again:\n{}", self.process.log());
    }

    /// SIGTERM, and how it ended.
    #[track_caller]
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.process.signal(Signal::TERM);
        self.process.must_exit()
    }
}

/// A proxy that has not been started yet.
#[derive(Clone)]
pub(crate) struct Setup {
    topology: String,
    settings: BTreeMap<String, Vec<String>>,
    environment: Vec<(String, String)>,
}

impl Setup {
    /// Sets a key of `proxy.yaml` by its path: `("transactions.lease_ms", 100)`.
    pub(crate) fn set(mut self, key: &str, value: impl ToString) -> Self {
        let (section, key) = key.split_once('.').unwrap_or(("", key));
        self.settings.entry(section.to_owned()).or_default().push(format!("{key}: {}", value.to_string()));
        self
    }

    /// Asks the cluster for its map only when a redirect tells it to.
    pub(crate) fn believing_its_map(mut self) -> Self {
        self.topology = self.topology.replace("seeds:", "refresh_interval_ms: 60000, seeds:");
        self
    }

    /// Asks nobody but `seed` for the map of a cluster.
    pub(crate) fn seeded_by(mut self, seed: SocketAddr) -> Self {
        self.topology = format!("{{cluster: {{seeds: [\"{seed}\"]}}}}");
        self
    }

    /// Names every node of a cluster as a seed, so that it starts while one of them is down.
    pub(crate) fn seeded_by_all(mut self, shards: &Shards) -> Self {
        let named = |server: &Server| format!("\"{}\"", server.address());
        let all: Vec<String> = shards.servers().iter().map(named).collect();
        self.topology = self.topology.replace(&all[0], &all.join(", "));
        self
    }

    /// Reaches `server` through `proxy`. Only where weft alone knows where the shards are: a cluster names its nodes itself.
    pub(crate) fn through(mut self, proxy: &FaultProxy, server: &Server) -> Self {
        self.topology = self.topology.replace(&server.address().to_string(), &proxy.address().to_string());
        self
    }

    /// Sets a variable of its environment: `("WEFT_FAILPOINT", "…")`.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Lets it live by `clock`.
    pub(crate) fn by(mut self, clock: &Clock) -> Self {
        self.environment.extend(clock.environment());
        self
    }

    /// Starts it and waits until it answers a PING.
    #[track_caller]
    pub(crate) fn start(self) -> Weft {
        for _ in 0..PORTS_TRIED {
            let mut weft = self.clone().begin();
            if comes_up(&mut weft.process, weft.address) {
                return weft;
            }
            let log = weft.process.log();
            assert!(log.contains("in use"), "weft does not start:\n{log}");
        }
        panic!("{PORTS_TRIED} ports were taken by others");
    }

    /// Starts it, and does not wait for it: for one that has reason not to serve.
    pub(crate) fn begin(self) -> Weft {
        let ((port, reservation), folder) = (reserved_port(), tempfile::tempdir().unwrap());
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let process = self.spawn(address, folder.path());
        Weft { process, address, setup: self, _reservation: reservation, folder }
    }

    fn spawn(&self, address: SocketAddr, folder: &Path) -> Process {
        let path = folder.join("proxy.yaml");
        std::fs::write(&path, self.yaml(address)).unwrap();
        let mut command = Command::new(binary());
        command.arg("--config").arg(path).envs(self.environment.iter().cloned());
        Process::start(&format!("weft on {address}"), command, folder.join("log"))
    }

    fn yaml(&self, address: SocketAddr) -> String {
        let mut yaml = format!("listen: \"{address}\"\ntopology: {}\n", self.topology);
        let top = self.settings.get("").map_or(&[][..], Vec::as_slice);
        if !top.iter().any(|line| line.starts_with("workers:")) {
            // As few as can still disagree.
            yaml.push_str("workers: 2\n");
        }
        if !top.iter().any(|line| line.starts_with("spread:")) {
            // Or the few clients of a test would all be with one of them.
            yaml.push_str("spread: even\n");
        }
        for (section, lines) in &self.settings {
            match section.as_str() {
                "" => yaml.extend(lines.iter().map(|line| format!("{line}\n"))),
                section => yaml.push_str(&format!("{section}: {{{}}}\n", lines.join(", "))),
            }
        }
        yaml
    }
}

/// The program under test.
pub(crate) fn binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_weft"))
}

/// Waits until it answers; `false` when it ends instead.
fn comes_up(process: &mut Process, address: SocketAddr) -> bool {
    eventually_some(PATIENCE, "weft answers a PING", || {
        if process.exit_status().is_some() {
            return Some(false);
        }
        Client::try_connect(address).ok()?.answers().then_some(true)
    })
}

const PORTS_TRIED: usize = 5;
