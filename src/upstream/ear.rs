//! The connection on which a client of MONITOR hears what one server carries out, on whoever's behalf.
//!
//! A server that hears itself watched works harder for every command; so the connection is there only while somebody watches.

use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::Notify;

use super::node::Link;
use super::wire::{self, Listens, Wire};

/// Who is told what an ear hears. Called from the connection's task.
pub trait EarSink {
    /// One line of MONITOR, from its `+` to its line feed.
    fn line(&self, line: &Bytes);
}

/// A connection that listens to what a server is asked. Dropping it ends the connection.
pub struct Ear(Rc<Inner>);

struct Inner {
    sink: Box<dyn EarSink>,
    wire: Wire,
    ready: Cell<bool>,
    /// Told when `ready` has changed.
    changed: Notify,
}

impl Ear {
    /// A connection along `link`, which speaks RESP2.
    pub(super) fn open(link: Link, sink: Box<dyn EarSink>) -> Self {
        let inner = Rc::new(Inner { sink, wire: Wire::default(), ready: Cell::new(false), changed: Notify::new() });
        tokio::task::spawn_local(wire::run(Rc::clone(&inner), link));
        Self(inner)
    }

    /// Returns when every command of the server is heard from now on, or it has refused to tell.
    pub async fn ready(&self) {
        while !self.0.ready.get() {
            self.0.changed.notified().await;
        }
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.0.wire.close();
    }
}

impl Inner {
    fn settle(&self) {
        self.ready.set(true);
        self.changed.notify_one();
    }
}

impl Listens for Inner {
    fn wire(&self) -> &Wire {
        &self.wire
    }

    fn poll_wanted(&self, _: &Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    fn begin(&self) {
        self.wire.send(b"*1\r\n$7\r\nMONITOR\r\n");
    }

    fn frame(&self, frame: &Bytes) -> bool {
        match (frame.first(), self.ready.get()) {
            (Some(b'+'), true) => self.sink.line(frame),
            (Some(b'+'), false) => self.settle(),
            _ => {
                tracing::warn!(reply = %String::from_utf8_lossy(frame).trim_end(), "a shard does not tell what it carries out");
                // What is refused for good is not asked for again.
                if [&b"-NOPERM"[..], b"-ERR"].iter().any(|code| frame.starts_with(code)) {
                    self.wire.close();
                    self.settle();
                }
                return false;
            }
        }
        true
    }

    fn end(&self) {
        if !self.wire.is_closed() {
            self.ready.set(false);
        }
    }
}
