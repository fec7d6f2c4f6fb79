//! Awaiting replies on a shared connection, for the paths that are not hot.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use bytes::{Bytes, BytesMut};

use super::armed::ArmedConn;
use super::error::UpstreamError;
use super::node::Node;
use super::run::Run;
use super::shared::{ReplySink, SharedConn};
use crate::resp::{Frame, Proto};

/// Sends `requests` adjacent to each other on `conn` and returns the reply frame of each.
///
/// Dropping the future does not take the requests back; their replies are then ignored.
///
/// # Errors
/// When the connection could not be made or was lost: then no reply is known, see [`UpstreamError`].
pub async fn call(conn: &Rc<SharedConn>, requests: &[impl Frame]) -> Result<Vec<Bytes>, UpstreamError> {
    call_noting(conn, requests, &mut None).await
}

/// Like [`call`]; also notes in `run` whom the requests were sent to, whether or not they were answered. `None`: not known.
///
/// # Errors
/// As [`call`].
pub async fn call_noting(conn: &Rc<SharedConn>, requests: &[impl Frame], run: &mut Option<Run>) -> Result<Vec<Bytes>, UpstreamError> {
    let call = Call::on(conn, requests.len());
    let sink: Rc<dyn ReplySink> = Rc::<Call>::clone(&call);
    conn.send(sink, 0, requests.len() as u32, |out| write(requests, out));
    let answered = call.answered(requests.len()).await;
    *run = call.state.borrow_mut().run.take();
    answered?.ok_or(UpstreamError::NotSent)
}

/// Whether `requests` are so large that they go on a connection of their own: on a shared one everybody would wait until they are through,
/// and their bytes would lie in its buffer a second time.
pub fn goes_apart<'a, F: Frame + 'a>(requests: impl IntoIterator<Item = &'a F>) -> bool {
    requests.into_iter().map(Frame::size).sum::<usize>() > APART_BYTES
}

/// A request with more bytes than a shared connection sends in a fraction of a millisecond.
const APART_BYTES: usize = 1024 * 1024;

/// Like [`call_noting`], on a leased connection to `node`.
///
/// # Errors
/// As [`call`]; also when no connection becomes free in time.
pub async fn call_apart(
    node: &Rc<Node>,
    db: u32,
    proto: Proto,
    requests: &[impl Frame],
    run: &mut Option<Run>,
) -> Result<Vec<Bytes>, UpstreamError> {
    let mut leased = node.lease(db, proto, node.reply_timeout()).await?;
    *run = leased.run();
    leased.call(requests).await
}

/// Sends `requests` on `conn`, which has just said that it is ready, in one step with others, and returns the reply frame of each. `None`
/// says that nothing ran.
///
/// # Errors
/// As [`call`].
pub async fn call_armed(conn: &ArmedConn, requests: &[impl Frame]) -> Result<Option<Vec<Bytes>>, UpstreamError> {
    let call = Call::on(conn.conn(), requests.len());
    let sink: Rc<dyn ReplySink> = Rc::<Call>::clone(&call);
    conn.send(sink, 0, requests.len() as u32, |out| write(requests, out));
    call.answered(requests.len()).await
}

fn write(requests: &[impl Frame], out: &mut BytesMut) {
    requests.iter().flat_map(Frame::pieces).for_each(|piece| out.extend_from_slice(piece));
}

/// Collects the frames of one [`call`]; the connection holds one end, the caller's future the other.
struct Call {
    conn: Rc<SharedConn>,
    state: RefCell<State>,
}

struct State {
    frames: Vec<Bytes>,
    failure: Option<UpstreamError>,
    /// A gate was closed: nothing ran.
    gated: bool,
    /// Whom the requests were sent to.
    run: Option<Run>,
    waker: Option<Waker>,
}

impl Call {
    fn on(conn: &Rc<SharedConn>, frames: usize) -> Rc<Self> {
        let state = State { frames: Vec::with_capacity(frames), failure: None, gated: false, run: None, waker: None };
        Rc::new(Self { conn: Rc::clone(conn), state: RefCell::new(state) })
    }

    /// The `count` frames, or `None` if a gate was closed.
    async fn answered(&self, count: usize) -> Result<Option<Vec<Bytes>>, UpstreamError> {
        poll_fn(|cx| {
            let mut state = self.state.borrow_mut();
            if let Some(error) = state.failure {
                return Poll::Ready(Err(error));
            }
            if state.gated {
                return Poll::Ready(Ok(None));
            }
            if state.frames.len() == count {
                return Poll::Ready(Ok(Some(std::mem::take(&mut state.frames))));
            }
            state.waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.borrow_mut();
        change(&mut state);
        if let Some(waker) = state.waker.take() {
            drop(state);
            waker.wake();
        }
    }
}

impl ReplySink for Call {
    fn frame(&self, _ticket: u64, frame: &[u8]) {
        self.large_frame(0, Bytes::copy_from_slice(frame));
    }

    fn large_frame(&self, _ticket: u64, frame: Bytes) {
        self.change(|state| {
            state.frames.push(frame);
            state.run = self.conn.run();
        });
    }

    fn failed(&self, _ticket: u64, error: UpstreamError) {
        self.change(|state| {
            state.failure = Some(error);
            state.run = self.conn.run();
        });
    }

    fn gated(&self, _ticket: u64) {
        self.change(|state| state.gated = true);
    }
}
