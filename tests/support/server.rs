//! One Redis or Valkey server on a port of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::ports::{Reservation, reserved_port};
use super::{Client, Clock, PATIENCE, Process, eventually_some};

/// Whose server. `WEFT_REDIS_SERVER` and `WEFT_VALKEY_SERVER` name other programs than the ones that `make test` installs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavor {
    /// `redis-server`, as the system packages it.
    Redis,
    /// `valkey-server` 9, from `tests/.venv`.
    Valkey,
}

impl Flavor {
    /// Both, for tests that hold on either.
    pub(crate) const ALL: [Self; 2] = [Self::Redis, Self::Valkey];

    /// The program to start.
    pub(crate) fn program(self) -> PathBuf {
        let (variable, default) = match self {
            Self::Redis => ("WEFT_REDIS_SERVER", PathBuf::from("redis-server")),
            Self::Valkey => ("WEFT_VALKEY_SERVER", Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/.venv/bin/valkey-server")),
        };
        std::env::var_os(variable).map_or(default, PathBuf::from)
    }
}

/// A server without persistence, in a folder that goes with it.
pub(crate) struct Server {
    process: Process,
    flavor: Flavor,
    options: Vec<String>,
    clock: Option<Clock>,
    port: u16,
    /// For as long as it may be started again.
    _reservation: Reservation,
    folder: TempDir,
}

impl Server {
    /// Starts a server and waits until it answers. `options` are those of its command line: `["--maxmemory", "1mb"]`.
    #[track_caller]
    pub(crate) fn start(flavor: Flavor, options: &[&str]) -> Self {
        Self::start_with(flavor, options, None)
    }

    /// Starts a server that lives by `clock`.
    #[track_caller]
    pub(crate) fn start_with(flavor: Flavor, options: &[&str], clock: Option<Clock>) -> Self {
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        for _ in 0..PORTS_TRIED {
            let ((port, reservation), folder) = (reserved_port(), tempfile::tempdir().unwrap());
            let process = spawn(flavor, &options, clock.as_ref(), port, folder.path());
            let mut server =
                Self { process, flavor, options: options.clone(), clock: clock.clone(), port, _reservation: reservation, folder };
            if server.comes_up() {
                return server;
            }
            let log = server.process.log();
            assert!(log.contains("Address already in use"), "{flavor:?} does not start:\n{log}");
        }
        panic!("{PORTS_TRIED} ports were taken by others");
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// A connection that bypasses weft.
    #[track_caller]
    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address())
    }

    /// The clock that it lives by, if that is not the machine's.
    pub(crate) fn clock(&self) -> Option<&Clock> {
        self.clock.as_ref()
    }

    /// Its process: `kill`, `pause`, `resume`, `signal`, `log`.
    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Changes an option now and for every start from now on.
    #[track_caller]
    pub(crate) fn set_option(&mut self, name: &str, value: &str) {
        self.client().must_ok(&["CONFIG", "SET", name, value]);
        self.options.extend([format!("--{name}"), value.to_owned()]);
    }

    /// Kills it, and starts it again where it was, with nothing but what its options made it keep.
    #[track_caller]
    pub(crate) fn restart(&mut self) {
        self.process.kill();
        self.process = spawn(self.flavor, &self.options, self.clock.as_ref(), self.port, self.folder.path());
        assert!(self.comes_up(), "it does not start again:\n{}", self.process.log());
    }

    /// It answers on a new connection.
    #[track_caller]
    pub(crate) fn must_answer(&self) {
        assert!(self.client().answers(), "{} does not answer", self.address());
    }

    /// Waits until it answers; `false` when it ends instead.
    fn comes_up(&mut self) -> bool {
        eventually_some(PATIENCE, "the server answers", || {
            if self.process.exit_status().is_some() {
                return Some(false);
            }
            Client::try_connect(self.address()).ok()?.answers().then_some(true)
        })
    }
}

fn spawn(flavor: Flavor, options: &[String], clock: Option<&Clock>, port: u16, folder: &Path) -> Process {
    let mut command = Command::new(flavor.program());
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    command.args(["--enable-debug-command", "yes"]).arg("--dir").arg(folder).args(options);
    command.envs(clock.into_iter().flat_map(Clock::environment));
    Process::start(&format!("{flavor:?} on port {port}"), command, folder.join("log"))
}

const PORTS_TRIED: usize = 5;
