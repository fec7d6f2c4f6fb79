//! The connection on which a worker hears which keys change on one server, whoever changes them.
//!
//! It asks for `CLIENT TRACKING ON BCAST`, and from then on the server names every key that is written, expires or is evicted, in the
//! order in which that happens. From the server's `OK` on until the connection is lost nothing is left out: that is what *armed* means,
//! and a feed that ceases to be armed tells its sink, because what changes then is never told.

use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::node::Link;
use super::wire::{self, Listens, Wire};
use crate::resp::Value;

/// Who is told what a feed hears. Called from the connection's task.
pub trait FeedSink {
    /// These keys were written, have expired or were evicted.
    fn changed(&self, keys: Vec<Bytes>);
    /// Any key may have changed: the server was flushed, or the feed is no longer armed.
    fn flushed(&self);
    /// The feed is armed.
    fn armed(&self);
}

/// A connection that hears of changes; cheap to share inside its worker.
pub struct Feed {
    sink: Rc<dyn FeedSink>,
    wire: Wire,
    armed: Cell<bool>,
}

impl Feed {
    /// A connection along `link`, which speaks RESP3, whose task ends after [`close`](Self::close).
    pub fn open(link: Link, sink: Rc<dyn FeedSink>) -> Rc<Self> {
        let this = Rc::new(Self { sink, wire: Wire::default(), armed: Cell::new(false) });
        tokio::task::spawn_local(wire::run(Rc::clone(&this), link));
        this
    }

    /// Whether every change is heard of from now on, as long as the sink is not told otherwise.
    pub fn is_armed(&self) -> bool {
        self.armed.get()
    }

    /// Ends the connection for good; the sink hears nothing any more.
    pub fn close(&self) {
        self.armed.set(false);
        self.wire.close();
    }

    /// Asks for a sign of life when nothing was heard for a while, and gives the connection up when none comes within `limit`. To be
    /// called now and then.
    pub fn watch(&self, now: Instant, limit: Duration) {
        self.wire.watch(now, limit);
    }

    /// Takes in one frame; false when it is none that belongs here.
    fn understands(&self, frame: &Bytes) -> bool {
        match (self.armed.get(), Value::parse(frame)) {
            (false, Ok(Value::Simple(word))) if word == "OK" => {
                self.armed.set(true);
                self.sink.armed();
            }
            (true, Ok(Value::Simple(_))) => {}
            (true, Ok(Value::Push(parts))) => match &parts[..] {
                [word, Value::Array(keys)] if is_invalidation(word) => {
                    self.sink.changed(keys.iter().filter_map(Value::text).cloned().collect());
                }
                [word, Value::Null] if is_invalidation(word) => self.sink.flushed(),
                _ => return false,
            },
            _ => return false,
        }
        true
    }
}

impl Listens for Feed {
    fn wire(&self) -> &Wire {
        &self.wire
    }

    fn poll_wanted(&self, _: &Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    fn begin(&self) {
        self.wire.send(TRACK);
    }

    fn frame(&self, frame: &Bytes) -> bool {
        let understood = self.understands(frame);
        if !understood {
            tracing::warn!(reply = %String::from_utf8_lossy(frame).trim_end(), "a shard does not tell what changes");
        }
        understood
    }

    fn end(&self) {
        if self.armed.replace(false) {
            self.sink.flushed();
        }
    }
}

fn is_invalidation(word: &Value) -> bool {
    word.text().is_some_and(|word| word == "invalidate")
}

const TRACK: &[u8] = b"*4\r\n$6\r\nCLIENT\r\n$8\r\nTRACKING\r\n$2\r\nON\r\n$5\r\nBCAST\r\n";
