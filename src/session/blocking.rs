//! Commands that wait (BLPOP, BLMOVE, XREAD BLOCK and their kin), without keeping a shard waiting.
//!
//! A shard never sees them: a client that blocks there would need a connection of its own, and would be served past the locks of a
//! transaction that is about to commit. Instead the command's form that does not wait is tried again and again, guarded like any
//! other command, until something comes of it (protocol §7). Each try is atomic at its participant; keys of several participants are
//! tried in the order in which they are named. Between tries a client costs a timer, not a connection.
//!
//! When to try: at once when this process writes one of the keys; else after a pause that grows from one millisecond to
//! [`PAUSE_MAX`], and further where very many wait. Before a try that may change something, its keys are looked at without a lock
//! check, which is a hint and no more, but many times cheaper.
//!
//! Who tries: of the clients of this process that wait for the same key, the one that came first; see [`lines`]. A writer's reply waits
//! until those have tried who may be served by the write, so that its client finds what it would find in Redis; but no longer than
//! [`SERVING_MAX`]: they may wait for keys of other shards, too, one of which may hang.
//!
//! A client that goes away stops waiting; only what a try was about to fetch at that moment is lost with it, as in Redis what was on
//! its way to the client. A try whose outcome is unknown ends the waiting with an error that says so: trying again could take a second
//! element for the first one.

mod form;
pub(super) mod lines;

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{join, join_all, try_join_all};
use tokio::sync::oneshot;
use tokio::time::Instant;

use self::form::{Answer, Form, Try, is_nothing};
use self::lines::{Errand, Family, Line, PlaceInLine, Release, Underway};
use super::tracking::Touched;
use super::{Context, Pending, Session, rescue};
use crate::command::{self, Access, Categories, Handling, KeyRef};
use crate::resp::{Proto, Request, Value, error_reply};
use crate::route::{self, Place, Route, RouteError, Routed};
use crate::txn::ExecError;

/// A client that waits.
pub(super) struct Blocked {
    form: Form,
    place: PlaceInLine,
    deadline: Option<Instant>,
    /// How long the next pause is.
    pause: Duration,
    /// How often it was tried.
    tries: u32,
    /// What the keys of streams looked like when nothing came of them.
    seen: Vec<Bytes>,
    /// A key that becomes something else is waited for, as if it had stayed away.
    bears_other_types: bool,
    /// The client does not want to hear the reply.
    pub(super) muted: bool,
    /// What it does to keys; needed only for a client that is told of changes.
    pub(super) touched: Touched,
}

/// The first pause, and the longest as long as no more than [`CROWD`] clients wait.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// How long a writer waits for those who may be served by the write.
const SERVING_MAX: Duration = Duration::from_secs(1);

/// Where the commands that move an element name the key that it moves to.
const DESTINATION: usize = 2;

/// With so many clients waiting, pauses get twice as long, and so on: the shards are asked no more often by ten thousand clients.
const CROWD: u32 = 1000;

/// Every so many looks at streams are followed by a try even if no entry was added: groups change too.
const LOOKS: u32 = 16;

impl Blocked {
    /// Waits until it is worth trying again.
    pub(super) async fn rest(&mut self, waiting: usize) {
        let crowd = 1 + u32::try_from(waiting).unwrap_or(u32::MAX) / CROWD;
        let jitter = 0.5 + fastrand::f64() / 2.0;
        let again = self.place.is_next_anywhere().then(|| Instant::now() + (self.pause * crowd).mul_f64(jitter));
        let until = [again, self.deadline].into_iter().flatten().min();
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        tokio::select! {
            () = self.place.rung() => self.pause = PAUSE_MIN,
            () = sleep_until(until) => {}
        }
    }

    /// Where a try of it moves something to.
    fn destination(&self, db: u32) -> Option<(u32, Bytes)> {
        let moves = self.form.tries.iter().find(|each| each.answer == Answer::Moved);
        moves.map(|each| (db, each.request.arg_bytes(DESTINATION)))
    }

    fn is_over(&self) -> bool {
        self.tries > 0 && self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Whether the waiting ends when a stream is gone: that of XREADGROUP does.
    fn loses_streams(&self) -> bool {
        self.form.family == Family::Stream && !self.bears_other_types
    }

    /// Whether `error` is one that a client waits out: it says nothing about the client's request.
    fn bears(&self, error: &[u8]) -> bool {
        let other_type = self.bears_other_types && error.starts_with(b"-WRONGTYPE");
        self.tries > 0 && (other_type || PASSING.iter().any(|code| error[1..].starts_with(code.as_bytes())))
    }
}

/// Whether `reply` says that there is no such stream, or no such group of it.
fn is_about_streams(reply: &[u8]) -> bool {
    [&b"-NOGROUP"[..], b"-WRONGTYPE"].iter().any(|code| reply.starts_with(code))
}

/// What a server says that will say something else later.
const PASSING: [&str; 7] = ["LOADING", "CLUSTERDOWN", "MASTERDOWN", "READONLY", "TRYAGAIN", "BUSY", "NOREPLICAS"];

async fn sleep_until(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

impl Session {
    /// Carries out a blocking command as far as that goes without waiting: it was answered, or the client waits.
    pub(super) async fn block(&mut self, Pending { spec, request }: Pending) -> Option<Blocked> {
        let mut form = match form::form(spec.name, &request.detached()) {
            Ok(form) => form,
            Err(text) => {
                self.reply(|reply| reply.error(text));
                return None;
            }
        };
        let db = self.client.profile.db;
        let keys = form.tries.iter().flat_map(|each| &each.keys);
        let lines = keys.map(|key| Line { family: form.family, db, key: key.clone() }).collect();
        let place = self.context.waiting.join(self.client.id(), lines);
        let begun = match self.fix_ends(&mut form).await {
            Ok(fixed) => fixed,
            Err(error) => {
                self.deliver(Err(error));
                return None;
            }
        };
        let mut blocked = Blocked {
            place,
            deadline: form.timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
            pause: PAUSE_MIN,
            tries: u32::from(begun),
            seen: Vec::new(),
            bears_other_types: form.family != Family::Stream || !spec.is_write(),
            muted: false,
            touched: Touched::default(),
            form,
        };
        if self.attempt(&mut blocked).await {
            return None;
        }
        blocked.place.block();
        Some(blocked)
    }

    /// Tries once for a client that waits. True when that is over: it was answered.
    pub(super) async fn attempt_again(&mut self, blocked: &mut Blocked) -> bool {
        let (mut turn, before) = (self.resume_turn(std::mem::take(&mut blocked.touched)), self.window.out_len());
        let answered = self.attempt(blocked).await;
        if !answered && let Some(turn) = &mut turn {
            blocked.touched = turn.put_off();
        }
        self.end_turn(turn, before);
        answered
    }

    async fn attempt(&mut self, blocked: &mut Blocked) -> bool {
        let errands = blocked.place.errands();
        let moving = blocked.destination(self.client.profile.db).map(|place| self.context.waiting.set_out([place]));
        let result = match blocked.place.released() {
            Some(Release::Error) => Err(ExecError::Rejected(error_reply::UNBLOCKED.to_owned())),
            Some(Release::TimedOut) => Ok(null(self.client.proto())),
            None if blocked.is_over() => Ok(null(self.client.proto())),
            None => match self.try_all(blocked).await {
                Some(result) => result,
                None => return false,
            },
        };
        if !blocked.muted {
            self.deliver(result);
        }
        blocked.place.leave(moving.as_ref(), errands);
        true
    }

    async fn try_all(&mut self, blocked: &mut Blocked) -> Option<Result<Bytes, ExecError>> {
        let (context, proto, db) = (Rc::clone(&self.context), self.client.proto(), self.client.profile.db);
        for index in 0..blocked.form.tries.len() {
            let each = blocked.form.tries[index].clone();
            let family = blocked.form.family;
            let is_next = each.keys.iter().any(|key| blocked.place.is_next(&Line { family, db, key: key.clone() }));
            if !is_next || (blocked.tries > 0 && !context.looks_promising(&each, blocked, db).await) {
                continue;
            }
            // What the command has found at its beginning, in case it is gone when the try comes to it.
            let found = async { blocked.loses_streams() && blocked.tries == 0 && context.are_streams(&each, db).await };
            let (found, result) = join(found, context.try_once(&each, db, proto)).await;
            match result {
                Ok(frame) if blocked.loses_streams() && is_about_streams(&frame) && (found || blocked.tries > 0) => {
                    return Some(match context.are_streams(&each, db).await {
                        false => Err(ExecError::Rejected(error_reply::STREAM_GONE.to_owned())),
                        true if blocked.tries > 0 => Err(ExecError::Rejected(error_reply::GROUP_GONE.to_owned())),
                        true => Ok(frame),
                    });
                }
                Ok(frame) => match each.reply(&frame, proto) {
                    Some(reply) if reply.starts_with(b"-") && blocked.bears(&reply) && !context.cannot_deliver(&each, &reply, db).await => {
                    }
                    Some(reply) => return Some(Ok(reply)),
                    None => {}
                },
                Err(ExecError::Unreachable | ExecError::LockWait) if blocked.tries > 0 => {}
                Err(ExecError::Refused(error)) if blocked.bears(&error) => {}
                Err(error) => return Some(Err(error)),
            }
        }
        blocked.tries = blocked.tries.saturating_add(1);
        None
    }

    /// XREAD's `$` is the end of a stream at the beginning of the command, not at each try. Whether there was one: then that was looked
    /// at, and the command has begun.
    async fn fix_ends(&mut self, form: &mut Form) -> Result<bool, ExecError> {
        let [only] = &mut form.tries[..] else { return Ok(false) };
        let first = only.request.argc() - only.keys.len();
        if !only.request.arg(0).eq_ignore_ascii_case(b"XREAD") || !only.request.args_from(first).any(|id| id == b"$") {
            return Ok(false);
        }
        let mut args: Vec<Bytes> = (0..only.request.argc()).map(|index| only.request.arg_bytes(index)).collect();
        for (key, id) in only.keys.iter().zip(&mut args[first..]).filter(|(_, id)| id.as_ref() == b"$") {
            let newest = Request::new(&[b"XREVRANGE", &key[..], b"+", b"-", b"COUNT", b"1"]);
            let reply = self.context.single(&newest, self.client.profile.db, Proto::Resp2, self.context.is_strict()).await?;
            if reply.starts_with(b"-") {
                return Err(ExecError::Refused(reply));
            }
            let newest = Value::parse(&reply).ok().and_then(|reply| reply.items()?.first()?.items()?.first()?.text().cloned());
            *id = newest.unwrap_or(Bytes::from_static(b"0-0"));
        }
        only.request = Request::new(&args);
        Ok(true)
    }
}

impl Context {
    /// The writer of `routed` rings for those who wait for its keys.
    pub(super) fn ring(&self, routed: &Routed) {
        if !self.waiting.is_empty() {
            brought(routed).for_each(|(db, key)| self.waiting.ring(db, &key));
        }
    }

    /// Whether somebody waits to take away what `routed` may bring.
    pub(super) fn serves(&self, routed: &Routed) -> bool {
        !self.waiting.is_empty() && brought(routed).any(|(db, key)| self.waiting.awaits(db, &key))
    }

    /// Whether somebody came before `routed` to a stream that it may take away, and has not looked at it yet.
    pub(super) fn is_preceded(&self, routed: &Routed) -> bool {
        self.waiting.has_arrivals() && self.waiting.arrivals(taken(routed)).is_some()
    }

    /// Lets those look first who came before the writer of `keys`, which may take streams away.
    pub(super) async fn let_look(&self, keys: impl Iterator<Item = (u32, Bytes)>) {
        wait_for(self.waiting.arrivals(keys)).await;
    }

    /// Likewise for who may take all streams away.
    pub(super) async fn let_all_look(&self) {
        wait_for(self.waiting.arrivals_anywhere()).await;
    }

    /// Takes note, if anybody waits for anything, that `keys` are about to be written.
    pub(super) fn set_out(&self, keys: impl Iterator<Item = (u32, Bytes)>) -> Option<Underway> {
        (!self.waiting.is_empty()).then(|| self.waiting.set_out(keys))
    }

    /// The writer of `keys`, whose write was `underway`, rings, and waits until those have tried who may be served by that.
    pub(super) async fn serve(&self, underway: Option<Underway>, keys: impl Iterator<Item = (u32, Bytes)>) {
        if self.waiting.is_empty() {
            return;
        }
        let keys: Vec<_> = keys.collect();
        keys.iter().for_each(|(db, key)| self.waiting.ring(*db, key));
        let (errand, done) = oneshot::channel();
        underway.unwrap_or_else(|| self.waiting.set_out([])).arrive(keys, Errand::new(errand));
        wait_for(Some(done)).await;
    }

    /// A look at the keys of `each` without a lock check: whether a try may come to something.
    async fn looks_promising(&self, each: &Try, blocked: &mut Blocked, db: u32) -> bool {
        let stream = blocked.form.family == Family::Stream;
        let looks = each.keys.iter().map(async |key| {
            let request = if stream {
                Request::new(&[b"XREVRANGE", &key[..], b"+", b"-", b"COUNT", b"1"])
            } else {
                Request::new(&[b"EXISTS", &key[..]])
            };
            self.single(&request, db, Proto::Resp2, false).await
        });
        match try_join_all(looks).await {
            Ok(looks) if stream => {
                let changed = looks != blocked.seen || blocked.tries.is_multiple_of(LOOKS);
                blocked.seen = looks;
                changed
            }
            Ok(looks) => looks.iter().any(|look| look.as_ref() != b":0\r\n"),
            Err(_) => false,
        }
    }

    /// Whether a move failed because of where it moves to: there is something for the client, and it cannot have it.
    async fn cannot_deliver(&self, each: &Try, reply: &[u8], db: u32) -> bool {
        let moves = each.answer == Answer::Moved && reply.starts_with(b"-WRONGTYPE");
        let Some(source) = each.keys.first().filter(|_| moves) else { return false };
        self.kind(source, db).await.as_deref() == Some(b"+list\r\n")
    }

    /// Whether the keys of `each` are streams, as far as a look without a lock check tells.
    async fn are_streams(&self, each: &Try, db: u32) -> bool {
        let kinds = each.keys.iter().map(|key| async { self.kind(key, db).await });
        join_all(kinds).await.iter().all(|kind| kind.as_deref() == Some(b"+stream\r\n"))
    }

    async fn kind(&self, key: &[u8], db: u32) -> Option<Bytes> {
        self.single(&Request::new(&[b"TYPE", key]), db, Proto::Resp2, false).await.ok()
    }

    async fn try_once(&self, each: &Try, db: u32, proto: Proto) -> Result<Bytes, ExecError> {
        let map = self.upstreams.map();
        let Ok(spec) = command::lookup(&each.request) else { return Err(ExecError::Unreachable) };
        match (route::route(&map, db, spec, &each.request), spec.handling) {
            (Ok(Route::Several(keys)), Handling::Move) => self.transfer(&each.request, &keys, proto).await,
            (Ok(Route::Several(keys)), _) => self.read_streams(spec, &each.request, &keys, proto).await,
            _ => {
                let tried = self.single(&each.request, db, proto, self.is_strict()).await;
                if tried.is_ok() {
                    self.counts.count_try(spec.name);
                }
                tried
            }
        }
    }

    /// Carries out a request all of whose keys are at one participant.
    pub(super) async fn single(&self, request: &Request, db: u32, proto: Proto, strict: bool) -> Result<Bytes, ExecError> {
        let map = self.upstreams.map();
        let Ok(spec) = command::lookup(request) else { return Err(ExecError::Unreachable) };
        let routed = match route::route(&map, db, spec, request) {
            Ok(Route::One(routed)) => routed,
            Ok(Route::Several(_)) => return Err(ExecError::Rejected(error_reply::several_shards(spec.name))),
            Err(RouteError::Keys(error)) if rescue::is_the_shards_to_tell(error) => {
                route::anywhere(&map, spec, request.clone()).ok_or(ExecError::Unreachable)?
            }
            Err(error) => return Err(ExecError::Rejected(rescue::route(&error, spec))),
        };
        let result = self.engine.single(routed.clone(), proto, strict).await;
        if result.as_ref().is_ok_and(|reply| !is_nothing(reply)) && routed.writes() {
            self.ring(&routed);
        }
        result
    }
}

/// Waits for those whom a write concerns. That it ends by being dropped is how it ends.
async fn wait_for(done: Option<oneshot::Receiver<()>>) {
    if let Some(done) = done {
        let _ = tokio::time::timeout(SERVING_MAX, done).await;
    }
}

/// The keys under which `routed` may take a stream or its groups away, and their database. What is about streams otherwise leaves them.
pub(super) fn taken(routed: &Routed) -> impl Iterator<Item = (u32, Bytes)> {
    let takes = !routed.spec.own_categories.intersects(Categories::STREAM) || routed.spec.name == "xgroup|destroy";
    let written = routed.keys.iter().filter(move |key| takes && key.access == Access::Write);
    written.map(|key| (routed.place.db, routed.request.arg_bytes(key.index as usize)))
}

/// The keys to which `routed` may bring what somebody waits for, and their database.
pub(super) fn brought(routed: &Routed) -> impl Iterator<Item = (u32, Bytes)> {
    let brings = routed.spec.own_categories.intersects(WAITED_FOR);
    let written = routed.keys.iter().filter(move |key| brings && key.access == Access::Write);
    written.map(|key| (routed.place.db, routed.request.arg_bytes(key.index as usize)))
}

/// The keys that a command over several participants may write, and their databases.
pub(super) fn written(request: &Request, keys: &[(KeyRef, Place)]) -> impl Iterator<Item = (u32, Bytes)> {
    let written = keys.iter().filter(|(key, _)| key.access == Access::Write);
    written.map(|(key, place)| (place.db, request.arg_bytes(key.index as usize)))
}

/// The kinds of commands that can give somebody what they wait for.
const WAITED_FOR: Categories =
    Categories::LIST.union(Categories::SORTEDSET).union(Categories::STREAM).union(Categories::KEYSPACE).union(Categories::SCRIPTING);

/// What a client gets whose time is over.
fn null(proto: Proto) -> Bytes {
    Bytes::from_static(match proto {
        Proto::Resp2 => b"*-1\r\n",
        Proto::Resp3 => b"_\r\n",
    })
}
