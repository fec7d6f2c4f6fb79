//! Finishing what others left, and forgetting what is finished.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::FutureExt as _;
use futures::stream::FuturesUnordered;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::batch::KeyLock;
use super::drive::{Member, foreign_terms};
use super::engine::Engine;
use super::failpoint::{self, Deed, Moment};
use super::forget::{self, Age};
use super::participant::Participant;
use super::state::{Action, Resolver, Verdict};
use super::{Script, TxnId};
use crate::metrics::Counter;
use crate::resp::Proto;

/// Brings `tid`, whose lock on one of the keys `met` or whose record was met at `home`, to its end. Returns when nothing of it is in the
/// way at `home` any more, while other participants may still be told. Returns also when that takes longer than a command waits for a
/// lock: whoever meets it next goes on.
pub(super) async fn resolve(engine: &Engine, tid: TxnId, home: &Participant, met: Vec<KeyLock>) {
    match begin(engine, tid, home, met) {
        Some(Resolving { released, .. }) => {
            // An error says that it ended without.
            let _ = released.await;
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

/// Committed transactions whose records will be deleted.
#[derive(Default)]
pub(super) struct Forgettable(Vec<(Instant, TxnId, Participant)>);

impl Engine {
    /// Deletes the records of `tid` at `participants`, each of which has answered commit, a little later.
    pub(super) fn forget(&self, tid: TxnId, participants: impl Iterator<Item = Participant>) {
        let due = Instant::now() + FORGET_AFTER;
        self.forgettable.borrow_mut().0.extend(participants.map(|participant| (due, tid, participant)));
    }

    /// Deletes the records that are due, many with each request. To be called a few times a second.
    pub async fn forget_due(&self) {
        let now = Instant::now();
        let due: Vec<_> = {
            let mut forgettable = self.forgettable.borrow_mut();
            let count = forgettable.0.partition_point(|(due, ..)| *due <= now);
            forgettable.0.drain(..count).collect()
        };
        let mut participants: BTreeMap<Participant, Vec<TxnId>> = BTreeMap::new();
        for (_, tid, participant) in due {
            participants.entry(participant).or_default().push(tid);
        }
        for (participant, tids) in participants {
            for tids in tids.chunks(FORGET_BATCH) {
                let Some(target) = self.target(&participant, None) else { continue };
                let request = forget::request(tids, &participant, Age::CommittedEverywhere);
                // What is not forgotten now is swept by its age.
                failpoint::hit(Moment::Before(Deed::Forget));
                let _ = target.eval(Proto::Resp2, &Script::Forget.load(), &request).await;
                failpoint::hit(Moment::After(Deed::Forget));
            }
        }
    }
}

/// Not at once: after a failover that rolls one shard back to *prepared*, the others must still show that it was committed.
const FORGET_AFTER: Duration = Duration::from_secs(5);

/// Records deleted by one script, so that it does not keep the shard from other clients.
const FORGET_BATCH: usize = 500;
