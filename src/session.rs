//! One client's connection: what it may do, what it has in flight, and the transaction it is in.
//!
//! `task` moves bytes and shifts between the fast gear and carrying out one request alone; `dispatch` is the one match on how a command
//! is handled; `window` puts replies in order; `forward` sends plain commands to their shard with the lock check they owe; `multi` is
//! MULTI to EXEC; `alone` carries out what has to wait for shards, `blocking` what waits for a key to be written; `pubsub` is channels;
//! `transfer` and `streams` are commands over several participants; `everywhere` is what concerns all shards. `tracking` tells clients of
//! changes to what they have read, `monitor` of what all do. `budget` is how much memory clients may take together. `placement` is which worker serves a client. `client`, `registry` and `local` are what needs no shard; `rescue` is the one place where an error
//! becomes bytes.

mod alone;
mod blocking;
mod budget;
mod busy;
mod client;
mod compute;
mod connection;
mod dispatch;
mod everywhere;
mod forward;
pub mod local;
mod monitor;
mod multi;
mod operator;
mod pause;
mod placement;
mod pubsub;
mod registry;
mod rescue;
mod script;
mod split;
mod streams;
mod task;
mod tracking;
mod transfer;
mod window;

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context as TaskContext;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

pub use blocking::lines::{Release, WaitingRoom};
pub use budget::Budget;
pub use client::{ClientState, Peer};
pub use everywhere::Scripts;
pub use local::info::ServerIdentity;
pub use local::{Databases, LocalSettings};
pub use monitor::Monitors;
pub use placement::{Guest, Placement, Roster};
pub use pubsub::census::Census;
pub use pubsub::hub::Hub;
pub use registry::{ClientRegistry, Registration};
pub use tracking::mail::Mailbox;
pub use tracking::totals::TrackingTotals;
pub use tracking::tracker::Tracker;
pub use window::Resting;

use crate::command::{CommandSpec, LookupError, MultiKeyClass};
use crate::config::{Config, Isolation, MultiKey};
use crate::metrics::{Counter, Metrics, WorkerMetrics};
use crate::resp::{Limits, Proto, ProtocolError, ReplyWriter, Request, error_reply};
use crate::topology::Topology;
use crate::txn::watch::Watch;
use crate::txn::{Engine, Habit};
use crate::upstream::{ArmedLane, SharedConn, Upstreams};

use budget::Claim;
use forward::Runs;
use monitor::Watching;
use multi::Queue;
use placement::Baggage;
use pubsub::Subscriptions;
use tracking::Tracked;
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
    /// What the clients of all workers may hold together.
    pub budget: Arc<Budget>,
    /// The users' scripts, for shards that forget them.
    pub scripts: Arc<Scripts>,
    /// The clients of all workers that wait in blocking commands.
    pub waiting: Arc<WaitingRoom>,
    /// The clients of all workers that watch what all do.
    pub monitors: Arc<Monitors>,
    /// What this worker's clients listen to.
    pub hub: Rc<Hub>,
    /// Which of this worker's clients are told of changes.
    pub tracker: Rc<Tracker>,
    /// The topology's control plane.
    pub topology: Topology,
    /// Where the clients of all workers are served.
    pub placement: Arc<Placement>,
    /// Those of this worker's that have something to do.
    pub roster: Roster,
    /// What sockets are read into; see `task`.
    pub scratch: RefCell<BytesMut>,
    /// The clients who hold memory and perhaps no longer need it.
    pub resting: Resting,
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

    /// What happens to a command of `spec` whose keys are on several participants.
    fn multi_key(&self, spec: &CommandSpec) -> MultiKey {
        let by_class = &self.config.transactions.multi_key;
        match spec.multi_key_class() {
            MultiKeyClass::Reads => by_class.reads,
            MultiKeyClass::Writes => by_class.writes,
            MultiKeyClass::Deletes => by_class.deletes,
            MultiKeyClass::Computed => by_class.computed,
            MultiKeyClass::Scripts => by_class.scripts,
        }
    }
}

/// A client's connection.
struct Session {
    context: Rc<Context>,
    client: ClientState,
    /// Keeps the client listed.
    registration: Registration,
    window: Rc<Window>,
    mode: Mode,
    subscriptions: Subscriptions,
    tracked: Tracked,
    /// It is shown what all clients do.
    watching: Option<Watching>,
    /// The keys that EXEC depends on.
    watch: Option<Watch>,
    /// Whether it is one of those who break each other's watches.
    habit: Habit,
    /// What of the budget it holds.
    claim: Claim,
    /// A request that could not be sent yet; nothing behind it is looked at.
    stalled: Option<Pending>,
    /// The connection that the last request went to: when it is full, nothing more is taken on.
    last_conn: Option<Rc<SharedConn>>,
    /// Writes that were dispatched but not sent yet.
    runs: Runs,
    /// Which of the armed connections its writes go by while any is under way.
    armed_lane: ArmedLane,
    /// What WAIT has to know of the client's writes.
    writes: everywhere::Writes,
    /// Nothing more is read; the session ends when all replies are written.
    closing: bool,
    /// See [`Roster`].
    seen: u32,
    /// The worker that it is to move to.
    leaving: Option<usize>,
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

/// Serves a client until it goes, is sent away, or moves to another worker.
///
/// Not an `async fn`, which would keep its arguments as long as it runs: what an idle client costs is mostly this future and the session.
pub fn serve(context: Rc<Context>, client: ClientState, registration: Registration, stream: TcpStream) -> impl Future<Output = ()> {
    begin(context, client, registration, stream, Baggage::default())
}

/// Goes on to serve a client that comes from another worker.
///
/// # Errors
/// When the runtime does not take its socket.
pub fn receive(context: Rc<Context>, guest: Guest) -> io::Result<impl Future<Output = ()>> {
    let Guest { client, registration, stream, baggage } = guest;
    let stream = TcpStream::from_std(stream)?;
    Ok(begin(context, client, registration, stream, baggage))
}

fn begin(
    context: Rc<Context>,
    client: ClientState,
    registration: Registration,
    stream: TcpStream,
    baggage: Baggage,
) -> impl Future<Output = ()> {
    let Baggage { input, decoder, stalled, habit, writes } = baggage;
    let window = Window::new(Arc::clone(&context.counts));
    let subscriptions = Subscriptions::new(Rc::clone(&context.hub), Rc::clone(&window));
    subscriptions.set_proto(client.proto());
    let seen = context.roster.turn();
    let session = Box::new(Session {
        tracked: Tracked::new(Rc::clone(&context.tracker), client.id(), Rc::clone(subscriptions.listener())),
        subscriptions,
        claim: Claim::new(Arc::clone(&context.budget), Arc::clone(client.shared())),
        context,
        client,
        registration,
        window,
        mode: Mode::Plain,
        watching: None,
        watch: None,
        habit,
        stalled,
        last_conn: None,
        runs: Runs::default(),
        armed_lane: ArmedLane::default(),
        writes,
        closing: false,
        seen,
        leaving: None,
    });
    task::run(session, stream, input, decoder)
}

/// Tells a client that there are too many.
pub async fn turn_away(mut stream: TcpStream) {
    // As a courtesy: whether it arrives is the client's affair.
    let _ = stream.write_all(format!("-{}\r\n", error_reply::MAX_CLIENTS).as_bytes()).await;
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
    fn has_room(&self, cx: &TaskContext<'_>) -> bool {
        let sent = match &self.last_conn {
            Some(conn) => conn.poll_room(cx, self.context.config.upstream.pending_bytes_max).is_ready(),
            None => true,
        };
        // What is to be sent again goes before all that comes after it.
        sent && self.leaving.is_none()
            && !self.window.is_again()
            && self.window.len() < self.context.config.limits.client_pending_commands_max
            && self.window.held() < OUT_BYTES_HIGH
            && self.window.sent() < IN_FLIGHT_BYTES_HIGH
    }

    /// Whether the session is to end now: somebody has killed the client, or it does not read what it is sent. The task is woken when that
    /// changes.
    fn is_doomed(&self, cx: &TaskContext<'_>) -> bool {
        self.client.is_killed(cx) || self.window.is_overrun()
    }

    /// Whether `pending` has to wait for the end of a CLIENT PAUSE.
    fn is_paused(&self, pending: &Pending) -> bool {
        let pause = self.context.registry.pause();
        pause.is_on() && pause.holds(self.may_replicate(pending))
    }

    /// Whether `pending`, or what was queued for it, counts as a write for CLIENT PAUSE.
    fn may_replicate(&self, pending: &Pending) -> bool {
        match &self.mode {
            Mode::Multi(queue) if pending.spec.name == "exec" => queue.may_replicate(),
            _ => pause::may_replicate(pending.spec),
        }
    }

    /// Whether weft holds more replies than the client may leave unread. A single one may be of any size.
    fn is_flooded(&self) -> bool {
        self.window.len() > 1 && self.window.held() > self.context.config.limits.client_output_bytes_max
    }

    /// How much it holds beside what was read and not understood yet.
    fn held(&self) -> usize {
        let stalled = self.stalled.as_ref().map_or(0, |pending| pending.request.bytes().len());
        let queued = match &self.mode {
            Mode::Plain => 0,
            Mode::Multi(queue) => queue.bytes(),
        };
        stalled + queued + self.window.sent() + self.window.held()
    }

    /// Looks up what `request` asks for; what cannot be carried out is answered here.
    fn admit(&mut self, request: Request) -> Option<Pending> {
        match crate::command::lookup(&request) {
            Ok(spec) if !local::needs_auth(&self.client, spec) => {
                if self.is_listening() && !pubsub::is_for_listeners(spec) {
                    self.spoil();
                    self.reply(|reply| reply.error(&error_reply::listening(spec.name)));
                    return None;
                }
                self.client.begin(spec.name, self.context.engine.now());
                self.context.counts.count(Counter::Commands);
                if connection::is_counted(spec) {
                    self.context.counts.count_call(spec.name);
                }
                if self.context.monitors.is_any() {
                    self.show(spec, &request);
                }
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

    /// Whether the client reads messages, and can read little else.
    fn is_listening(&self) -> bool {
        self.client.proto() == Proto::Resp2 && self.client.profile.subscriptions.any()
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

/// With more than this held for the client, no further request of the client is looked at.
const OUT_BYTES_HIGH: usize = 256 * 1024;

/// Likewise with more bytes of its requests than this sent and not answered.
const IN_FLIGHT_BYTES_HIGH: usize = 1024 * 1024;
