//! Sending what the machines ask for. The driver decides nothing: it turns actions into requests, and replies into events.
//!
//! One [`Step`] is one future, so that a machine's steps run at the same time, and each ends in exactly one event. What a step meets on
//! its way that says nothing about the transaction (a script to be loaded, a redirect) is dealt with here before it is sent again.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::attempt::Redirect;
use super::batch::{Batch, KeyLock};
use super::durable::Confirmation;
use super::engine::Engine;
use super::failpoint::{self, Deed, Moment};
use super::lock::named;
use super::participant::Participant;
use super::script::Script;
use super::state::{Event, Step};
use super::wait::Patience;
use super::{Refusal, Refused, State, Terms, TxnId, abort, commit, fence, internal_keys, prepare, reapply, unlock, whole};
use crate::metrics::Counter;
use crate::resp::{Frame, Proto, Request, Value, elements};
use crate::topology::SlotMap;
use crate::upstream::{Leased, Node, Run, UpstreamError};

/// A participant as the driver of a machine sees it.
pub(super) struct Member {
    pub(super) batch: Batch,
    /// The connection that watches keys here, until prepare was sent on it.
    pub(super) watching: RefCell<Option<Leased>>,
    /// Where ASK has sent us, for the next step only.
    ask: RefCell<Option<Rc<Node>>>,
    /// With locks of others that are in the way.
    pub(super) patience: Cell<Option<Patience>>,
    /// Steps that were sent again.
    tries: Cell<u32>,
    /// The node that the last step was sent to.
    reached: RefCell<Option<Rc<Node>>>,
    /// Its vote counts although too few replicas have confirmed it.
    unconfirmed: Cell<bool>,
    /// Whom the last step went to.
    run: RefCell<Option<Run>>,
    /// Whom commits went to that nobody answered, `None` where that is not known, and the shards as they were then.
    unanswered: RefCell<Vec<(Option<Run>, Arc<SlotMap>)>>,
}

impl Member {
    /// A participant that will do what `batch` says.
    pub(super) fn new(batch: Batch, watching: Option<Leased>) -> Self {
        Self {
            batch,
            watching: RefCell::new(watching),
            ask: RefCell::default(),
            patience: Cell::new(None),
            tries: Cell::new(0),
            reached: RefCell::default(),
            unconfirmed: Cell::new(false),
            run: RefCell::default(),
            unanswered: RefCell::default(),
        }
    }

    /// A participant of a transaction that somebody else began: nothing is known of its commands.
    pub(super) fn unknown(participant: Participant, keys: Vec<KeyLock>) -> Self {
        Self::new(Batch { participant, keys, commands: Vec::new() }, None)
    }

    /// Whether too few replicas have confirmed what the transaction rests on here.
    pub(super) fn is_unconfirmed(&self) -> bool {
        self.unconfirmed.get()
    }

    /// The node that the last step was sent to.
    pub(super) fn reached(&self) -> Option<Rc<Node>> {
        self.reached.borrow().clone()
    }

    /// Waits as a refusal asks for, before the step is sent again.
    pub(super) async fn prepare_again(&self, engine: &Engine, refused: Refused) {
        let tries = self.tries.replace(self.tries.get() + 1);
        match refused {
            // The reply to the step that is refused so has already made the connection load it, or remembered where to go.
            Refused::NoScript | Refused::Ask => {}
            Refused::Moved => {
                engine.follow(Redirect::Refresh, tries).await;
            }
            Refused::Later | Refused::Foreign | Refused::Error | Refused::Malformed => {
                engine.topology.request_refresh();
                engine.pause(tries).await;
            }
        }
    }

    /// Sends `step` of the transaction that `terms` name, and waits for its answer.
    pub(super) async fn send(&self, engine: &Engine, terms: &Terms, at: usize, step: Step) -> Event {
        failpoint::hit(Moment::Before(Deed::Step(step)));
        let map = engine.upstreams.map();
        let (participant, commands) = (&self.batch.participant, &self.batch.commands);
        let event = match step {
            Step::Prepare => self.prepare(engine, terms, at).await,
            Step::Commit => self.commit(engine, terms, at).await,
            Step::Reapply => {
                let request = reapply::request(terms, &self.batch, &self.run_id(engine));
                match self.eval(engine, terms.proto, at, step, &request, |reply| reapply::answer(reply, commands)).await {
                    Ok(reapply::Answer::Found(State::Prepared)) => self.commit(engine, terms, at).await,
                    answer => answer.map(|answer| Event::Reapply(at, answer)),
                }
            }
            Step::Abort => {
                let request = abort::request(terms.tid, participant, &self.batch.keys);
                let read = |reply: &Bytes| abort::answer(reply).map(|state| Event::Abort(at, state));
                self.eval(engine, terms.proto, at, step, &request, read).await
            }
            Step::Fence => {
                let read = |reply: &Bytes| fence::answer(reply).map(|record| Event::Fence(at, record));
                self.eval(engine, terms.proto, at, step, &fence::request(terms.tid, participant), read).await
            }
            Step::Inspect => {
                let read = |reply: &Bytes| fence::answer(reply).map(|record| Event::Inspect(at, record));
                self.eval(engine, terms.proto, at, step, &fence::inspect(terms.tid, participant), read).await
            }
            Step::Unlock => {
                let request = unlock::request(terms.tid, participant, &self.batch.keys);
                let answer = self.eval(engine, terms.proto, at, step, &request, unlock::answer).await;
                answer.map(|(locks, record)| {
                    if locks > 0 {
                        engine.counts.add(Counter::LocksOrphaned, locks);
                        tracing::warn!(tid = %terms.tid, %participant, locks, "took away locks whose record was lost");
                    }
                    Event::Inspect(at, record)
                })
            }
        };
        failpoint::hit(Moment::After(Deed::Step(step)));
        let event = match event {
            Ok(event) => self.confirmed(engine, at, step, event).await,
            Err(event) => event,
        };
        let doubtful =
            matches!(&event, Event::Lost(..)) || matches!(&event, Event::Refused(.., refusal) if refusal.kind == Refused::Malformed);
        if doubtful && matches!(step, Step::Commit | Step::Reapply) {
            self.unanswered.borrow_mut().push((self.run.borrow().clone(), map));
        }
        event
    }

    /// Holds a vote back until replicas have it. One whose shard was lost before it said so is in doubt.
    async fn confirmed(&self, engine: &Engine, at: usize, step: Step, event: Event) -> Event {
        let vote = match (step, &event) {
            (Step::Prepare, Event::Prepare(_, prepare::Answer::Found(_))) | (Step::Fence, _) => true,
            // What is applied again has been told to be prepared before: there is nothing to go back to.
            (Step::Reapply, Event::Reapply(_, reapply::Answer::Found(_)) | Event::Commit(..)) => false,
            _ => return event,
        };
        let Some(node) = self.reached() else { return event };
        let confirmation = engine.confirm(&node, &self.batch.participant).await;
        self.unconfirmed.set(confirmation != Confirmation::Enough);
        if vote && confirmation == Confirmation::Lost { Event::Lost(at, step) } else { event }
    }

    /// Whether whoever just answered has what it has by a failover or a restart after every commit that was not answered: then such a
    /// commit left a trace in the record or none at all.
    pub(super) fn has_failed_over(&self) -> bool {
        let (unanswered, run) = (self.unanswered.borrow(), self.run.borrow());
        let Some(run) = &*run else { return false };
        let gave_way = |(before, map): &(Option<Run>, Arc<SlotMap>)| before.as_ref().is_some_and(|before| before.gave_way_to(run, map));
        !unanswered.is_empty() && unanswered.iter().all(gave_way)
    }

    /// Calls the script of `step` and reads its answer; an event in place of an answer is an error.
    async fn eval<T>(
        &self,
        engine: &Engine,
        proto: Proto,
        at: usize,
        step: Step,
        request: &impl Frame,
        read: impl FnOnce(&Bytes) -> Result<T, Refusal>,
    ) -> Result<T, Event> {
        let target = engine.target(&self.batch.participant, self.ask.take()).ok_or_else(|| unreachable(at, step))?;
        self.reached.replace(Some(Rc::clone(target.node())));
        let result = target.eval(proto, script(step), request).await;
        self.run.replace(target.run());
        match result {
            Ok(reply) => read(&reply).map_err(|refusal| self.refused(engine, at, step, refusal)),
            Err(UpstreamError::MaybeApplied) => Err(Event::Lost(at, step)),
            Err(UpstreamError::NotSent) => Err(unreachable(at, step)),
        }
    }

    /// Remembers where ASK points.
    fn refused(&self, engine: &Engine, at: usize, step: Step, refusal: Refusal) -> Event {
        if refusal.kind == Refused::Ask {
            let address = refusal.text.split(|byte| *byte == b' ').nth(2).map(|address| String::from_utf8_lossy(address).into_owned());
            self.ask.replace(address.and_then(|address| engine.upstreams.known(&address)));
        }
        Event::Refused(at, step, refusal)
    }

    async fn prepare(&self, engine: &Engine, terms: &Terms, at: usize) -> Result<Event, Event> {
        let request = prepare::request(terms, &self.batch, &self.run_id(engine));
        let watching = self.watching.borrow_mut().take();
        if let Some(leased) = watching {
            // Seldom: its room is not kept for every step.
            return Box::pin(self.prepare_watching(leased, at, &request)).await;
        }
        let read = |reply: &Bytes| prepare::answer(reply).map(|answer| Event::Prepare(at, answer));
        self.eval(engine, terms.proto, at, Step::Prepare, &request, read).await
    }

    /// Prepare on the connection that watches keys here.
    async fn prepare_watching(&self, mut leased: Leased, at: usize, request: &impl Frame) -> Result<Event, Event> {
        self.reached.replace(Some(Rc::clone(leased.node())));
        let (multi, exec) = (Request::new(&["MULTI"]), Request::new(&["EXEC"]));
        let requests: [&dyn Frame; 3] = [&multi, request, &exec];
        let replies = match leased.call(&requests).await {
            Ok(replies) => replies,
            Err(UpstreamError::NotSent) => return Err(Event::WatchBroken(at)),
            Err(UpstreamError::MaybeApplied) => return Err(Event::Lost(at, Step::Prepare)),
        };
        leased.set_watching(false);
        // Whatever is refused has consumed the watch all the same.
        let answer = replies.last().and_then(|executed| elements(executed).ok().flatten()).and_then(|inner| inner.into_iter().next());
        match answer.map(|answer| prepare::answer(&answer)) {
            // A lock is in the way. Without the watch prepare must not be sent again, and most such locks are of somebody who changes the key.
            Some(Ok(prepare::Answer::Locked(_))) => Err(Event::WatchBroken(at)),
            Some(Ok(answer)) => Ok(Event::Prepare(at, answer)),
            // A script that stopped half way: only a fence tells.
            Some(Err(refusal)) if !refusal.kind.is_passing() => Err(Event::Lost(at, Step::Prepare)),
            Some(Err(_)) | None => Err(Event::WatchBroken(at)),
        }
    }

    async fn commit(&self, engine: &Engine, terms: &Terms, at: usize) -> Result<Event, Event> {
        if self.batch.is_native() {
            // What commit would answer is known. Seldom: its room is not kept for every step.
            let commands = self.batch.commands.iter().map(|command| command.request.clone()).collect();
            return Box::pin(self.commit_natively(engine, terms, at, commands)).await;
        }
        let request = commit::request(terms.tid, &self.batch.participant, &self.batch.keys, terms.kept_reply_bytes_max);
        match self.eval(engine, terms.proto, at, Step::Commit, &request, |reply| commit::answer(reply, &self.batch.commands)).await? {
            commit::Answer::Found(state) => Ok(Event::Commit(at, state)),
            commit::Answer::Native(commands) => Box::pin(self.commit_natively(engine, terms, at, commands)).await,
        }
    }

    /// Commit with the commands as they are: on a connection that watches the record and has seen it prepared, the closing step and the
    /// commands in one MULTI. A command that the server will never queue keeps its error as its reply; the others run without it.
    async fn commit_natively(&self, engine: &Engine, terms: &Terms, at: usize, commands: Vec<Request>) -> Result<Event, Event> {
        let not_sent = || unreachable(at, Step::Commit);
        let target = engine.target(&self.batch.participant, self.ask.take()).ok_or_else(not_sent)?;
        self.reached.replace(Some(Rc::clone(target.node())));
        let mut leased = target.lease(terms.proto, NATIVE_LEASE_WAIT).await.map_err(|_| not_sent())?;
        self.run.replace(leased.run());
        let mut closing = commit::native_closing(terms.tid, &self.batch.participant, &self.batch.keys);
        closing.extend(whole::look(&self.batch.participant, commands.iter()));
        let mut errors: Vec<Option<Bytes>> = vec![None; commands.len()];
        loop {
            match self.look_at_record(engine, terms.tid, at, &mut leased).await? {
                State::Prepared => {}
                state => return Ok(Event::Commit(at, state)),
            }
            let mut requests = vec![Request::new(&["MULTI"])];
            requests.extend(closing.iter().cloned());
            requests.extend(commands.iter().zip(&errors).filter(|(_, error)| error.is_none()).map(|(command, _)| command.clone()));
            requests.push(Request::new(&["EXEC"]));
            let replies = leased.call(&requests).await.map_err(|_| Event::Lost(at, Step::Commit))?;
            leased.set_watching(false);
            let [_, queued @ .., executed] = &replies[..] else { return Err(not_sent()) };
            if let Some(refusal) = queued.iter().filter_map(error_in).find(|refusal| refusal.kind.is_passing()) {
                return Err(self.refused(engine, at, Step::Commit, refusal));
            }
            let wanted = errors.iter_mut().filter(|error| error.is_none());
            let refused = wanted.zip(&queued[closing.len().min(queued.len())..]).filter(|(_, reply)| error_in(reply).is_some());
            if refused.map(|(error, reply)| *error = Some(reply.clone())).count() > 0 {
                continue;
            }
            if let Some(refusal) = error_in(executed) {
                return Err(self.refused(engine, at, Step::Commit, refusal));
            }
            // Nil: somebody was faster; look again.
            let inner = elements(executed).ok().flatten().ok_or_else(not_sent)?;
            let mut ran = inner.into_iter().skip(closing.len());
            let replies = errors.into_iter().filter_map(|error| error.or_else(|| ran.next())).collect();
            return Ok(Event::Commit(at, State::Committed(Some(replies))));
        }
    }

    /// Watches the record and reads its state.
    async fn look_at_record(&self, engine: &Engine, tid: TxnId, at: usize, leased: &mut Leased) -> Result<State, Event> {
        let record = internal_keys::record(&self.batch.participant, tid);
        leased.set_watching(true);
        let look = [named(b"WATCH", std::iter::once(&record)), Request::new(&[&b"HGET"[..], &record[..], b"state"])];
        let replies = leased.call(&look).await.map_err(|_| unreachable(at, Step::Commit))?;
        if let Some(refusal) = replies.iter().find_map(error_in) {
            return Err(self.refused(engine, at, Step::Commit, refusal));
        }
        let state = replies.last().and_then(|reply| Value::parse(reply).ok()).and_then(|value| value.text().cloned());
        Ok(match state.as_deref() {
            Some(b"prepared") => State::Prepared,
            Some(b"committed") => State::Committed(None),
            Some(b"aborted") => State::Aborted,
            _ => State::Gone,
        })
    }

    fn run_id(&self, engine: &Engine) -> String {
        let facts = engine.topology.facts();
        let map = engine.upstreams.map();
        super::part::place(&map, &self.batch.participant)
            .and_then(|place| map.shard(place.shard))
            .and_then(|shard| facts.get(&shard.address))
            .map_or_else(|| "?".to_owned(), |facts| facts.run_id.clone())
    }
}

/// What terms a resolver works under: those that it needs are in the records.
pub(super) fn foreign_terms(tid: TxnId, kept_reply_bytes_max: u32) -> Terms {
    Terms { tid, participants: Bytes::new(), lease_ms: 0, proto: Proto::Resp2, kept_reply_bytes_max }
}

/// The script that carries out `step`.
fn script(step: Step) -> Script {
    match step {
        Step::Prepare => Script::Prepare,
        Step::Commit => Script::Commit,
        Step::Reapply => Script::Reapply,
        Step::Abort => Script::Abort,
        Step::Fence => Script::Fence,
        Step::Inspect => Script::Inspect,
        Step::Unlock => Script::Unlock,
    }
}

/// Nothing was sent: the step can be sent again.
fn unreachable(at: usize, step: Step) -> Event {
    let text = Bytes::from_static(crate::resp::error_reply::UPSTREAM_UNAVAILABLE.as_bytes());
    Event::Refused(at, step, Refusal { kind: Refused::Later, text })
}

fn error_in(reply: &Bytes) -> Option<Refusal> {
    super::answer::error_or_lock(reply).err()
}

/// How long a decided transaction waits for a connection of its own before it tries again.
const NATIVE_LEASE_WAIT: Duration = Duration::from_secs(1);
