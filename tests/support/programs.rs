//! What `make test` installs beside the servers: Python with its packages, and what lies in the folder of the tests.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A path in the folder of the tests.
pub(crate) fn in_tests(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(path)
}

/// A program of the Python environment that `tests/setup.sh` makes.
pub(crate) fn venv(program: &str) -> Command {
    let mut command = Command::new(in_tests(".venv/bin").join(program));
    // Python leaves no compiled files among the sources.
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}
