//! What carries out transactions in one worker: the clock, the ids, the connections, and the tasks that outlive their sessions.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::future::try_join_all;
use tokio::task::JoinSet;

use super::attempt::Attempt;
use super::batch::{Command, divide};
use super::error::ExecError;
use super::id::TxnIds;
use super::watch::Watch;
use super::{coordinator, one_phase};
use crate::config::{Config, TransactionConfig};
use crate::metrics::WorkerMetrics;
use crate::resp::{Limits, Proto, Request};
use crate::route::Place;
use crate::topology::{Mode, Topology};
use crate::upstream::Upstreams;

/// Carries out transactions and the commands that owe them something.
pub struct Engine {
    pub(super) upstreams: Rc<Upstreams>,
    pub(super) topology: Topology,
    pub(super) config: TransactionConfig,
    pub(super) metrics: Arc<WorkerMetrics>,
    pub(super) ids: RefCell<TxnIds>,
    /// Transactions that are driven on although nobody waits for them, and committed records to be forgotten.
    pub(super) tasks: RefCell<JoinSet<()>>,
    /// What clients may send.
    pub limits: Limits,
    now: Cell<Instant>,
}

/// What EXEC comes to when it is carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Executed {
    /// The reply frame of each command, in their order.
    Replies(Vec<Bytes>),
    /// A watched key has changed: nothing was applied.
    WatchBroken,
}

impl Engine {
    /// An engine over the connections in `upstreams`.
    pub fn new(upstreams: Rc<Upstreams>, topology: Topology, config: &Config, metrics: Arc<WorkerMetrics>) -> Rc<Self> {
        Rc::new(Self {
            upstreams,
            topology,
            config: config.transactions.clone(),
            metrics,
            ids: RefCell::new(TxnIds::random()),
            tasks: RefCell::new(JoinSet::new()),
            limits: Limits {
                bulk_bytes_max: config.limits.bulk_bytes_max,
                inline_bytes_max: config.limits.inline_bytes_max,
                ..Limits::default()
            },
            now: Cell::new(Instant::now()),
        })
    }

    /// The time of the last tick.
    pub fn now(&self) -> Instant {
        self.now.get()
    }

    /// Tells the time. To be called a few times a second.
    pub fn set_now(&self, now: Instant) {
        self.now.set(now);
        let mut tasks = self.tasks.borrow_mut();
        while tasks.try_join_next().is_some() {}
    }

    /// Waits for the transactions that are still being driven, for as long as a client would.
    pub async fn finish(&self) {
        let mut tasks = self.tasks.take();
        // What is left after that is finished by other proxies.
        let _ = tokio::time::timeout(self.config.patience, async { while tasks.join_next().await.is_some() {} }).await;
    }

    /// Carries out one command at its participant, respecting locks if `strict`.
    ///
    /// # Errors
    /// See [`ExecError`].
    pub async fn single(&self, place: Place, command: Command, proto: Proto, strict: bool) -> Result<Bytes, ExecError> {
        if !strict {
            return self.persist(place, proto, async |target| one_phase::unguarded(&target, proto, &command).await).await;
        }
        let commands = [command];
        let mut replies = self.batch(place, &commands, proto).await?;
        Ok(replies.pop().unwrap_or_default())
    }

    /// Carries out `commands` at one participant in one atomic step.
    ///
    /// # Errors
    /// See [`ExecError`].
    pub async fn batch(&self, place: Place, commands: &[Command], proto: Proto) -> Result<Vec<Bytes>, ExecError> {
        self.persist(place, proto, async |target| {
            if commands.iter().all(|command| !command.writes()) {
                one_phase::read(&target, proto, commands).await
            } else if one_phase::is_scriptable(commands, proto) {
                one_phase::scripted(&target, proto, commands).await
            } else {
                one_phase::native(&target, proto, commands, self.config.lock_wait_timeout).await
            }
        })
        .await
    }

    /// Carries out EXEC: `commands` on all their participants or on none, if no key of `watch` has changed.
    ///
    /// # Errors
    /// See [`ExecError`].
    pub async fn exec(self: &Rc<Self>, commands: Vec<Command>, watch: Option<Watch>, proto: Proto) -> Result<Executed, ExecError> {
        let count = commands.len();
        let read_only = commands.iter().all(|command| !command.writes());
        let mut parts = divide(commands.clone());
        match watch {
            None => match parts.len() {
                0 => Ok(Executed::Replies(Vec::new())),
                1 => {
                    let place = commands[0].keys[0].place;
                    self.metrics.txn_one_phase.add();
                    self.batch(place, &commands, proto).await.map(Executed::Replies)
                }
                _ if read_only => self.snapshot(commands, proto).await.map(Executed::Replies),
                _ => coordinator::exec(self, parts, None, count, proto).await,
            },
            Some(mut watch) => {
                if watch.is_broken(&self.upstreams, proto) {
                    return Ok(Executed::WatchBroken);
                }
                for (place, keys) in watch.places() {
                    parts.entry(place).or_default().watched.extend(keys);
                }
                if parts.len() == 1 {
                    self.metrics.txn_one_phase.add();
                    return watch.exec_alone(&commands, proto, self.config.lock_wait_timeout).await;
                }
                coordinator::exec(self, parts, Some(watch), count, proto).await
            }
        }
    }

    /// Carries out `commands` if none of their keys exists; `None` when one does.
    ///
    /// # Errors
    /// See [`ExecError`].
    pub async fn exec_if_absent(self: &Rc<Self>, commands: Vec<Command>, proto: Proto) -> Result<Option<Vec<Bytes>>, ExecError> {
        let count = commands.len();
        let mut parts = divide(commands);
        for part in parts.values_mut() {
            part.absent = part
                .commands
                .iter()
                .flat_map(|(_, command)| command.keys.iter().map(|key| command.request.arg_bytes(key.index as usize)))
                .collect();
        }
        match coordinator::exec(self, parts, None, count, proto).await? {
            Executed::Replies(replies) => Ok(Some(replies)),
            Executed::WatchBroken => Ok(None),
        }
    }

    /// Sends each command to its participant, all at once, without atomicity between them.
    ///
    /// # Errors
    /// See [`ExecError`]; what other participants did stays done.
    pub async fn scatter(&self, commands: Vec<Command>, proto: Proto) -> Result<Vec<Bytes>, ExecError> {
        try_join_all(commands.iter().map(|command| async {
            let mut replies = self.batch(command.keys[0].place, std::slice::from_ref(command), proto).await?;
            Ok(replies.pop().unwrap_or_default())
        }))
        .await
    }

    /// Sends `request` to any shard.
    ///
    /// # Errors
    /// [`ExecError::Unreachable`] when no shard answers.
    pub async fn any_shard(&self, request: &Request, proto: Proto) -> Result<Bytes, ExecError> {
        for node in self.upstreams.primaries() {
            if let Ok(mut replies) = crate::upstream::call(&node.shared(0, proto), std::slice::from_ref(request)).await {
                return replies.pop().ok_or(ExecError::Unreachable);
            }
        }
        Err(ExecError::Unreachable)
    }

    /// Sends `request` to every shard, database `db`.
    ///
    /// # Errors
    /// [`ExecError::Unreachable`] when one does not answer; the others may have carried it out.
    pub async fn every_shard(&self, request: &Request, db: u32, proto: Proto) -> Result<Vec<Bytes>, ExecError> {
        try_join_all(self.upstreams.primaries().into_iter().map(|node| async move {
            let mut replies = crate::upstream::call(&node.shared(db, proto), std::slice::from_ref(request)).await.map_err(|_| ExecError::Unreachable)?;
            replies.pop().ok_or(ExecError::Unreachable)
        }))
        .await
    }

    /// Whether participants are slots.
    pub(super) fn is_cluster(&self) -> bool {
        self.upstreams.map().mode() == Mode::Cluster
    }

    /// The time of day in milliseconds since 1970.
    pub(super) fn unix_ms(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis() as u64
    }
}
