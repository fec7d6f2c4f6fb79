//! What a client is told without having asked at that moment: where it goes among the replies.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};

use super::{Entry, Inner, Lane, State, Window};
use crate::resp::Proto;

impl Window {
    /// Appends a message that the client has subscribed to, behind the last whole reply. A client with more than `bytes_max` bytes to read
    /// is given up.
    pub(in crate::session) fn message(&self, proto: Proto, frame: &[u8], bytes_max: usize) {
        let mut inner = self.inner.borrow_mut();
        let Inner { out, withheld, .. } = &mut *inner;
        let out = withheld.as_mut().unwrap_or_else(|| out.tail());
        let start = out.len();
        out.extend_from_slice(frame);
        if proto == Proto::Resp3 {
            out[start] = b'>';
        }
        inner.overrun |= inner.out.len() + inner.withheld.as_ref().map_or(0, BytesMut::len) > bytes_max;
        if let Some(waker) = &inner.waker {
            waker.wake_by_ref();
        }
    }

    /// Appends a message that must not overtake the reply to anything that is in flight: it takes its place behind them. A client with more
    /// than `bytes_max` bytes to read is given up.
    pub(in crate::session) fn message_behind(&self, frame: Bytes, bytes_max: usize) {
        let mut inner = self.inner.borrow_mut();
        let Inner { out, held, entries, behind, withheld, .. } = &mut *inner;
        let queue = if behind.is_empty() { entries } else { behind };
        match withheld {
            Some(withheld) => withheld.extend_from_slice(&frame),
            None if queue.is_empty() => out.tail().extend_from_slice(&frame),
            None => {
                *held += frame.len();
                queue.push_back(Entry { state: State::Done(frame), lane: Lane::Read, place: None, request: None });
            }
        }
        let waiting = inner.out.len() + inner.held + inner.withheld.as_ref().map_or(0, BytesMut::len);
        inner.overrun |= waiting > bytes_max;
        if let Some(waker) = &inner.waker {
            waker.wake_by_ref();
        }
    }

    /// Keeps messages back until what it returns is dropped: a reply is written in several steps.
    pub(in crate::session) fn withhold(self: &Rc<Self>) -> Withheld {
        let mut inner = self.inner.borrow_mut();
        let outer = inner.withheld.is_none();
        inner.withheld.get_or_insert_default();
        Withheld(outer.then(|| Rc::clone(self)))
    }
}

/// Keeps messages back as long as it lives.
pub(in crate::session) struct Withheld(Option<Rc<Window>>);

impl Drop for Withheld {
    fn drop(&mut self) {
        let Some(window) = &self.0 else { return };
        let mut inner = window.inner.borrow_mut();
        let messages = inner.withheld.take().unwrap_or_default();
        inner.out.tail().extend_from_slice(&messages);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::resp::Request;
    use crate::route::Place;
    use crate::session::window::Shape;
    use crate::topology::ShardId;
    use crate::upstream::ReplySink;

    fn window() -> Rc<Window> {
        Window::new(Metrics::default().worker())
    }

    fn read(window: &Window) -> u64 {
        let place = Place { slot: None, shard: ShardId::new(0), db: 0 };
        window.push(Shape::Checked, place, Lane::Read, Request::new(&["GET", "k"]))
    }

    fn tell(window: &Window, text: &'static str) {
        window.message_behind(Bytes::from_static(text.as_bytes()), 1024);
    }

    #[track_caller]
    fn must_have_written(window: &Window, expected: &str) {
        assert_eq!(String::from_utf8_lossy(&window.with_out(|out| out.take())), expected);
    }

    #[test]
    fn a_message_behind_what_is_in_flight_waits_for_that_and_for_no_more() {
        let window = window();
        tell(&window, "0");
        let first = read(&window);
        tell(&window, "1");
        let second = read(&window);
        must_have_written(&window, "0");
        window.frame(second, b":0\r\n");
        window.frame(second, b"+second\r\n");
        must_have_written(&window, "");
        window.frame(first, b":0\r\n");
        window.frame(first, b"+first\r\n");
        must_have_written(&window, "+first\r\n1+second\r\n");
        assert_eq!((window.len(), window.held()), (0, 0));
    }

    #[test]
    fn a_message_stays_behind_a_read_that_is_sent_again() {
        let window = window();
        let tickets = [read(&window), read(&window)];
        window.frame(tickets[1], b":0\r\n");
        window.frame(tickets[1], b"+too early\r\n");
        window.frame(tickets[0], b":1\r\n");
        window.frame(tickets[0], b"+locked\r\n");
        tell(&window, "1");
        for name in ["first", "second"] {
            assert!(window.take_again().is_some());
            tell(&window, name);
            window.reply(|out| out.extend_from_slice(name.as_bytes()));
        }
        assert!(window.take_again().is_none());
        must_have_written(&window, "firstsecond1firstsecond");
    }

    #[test]
    fn who_is_told_more_than_it_reads_is_given_up() {
        let window = window();
        read(&window);
        window.message_behind(Bytes::from_static(b"12345"), 9);
        assert!(!window.is_overrun());
        window.message_behind(Bytes::from_static(b"12345"), 9);
        assert!(window.is_overrun());
    }
}
