//! The command line.

use std::io::{ErrorKind, Write as _};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{Config, ConfigError, ListenConfig};
use crate::dev::DevOptions;
use crate::topology::Mode;

/// A Redis proxy whose MULTI/EXEC is atomic and isolated across shards.
#[derive(Debug, Parser)]
#[command(name = "weft", version, arg_required_else_help = true, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Cli {
    /// Serve as this file says; `proxy.yaml` of the repository documents every key
    #[arg(long, value_name = "FILE", required = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check a configuration and print what it means, defaults included
    Check {
        /// The file to check
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Start real shards in a temporary folder and serve before them
    Dev(DevArgs),
}

#[derive(Debug, Args)]
struct DevArgs {
    /// How many shards
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=64))]
    shards: u16,
    /// Single servers, or a Redis Cluster
    #[arg(long, value_enum, default_value_t = ModeArg::Static)]
    mode: ModeArg,
    /// Where to listen, on loopback
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:6380")]
    listen: SocketAddr,
    /// How many worker threads; one takes the commands of all clients in the order in which they come [default: one for each core]
    #[arg(long, value_name = "COUNT")]
    workers: Option<NonZeroUsize>,
    /// The server to run [default: redis-server or valkey-server from PATH]
    #[arg(long, value_name = "PATH")]
    server: Option<PathBuf>,
    /// Move money between accounts on different shards, then go on serving
    #[arg(long)]
    demo: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ModeArg {
    Static,
    Cluster,
}

impl Cli {
    /// Does what was asked for. A [`ConfigError`] among the causes means that nothing was begun.
    pub fn run(self) -> anyhow::Result<()> {
        match (self.command, self.config) {
            (Some(Command::Check { config }), _) => {
                let understood = Config::load(&config)?.to_string();
                match std::io::stdout().write_all(understood.as_bytes()) {
                    // Whoever reads has seen enough.
                    Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
                    written => Ok(written?),
                }
            }
            (Some(Command::Dev(args)), _) => crate::dev::run(&args.into()),
            (None, Some(path)) => {
                let config = Config::load(&path)?;
                crate::telemetry::init(&config.log);
                crate::server::run(config)
            }
            (None, None) => anyhow::bail!("nothing to do; see weft --help"),
        }
    }
}

impl From<DevArgs> for DevOptions {
    fn from(args: DevArgs) -> Self {
        let mode = match args.mode {
            ModeArg::Static => Mode::Static,
            ModeArg::Cluster => Mode::Cluster,
        };
        let listen = ListenConfig { address: args.listen, workers: args.workers, ..ListenConfig::default() };
        Self { count: args.shards, mode, listen, server: args.server, demo: args.demo }
    }
}

/// The exit code for `error`: that of a bad configuration, or that of anything else.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<ConfigError>() { EXIT_USAGE } else { 1 }
}

/// A bad command line or configuration (`EX_USAGE` of sysexits.h).
pub const EXIT_USAGE: u8 = 64;

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_configuration_or_a_subcommand_is_needed_but_not_both() {
        assert!(Cli::try_parse_from(["weft", "--config", "proxy.yaml"]).unwrap().command.is_none());
        assert!(Cli::try_parse_from(["weft", "check", "--config", "proxy.yaml"]).is_ok());
        assert!(Cli::try_parse_from(["weft", "dev", "--shards", "2", "--mode", "cluster", "--workers", "1", "--demo"]).is_ok());
        for wrong in [&["weft"][..], &["weft", "check"], &["weft", "dev", "--shards", "0"], &["weft", "--config", "a", "dev"]] {
            assert!(Cli::try_parse_from(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_bad_configuration_has_an_exit_code_of_its_own() {
        assert_eq!(exit_code(&Config::parse("", "proxy.yaml").unwrap_err().into()), 64);
        assert_eq!(exit_code(&anyhow::anyhow!("no port")), 1);
    }
}
