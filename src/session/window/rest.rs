//! What a client that has fallen silent gives back.
//!
//! Buffers are kept from one burst to the next, because growing them again costs time. So a client would hold for ever what its largest
//! burst has needed, and ten thousand of them a gigabyte. A window that holds memory when its session goes to wait puts itself on its
//! worker's list; whoever is found there with nothing done since the last look gives its buffers back.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use super::{Inner, Window};

/// The windows of a worker that hold memory which they perhaps no longer need.
#[derive(Default)]
pub struct Resting(RefCell<Vec<Weak<Window>>>);

impl Resting {
    /// Takes the buffers of those who have done nothing since the last call. To be called now and then.
    pub fn look(&self) {
        self.0.borrow_mut().retain(|window| window.upgrade().is_some_and(|window| window.stays_listed()));
    }
}

impl Window {
    /// The session has nothing to do.
    pub(in crate::session) fn rest(self: &Rc<Self>, resting: &Resting) {
        let mut inner = self.inner.borrow_mut();
        inner.turns = inner.turns.wrapping_add(1);
        if !inner.listed && inner.has_buffers() {
            inner.listed = true;
            resting.0.borrow_mut().push(Rc::downgrade(self));
        }
    }

    /// Whether it has been of use since the last look, and is to be looked at again; if not, it holds nothing any more.
    fn stays_listed(&self) -> bool {
        let mut inner = self.inner.borrow_mut();
        if inner.turns != inner.turns_seen || !inner.is_idle() {
            inner.turns_seen = inner.turns;
            return true;
        }
        (inner.entries, inner.behind) = (VecDeque::new(), VecDeque::new());
        inner.out.rest();
        inner.listed = false;
        false
    }
}

impl Inner {
    fn has_buffers(&self) -> bool {
        self.entries.capacity() > 0 || self.behind.capacity() > 0 || self.out.has_buffers()
    }

    fn is_idle(&self) -> bool {
        self.entries.is_empty() && self.behind.is_empty() && self.out.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn buffers_are_given_back_after_a_look_without_work() {
        let (window, resting) = (Window::new(Metrics::default().worker()), Resting::default());
        window.reply(|out| out.extend_from_slice(b"+OK\r\n"));
        window.rest(&resting);
        resting.look();
        resting.look();
        assert_eq!(window.out_len(), 5, "what is not written yet stays");
        window.with_out(|out| out.advance(5));
        window.rest(&resting);
        resting.look();
        assert!(window.inner.borrow().has_buffers(), "it has only just become idle");
        resting.look();
        assert!(!window.inner.borrow().has_buffers());
        assert!(resting.0.borrow().is_empty());
    }

    #[test]
    fn who_is_gone_is_forgotten() {
        let resting = Resting::default();
        let window = Window::new(Metrics::default().worker());
        window.reply(|out| out.extend_from_slice(b"+OK\r\n"));
        window.rest(&resting);
        drop(window);
        resting.look();
        assert!(resting.0.borrow().is_empty());
    }
}
