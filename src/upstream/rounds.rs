//! Calls that many share: one at a time on a connection of its own, and whoever asks while one is under way shares the next.
//!
//! For what takes as long for one as for a thousand and says something about everything before it, such as waiting for replicas. Such a
//! call keeps whatever is behind it on its connection from being answered: hence the connection of its own.
//!
//! A call that somebody has asked for is only made after that. When one is lost with its connection, so is the next, which was asked for
//! while the connection still stood: the server may have come back without what the callers want to know about.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::{FutureExt as _, LocalBoxFuture, Shared};

use super::call::call;
use super::error::UpstreamError;
use super::shared::SharedConn;
use crate::resp::Request;

/// The calls to one node.
pub struct Rounds {
    conn: Rc<SharedConn>,
    /// The one that has not begun; who asks now shares it.
    next: RefCell<Option<Round>>,
    /// The one that was asked for last, behind which the next will begin.
    last: RefCell<Option<Round>>,
}

/// A call: the frame that answers each of its requests. Whoever holds it drives it.
type Round = Shared<LocalBoxFuture<'static, Result<Rc<[Bytes]>, UpstreamError>>>;

impl Rounds {
    pub(super) fn new(conn: Rc<SharedConn>) -> Rc<Self> {
        Rc::new(Self { conn, next: RefCell::default(), last: RefCell::default() })
    }

    /// The frames that answer a call which begins after this. Its requests are those of whoever asked for it first; `requests` is called if
    /// that is the caller.
    ///
    /// # Errors
    /// As [`call`].
    pub async fn join(self: &Rc<Self>, requests: impl FnOnce() -> Vec<Request>) -> Result<Rc<[Bytes]>, UpstreamError> {
        let joined = self.next.borrow().clone();
        let round = joined.unwrap_or_else(|| self.begin(requests()));
        round.await
    }

    fn begin(self: &Rc<Self>, requests: Vec<Request>) -> Round {
        let (this, conn) = (Rc::downgrade(self), Rc::clone(&self.conn));
        let before = self.last.take().filter(|round| round.peek().is_none());
        let round = async move {
            if let Some(before) = before {
                before.await?;
            }
            if let Some(this) = this.upgrade() {
                this.next.take();
            }
            call(&conn, &requests).await.map(Rc::from)
        };
        let round = round.boxed_local().shared();
        self.next.replace(Some(round.clone()));
        self.last.replace(Some(round.clone()));
        round
    }

    pub(super) fn watch(&self, now: Instant, limit: Duration) {
        self.conn.watch(now, limit);
    }

    pub(super) fn close(&self) {
        self.conn.close();
    }
}
