//! What is measured against what. A target knows its program and how to start it; each file argues one program's configuration.

mod envoy;
mod redis_server;
mod twemproxy;
mod weft;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A column of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    /// The server itself.
    Direct,
    Twemproxy,
    Envoy,
    WeftStrict,
    WeftRelaxed,
}

/// What part a target plays in the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Direct,
    Peer,
    Ours,
}

/// Where a proxy is to stand.
#[derive(Debug)]
pub(crate) struct Site<'a> {
    pub(crate) listen: SocketAddr,
    pub(crate) shards: &'a [SocketAddr],
    pub(crate) workers: usize,
    /// For its configuration.
    pub(crate) directory: &'a Path,
}

impl Target {
    pub(crate) const ALL: [Self; 5] = [Self::Direct, Self::Twemproxy, Self::Envoy, Self::WeftStrict, Self::WeftRelaxed];

    /// The name on the command line, in the table and in the JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Twemproxy => "twemproxy",
            Self::Envoy => "envoy",
            Self::WeftStrict => "weft-strict",
            Self::WeftRelaxed => "weft-relaxed",
        }
    }

    pub(crate) fn role(self) -> Role {
        match self {
            Self::Direct => Role::Direct,
            Self::Twemproxy | Self::Envoy => Role::Peer,
            Self::WeftStrict | Self::WeftRelaxed => Role::Ours,
        }
    }

    /// The program, or how to get it.
    pub(crate) fn program(self) -> anyhow::Result<PathBuf> {
        match self {
            Self::Direct => redis_server::program(),
            Self::Twemproxy => twemproxy::program(),
            Self::Envoy => envoy::program(),
            Self::WeftStrict | Self::WeftRelaxed => Ok(weft::program()),
        }
    }

    /// The proxy before `site.shards`; `None` for direct, which is the first of them.
    pub(crate) fn proxy(self, site: &Site<'_>) -> anyhow::Result<Option<Command>> {
        match self {
            Self::Direct => Ok(None),
            Self::Twemproxy => twemproxy::command(site).map(Some),
            Self::Envoy => envoy::command(site).map(Some),
            Self::WeftStrict => weft::command(site, "strict").map(Some),
            Self::WeftRelaxed => weft::command(site, "relaxed").map(Some),
        }
    }

    /// The argument that makes the program tell its version.
    pub(crate) fn version_argument(self) -> &'static str {
        if self == Self::Twemproxy { "-V" } else { "--version" }
    }
}

/// A plain server that listens on `address`.
pub(crate) fn shard(address: SocketAddr, directory: &Path) -> anyhow::Result<Command> {
    redis_server::command(address, directory)
}
