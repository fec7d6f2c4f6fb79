//! One connection of the generator: a closed loop over its script. Hot: one read and one write a hop, no allocation.

use std::io::{ErrorKind, Read, Write};
use std::time::Instant;

use anyhow::{Context, anyhow, bail};
use mio::net::TcpStream;

use crate::load::Order;
use crate::load::generator::{Drawer, Tally};
use crate::load::scan::{Kind, scan};
use crate::load::script::{Expected, Hop, Script};

/// The first size of the read buffer: more than any reply to 16 requests for 64 bytes.
const INBOX_BYTES: usize = 16 * 1024;

/// A client: at any time it waits for replies to the requests of one hop, or is idle.
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    /// Its number.
    client: usize,
    script: Script,
    /// Operations in flight.
    pipeline: usize,
    /// EXEC may answer nil.
    watches: bool,
    /// The keys of the current operations.
    ids: Vec<u32>,
    /// When the current operations began; a retry does not reset it.
    started: Instant,
    hop: usize,
    /// How much of the hop's requests has been written, and how many of them have been answered.
    written: usize,
    answered: usize,
    /// EXEC answered nil: the operation is to begin again, with the same keys.
    broken: bool,
    idle: bool,
    inbox: Vec<u8>,
    /// The part of `inbox` that holds bytes of replies not complete yet.
    unread: std::ops::Range<usize>,
}

impl Connection {
    /// Connects number `client` of `order`, blocking; nothing is sent before [`Connection::begin`].
    pub(crate) fn connect(order: &Order, client: usize) -> anyhow::Result<Self> {
        let stream = std::net::TcpStream::connect(order.addresses[client % order.addresses.len()]).context("connecting")?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let script = Script::new(&order.operation, order.value_bytes, b'x');
        Ok(Self {
            stream: TcpStream::from_std(stream),
            client,
            pipeline: order.operation.pipeline,
            watches: order.operation.watches(),
            ids: vec![0; script.key_count()],
            script,
            started: Instant::now(),
            hop: 0,
            written: 0,
            answered: 0,
            broken: false,
            idle: true,
            inbox: vec![0; INBOX_BYTES],
            unread: 0..0,
        })
    }

    /// Whether every request has been answered and no more is to be sent.
    pub(crate) fn is_idle(&self) -> bool {
        self.idle
    }

    /// Draws keys and sends the first hop of new operations.
    pub(crate) fn begin(&mut self, drawer: &mut Drawer) -> anyhow::Result<()> {
        drawer.draw(self.client, &mut self.ids);
        self.script.aim(&self.ids);
        self.idle = false;
        self.started = Instant::now();
        self.send(0)
    }

    /// Writes what could not be written before and reads what has come; goes on with the loop unless `drawer` is closed.
    pub(crate) fn on_ready(&mut self, drawer: &mut Drawer, tally: &mut Tally) -> anyhow::Result<()> {
        self.flush()?;
        // Readiness is edge-triggered. On Linux a read that does not fill the buffer has emptied the socket (epoll(7)).
        while self.read()? {
            self.take_replies(drawer, tally)?;
            if self.unread.end < self.inbox.len() {
                break;
            }
        }
        Ok(())
    }

    /// Reads once; `false` if there was nothing.
    fn read(&mut self) -> anyhow::Result<bool> {
        if self.unread.is_empty() {
            self.unread = 0..0;
        } else if self.unread.end == self.inbox.len() {
            self.inbox.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
            if self.unread.end > self.inbox.len() / 2 {
                self.inbox.resize(self.inbox.len() * 2, 0);
            }
        }
        match self.stream.read(&mut self.inbox[self.unread.end..]) {
            Ok(0) => bail!("closes the connection"),
            Ok(count) => {
                self.unread.end += count;
                Ok(true)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(false),
            Err(error) => Err(error).context("reading"),
        }
    }

    fn take_replies(&mut self, drawer: &mut Drawer, tally: &mut Tally) -> anyhow::Result<()> {
        let finished = self.check_replies()?;
        if finished > 0 {
            tally.record(self.started.elapsed(), finished);
        }
        if self.answered < self.current().expected.len() {
            return Ok(());
        }
        if !self.unread.is_empty() {
            bail!("answers more than it was asked");
        }
        if self.broken {
            self.broken = false;
            tally.retries += 1;
            self.send(0)
        } else if self.hop + 1 < self.script.hops.len() {
            self.send(self.hop + 1)
        } else if drawer.closed {
            self.idle = true;
            Ok(())
        } else {
            self.begin(drawer)
        }
    }

    /// Checks every complete reply; how many operations they finished.
    fn check_replies(&mut self) -> anyhow::Result<u64> {
        let hop = &self.script.hops[self.hop];
        let replies_per_operation = hop.expected.len() / self.pipeline;
        let is_last_hop = self.hop + 1 == self.script.hops.len();
        let mut finished = 0;
        while let Some(&expected) = hop.expected.get(self.answered) {
            let bytes = &self.inbox[self.unread.clone()];
            let Some(reply) = scan(bytes).map_err(|_| anyhow!("answers what is not RESP: {}", excerpt(bytes)))? else { break };
            let met = expected.is_met_by(reply.kind);
            self.broken |= expected == Expected::Executed && reply.kind == Kind::Nil && self.watches;
            if !met && !self.broken {
                bail!(excerpt(&bytes[..reply.len]));
            }
            self.unread.start += reply.len;
            self.answered += 1;
            finished += u64::from(met && is_last_hop && self.answered.is_multiple_of(replies_per_operation));
        }
        Ok(finished)
    }

    fn send(&mut self, hop: usize) -> anyhow::Result<()> {
        (self.hop, self.written, self.answered) = (hop, 0, 0);
        self.flush()
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        while !self.idle && self.written < self.script.hops[self.hop].bytes.len() {
            match self.stream.write(&self.script.hops[self.hop].bytes[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => bail!("closes the connection"),
            }
        }
        Ok(())
    }

    fn current(&self) -> &Hop {
        &self.script.hops[self.hop]
    }
}

/// A reply as the text of an error message, one line of it.
fn excerpt(reply: &[u8]) -> String {
    let text = String::from_utf8_lossy(&reply[..reply.len().min(200)]).into_owned();
    let line = text.split("\r\n").find(|line| line.starts_with('-')).or_else(|| text.split("\r\n").next()).unwrap_or_default();
    line.strip_prefix('-').unwrap_or(line).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_shows_the_error_within_an_array() {
        assert_eq!(excerpt(b"*2\r\n+OK\r\n-WRONGTYPE no\r\n"), "WRONGTYPE no");
        assert_eq!(excerpt(b"-ERR no\r\n"), "ERR no");
        assert_eq!(excerpt(b"$-1\r\n"), "$-1");
    }
}
