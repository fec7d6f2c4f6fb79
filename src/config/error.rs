//! What is wrong with a configuration, told so that it can be put right without reading anything else.

use std::fmt;
use std::io;

/// A configuration that cannot be served. Shown as `file:line: key: what is wrong; what to do`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    file: String,
    line: Option<usize>,
    /// Dotted, as `topology.static.shards[1].address`; empty if no single key is at fault.
    key: String,
    problem: String,
    remedy: String,
}

impl ConfigError {
    pub(super) fn new(file: &str, line: Option<usize>, key: &str, problem: String, remedy: String) -> Self {
        Self { file: file.into(), line, key: key.into(), problem, remedy }
    }

    pub(super) fn unreadable(file: &str, error: &io::Error) -> Self {
        let remedy = "name a readable file with --config, or copy the documented sample `proxy.yaml`".into();
        Self::new(file, None, "", format!("cannot be read: {error}"), remedy)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}; {}", self.problem, self.remedy)
    }
}

impl std::error::Error for ConfigError {}
