//! Trying until it works, where trying again is safe: locks that are waited for, slots that move, scripts that a shard has forgotten.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::batch::Batch;
use super::engine::Engine;
use super::error::ExecError;
use super::participant::Participant;
use super::{Locked, Script, gate, part};
use crate::metrics::Counter;
use crate::resp::{Frame, Proto, Request};
use crate::route::Place;
use crate::upstream::{ArmedConn, ArmedLane, Leased, Node, Run, UpstreamError, call_apart, call_noting, goes_apart};

/// What came of one attempt at something that was not carried out yet.
pub(super) enum Attempt<T> {
    /// It was carried out.
    Done(T),
    /// Another transaction's lock is in the way; whose, if the answer said so.
    Locked(Option<Locked>),
    /// The slot is elsewhere, or on its way.
    Redirected(Redirect),
    /// There is no point in going on.
    Failed(ExecError),
}

impl<T> Attempt<T> {
    /// The same attempt with what it came to replaced.
    pub(super) fn map<U>(self, change: impl FnOnce(T) -> U) -> Attempt<U> {
        match self {
            Self::Done(value) => Attempt::Done(change(value)),
            Self::Locked(locked) => Attempt::Locked(locked),
            Self::Redirected(redirect) => Attempt::Redirected(redirect),
            Self::Failed(error) => Attempt::Failed(error),
        }
    }
}

/// What a node answered instead of carrying out a command.
pub enum Redirect {
    /// Another node owns the slot, or nobody does just now: ask the topology.
    Refresh,
    /// This command, and only this one, goes to a node that is taking the slot over.
    Ask(String),
    /// Some of the keys are on either side of a move.
    TryAgain,
}

impl Redirect {
    /// The redirect that `frame` is, if it is one.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let text = frame.strip_prefix(b"-")?;
        if text.starts_with(b"MOVED ") || text.starts_with(b"CLUSTERDOWN") {
            Some(Self::Refresh)
        } else if text.starts_with(b"TRYAGAIN") {
            Some(Self::TryAgain)
        } else if text.starts_with(b"ASK ") {
            let address = text.split(|byte| *byte == b' ').nth(2)?;
            Some(Self::Ask(String::from_utf8_lossy(address).trim_end().to_owned()))
        } else {
            None
        }
    }
}

/// Where one attempt goes.
#[derive(Clone)]
pub(super) struct Target {
    /// The participant.
    pub(super) place: Place,
    /// The node, which is not the owner of the slot when ASK said so.
    node: Rc<Node>,
    asking: bool,
    /// Whom the last call went to.
    run: RefCell<Option<Run>>,
}

impl Target {
    /// The node.
    pub(super) fn node(&self) -> &Rc<Node> {
        &self.node
    }

    /// Whom the last call went to, answered or not; `None` if that is not known.
    pub(super) fn run(&self) -> Option<Run> {
        self.run.borrow().clone()
    }

    /// Sends `requests` adjacent to each other and returns the reply frame of each: on the shared connection, unless they are very large.
    ///
    /// # Errors
    /// As [`call`](crate::upstream::call).
    pub(super) async fn call(&self, proto: Proto, requests: &[impl Frame]) -> Result<Vec<Bytes>, UpstreamError> {
        let mut run = None;
        let result = if self.asking {
            let asking = Request::new(&["ASKING"]);
            let all: Vec<&dyn Frame> = std::iter::once(&asking as &dyn Frame).chain(requests.iter().map(|request| request as _)).collect();
            self.call_noting(proto, &all, &mut run).await.map(|mut replies| replies.split_off(1))
        } else {
            self.call_noting(proto, requests, &mut run).await
        };
        self.run.replace(run);
        result
    }

    async fn call_noting(&self, proto: Proto, requests: &[impl Frame], run: &mut Option<Run>) -> Result<Vec<Bytes>, UpstreamError> {
        if goes_apart(requests) {
            return Box::pin(call_apart(&self.node, self.place.db, proto, requests, run)).await;
        }
        call_noting(&self.node.shared(self.place.db, proto), requests, run).await
    }

    /// Like [`call`](Self::call) for one EVALSHA of `script`; if the shard does not know that, it is loaded and called again, since nothing
    /// ran.
    ///
    /// # Errors
    /// As [`call`](crate::upstream::call).
    pub(super) async fn eval(&self, proto: Proto, script: Script, request: &impl Frame) -> Result<Bytes, UpstreamError> {
        let reply = self.call(proto, std::slice::from_ref(request)).await?.remove(0);
        if !reply.starts_with(b"-NOSCRIPT") {
            return Ok(reply);
        }
        self.call(proto, &[script.load()]).await?;
        Ok(self.call(proto, std::slice::from_ref(request)).await?.remove(0))
    }

    /// The connection for writes under a watch on the gate; none in a cluster.
    pub(super) fn armed(&self, proto: Proto) -> Option<Rc<ArmedConn>> {
        self.place.slot.is_none().then(|| self.node.armed(self.place.db, proto, ArmedLane::default(), gate::watch_and_look()))
    }

    /// A connection of its own to the node.
    ///
    /// # Errors
    /// As [`Node::lease`].
    pub(super) async fn lease(&self, proto: Proto, wait: Duration) -> Result<Leased, UpstreamError> {
        self.node.lease(self.place.db, proto, wait).await
    }

    /// Whether commands must be preceded by ASKING.
    pub(super) fn is_asking(&self) -> bool {
        self.asking
    }
}

impl Engine {
    /// Makes attempts at the participant of `batch` until one is carried out or fails for good, for at most `lock_wait_timeout`. Each attempt must have had
    /// no effect unless it says [`Attempt::Done`].
    ///
    /// # Errors
    /// What the last attempt failed with, [`ExecError::LockWait`] or [`ExecError::Unreachable`] when time is over.
    pub(super) async fn persist<T>(&self, batch: &Batch, mut attempt: impl AsyncFnMut(Target) -> Attempt<T>) -> Result<T, ExecError> {
        let start = Instant::now();
        let mut latched = None;
        let mut ask = None;
        let mut tries = 0;
        loop {
            let target = self.target(&batch.participant, ask.take());
            let error = match target {
                Some(target) => attempt(target).await,
                None => Attempt::Redirected(Redirect::Refresh),
            };
            let error = match error {
                Attempt::Done(value) => return Ok(value),
                Attempt::Failed(error) => return Err(error),
                Attempt::Locked(locked) => {
                    // Resolving the owner may take longer, when a shard is away: whoever meets it next goes on.
                    let deadline = start + self.config.lock_wait_timeout;
                    let _ = tokio::time::timeout_at(deadline, self.wait_in_line(batch, locked, tries, &mut latched)).await;
                    ExecError::LockWait
                }
                Attempt::Redirected(redirect) => {
                    latched = None;
                    ask = self.follow(redirect, tries).await;
                    ExecError::Unreachable
                }
            };
            tries += 1;
            if start.elapsed() >= self.config.lock_wait_timeout {
                if error == ExecError::LockWait {
                    self.counts.count(Counter::LockTimeouts);
                }
                return Err(error);
            }
        }
    }

    /// Where a request for `participant` goes now; `None` while nobody has it.
    pub(super) fn target(&self, participant: &Participant, ask: Option<Rc<Node>>) -> Option<Target> {
        let place = part::place(&self.upstreams.map(), participant)?;
        let asking = ask.is_some();
        let node = ask.or_else(|| self.upstreams.primary(place.shard))?;
        Some(Target { place, node, asking, run: RefCell::default() })
    }

    /// Does what a redirect asks for; the node to ask next, if it named one that the topology knows.
    pub(super) async fn follow(&self, redirect: Redirect, tries: u32) -> Option<Rc<Node>> {
        self.counts.count(match redirect {
            Redirect::Refresh => Counter::RedirectMoved,
            Redirect::Ask(_) => Counter::RedirectAsk,
            Redirect::TryAgain => Counter::RedirectTryAgain,
        });
        if let Redirect::Ask(address) = &redirect
            && let Some(node) = self.upstreams.known(address)
        {
            return Some(node);
        }
        if !matches!(redirect, Redirect::TryAgain) {
            self.topology.request_refresh();
        }
        self.pause(tries).await;
        None
    }

    /// Waits for a moment, longer the more tries there were, and never for the same time as others do.
    pub(super) async fn pause(&self, tries: u32) {
        let most = (1 << tries.min(5)) as f64;
        let jitter = 0.5 + fastrand::f64() / 2.0;
        tokio::time::sleep(Duration::from_secs_f64(most * jitter / 1000.0)).await;
    }
}
