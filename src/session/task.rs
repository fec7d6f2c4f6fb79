//! Hot path: the task of one session. It reads what the client sends, dispatches it, and writes what the window has put in order.
//!
//! Two gears. In the fast one, requests are decoded and sent on as they come, many in flight. What needs to wait for something (EXEC,
//! a lock that was met, a command over several participants) shifts down: everything in flight is answered first, then the request
//! is carried out alone, and the fast gear goes on behind it. So the replies' order needs no second mechanism.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;

use super::blocking::Blocked;
use super::dispatch::Step;
use super::{Pending, Session};
use crate::metrics::Counter;
use crate::resp::RequestDecoder;

/// The client's socket and what was read from it.
pub(super) struct Downstream {
    stream: TcpStream,
    input: BytesMut,
    decoder: RequestDecoder,
    /// The client will send nothing more.
    ended: bool,
}

/// Why the fast gear stopped.
enum Shift {
    /// A request has to be carried out alone.
    Alone(Pending),
    /// Requests have to be sent again.
    Again,
    /// What comes next has to wait for the end of a CLIENT PAUSE.
    Paused,
    /// The client moves to this worker.
    Move(usize),
    /// The session is over.
    Over,
}

impl Shift {
    /// Of the request that it is about.
    fn bytes(&self) -> usize {
        match self {
            Self::Alone(pending) => pending.request.bytes().len(),
            Self::Again | Self::Paused | Self::Move(_) | Self::Over => 0,
        }
    }
}

/// How far the fast gear got.
enum Advance {
    /// All that was read is sent on.
    Hungry,
    /// Enough is in flight, or waits to be written.
    Full,
    /// A reply has to come first.
    Blocked,
    /// All is answered, and this request has to be carried out alone.
    Alone(Pending),
    /// The next one has to wait for the end of a CLIENT PAUSE.
    Paused,
}

/// Serves the client behind `stream` until either side ends the session.
///
/// What is rare is in boxes: an idle client pays for the largest thing that its task may ever wait for.
/// `input` and `decoder` are what another worker has read.
pub(super) async fn run(mut session: Box<Session>, stream: TcpStream, input: BytesMut, decoder: RequestDecoder) {
    let mut downstream = Downstream { stream, input, decoder, ended: false };
    loop {
        match poll_fn(|cx| downstream.poll(&mut session, cx)).await {
            Shift::Alone(pending) => {
                if let Some(blocked) = Box::pin(session.alone(pending)).await
                    && !Box::pin(downstream.wait_out(&mut session, blocked)).await
                {
                    return;
                }
            }
            Shift::Paused => {
                if !Box::pin(downstream.wait_out_pause(&mut session)).await {
                    return;
                }
            }
            Shift::Again => {
                while let Some(request) = session.window.take_again() {
                    // It may wait for a lock: what is answered before it must not wait too.
                    downstream.flush(&session).await;
                    Box::pin(session.again(request)).await;
                }
            }
            Shift::Move(target) => return session.depart(target, downstream.stream, downstream.input, downstream.decoder),
            Shift::Over => return,
        }
    }
}

impl Downstream {
    fn poll(&mut self, session: &mut Session, cx: &mut Context<'_>) -> Poll<Shift> {
        let polled = self.poll_fast(session, cx);
        let present = self.input.len() + session.held();
        match &polled {
            Poll::Pending => {
                // What was not granted is not read either, and not held.
                session.claim.set(self.held(session).min(session.claim.bytes()).max(present));
                session.claim.rests(session.context.engine.now());
            }
            Poll::Ready(shift) => {
                session.claim.set(present + shift.bytes());
                session.claim.works();
            }
        }
        polled
    }

    /// How much memory the client takes: what was read, what has to be read until the request in progress is complete, and all else.
    fn held(&self, session: &Session) -> usize {
        self.input.len() + self.decoder.needed() + session.held()
    }

    fn poll_fast(&mut self, session: &mut Session, cx: &mut Context<'_>) -> Poll<Shift> {
        session.window.register(cx);
        session.overhear(cx);
        session.report();
        loop {
            if session.is_doomed(cx) {
                return Poll::Ready(Shift::Over);
            }
            if session.window.wants_again() {
                return Poll::Ready(Shift::Again);
            }
            if let Some(target) = session.departs() {
                return Poll::Ready(Shift::Move(target));
            }
            let advance = self.dispatch(session, cx);
            session.flush_runs();
            if self.poll_write(session, cx).is_err() || session.is_flooded() {
                return Poll::Ready(Shift::Over);
            }
            match advance {
                // What was in flight may be answered by now.
                Advance::Full if session.departs().is_some() => continue,
                Advance::Alone(pending) => return Poll::Ready(Shift::Alone(pending)),
                Advance::Paused => return Poll::Ready(Shift::Paused),
                // What was written may have made room.
                Advance::Full if session.has_room(cx) => continue,
                Advance::Full | Advance::Blocked => return Poll::Pending,
                Advance::Hungry => {}
            }
            if session.closing || self.ended {
                let flushed = session.window.len() == 0 && session.window.out_len() == 0;
                return if flushed { Poll::Ready(Shift::Over) } else { Poll::Pending };
            }
            match self.poll_read(session, cx) {
                Poll::Ready(Ok(0)) => self.ended = true,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Shift::Over),
                Poll::Pending => {
                    session.client.publish();
                    session.window.rest(&session.context.resting);
                    return Poll::Pending;
                }
            }
        }
    }

    /// Looks after a client that waits until it was answered; false when it is gone. It is never dropped in the middle of a try: what
    /// that fetches belongs to the client, or to nobody.
    async fn wait_out(&mut self, session: &mut Session, mut blocked: Blocked) -> bool {
        session.client.profile.blocked = true;
        session.client.publish();
        let stays = loop {
            let waiting = session.context.waiting.len();
            tokio::select! {
                biased;
                () = poll_fn(|cx| self.poll_gone(session, cx)) => break false,
                () = blocked.rest(waiting) => {}
            }
            // In a box, so that resting costs little: there may be very many who do.
            if Box::pin(session.attempt_again(&mut blocked)).await {
                break true;
            }
        };
        session.client.profile.blocked = false;
        session.client.publish();
        stays
    }

    /// Looks after a client that is paused until its next request may go on; false when it is gone.
    async fn wait_out_pause(&mut self, session: &mut Session) -> bool {
        let registry = Arc::clone(&session.context.registry);
        let writes = session.stalled.as_ref().is_some_and(|pending| session.may_replicate(pending));
        session.client.profile.blocked = true;
        session.client.publish();
        let stays = tokio::select! {
            biased;
            () = poll_fn(|cx| self.poll_gone(session, cx)) => false,
            () = registry.pause().over(writes) => true,
        };
        session.client.profile.blocked = false;
        stays
    }

    /// Ready when the client is gone. Meanwhile it is sent what it was owed before it began to wait, and what it sends is kept.
    fn poll_gone(&mut self, session: &mut Session, cx: &mut Context<'_>) -> Poll<()> {
        session.window.register(cx);
        session.overhear(cx);
        if self.ended || session.is_doomed(cx) || self.poll_write(session, cx).is_err() {
            return Poll::Ready(());
        }
        while self.input.len() < READ_BYTES_MAX {
            match self.poll_read(session, cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Pending
    }

    /// Sends on what has been read, as far as it may be sent now.
    fn dispatch(&mut self, session: &mut Session, cx: &mut Context<'_>) -> Advance {
        while !session.closing {
            if !session.has_room(cx) {
                return Advance::Full;
            }
            let pending = match session.stalled.take() {
                Some(pending) => pending,
                None => match self.decoder.decode(&mut self.input, session.limits()) {
                    Ok(Some(request)) => match session.admit(request) {
                        Some(pending) => pending,
                        None => continue,
                    },
                    Ok(None) => return Advance::Hungry,
                    Err(error) => {
                        session.protocol_error(&error);
                        break;
                    }
                },
            };
            if session.is_paused(&pending) {
                session.stalled = Some(pending);
                return Advance::Paused;
            }
            match session.dispatch(pending) {
                Step::Sent => {}
                Step::Alone(pending) if session.window.len() == 0 => return Advance::Alone(pending),
                Step::Alone(pending) | Step::Stalled(pending) => {
                    session.stalled = Some(pending);
                    return Advance::Blocked;
                }
            }
        }
        Advance::Hungry
    }

    /// Reads more: into what is left of the worker's scratch buffer, so that an idle session holds none, or behind an unfinished frame.
    ///
    /// What a large request needs is claimed before it is read; until then the client's bytes stay in its socket.
    fn poll_read(&mut self, session: &mut Session, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if !self.input.is_empty() {
            let announced = self.input.len() + self.decoder.needed();
            if announced > session.context.config.limits.client_query_bytes_max {
                return Poll::Ready(Err(io::ErrorKind::FileTooLarge.into()));
            }
            ready!(session.claim.poll_grow(self.held(session), cx));
            self.input.reserve(self.decoder.needed().clamp(READ_BYTES, READ_BYTES_MAX));
            let read = pin!(self.stream.read_buf(&mut self.input)).poll(cx);
            if let Poll::Ready(Ok(received)) = read {
                session.context.counts.add(Counter::BytesRead, received as u64);
            }
            return read;
        }
        let mut scratch = session.context.scratch.take();
        if scratch.capacity() < READ_BYTES {
            scratch.reserve(SCRATCH_BYTES);
        }
        let read = pin!(self.stream.read_buf(&mut scratch)).poll(cx);
        if let Poll::Ready(Ok(received)) = read {
            session.context.counts.add(Counter::BytesRead, received as u64);
        }
        self.input = if matches!(read, Poll::Ready(Ok(_))) { scratch.split() } else { BytesMut::new() };
        session.context.scratch.replace(scratch);
        read
    }

    /// Writes as much as the client takes at once. What goes wrong is met again by the next write.
    async fn flush(&mut self, session: &Session) {
        let _ = poll_fn(|cx| Poll::Ready(self.poll_write(session, cx))).await;
    }

    fn poll_write(&mut self, session: &Session, cx: &mut Context<'_>) -> io::Result<()> {
        session.window.with_out(|out| {
            while !out.is_empty() {
                match Pin::new(&mut self.stream).poll_write(cx, out.first()) {
                    Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                    Poll::Ready(Ok(sent)) => {
                        session.context.counts.add(Counter::BytesWritten, sent as u64);
                        out.advance(sent);
                    }
                    Poll::Ready(Err(error)) => return Err(error),
                    Poll::Pending => return Ok(()),
                }
            }
            out.shed();
            Ok(())
        })
    }
}

/// The least room to read into.
const READ_BYTES: usize = 16 * 1024;

/// How much is allocated for the scratch buffer at once: it serves the small reads of many clients before the next one is needed.
const SCRATCH_BYTES: usize = 64 * 1024;

/// The most that is reserved in advance for a frame whose length was announced.
const READ_BYTES_MAX: usize = 1024 * 1024;
