//! Commands with their keys and places: what transactions are made of.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::command::{Access, CommandSpec};
use crate::resp::Request;
use crate::route::{Place, PlacedKeys};

/// A command whose keys all lie in one participant. It has at least one key, if only to say where it goes.
#[derive(Clone, Debug)]
pub struct Command {
    /// Its row in the command table.
    pub spec: &'static CommandSpec,
    /// The request.
    pub request: Request,
    /// Its keys, at least one.
    pub keys: PlacedKeys,
}

impl Command {
    /// Whether it may change data.
    pub fn writes(&self) -> bool {
        self.spec.is_write() || self.keys.iter().any(|key| key.access == Access::Write)
    }

    /// The names of its keys.
    pub fn key_names(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.keys.iter().map(|key| self.request.arg(key.index as usize))
    }
}

/// The keys that a batch touches, each with the strongest access of any of its commands.
pub type KeyAccess = BTreeMap<Bytes, Access>;

/// Collects the keys of `commands` into `into`.
pub fn collect_keys<'a>(commands: impl IntoIterator<Item = &'a Command>, into: &mut KeyAccess) {
    for command in commands {
        for key in &command.keys {
            let entry = into.entry(command.request.arg_bytes(key.index as usize)).or_insert(key.access);
            if key.access == Access::Write {
                *entry = Access::Write;
            }
        }
    }
}

/// One participant's share of a transaction.
#[derive(Clone, Debug, Default)]
pub struct Part {
    /// Its commands with the position that each has in the transaction.
    pub commands: Vec<(usize, Command)>,
    /// Keys that the client watches here.
    pub watched: Vec<Bytes>,
    /// Keys that must not exist.
    pub absent: Vec<Bytes>,
}

/// Divides `commands` over their participants, in the participants' order.
pub fn divide(commands: Vec<Command>) -> BTreeMap<Place, Part> {
    let mut parts: BTreeMap<Place, Part> = BTreeMap::new();
    for (position, command) in commands.into_iter().enumerate() {
        if let Some(key) = command.keys.first() {
            parts.entry(key.place).or_default().commands.push((position, command));
        }
    }
    parts
}
