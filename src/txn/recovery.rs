//! Finishing what others left, and forgetting what is finished.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::{FutureExt as _, join_all};
use futures::stream::FuturesUnordered;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::batch::KeyLock;
use super::drive::{Member, foreign_terms};
use super::durable::Confirmation;
use super::engine::Engine;
use super::failpoint::{self, Deed, Moment};
use super::forget::{self, Age};
use super::participant::Participant;
use super::state::{Action, Resolver, Verdict};
use super::{Script, TxnId};
use crate::metrics::Counter;
use crate::resp::Proto;
use crate::upstream::Node;

/// Brings `tid`, whose lock on one of the keys `met` or whose record was met at `home`, to its end. Returns when nothing of it is in the
/// way at `home` any more, while other participants may still be told. Returns also when that takes longer than a command waits for a
/// lock: whoever meets it next goes on.
pub(super) async fn resolve(engine: &Engine, tid: TxnId, home: &Participant, met: Vec<KeyLock>) {
    match begin(engine, tid, home, met) {
        // An error says that it ended without.
        Some(Resolving { released, ended }) => {
            if released.await.is_err() && ended.await == Ok(Verdict::Foreign) {
                // Its locks stay. Whoever waits for one looks again now and then: another proxy may understand it.
                tokio::time::sleep(FOREIGN_PAUSE).await;
            }
        }
        None => engine.pause(3).await,
    }
}

/// A resolution under way, in a task of its own: whoever began it may be gone before it is over.
pub(super) struct Resolving {
    /// Nothing of the transaction is in the way where it was met.
    released: oneshot::Receiver<()>,
    /// How it ended; nothing if it could not be brought to an end in time.
    pub(super) ended: oneshot::Receiver<Verdict>,
}

/// Begins to resolve `tid`; `None` while this worker is at it already.
pub(super) fn begin(engine: &Engine, tid: TxnId, home: &Participant, met: Vec<KeyLock>) -> Option<Resolving> {
    let claim = Claim::new(engine.this.upgrade()?, tid)?;
    let (release, released) = oneshot::channel();
    let (end, ended) = oneshot::channel();
    let home = home.clone();
    engine.tasks.borrow_mut().spawn_local(async move {
        let Claim { engine, tid } = &claim;
        match tokio::time::timeout(engine.config.lock_wait_timeout, run(engine, *tid, &home, met, release)).await {
            Ok(verdict) => {
                match verdict {
                    Some(Verdict::Committed) => engine.counts.count(Counter::RecoveredCommitted),
                    Some(Verdict::Aborted) => engine.counts.count(Counter::RecoveredAborted),
                    Some(Verdict::Foreign) => {
                        tracing::error!(%tid, participant = %home, "the record of a transaction is of a format that this version does not know; only another version can resolve it");
                    }
                    Some(Verdict::Finished) | None => {}
                }
                tracing::info!(%tid, ?verdict, "resolved a transaction that was left");
                // Whoever began it may not want to know.
                let _ = verdict.map(|verdict| end.send(verdict));
            }
            Err(_) => tracing::warn!(%tid, "a transaction that was left cannot be resolved yet"),
        }
    });
    Some(Resolving { released, ended })
}

/// The right to resolve a transaction in this worker: one resolver in each is enough.
struct Claim {
    engine: Rc<Engine>,
    tid: TxnId,
}

impl Claim {
    fn new(engine: Rc<Engine>, tid: TxnId) -> Option<Self> {
        let free = engine.resolving.borrow_mut().insert(tid);
        free.then(|| {
            engine.counts.count(Counter::InDoubtBegan);
            Self { engine, tid }
        })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.engine.resolving.borrow_mut().remove(&self.tid);
        self.engine.counts.count(Counter::InDoubtEnded);
    }
}

async fn run(engine: &Engine, tid: TxnId, home: &Participant, met: Vec<KeyLock>, release: oneshot::Sender<()>) -> Option<Verdict> {
    let kept = u32::try_from(engine.config.kept_reply_bytes_max).unwrap_or(u32::MAX);
    let terms = Rc::new(foreign_terms(tid, kept));
    let (mut machine, mut actions) = Resolver::new(home.clone(), met);
    let mut release = Some(release);
    let mut steps = FuturesUnordered::new();
    loop {
        for action in actions {
            let (at, step, refused) = match action {
                Action::Send(at, step) => (at, step, None),
                Action::Resend(at, step, refused) => (at, step, Some(refused)),
                _ => return machine.verdict(),
            };
            let member = Member::unknown(machine.participant(at).clone(), machine.keys(at).to_vec());
            let terms = Rc::clone(&terms);
            steps.push(
                async move {
                    if let Some(refused) = refused {
                        member.prepare_again(engine, refused).await;
                    }
                    member.send(engine, &terms, at, step).await
                }
                .boxed_local(),
            );
        }
        let event = steps.next().await?;
        (machine, actions) = machine.on(event);
        if machine.has_released(home) {
            // Nobody may be waiting for it.
            let _ = release.take().map(|release| release.send(()));
        }
    }
}

/// A committed transaction: when its records may be deleted, where they are, and which node answered the commit there.
type Due = (Instant, TxnId, Rc<[(Participant, Rc<Node>)]>);

/// Committed transactions whose records will be deleted.
#[derive(Default)]
pub(super) struct Forgettable(VecDeque<Due>);

impl Engine {
    /// Deletes the records of `tid` at the participants of `members`, each of which has answered commit, a little later.
    pub(super) fn forget(&self, tid: TxnId, members: &[Member]) {
        let answered = members.iter().filter_map(|member| Some((member.batch.participant.clone(), member.reached()?)));
        self.forgettable.borrow_mut().0.push_back((Instant::now() + FORGET_AFTER, tid, answered.collect()));
    }

    /// Deletes the records that are due, many with each request. To be called a few times a second.
    pub async fn forget_due(&self) {
        let now = Instant::now();
        let due: Vec<Due> = {
            let mut forgettable = self.forgettable.borrow_mut();
            let count = forgettable.0.partition_point(|(due, ..)| *due <= now);
            forgettable.0.drain(..count).collect()
        };
        let mut participants: BTreeMap<&Participant, Vec<TxnId>> = BTreeMap::new();
        let confirmed = self.confirmed_everywhere(due).await;
        for (_, tid, answered) in &confirmed {
            answered.iter().for_each(|(participant, _)| participants.entry(participant).or_default().push(*tid));
        }
        for (participant, tids) in participants {
            for tids in tids.chunks(FORGET_BATCH) {
                let Some(target) = self.target(participant, None) else { continue };
                let request = forget::request(tids, participant, Age::CommittedEverywhere);
                // What is not forgotten now is swept by its age.
                failpoint::hit(Moment::Before(Deed::Forget));
                let _ = target.eval(Proto::Resp2, Script::Forget, &request).await;
                failpoint::hit(Moment::After(Deed::Forget));
            }
        }
    }

    /// Those of `due` whose commits replicas have confirmed at all their participants, as far as that is asked for. Where too few have,
    /// they will be due again. Where the node that answered the commit is lost, so may be the commit: a participant that is rewound to
    /// *prepared* must find what the others know, so these are left to the sweeper, which looks at all participants.
    async fn confirmed_everywhere(&self, due: Vec<Due>) -> Vec<Due> {
        if self.config.wait.is_off() || due.is_empty() {
            return due;
        }
        let mut nodes: Vec<&(Participant, Rc<Node>)> = Vec::new();
        for entry in due.iter().flat_map(|(.., answered)| answered.iter()) {
            if !nodes.iter().any(|(_, node)| Rc::ptr_eq(node, &entry.1)) {
                nodes.push(entry);
            }
        }
        let nodes: Vec<(Rc<Node>, Confirmation)> =
            join_all(nodes.into_iter().map(async |(participant, node)| (Rc::clone(node), self.confirm(node, participant).await))).await;
        let said = |node: &Rc<Node>| nodes.iter().find(|(other, _)| Rc::ptr_eq(node, other)).map(|(_, confirmation)| *confirmation);
        let all = |answered: &[(Participant, Rc<Node>)], wanted: &[Confirmation]| {
            answered.iter().all(|(_, node)| said(node).is_some_and(|confirmation| wanted.contains(&confirmation)))
        };
        let (confirmed, others): (Vec<_>, Vec<_>) = due.into_iter().partition(|(.., answered)| all(answered, &[Confirmation::Enough]));
        let again = Instant::now() + FORGET_AFTER;
        let later = others.into_iter().filter(|(.., answered)| all(answered, &[Confirmation::Enough, Confirmation::TooFew]));
        self.forgettable.borrow_mut().0.extend(later.map(|(_, tid, answered)| (again, tid, answered)));
        confirmed
    }
}

/// Not at once: after a failover that rolls one shard back to *prepared*, the others must still show that it was committed.
const FORGET_AFTER: Duration = Duration::from_secs(5);

/// Between two looks at a record that only another version of weft can resolve.
const FOREIGN_PAUSE: Duration = Duration::from_millis(500);

/// Records deleted by one script, so that it does not keep the shard from other clients.
const FORGET_BATCH: usize = 500;
