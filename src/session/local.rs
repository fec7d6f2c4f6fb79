//! The commands that weft answers itself, because they are about the connection and not about data.
//!
//! Pure: each is a function of the request, the connection's state and facts handed in. What needs more than that comes back as a
//! [`LocalOutcome`] for the session to carry out. Replies are those of Redis 7.0, byte for byte; where 7.0 lacks the command (CLIENT
//! SETINFO, NO-TOUCH), those of its successors. The command table has already refused unknown commands and a wrong number of arguments.

mod acl;
mod auth;
mod client;
mod connection;
pub mod info;
mod server;
pub mod weft;

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use bytes::BytesMut;

use self::info::Sections;
use super::WaitingRoom;
use super::client::ClientState;
use super::registry::ClientRegistry;
use super::tracking::terms::Wish;
use crate::command::{CommandSpec, Flags};
use crate::config::Secret;
use crate::resp::{Proto, ReplyWriter, Request};

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
    /// The Redis version of the shards, which clients take for that of the server.
    pub redis_version: &'a str,
    /// All clients.
    pub clients: &'a ClientRegistry,
    /// Those that wait in blocking commands.
    pub waiting: &'a WaitingRoom,
}

/// What the configuration says about connections.
#[derive(Clone, Debug)]
pub struct LocalSettings {
    /// What clients present with `AUTH`; without it nobody is asked.
    pub password: Option<Secret>,
    /// The databases that `SELECT` offers.
    pub databases: Databases,
}

impl LocalSettings {
    /// Whether a client counts as authenticated when it has said nothing yet.
    pub fn admits_anyone(&self) -> bool {
        self.password.is_none()
    }
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
    /// Collect [`info::Facts`] for these sections, then have [`info::reply`] write them. Nothing was written.
    Info(Sections),
    /// Answer from weft's configuration and a shard's (`CONFIG GET`), or set what may be set (`CONFIG SET`). Nothing was written.
    Config,
    /// Tell the client of changes, or no longer (`CLIENT TRACKING`), then say OK. Nothing was written.
    Tracking(Wish),
    /// Show the client what all clients do (`MONITOR`). Nothing was written.
    Monitor,
    /// Look into the shards' records (`WEFT TXN`). Nothing was written.
    Inquiry(weft::Inquiry),
    /// Not one of these commands. Nothing was written.
    NotLocal,
}

impl LocalOutcome {
    /// Close the connection behind the reply if `closes`.
    fn closing_if(self, closes: bool) -> Self {
        if closes { Self::Close } else { self }
    }
}

impl Call<'_> {
    /// The argument at `index`; empty if there is none, which the command table rules out where it matters.
    fn arg(&self, index: usize) -> &[u8] {
        self.args_from(index).next().unwrap_or_default()
    }

    fn args_from(&self, first: usize) -> impl ExactSizeIterator<Item = &[u8]> {
        self.request.args_from(first)
    }

    /// Writes in the protocol version of the client as it is now.
    fn reply(&mut self) -> ReplyWriter<'_> {
        ReplyWriter::new(self.out, self.client.proto())
    }

    fn ok(&mut self) -> LocalOutcome {
        self.reply().simple("OK");
        LocalOutcome::Replied
    }

    fn error(&mut self, text: &str) -> LocalOutcome {
        self.reply().error(text);
        LocalOutcome::Replied
    }
}

/// Answers the command `name`, written in full as in the command table (`ping`, `client|list`).
pub fn answer(name: &str, call: Call<'_>) -> LocalOutcome {
    match name {
        "ping" => connection::ping(call),
        "echo" => connection::echo(call),
        "select" => connection::select(call),
        "time" => connection::time(call),
        "quit" => connection::quit(call),
        "reset" => connection::reset(call),
        "auth" => auth::auth(call),
        "hello" => auth::hello(call),
        "client|id" => client::id(call),
        "client|getname" => client::name(call),
        "client|setname" => client::set_name(call),
        "client|setinfo" => client::set_info(call),
        "client|info" => client::info(call),
        "client|list" => client::list(call),
        "client|reply" => client::reply_mode(call),
        "client|no-evict" => client::no_evict(call),
        "client|no-touch" => client::no_touch(call),
        "role" => server::role(call),
        "acl|whoami" => acl::who_am_i(call),
        "acl|users" => acl::users(call),
        "acl|list" => acl::list(call),
        "acl|getuser" => acl::user(call),
        "acl|deluser" => acl::remove(call),
        "acl|dryrun" => acl::dry_run(call),
        "acl|log" => acl::log(call),
        "acl|load" | "acl|save" => acl::file(call),
        "module|list" => server::modules(call),
        "config|get" | "config|set" => LocalOutcome::Config,
        "client|unblock" => client::unblock(call),
        "client|tracking" => client::tracking(call),
        "client|caching" => client::caching(call),
        "client|trackinginfo" => client::tracking_info(call),
        "client|getredir" => client::redirection(call),
        "client|kill" => client::kill(call),
        "client|pause" => client::pause(call),
        "client|unpause" => client::unpause(call),
        "monitor" => LocalOutcome::Monitor,
        "info" => LocalOutcome::Info(Sections::named(call.args_from(1))),
        "weft|help" => weft::help(call),
        "weft|txn" => weft::transactions(call),
        _ => LocalOutcome::NotLocal,
    }
}

/// Whether `client` must authenticate before it may run `spec`. The refusal is `error_reply::NOAUTH`.
pub fn needs_auth(client: &ClientState, spec: &CommandSpec) -> bool {
    !client.authenticated && !spec.flags.contains(Flags::NO_AUTH)
}

/// The database that `arg` names, or the error for it; a cluster has one.
pub fn database(arg: &[u8], databases: Databases) -> Result<u32, &'static str> {
    connection::database(arg, databases)
        .map_err(|error| if error == crate::resp::error_reply::SELECT_IN_CLUSTER { crate::resp::error_reply::DB_INDEX } else { error })
}

/// The database that `request`, a SELECT, asks for, if there is such a one.
pub fn selected(request: &Request, databases: Databases) -> Option<u32> {
    connection::database(request.arg(1), databases).ok()
}

/// The protocol version that `request`, a HELLO, asks for and will get.
pub fn greeted(request: &Request, settings: &LocalSettings) -> Option<Proto> {
    auth::greeted(request, settings)
}

/// `arg` as an integer, if it is one in Redis's eyes: without a plus sign, leading zeros or spaces.
fn integer(arg: &[u8]) -> Option<i64> {
    let value: i64 = std::str::from_utf8(arg).ok()?.parse().ok()?;
    (itoa::Buffer::new().format(value).as_bytes() == arg).then_some(value)
}
