//! One client's connection: what it may do, what it has in flight, and the transaction it is in.
//!
//! `task` moves bytes and shifts between the fast gear and carrying out one request alone; `dispatch` is the one match on how a command
//! is handled; `window` puts replies in order; `forward` sends plain commands to their shard with the lock check they owe; `multi` is
//! MULTI to EXEC; `alone` carries out what has to wait. `client`, `registry` and `local` are what needs no shard; `rescue` is the
//! one place where an error becomes bytes.

mod alone;
mod client;
mod connection;
mod dispatch;
mod forward;
mod local;
mod multi;
mod registry;
mod rescue;
mod split;
mod task;
mod window;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::net::TcpStream;

pub use client::{ClientState, Peer};
pub use local::info::ServerIdentity;
pub use local::{Databases, LocalSettings};
pub use registry::{ClientRegistry, Registration};

use crate::command::{CommandSpec, LookupError};
use crate::config::{Config, Isolation};
use crate::metrics::{Counter, Metrics, WorkerMetrics};
use crate::resp::{Limits, ProtocolError, ReplyWriter, Request, error_reply};
use crate::topology::Topology;
use crate::txn::Engine;
use crate::txn::watch::Watch;
use crate::upstream::Upstreams;

use forward::Runs;
use multi::Queue;
use window::Window;

/// What the sessions of a worker share.
pub struct Context {
    /// The configuration.
    pub config: Arc<Config>,
    /// Connections to the shards.
    pub upstreams: Rc<Upstreams>,
    /// Transactions.
    pub engine: Rc<Engine>,
    /// The clients of all workers.
    pub registry: Arc<ClientRegistry>,
    /// The topology's control plane.
    pub topology: Topology,
    /// What sockets are read into; see `task`.
    pub scratch: RefCell<BytesMut>,
    /// What the configuration says about connections.
    pub settings: LocalSettings,
    /// What INFO says of the process.
    pub identity: Arc<ServerIdentity>,
    /// The counters of all workers.
    pub metrics: Arc<Metrics>,
    /// This worker's own.
    pub counts: Arc<WorkerMetrics>,
}

impl Context {
    fn is_strict(&self) -> bool {
        self.config.isolation == Isolation::Strict
    }
}

/// A client's connection.
struct Session {
    context: Rc<Context>,
    client: ClientState,
    /// Keeps the client listed.
    _registration: Registration,
    window: Rc<Window>,
    mode: Mode,
    /// The keys that EXEC depends on.
    watch: Option<Watch>,
    /// A request that could not be sent yet; nothing behind it is looked at.
    stalled: Option<Pending>,
    /// Writes that were dispatched but not sent yet.
    runs: Runs,
    /// Nothing more is read; the session ends when all replies are written.
    closing: bool,
}

/// Whether commands are carried out or queued.
enum Mode {
    /// Each command is carried out.
    Plain,
    /// After MULTI.
    Multi(Queue),
}

/// A request whose command is known and has the right number of arguments.
struct Pending {
    spec: &'static CommandSpec,
    request: Request,
}

/// Serves a client until it goes or is sent away.
pub async fn serve(context: Rc<Context>, client: ClientState, registration: Registration, stream: TcpStream) {
    let session = Session {
        context,
        client,
        _registration: registration,
        window: Window::new(),
        mode: Mode::Plain,
        watch: None,
        stalled: None,
        runs: Runs::default(),
        closing: false,
    };
    task::run(session, stream).await;
}

impl Session {
    /// Appends a reply of weft's own.
    fn reply(&self, write: impl FnOnce(&mut ReplyWriter<'_>)) {
        let proto = self.client.proto();
        self.window.reply(|out| write(&mut ReplyWriter::new(out, proto)));
    }

    /// The limits on what is decoded: tighter before the client has authenticated.
    fn limits(&self) -> &Limits {
        if self.client.authenticated { &self.context.engine.limits } else { &Limits::UNAUTHENTICATED }
    }

    /// Whether one more request may be taken on; if not, the session's task is woken when that may have changed.
    fn has_room(&self) -> bool {
        let pending_max = self.context.config.limits.client_pending_commands_max;
        // What is to be sent again goes before all that comes after it.
        !self.window.is_again() && self.window.len() < pending_max && self.window.out_len() < OUT_BYTES_HIGH
    }

    /// Looks up what `request` asks for; what cannot be carried out is answered here.
    fn admit(&mut self, request: Request) -> Option<Pending> {
        match crate::command::lookup(&request) {
            Ok(spec) if !local::needs_auth(&self.client, spec) => {
                self.client.begin(spec.name, self.context.engine.now());
                self.context.counts.count(Counter::Commands);
                return Some(Pending { spec, request });
            }
            Ok(_) => self.refuse_outright(|reply| reply.error(error_reply::NOAUTH)),
            Err(_) if !self.client.authenticated => self.refuse_outright(|reply| reply.error(error_reply::NOAUTH)),
            Err(error) => {
                self.spoil();
                if matches!(error, LookupError::WrongArity(spec) if spec.name == "exec") {
                    // As in Redis an EXEC that fails, for whatever reason, ends the transaction.
                    self.leave_multi();
                    self.watch = None;
                }
                self.refuse_outright(|reply| rescue::lookup(reply, &error, &request));
            }
        }
        None
    }

    /// Refuses a request before it is anything, which the client hears if it hears replies at all.
    fn refuse_outright(&mut self, write: impl FnOnce(&mut ReplyWriter<'_>)) {
        let muted = self.client.reply_mode.mutes();
        self.client.reply_mode = self.client.reply_mode.next();
        if !muted {
            self.reply(write);
        }
    }

    /// A command was not queued: EXEC will refuse.
    fn spoil(&mut self) {
        if let Mode::Multi(queue) = &mut self.mode {
            queue.spoil();
        }
    }

    fn protocol_error(&mut self, error: &ProtocolError) {
        self.reply(|reply| rescue::protocol(reply, error));
        self.closing = true;
    }
}

/// With more than this to be written, no further request of the client is looked at.
const OUT_BYTES_HIGH: usize = 256 * 1024;
