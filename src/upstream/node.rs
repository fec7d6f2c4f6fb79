//! One server: its shared connections and its pool of leased ones.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::armed::ArmedConn;
use super::ear::{Ear, EarSink};
use super::error::UpstreamError;
use super::feed::{Feed, FeedSink};
use super::handshake::{Handshake, error_text};
use super::leased::{Leased, LeasedConn};
use super::rounds::Rounds;
use super::run::Run;
use super::shared::{Pace, SharedConn};
use super::subscriber::{MessageSink, Subscriber};
use crate::config::UpstreamConfig;
use crate::metrics::{Counter, WorkerMetrics};
use crate::node_addr::NodeAddr;
use crate::resp::Proto;

/// A server of the topology, as one worker sees it.
pub struct Node {
    address: NodeAddr,
    handshake: Handshake,
    config: UpstreamConfig,
    counts: Arc<WorkerMetrics>,
    shared: RefCell<SmallVec<[Shared; 2]>>,
    armed: RefCell<SmallVec<[Armed; 2]>>,
    idle: RefCell<Vec<LeasedConn>>,
    subscriber: RefCell<Option<Rc<Subscriber>>>,
    rounds: RefCell<Option<Rc<Rounds>>>,
    /// The topology no longer names it.
    closed: Cell<bool>,
    leases: Arc<Semaphore>,
}

/// A shared connection, beside the database and the protocol version that it is for.
type Shared = (u32, Proto, Rc<SharedConn>);

/// An armed connection, likewise, and beside its lane.
type Armed = (u32, Proto, ArmedLane, Rc<ArmedConn>);

/// Which of the armed connections to one database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArmedLane(u8);

impl ArmedLane {
    /// All there are, first the one that is taken as long as it has room: so many that weft puts together what goes by some while the shard
    /// carries out what came by others.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..4).map(Self)
    }
}

impl Node {
    /// A node that is not connected to yet.
    pub fn new(address: NodeAddr, handshake: Handshake, config: UpstreamConfig, counts: Arc<WorkerMetrics>) -> Rc<Self> {
        let leases = Arc::new(Semaphore::new(config.leased_connections_max));
        Rc::new(Self {
            address,
            handshake,
            config,
            counts,
            shared: RefCell::default(),
            armed: RefCell::default(),
            idle: RefCell::default(),
            subscriber: RefCell::default(),
            rounds: RefCell::default(),
            closed: Cell::new(false),
            leases,
        })
    }

    /// Where the server is.
    pub fn address(&self) -> &NodeAddr {
        &self.address
    }

    /// How long a reply may take.
    pub(super) fn reply_timeout(&self) -> Duration {
        self.config.reply_timeout
    }

    /// The shared connection for database `db` and protocol `proto`.
    pub fn shared(&self, db: u32, proto: Proto) -> Rc<SharedConn> {
        let mut shared = self.shared.borrow_mut();
        if let Some((.., conn)) = shared.iter().find(|entry| entry.0 == db && entry.1 == proto) {
            return Rc::clone(conn);
        }
        let conn = SharedConn::open(self.link(db, proto), Pace::Gathering);
        shared.push((db, proto, Rc::clone(&conn)));
        conn
    }

    /// The connection for writes to database `db`, whose gate is watched and looked at by `tail`.
    ///
    /// There is one for each `lane`, since one that has a batch in flight sends the next when that is answered.
    pub fn armed(&self, db: u32, proto: Proto, lane: ArmedLane, tail: &Bytes) -> Rc<ArmedConn> {
        let mut armed = self.armed.borrow_mut();
        if let Some((.., conn)) = armed.iter().find(|entry| entry.0 == db && entry.1 == proto && entry.2 == lane) {
            return Rc::clone(conn);
        }
        let conn = ArmedConn::open(self.link(db, proto), tail.clone());
        armed.push((db, proto, lane, Rc::clone(&conn)));
        conn
    }

    /// The connection that listens to the node's channels; what it hears is told to the `sink` of the first call.
    pub fn subscriber(&self, sink: &Rc<dyn MessageSink>) -> Rc<Subscriber> {
        let mut subscriber = self.subscriber.borrow_mut();
        Rc::clone(subscriber.get_or_insert_with(|| Subscriber::open(self.link(0, Proto::Resp2), Rc::clone(sink))))
    }

    /// A new connection that tells `sink` what changes. It is the caller's to close and to [`watch`](Feed::watch).
    pub fn feed(&self, sink: Rc<dyn FeedSink>) -> Rc<Feed> {
        Feed::open(self.link(0, Proto::Resp3), sink)
    }

    /// A new connection that tells `sink` what the server carries out.
    pub fn ear(&self, sink: Box<dyn EarSink>) -> Ear {
        Ear::open(self.link(0, Proto::Resp2), sink)
    }

    /// The calls that are made one at a time, in database 0, each for all who asked for it. All fail once the node is closed.
    pub fn rounds(&self) -> Rc<Rounds> {
        let mut rounds = self.rounds.borrow_mut();
        let rounds = rounds.get_or_insert_with(|| {
            let conn = SharedConn::open(self.link(0, Proto::Resp2), Pace::Prompt);
            if self.closed.get() {
                conn.close();
            }
            Rounds::new(conn)
        });
        Rc::clone(rounds)
    }

    /// Takes a connection of its own for the caller, from the pool or, while fewer than `leased_connections_max` are out, a new one.
    ///
    /// # Errors
    /// [`UpstreamError::NotSent`] when `wait` passes without one becoming free, or when connecting fails.
    pub async fn lease(self: &Rc<Self>, db: u32, proto: Proto, wait: Duration) -> Result<Leased, UpstreamError> {
        let permit = tokio::time::timeout(wait, Arc::clone(&self.leases).acquire_owned()).await;
        let Ok(Ok(permit)) = permit else { return Err(UpstreamError::NotSent) };
        let found = {
            let mut idle = self.idle.borrow_mut();
            let place = idle.iter().rposition(|conn| conn.db() == db && conn.proto() == proto);
            let spare = (place.is_none() && idle.len() >= self.config.leased_connections_max).then(|| idle.remove(0));
            drop(spare);
            place.map(|place| idle.remove(place)).and_then(|mut conn| conn.is_alive().then_some(conn))
        };
        let conn = match found {
            Some(conn) => conn,
            None => LeasedConn::connect(self.link(db, proto)).await?,
        };
        Ok(Leased::new(conn, Rc::clone(self), permit))
    }

    /// Puts a connection that carries no state back into the pool.
    pub(super) fn give_back(&self, conn: LeasedConn) {
        self.idle.borrow_mut().push(conn);
    }

    /// Gives up connections, other than leased ones, that have not answered for the configured time. To be called now and then.
    pub fn watch(&self, now: Instant) {
        self.shared.borrow().iter().for_each(|(.., conn)| conn.watch(now, self.config.reply_timeout));
        self.armed.borrow().iter().for_each(|(.., conn)| conn.watch(now, self.config.reply_timeout));
        self.subscriber.borrow().iter().for_each(|subscriber| subscriber.watch(now, self.config.reply_timeout));
        self.rounds.borrow().iter().for_each(|rounds| rounds.watch(now, self.config.reply_timeout));
    }

    /// Ends all connections but those on loan: the topology no longer names this node.
    pub fn close(&self) {
        self.shared.borrow_mut().drain(..).for_each(|(.., conn)| conn.close());
        self.armed.borrow_mut().drain(..).for_each(|(.., conn)| conn.close());
        self.subscriber.take().iter().for_each(|subscriber| subscriber.close());
        self.closed.set(true);
        self.rounds.borrow().iter().for_each(|rounds| rounds.close());
        self.idle.borrow_mut().clear();
    }

    pub(super) fn link(&self, db: u32, proto: Proto) -> Link {
        Link {
            address: self.address.clone(),
            db,
            proto,
            handshake: self.handshake.clone(),
            config: self.config.clone(),
            counts: Arc::clone(&self.counts),
        }
    }
}

/// Everything that is needed to make one connection.
#[derive(Clone)]
pub struct Link {
    pub(super) address: NodeAddr,
    pub(super) db: u32,
    pub(super) proto: Proto,
    handshake: Handshake,
    pub(super) config: UpstreamConfig,
    pub(super) counts: Arc<WorkerMetrics>,
}

impl Link {
    /// Where it leads.
    pub fn address(&self) -> &NodeAddr {
        &self.address
    }
}

/// Connects and introduces itself; the stream that comes back has no reply outstanding. Beside it, whom it leads to.
pub(super) async fn connect(link: &Link) -> io::Result<(TcpStream, Option<Run>)> {
    let connected = connect_in_time(link).await;
    link.counts.count(if connected.is_ok() { Counter::UpstreamOpened } else { Counter::UpstreamFailed });
    connected
}

async fn connect_in_time(link: &Link) -> io::Result<(TcpStream, Option<Run>)> {
    tokio::time::timeout(link.config.connect_timeout, introduce(link)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

async fn introduce(link: &Link) -> io::Result<(TcpStream, Option<Run>)> {
    let stream = TcpStream::connect((link.address.host(), link.address.port())).await?;
    stream.set_nodelay(true)?;
    let (requests, required) = link.handshake.requests(link.proto, link.db);
    let mut conn = super::leased::Wire::new(stream);
    let replies = conn.exchange(&requests).await?;
    match replies.iter().take(required).find_map(error_text) {
        Some(text) => Err(io::Error::other(text)),
        None => {
            let run = replies.last().and_then(|info| Run::read(&link.address, info));
            let stream = conn.into_stream().ok_or_else(|| io::Error::other("more replies than requests"))?;
            Ok((stream, run))
        }
    }
}
