//! What carries out transactions in one worker: the clock, the ids, the connections, and the tasks that outlive their sessions.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::future::{join_all, try_join_all};
use tokio::task::JoinSet;

use super::batch::Batch;
use super::durable::Confirmation;
use super::error::ExecError;
use super::id::{TxnId, TxnIds};
use super::lane::Lanes;
use super::latch::Latches;
use super::lock::LockKeys;
use super::one_phase;
use super::part::{self, Part, Way, divide};
use super::participant::Participant;
use super::recovery::Forgettable;
use super::turn::{self, Companies};
use super::watch::Watch;
use crate::config::{Config, TransactionConfig};
use crate::metrics::{Counter, WorkerMetrics};
use crate::node_addr::NodeAddr;
use crate::resp::{Limits, Proto, Request};
use crate::route::{Place, Routed};
use crate::topology::{ShardId, Topology};
use crate::upstream::{Node, Upstreams, goes_apart};

/// Carries out transactions and the commands that owe them something.
pub struct Engine {
    /// Itself, for tasks that outlive who began them.
    pub(super) this: Weak<Self>,
    pub(super) upstreams: Rc<Upstreams>,
    pub(super) topology: Topology,
    pub(super) config: TransactionConfig,
    pub(super) counts: Arc<WorkerMetrics>,
    pub(super) ids: RefCell<TxnIds>,
    /// Transactions that are driven on although nobody waits for them, and committed records to be forgotten.
    pub(super) tasks: RefCell<JoinSet<()>>,
    /// Transactions of others that this worker is bringing to their end.
    pub(super) resolving: RefCell<HashSet<TxnId>>,
    /// Shared by all workers.
    pub(super) latches: Arc<Latches>,
    /// What keeps those over the same participants from being under way all at once.
    pub(super) lanes: Lanes,
    /// Transactions that wait for their turn together.
    pub(super) companies: Companies,
    /// Committed transactions whose records will be deleted.
    pub(super) forgettable: RefCell<Forgettable>,
    /// The nodes whose replicas confirmed what they had to when the node was last asked.
    pub(super) confirming: RefCell<HashSet<NodeAddr>>,
    /// What clients may send.
    pub limits: Limits,
    /// Connections that may be held by those who compute over several participants, and how many there are of them.
    pub(super) computing: tokio::sync::Semaphore,
    pub(super) computing_max: usize,
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
    /// The engine of a worker whose transactions `ids` name, which counts in `counts`, over the connections in `upstreams`. `latches`
    /// are those of all workers.
    pub fn new(
        upstreams: Rc<Upstreams>,
        topology: Topology,
        config: &Config,
        ids: TxnIds,
        counts: Arc<WorkerMetrics>,
        latches: Arc<Latches>,
    ) -> Rc<Self> {
        // The other half is for everybody else.
        let computing_max = config.upstream.leased_connections_max.div_ceil(2);
        Rc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            upstreams,
            topology,
            config: config.transactions.clone(),
            counts,
            ids: RefCell::new(ids),
            tasks: RefCell::new(JoinSet::new()),
            resolving: RefCell::default(),
            latches,
            lanes: Lanes::default(),
            companies: RefCell::default(),
            forgettable: RefCell::default(),
            confirming: RefCell::default(),
            limits: Limits {
                bulk_bytes_max: u32::try_from(config.limits.bulk_bytes_max).unwrap_or(u32::MAX),
                inline_bytes_max: u32::try_from(config.limits.inline_bytes_max).unwrap_or(u32::MAX),
                ..Limits::default()
            },
            computing: tokio::sync::Semaphore::new(computing_max),
            computing_max,
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

    /// Carries out one command at its participant, respecting locks if `strict`. Users' scripts respect them always: they need a
    /// connection of their own anyway, and an error that one makes up must not be taken for a redirect.
    ///
    /// # Errors
    /// See [`ExecError`].
    pub async fn single(&self, command: Routed, proto: Proto, strict: bool) -> Result<Bytes, ExecError> {
        let write = command.writes();
        if command.is_script() || (strict && (write || command.keys.len() > 1)) {
            return self.batch(&[command], proto).await.map(|mut replies| replies.pop().unwrap_or_default());
        }
        let batch = self.batch_of(command.place, std::iter::once(&command), &[], false, proto)?;
        if strict && !command.keys.is_empty() {
            // One key is read after the checks of its lock and its group's, each finding its own way: while the slot moves key by key they
            // are on different nodes, of which none answers for several. The read began before whoever takes one of the locks behind its
            // check is prepared there, so it may stand before it.
            for exists in LockKeys::against(&batch).each() {
                self.persist(&batch, async |target| one_phase::check(&target, proto, &exists).await).await?;
            }
        }
        self.persist(&batch, async |target| one_phase::unguarded(&target, proto, &command.request, write).await).await
    }

    /// Carries out `commands`, at least one and all at one participant, in one atomic step.
    ///
    /// # Errors
    /// See [`ExecError`].
    pub async fn batch(&self, commands: &[Routed], proto: Proto) -> Result<Vec<Bytes>, ExecError> {
        self.batch_at(commands, proto).await.map(|(replies, _)| replies)
    }

    /// Like [`batch`](Self::batch), beside the node that has carried it out.
    async fn batch_at(&self, commands: &[Routed], proto: Proto) -> Result<(Vec<Bytes>, Option<Rc<Node>>), ExecError> {
        let Some(first) = commands.first() else { return Ok((Vec::new(), None)) };
        let batch = self.batch_of(first.place, commands.iter(), &[], false, proto)?;
        let way = Way::of(commands.iter(), proto);
        let apart = goes_apart(commands.iter().map(|command| &command.request));
        let may_arm = way != Way::Read && !apart && !commands.iter().any(Routed::is_script);
        self.persist(&batch, async |target| {
            let attempt = match way {
                _ if may_arm && let Some(attempt) = one_phase::armed(&target, proto, &batch).await => attempt,
                Way::Read => one_phase::read(&target, proto, &batch, self.config.lock_wait_timeout).await,
                Way::Scripted => one_phase::scripted(&target, proto, &batch).await,
                Way::Native => one_phase::native(&target, proto, &batch, self.config.lock_wait_timeout).await,
            };
            attempt.map(|replies| (replies, Some(Rc::clone(target.node()))))
        })
        .await
    }

    /// Carries out EXEC: `commands` on all their participants or on none, if no key of `watch` has changed.
    ///
    /// # Errors
    /// See [`ExecError`].
    pub async fn exec(self: &Rc<Self>, commands: Vec<Routed>, watch: Option<Watch>, proto: Proto) -> Result<Executed, ExecError> {
        let Some(mut watch) = watch else {
            let same = commands.windows(2).all(|pair| pair[0].place == pair[1].place);
            return match () {
                () if same => self.counted(self.exec_at_one(&commands, proto).await),
                () if !commands.iter().any(Routed::writes) => self.snapshot(commands, proto).await.map(Executed::Replies),
                () => turn::exec(self, divide(commands), None, proto).await,
            };
        };
        // Others are let in when all is over.
        let mut spot = watch.take_spot();
        spot.iter().for_each(|spot| spot.prolong(self.config.lease));
        let executed = self.exec_watching(commands, watch, proto).await;
        if let (Some(spot), Ok(Executed::WatchBroken)) = (&mut spot, &executed) {
            spot.set_broken();
        }
        executed
    }

    /// Carries out EXEC if no key of `watch` has changed.
    async fn exec_watching(self: &Rc<Self>, commands: Vec<Routed>, mut watch: Watch, proto: Proto) -> Result<Executed, ExecError> {
        if watch.is_broken(&self.upstreams, proto) {
            return self.counted(Ok(Executed::WatchBroken));
        }
        let mut parts = divide(commands);
        for (place, keys) in watch.places() {
            parts.entry(place).or_default().watched.extend(keys);
        }
        match parts.first_key_value() {
            Some((place, part)) if parts.len() == 1 => {
                let batch = self.batch_of_part(*place, part, proto)?;
                let way = Way::of(part.commands.iter().map(|(_, command)| command), proto);
                let node = (way != Way::Read).then(|| watch.node(*place)).flatten();
                if node.is_some() {
                    self.refuse_unconfirmable(std::iter::once(place)).await?;
                }
                let executed = watch.exec_alone(&batch, way, proto).await;
                self.counted(self.confirmed(executed, node, &batch.participant).await)
            }
            _ => turn::exec(self, parts, Some(watch), proto).await,
        }
    }

    /// Carries out EXEC where one participant has all keys and nothing is watched.
    async fn exec_at_one(&self, commands: &[Routed], proto: Proto) -> Result<Executed, ExecError> {
        let writes = commands.iter().any(Routed::writes);
        let Some(place) = commands.first().map(|command| command.place).filter(|_| writes) else {
            return self.batch(commands, proto).await.map(Executed::Replies);
        };
        self.refuse_unconfirmable(std::iter::once(&place)).await?;
        let participant = part::participant(&self.upstreams.map(), place).ok_or(ExecError::Unreachable)?;
        let (replies, node) = self.batch_at(commands, proto).await?;
        self.confirmed(Ok(Executed::Replies(replies)), node, &participant).await
    }

    /// Holds `executed` back until replicas of the node that carried it out have it.
    async fn confirmed(
        &self,
        executed: Result<Executed, ExecError>,
        node: Option<Rc<Node>>,
        participant: &Participant,
    ) -> Result<Executed, ExecError> {
        let (Ok(Executed::Replies(_)), Some(node)) = (&executed, node) else { return executed };
        match self.confirm(&node, participant).await {
            Confirmation::Enough => executed,
            Confirmation::TooFew => Err(ExecError::Unconfirmed),
            // What replaces the node may not have it.
            Confirmation::Lost => Err(ExecError::OutcomeUnknown),
        }
    }

    /// Counts what became of an EXEC that one participant could carry out.
    fn counted(&self, executed: Result<Executed, ExecError>) -> Result<Executed, ExecError> {
        self.counts.count(match &executed {
            Ok(Executed::Replies(_)) | Err(ExecError::Unconfirmed) => Counter::OnePhaseCommitted,
            Ok(Executed::WatchBroken) => Counter::OnePhaseWatch,
            Err(ExecError::OutcomeUnknown) => Counter::OnePhaseUnknown,
            Err(_) => Counter::OnePhaseRefused,
        });
        executed
    }

    /// Carries out `commands` if none of their keys exists; `None` when one does.
    ///
    /// # Errors
    /// See [`ExecError`].
    pub async fn exec_if_absent(self: &Rc<Self>, commands: Vec<Routed>, proto: Proto) -> Result<Option<Vec<Bytes>>, ExecError> {
        let mut parts = divide(commands);
        parts.values_mut().for_each(|part| part.absent = true);
        match turn::exec(self, parts, None, proto).await? {
            Executed::Replies(replies) => Ok(Some(replies)),
            Executed::WatchBroken => Ok(None),
        }
    }

    /// Sends each command to its participant, all at once, without atomicity between them.
    ///
    /// # Errors
    /// See [`ExecError`]; what other participants did stays done.
    pub async fn scatter(&self, commands: Vec<Routed>, proto: Proto) -> Result<Vec<Bytes>, ExecError> {
        try_join_all(commands.into_iter().map(|command| self.single(command, proto, true))).await
    }

    /// What `commands` and `watched` keys ask of the participant at `place`.
    pub(super) fn batch_of<'a>(
        &self,
        place: Place,
        commands: impl Iterator<Item = &'a Routed>,
        watched: &[Bytes],
        absent: bool,
        proto: Proto,
    ) -> Result<Batch, ExecError> {
        let map = self.upstreams.map();
        let participant: Participant = part::participant(&map, place).ok_or(ExecError::Unreachable)?;
        Ok(part::batch(participant, map.affinity(), commands, watched, absent, proto))
    }

    /// What `part` asks of the participant at `place`.
    pub(super) fn batch_of_part(&self, place: Place, part: &Part, proto: Proto) -> Result<Batch, ExecError> {
        self.batch_of(place, part.commands.iter().map(|(_, command)| command), &part.watched, part.absent, proto)
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
        // All are waited for, so that nothing of it happens behind the back of what the client does next.
        join_all(self.upstreams.map().ids().map(|shard| self.one_shard(shard, request, db, proto))).await.into_iter().collect()
    }

    /// Sends `request` to `shard`, database `db`.
    ///
    /// # Errors
    /// [`ExecError::Unreachable`] when it does not answer; it may have carried it out.
    pub async fn one_shard(&self, shard: ShardId, request: &Request, db: u32, proto: Proto) -> Result<Bytes, ExecError> {
        let node = self.upstreams.primary(shard).ok_or(ExecError::Unreachable)?;
        let replies = crate::upstream::call(&node.shared(db, proto), std::slice::from_ref(request)).await;
        replies.ok().and_then(|mut replies| replies.pop()).ok_or(ExecError::Unreachable)
    }

    /// The time of day in milliseconds since 1970.
    pub(super) fn unix_ms(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis() as u64
    }
}
