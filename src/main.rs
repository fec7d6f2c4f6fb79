//! The `weft` binary: arguments in, exit code out.

use std::process::ExitCode;

use clap::Parser as _;
use weft::cli::{self, Cli};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Also --help and --version, which are no errors. If they cannot be printed, nobody reads them.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(cli::EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weft: {error:#}");
            ExitCode::from(cli::exit_code(&error))
        }
    }
}
