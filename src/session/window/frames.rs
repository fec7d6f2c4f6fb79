//! Hot path: what the frames that come from shards do to the entries of a window.

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use super::output::PIECE_BYTES_MIN;
use super::{Entry, Inner, Run, State, Window};
use crate::resp::{Proto, ReplyWriter};
use crate::session::{pubsub, rescue};
use crate::txn::guarded;
use crate::upstream::{ReplySink, UpstreamError};

impl Inner {
    pub(super) fn index(&self, ticket: u64) -> Option<usize> {
        let index = usize::try_from(ticket.checked_sub(self.base)?).ok()?;
        (index < self.entries.len()).then_some(index)
    }

    /// Takes in a frame for the entry at `index`.
    fn frame(&mut self, index: usize, frame: &[u8]) {
        let refused = rescue::is_redirect(frame);
        let entry = &mut self.entries[index];
        match &mut entry.state {
            State::Reply if refused => self.send_again(index),
            State::Reply => self.done(index, frame),
            State::Published { .. } if refused => self.send_again(index),
            State::Published { excess } => {
                let reply = pubsub::add(frame, *excess);
                self.done(index, &reply);
            }
            State::Check => entry.state = if frame == b":0\r\n" { State::Reply } else { State::Refused },
            State::Refused => self.send_again(index),
            State::Atomic { seen, error } => {
                *seen += 1;
                match *seen {
                    1..4 if refused => *error = Some(Bytes::new()),
                    1..4 if frame.first() == Some(&b'-') => *error = Some(Bytes::copy_from_slice(frame)),
                    1..4 => {}
                    _ => self.finish_atomic(index, frame),
                }
            }
            State::Run(_) => {
                if let State::Run(run) = std::mem::replace(&mut entry.state, State::Member) {
                    self.finish_run(&run, &Bytes::copy_from_slice(frame));
                }
            }
            // Nothing more was expected; the connection's count of frames makes this impossible.
            State::Member | State::Done(_) | State::Again => {}
        }
    }

    fn finish_atomic(&mut self, index: usize, frame: &[u8]) {
        let State::Atomic { error, .. } = &mut self.entries[index].state else { return };
        match error.take() {
            // A server that is out of memory takes no command behind MULTI; there is another way to read.
            Some(error) if !error.is_empty() && !error.starts_with(b"-OOM") => self.done(index, &error),
            _ => match frame.strip_prefix(UNLOCKED) {
                Some(reply) => self.done(index, reply),
                None => self.send_again(index),
            },
        }
    }

    /// Takes in a large frame for the entry at `index`.
    fn large_frame(&mut self, index: usize, frame: Bytes) {
        match &self.entries[index].state {
            State::Reply => self.done_large(index, frame),
            State::Atomic { seen: 3, error: None } if frame.starts_with(UNLOCKED) => self.done_large(index, frame.slice(UNLOCKED.len()..)),
            State::Run(_) => {
                if let State::Run(run) = std::mem::replace(&mut self.entries[index].state, State::Member) {
                    self.finish_run(&run, &frame);
                }
            }
            _ => self.frame(index, &frame),
        }
    }

    fn finish_run(&mut self, run: &Run, frame: &Bytes) {
        match guarded::answer(frame, &run.commands) {
            Ok(guarded::Answer::Done(replies)) => {
                for (member, reply) in run.members.iter().zip(replies) {
                    match self.index(*member) {
                        Some(index) if reply.len() >= PIECE_BYTES_MIN => self.done_large(index, reply),
                        Some(index) => self.done(index, &reply),
                        None => {}
                    }
                }
            }
            Ok(guarded::Answer::Locked(_)) => run.members.iter().for_each(|member| self.send_member_again(*member)),
            Err(refusal) if refusal.kind.is_passing() => run.members.iter().for_each(|member| self.send_member_again(*member)),
            // The script was not run, for a reason that holds for each of its commands.
            Err(refusal) => {
                let reply = [b"-", &refusal.text[..], b"\r\n"].concat();
                for member in &run.members {
                    if let Some(index) = self.index(*member) {
                        self.done(index, &reply);
                    }
                }
            }
        }
    }

    fn send_member_again(&mut self, member: u64) {
        if let Some(index) = self.index(member) {
            self.send_again(index);
        }
    }

    fn done(&mut self, index: usize, reply: &[u8]) {
        if !self.counts_for(index, reply) {
            return;
        }
        if index == 0 {
            self.out.tail().extend_from_slice(reply);
            self.entries.pop_front();
            self.base += 1;
            self.advance();
        } else {
            self.keep(index, Bytes::copy_from_slice(reply));
        }
    }

    fn done_large(&mut self, index: usize, reply: Bytes) {
        if self.counts_for(index, &reply) {
            self.keep(index, reply);
            self.advance();
        }
    }

    /// Whether `reply`, the last that comes for the entry, is what the client gets.
    fn counts_for(&mut self, index: usize, reply: &[u8]) -> bool {
        self.close(index);
        // An earlier request to the same participant is sent again: this read came too early.
        if self.again && !self.entries[index].lane.is_write() && self.is_behind_again(index) {
            self.entries[index].state = State::Again;
            return false;
        }
        rescue::count(&self.counts, reply);
        true
    }

    fn keep(&mut self, index: usize, reply: Bytes) {
        self.held += reply.len();
        self.entries[index].state = State::Done(reply);
    }

    fn is_behind_again(&self, index: usize) -> bool {
        let place = self.entries[index].place;
        self.entries.range(..index).any(|entry| matches!(entry.state, State::Again) && entry.place == place)
    }

    fn send_again(&mut self, index: usize) {
        self.close(index);
        self.again = true;
        let place = self.entries[index].place;
        self.entries[index].state = State::Again;
        for entry in self.entries.range_mut(index + 1..) {
            if let State::Done(reply) = &entry.state
                && entry.place == place
                && !entry.lane.is_write()
            {
                self.held = self.held.saturating_sub(reply.len());
                entry.state = State::Again;
            }
        }
    }

    /// No more frames come for the entry.
    fn close(&mut self, index: usize) {
        self.open -= 1;
        let Entry { place, lane, ref request, .. } = self.entries[index];
        self.sent -= request.as_ref().map_or(0, |request| request.bytes().len());
        self.writes -= usize::from(lane.is_write());
        if let Some(place) = place {
            self.traffic.count(place, lane).remove();
        }
    }

    /// Moves what is complete at the head to the output.
    pub(super) fn advance(&mut self) {
        while let Some(Entry { state: State::Done(reply), .. }) = self.entries.front_mut() {
            self.held = self.held.saturating_sub(reply.len());
            self.out.append(std::mem::take(reply));
            self.entries.pop_front();
            self.base += 1;
        }
    }
}

impl ReplySink for Window {
    fn frame(&self, ticket: u64, frame: &[u8]) {
        let mut inner = self.inner.borrow_mut();
        if let Some(index) = inner.index(ticket) {
            inner.frame(index, frame);
        }
        if let Some(waker) = &inner.waker {
            waker.wake_by_ref();
        }
    }

    fn large_frame(&self, ticket: u64, frame: Bytes) {
        let mut inner = self.inner.borrow_mut();
        if let Some(index) = inner.index(ticket) {
            inner.large_frame(index, frame);
        }
        if let Some(waker) = &inner.waker {
            waker.wake_by_ref();
        }
    }

    fn gated(&self, ticket: u64) {
        let mut inner = self.inner.borrow_mut();
        inner.send_member_again(ticket);
        if let Some(waker) = &inner.waker {
            waker.wake_by_ref();
        }
    }

    fn failed(&self, ticket: u64, error: UpstreamError) {
        let mut inner = self.inner.borrow_mut();
        let Some(index) = inner.index(ticket) else { return };
        let members = match &mut inner.entries[index].state {
            State::Run(run) => std::mem::take(&mut run.members),
            _ => SmallVec::from_slice(&[ticket]),
        };
        for member in members {
            let Some(index) = inner.index(member) else { continue };
            let write = inner.entries[index].lane.is_write() || matches!(inner.entries[index].state, State::Published { .. });
            if error == UpstreamError::MaybeApplied && !write {
                inner.send_again(index);
            } else {
                let mut reply = BytesMut::new();
                rescue::upstream(&mut ReplyWriter::new(&mut reply, Proto::Resp2), error, write);
                inner.done(index, &reply);
            }
        }
        if let Some(waker) = &inner.waker {
            waker.wake_by_ref();
        }
    }
}

/// What the EXEC of a read of several keys begins with when none of them was locked.
const UNLOCKED: &[u8] = b"*2\r\n:0\r\n";
