//! Sending what the machines ask for. The driver decides nothing: it turns actions into requests, and replies into events.
//!
//! One [`Step`] is one future, so that a machine's steps run at the same time, and each ends in exactly one event. What a step meets on
//! its way that says nothing about the transaction (a script to be loaded, a redirect) is dealt with here before it is sent again.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::attempt::Redirect;
use super::batch::{Batch, KeyLock};
use super::engine::Engine;
use super::lock::named;
use super::part::Way;
use super::participant::Participant;
use super::script::Script;
use super::state::{Event, Step};
use super::{Refusal, Refused, State, Terms, TxnId, abort, commit, failpoint, fence, internal_keys, prepare, reapply};
use crate::resp::{Proto, Request, Value, elements};
use crate::upstream::{Leased, Node, UpstreamError};

/// A participant as the driver of a machine sees it.
pub(super) struct Member {
    pub(super) batch: Batch,
    pub(super) way: Way,
    /// The connection that watches keys here, until prepare was sent on it.
    pub(super) watching: RefCell<Option<Leased>>,
    /// Where ASK has sent us, for the next step only.
    ask: RefCell<Option<Rc<Node>>>,
    /// Steps that were sent again.
    tries: Cell<u32>,
}

impl Member {
    /// A participant that will do what `batch` says.
    pub(super) fn new(batch: Batch, way: Way, watching: Option<Leased>) -> Self {
        Self { batch, way, watching: RefCell::new(watching), ask: RefCell::default(), tries: Cell::new(0) }
    }

    /// A participant of a transaction that somebody else began: nothing is known of its commands.
    pub(super) fn unknown(participant: Participant, keys: Vec<KeyLock>) -> Self {
        Self::new(Batch { participant, keys, commands: Vec::new() }, Way::Scripted, None)
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
            Refused::Later | Refused::Error | Refused::Malformed => {
                engine.topology.request_refresh();
                engine.pause(tries).await;
            }
        }
    }

    /// Sends `step` of the transaction that `terms` name, and waits for its answer.
    pub(super) async fn send(&self, engine: &Engine, terms: &Terms, at: usize, step: Step) -> Event {
        failpoint::hit(failpoint::Moment::before(step));
        let event = match step {
            Step::Prepare => self.prepare(engine, terms, at).await,
            Step::Commit if self.way == Way::Native => self.commit_natively(engine, terms, at).await,
            Step::Commit => {
                let request = commit::request(terms.tid, &self.batch.participant, &self.batch.keys, terms.kept_reply_bytes_max);
                self.eval(engine, terms.proto, at, step, Script::Commit, &request, |reply| {
                    commit::answer(reply, &self.batch.commands).map(|state| Event::Commit(at, state))
                })
                .await
            }
            Step::Reapply => {
                let request = reapply::request(terms, &self.batch, &self.run_id(engine));
                self.eval(engine, terms.proto, at, step, Script::Reapply, &request, |reply| {
                    reapply::answer(reply, &self.batch.commands).map(|answer| Event::Reapply(at, answer))
                })
                .await
            }
            Step::Abort => {
                let request = abort::request(terms.tid, &self.batch.participant, &self.batch.keys);
                self.eval(engine, terms.proto, at, step, Script::Abort, &request, |reply| {
                    abort::answer(reply).map(|state| Event::Abort(at, state))
                })
                .await
            }
            Step::Fence => {
                let request = fence::request(terms.tid, &self.batch.participant);
                self.eval(engine, Proto::Resp2, at, step, Script::Fence, &request, |reply| {
                    fence::answer(reply).map(|record| Event::Fence(at, record))
                })
                .await
            }
            Step::Inspect => {
                let request = fence::inspect(terms.tid, &self.batch.participant);
                self.eval(engine, Proto::Resp2, at, step, Script::Inspect, &request, |reply| {
                    fence::answer(reply).map(|record| Event::Inspect(at, record))
                })
                .await
            }
        };
        failpoint::hit(failpoint::Moment::after(step));
        event
    }

    #[expect(clippy::too_many_arguments, reason = "the one place where a step, its request and the reading of its answer meet")]
    async fn eval(
        &self,
        engine: &Engine,
        proto: Proto,
        at: usize,
        step: Step,
        script: Script,
        request: &Request,
        read: impl FnOnce(&Bytes) -> Result<Event, Refusal>,
    ) -> Event {
        let Some(target) = engine.target(&self.batch.participant, self.ask.take()) else { return unreachable(at, step) };
        match target.eval(proto, &script.load(), request).await {
            Ok(reply) => read(&reply).unwrap_or_else(|refusal| self.refused(engine, at, step, refusal)),
            Err(UpstreamError::MaybeApplied) => Event::Lost(at, step),
            Err(UpstreamError::NotSent) => unreachable(at, step),
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

    async fn prepare(&self, engine: &Engine, terms: &Terms, at: usize) -> Event {
        let request = prepare::request(terms, &self.batch, &self.run_id(engine));
        let watching = self.watching.borrow_mut().take();
        let Some(mut leased) = watching else {
            return self
                .eval(engine, terms.proto, at, Step::Prepare, Script::Prepare, &request, |reply| {
                    prepare::answer(reply).map(|answer| Event::Prepare(at, answer))
                })
                .await;
        };
        let requests = [Request::new(&["MULTI"]), request, Request::new(&["EXEC"])];
        let replies = match leased.call(&requests).await {
            Ok(replies) => replies,
            Err(UpstreamError::NotSent) => return Event::WatchBroken(at),
            Err(UpstreamError::MaybeApplied) => return Event::Lost(at, Step::Prepare),
        };
        leased.set_watching(false);
        // Whatever is refused has consumed the watch all the same.
        let answer = replies.last().and_then(|executed| elements(executed).ok().flatten()).and_then(|inner| inner.into_iter().next());
        match answer.map(|answer| prepare::answer(&answer)) {
            Some(Ok(answer)) => Event::Prepare(at, answer),
            // A script that stopped half way: only a fence tells.
            Some(Err(refusal)) if !refusal.kind.is_passing() => Event::Lost(at, Step::Prepare),
            Some(Err(_)) | None => Event::WatchBroken(at),
        }
    }

    /// Commit with the commands as they are: on a connection that watches the record and has seen it prepared, the closing step and the
    /// commands in one MULTI.
    async fn commit_natively(&self, engine: &Engine, terms: &Terms, at: usize) -> Event {
        let (tid, participant) = (terms.tid, &self.batch.participant);
        let Some(target) = engine.target(participant, self.ask.take()) else { return unreachable(at, Step::Commit) };
        let Ok(mut leased) = target.lease(terms.proto, NATIVE_LEASE_WAIT).await else { return unreachable(at, Step::Commit) };
        let record = internal_keys::record(participant, tid);
        leased.set_watching(true);
        let look = [named(b"WATCH", std::iter::once(&record)), Request::new(&[&b"HGET"[..], &record[..], b"state"])];
        let Ok(replies) = leased.call(&look).await else { return unreachable(at, Step::Commit) };
        let state = match replies.iter().find_map(|reply| error_in(reply)) {
            Some(refusal) => return self.refused(engine, at, Step::Commit, refusal),
            None => replies.last().and_then(|reply| Value::parse(reply).ok()).and_then(|value| value.text().cloned()),
        };
        match state.as_deref() {
            Some(b"prepared") => {}
            Some(b"committed") => return Event::Commit(at, State::Committed(None)),
            Some(b"aborted") => return Event::Commit(at, State::Aborted),
            _ => return Event::Commit(at, State::Gone),
        }
        let closing = commit::native_closing(tid, participant, &self.batch.keys);
        let mut requests = vec![Request::new(&["MULTI"])];
        let skipped = closing.len();
        requests.extend(closing);
        requests.extend(self.batch.commands.iter().map(|command| command.request.clone()));
        requests.push(Request::new(&["EXEC"]));
        let Ok(replies) = leased.call(&requests).await else { return Event::Lost(at, Step::Commit) };
        leased.set_watching(false);
        if let Some(refusal) = replies.iter().find_map(|reply| error_in(reply)) {
            return self.refused(engine, at, Step::Commit, refusal);
        }
        match replies.last().map(elements) {
            Some(Ok(Some(inner))) => Event::Commit(at, State::Committed(Some(inner.into_iter().skip(skipped).collect()))),
            // Somebody was faster: look again.
            _ => unreachable(at, Step::Commit),
        }
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
