//! What a connection carries between commands, and the part of it that other connections may see.
//!
//! `CLIENT LIST` on one worker shows the clients of all. Redis gets this for free from its single thread; here a session keeps its state to
//! itself and *publishes* a copy of the [`Profile`] each time it is about to wait for input: one uncontended lock for a wake-up, none for a
//! command. If a reader holds the lock at that moment the session skips its turn instead of waiting. So a listing is true, as of each
//! client's last pause; a session publishes before it lists, so that it always sees itself as it is.
//!
//! No clock is read here: callers pass in the time.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::task::Context;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::task::AtomicWaker;

use super::tracking::mail::Mailbox;
use super::tracking::terms::Terms;
use crate::resp::Proto;

mod line;

/// What one connection carries: owned by its session, the only one to write it.
#[derive(Debug)]
pub struct ClientState {
    /// What `CLIENT LIST` shows and commands change.
    pub profile: Profile,
    /// Whether the client has proven who it is, or need not.
    pub authenticated: bool,
    /// Whether the client wants to hear replies.
    pub reply_mode: ReplyMode,
    labels: Labels,
    /// What CLIENT TRACKING BCAST is about, sorted.
    tracked_prefixes: Vec<Bytes>,
    /// The other end is held by the registry.
    shared: Arc<ClientShared>,
}

impl ClientState {
    /// The state of a connection that was just accepted. `authenticated` is whether this server lets anyone in.
    /// What is for it alone, other workers put into `mailbox`.
    pub fn new(id: u64, peer: Peer, authenticated: bool, now: Instant, mailbox: Arc<Mailbox>) -> Self {
        let profile = Profile::new(now);
        let shared = ClientShared {
            id,
            peer,
            created: now,
            profile: Mutex::new(profile),
            labels: Mutex::default(),
            killed: AtomicBool::new(false),
            session: AtomicWaker::new(),
            mailbox: Mutex::new(mailbox),
        };
        Self {
            profile,
            authenticated,
            reply_mode: ReplyMode::On,
            labels: Labels::default(),
            tracked_prefixes: Vec::new(),
            shared: Arc::new(shared),
        }
    }

    /// The number that names this connection as long as the process lives.
    pub fn id(&self) -> u64 {
        self.shared.id
    }

    /// The two ends of the connection.
    pub fn peer(&self) -> Peer {
        self.shared.peer
    }

    /// The protocol version replies are written in.
    pub fn proto(&self) -> Proto {
        self.profile.proto
    }

    /// What the client calls itself.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Gives the connection a label; an empty one takes it away.
    pub fn set_label(&mut self, label: Label, value: Bytes) {
        *self.labels.slot(label) = value;
        let mut published = self.shared.labels.lock().unwrap_or_else(PoisonError::into_inner);
        *published = self.labels.clone();
    }

    /// The prefixes of the keys whose changes the client is told of.
    pub fn tracked_prefixes(&self) -> &[Bytes] {
        &self.tracked_prefixes
    }

    /// Whether, and on what terms, the client is told of changes.
    pub fn set_tracking(&mut self, terms: Option<Terms>, prefixes: Vec<Bytes>) {
        self.profile.tracking = terms;
        self.tracked_prefixes = prefixes;
    }

    /// Notes that `command` begins now. Called for each command; it only writes fields.
    pub fn begin(&mut self, command: &'static str, now: Instant) {
        self.profile.command = Some(command);
        self.profile.last_interaction = now;
    }

    /// Lets `CLIENT LIST` see the profile as it is now. Called before the session waits.
    pub fn publish(&self) {
        match self.shared.profile.try_lock() {
            Ok(mut published) => *published = self.profile,
            Err(TryLockError::Poisoned(poisoned)) => *poisoned.into_inner() = self.profile,
            Err(TryLockError::WouldBlock) => {}
        }
    }

    /// What `RESET` does to the connection's state: as if it had just been accepted, but for its id, its library and its age.
    /// The caller leaves MULTI, WATCH and subscriptions.
    pub fn reset(&mut self, authenticated: bool) {
        let before = self.profile;
        self.profile = Profile { last_interaction: before.last_interaction, command: before.command, ..Profile::new(self.shared.created) };
        self.profile.buffered_input = before.buffered_input;
        self.profile.buffered_output = before.buffered_output;
        self.authenticated = authenticated;
        self.reply_mode = ReplyMode::On;
        self.tracked_prefixes.clear();
        self.set_label(Label::Name, Bytes::new());
    }

    /// This client's line in `CLIENT INFO`, with its line feed.
    pub fn line(&self, now: Instant) -> Vec<u8> {
        let mut out = Vec::new();
        line::write(&mut out, &self.shared, &self.profile, &self.labels, now);
        out
    }

    /// Whether somebody has killed the client. The task of `cx` is woken when that changes.
    pub fn is_killed(&self, cx: &Context<'_>) -> bool {
        self.shared.session.register(cx.waker());
        self.shared.killed.load(Ordering::Acquire)
    }

    /// The client is served by another worker from now on, whose `mailbox` it is.
    pub(super) fn is_moved_to(&self, mailbox: &Arc<Mailbox>) {
        *self.shared.mailbox.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(mailbox);
    }

    /// What the registry keeps of this client.
    pub(super) fn shared(&self) -> &Arc<ClientShared> {
        &self.shared
    }
}

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The client's address.
    pub addr: SocketAddr,
    /// The address the client connected to.
    pub laddr: SocketAddr,
    /// The socket's file descriptor, for people who look into `/proc`.
    pub fd: i32,
}

/// What `CLIENT LIST` shows of a connection and commands change: small enough to be copied at each publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// The protocol version; `HELLO` changes it.
    pub proto: Proto,
    /// The database; `SELECT` changes it.
    pub db: u32,
    /// `CLIENT NO-EVICT`. weft evicts no clients; the flag is shown.
    pub no_evict: bool,
    /// `CLIENT NO-TOUCH`.
    pub no_touch: bool,
    /// Whether the client is shown what all do: `MONITOR`.
    pub monitors: bool,
    /// Whether the client waits in a blocking command.
    pub blocked: bool,
    /// Commands queued and their bytes, inside MULTI.
    pub queued: Option<Queued>,
    /// Keys watched.
    pub watching: u32,
    /// Channels, patterns and shard channels subscribed to.
    pub subscriptions: Subscriptions,
    /// How the client is told of changes: `CLIENT TRACKING`.
    pub tracking: Option<Terms>,
    /// Bytes read and not yet understood.
    pub buffered_input: usize,
    /// Bytes of replies the client has not taken yet.
    pub buffered_output: usize,
    /// The command that ran last, in full (`client|list`).
    pub command: Option<&'static str>,
    /// When it began.
    pub last_interaction: Instant,
}

impl Profile {
    /// The number by which `HELLO` and `CLIENT LIST` know the protocol version.
    pub fn resp(&self) -> u8 {
        match self.proto {
            Proto::Resp2 => 2,
            Proto::Resp3 => 3,
        }
    }

    fn new(now: Instant) -> Self {
        Self {
            proto: Proto::Resp2,
            db: 0,
            no_evict: false,
            no_touch: false,
            monitors: false,
            blocked: false,
            queued: None,
            watching: 0,
            subscriptions: Subscriptions::default(),
            tracking: None,
            buffered_input: 0,
            buffered_output: 0,
            command: None,
            last_interaction: now,
        }
    }
}

/// How much a MULTI has queued.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queued {
    /// Commands.
    pub commands: u32,
    /// Bytes of their frames.
    pub bytes: usize,
}

/// How many channels a client listens to, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subscriptions {
    /// `SUBSCRIBE`.
    pub channels: u32,
    /// `PSUBSCRIBE`.
    pub patterns: u32,
    /// `SSUBSCRIBE`.
    pub shard_channels: u32,
}

impl Subscriptions {
    /// Whether the client listens to anything, which in RESP2 leaves it a handful of commands.
    pub fn any(self) -> bool {
        self != Self::default()
    }
}

/// What a client calls itself and its library. Free of spaces and line breaks; empty is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// `CLIENT SETNAME`.
    pub name: Bytes,
    /// `CLIENT SETINFO LIB-NAME`.
    pub lib_name: Bytes,
    /// `CLIENT SETINFO LIB-VER`.
    pub lib_ver: Bytes,
}

impl Labels {
    fn slot(&mut self, label: Label) -> &mut Bytes {
        match label {
            Label::Name => &mut self.name,
            Label::LibName => &mut self.lib_name,
            Label::LibVer => &mut self.lib_ver,
        }
    }
}

/// Which of a client's [`Labels`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// The connection's name.
    Name,
    /// The client library's name.
    LibName,
    /// The client library's version.
    LibVer,
}

/// Whether a client wants to hear replies: `CLIENT REPLY`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplyMode {
    /// It hears all.
    #[default]
    On,
    /// It hears none.
    Off,
    /// It has just asked to skip the reply of the command after this one.
    SkipNext,
    /// It does not hear the reply of this command.
    Skip,
}

impl ReplyMode {
    /// Whether the reply of the command that begins now is dropped. `CLIENT REPLY` and `RESET` answer, or not, by themselves: for them it
    /// is the mode they leave behind that counts.
    pub fn mutes(self) -> bool {
        matches!(self, Self::Off | Self::Skip)
    }

    /// The mode of the next command, once this one has begun.
    #[must_use]
    pub fn next(self) -> Self {
        match self {
            Self::On | Self::Skip => Self::On,
            Self::SkipNext => Self::Skip,
            Self::Off => Self::Off,
        }
    }
}

/// What other threads may see of a client: the registry holds it to list it.
#[derive(Debug)]
pub(super) struct ClientShared {
    pub(super) id: u64,
    peer: Peer,
    created: Instant,
    profile: Mutex<Profile>,
    labels: Mutex<Labels>,
    killed: AtomicBool,
    /// The task of its session.
    session: AtomicWaker,
    /// Its worker's.
    mailbox: Mutex<Arc<Mailbox>>,
}

impl ClientShared {
    /// Where news for it are put.
    pub(super) fn mailbox(&self) -> Arc<Mailbox> {
        Arc::clone(&self.mailbox.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The two ends of the connection.
    pub(super) fn peer(&self) -> Peer {
        self.peer
    }

    /// Has its session end as soon as the command in its hands is done, without a word.
    pub(super) fn kill(&self) {
        self.killed.store(true, Ordering::Release);
        self.session.wake();
    }

    /// Whether it was subscribed when it last published.
    pub(super) fn is_subscriber(&self) -> bool {
        self.published().subscriptions.any()
    }

    /// Appends this client's line in `CLIENT LIST`, with its line feed.
    pub(super) fn write_line(&self, out: &mut Vec<u8>, now: Instant) {
        let labels = self.labels.lock().unwrap_or_else(PoisonError::into_inner).clone();
        line::write(out, self, &self.published(), &labels, now);
    }

    fn published(&self) -> Profile {
        *self.profile.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.created)
    }
}
