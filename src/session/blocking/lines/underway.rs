//! Writes and moves that are under way, and where what they bring may be by now.
//!
//! Who waits also looks by itself, and may come upon an element before its writer has the shard's answer. If it then moves the element on
//! and is gone, the writer finds an empty line, and would be answered while the element still goes from hand to hand. So a writer says
//! before it writes which keys it may bring something to, and so does whoever waits, before a move. Each who is served and has moved
//! something on adds the places where that may be now, to all that may have brought it. Once answered, a writer turns to whoever is first
//! at any of the places: what it brought lies in one of them, or the first there is just moving it on and will take the errand along.
//!
//! Too many places cost a look at a key each. They are forgotten with the write, so a circle of moves ends like any other.

use std::sync::Arc;

use super::{Errand, Key, Line, Lines, WaitingRoom};

/// A write, or a move by one who waits, that was not answered yet.
#[derive(Debug)]
pub(in crate::session) struct Underway {
    room: Arc<WaitingRoom>,
    number: u64,
}

impl WaitingRoom {
    /// Somebody is about to bring something to `keys`.
    pub(in crate::session) fn set_out(self: &Arc<Self>, keys: impl IntoIterator<Item = Key>) -> Underway {
        let mut lines = self.lock();
        let number = lines.set_out;
        lines.set_out += 1;
        lines.underway.insert(number, keys.into_iter().collect());
        Underway { room: Arc::clone(self), number }
    }
}

impl Underway {
    /// It was answered, and has perhaps brought something to `keys` too: hands `errand` to whoever may have what it brought.
    pub(in crate::session) fn arrive(self, keys: impl IntoIterator<Item = Key>, errand: Errand) {
        let mut lines = self.room.lock();
        let mut places = lines.underway.remove(&self.number).unwrap_or_default();
        add(&mut places, keys);
        places.iter().for_each(|place| lines.hand(place, std::slice::from_ref(&errand)));
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.room.lock().underway.remove(&self.number);
    }
}

impl Lines {
    /// Somebody has taken something from one of `lines`, and the move of it is over: `errands` go where that may be now.
    pub(super) fn moved_on(&mut self, lines: &[Line], moving: &Underway, errands: &[Errand]) {
        let places = self.underway.remove(&moving.number).unwrap_or_default();
        for others in self.underway.values_mut() {
            if lines.iter().any(|line| others.iter().any(|(db, key)| (*db, key) == (line.db, &line.key))) {
                add(others, places.iter().cloned());
            }
        }
        places.iter().for_each(|place| self.hand(place, errands));
    }
}

fn add(places: &mut Vec<Key>, more: impl IntoIterator<Item = Key>) {
    for place in more {
        if !places.contains(&place) {
            places.push(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::sync::oneshot::{self, error::TryRecvError};

    use super::super::{Family, PlaceInLine};
    use super::*;

    fn wait(room: &Arc<WaitingRoom>, id: u64, key: &'static str) -> PlaceInLine {
        room.join(id, vec![Line { family: Family::List, db: 0, key: Bytes::from_static(key.as_bytes()) }])
    }

    fn to(room: &Arc<WaitingRoom>, key: &'static str) -> Underway {
        room.set_out([(0, Bytes::from_static(key.as_bytes()))])
    }

    fn must_be_empty(room: &WaitingRoom) {
        let lines = room.lock();
        assert!(lines.underway.is_empty() && lines.by_key.is_empty() && lines.by_client.is_empty());
    }

    #[test]
    fn a_writer_waits_for_moves_that_were_ahead_of_its_answer() {
        let room = Arc::new(WaitingRoom::default());
        let (mut first, mut second, third) = (wait(&room, 1, "a"), wait(&room, 2, "b"), wait(&room, 3, "c"));
        let write = to(&room, "a");
        // Both have found the element by themselves, and the second was even answered before the first.
        let (one, other) = (to(&room, "b"), to(&room, "c"));
        second.leave(Some(&other), Vec::new());
        first.leave(Some(&one), Vec::new());
        let (errand, mut done) = oneshot::channel();
        write.arrive([], Arc::new(errand));
        assert_eq!(done.try_recv(), Err(TryRecvError::Empty));
        assert_eq!(third.errands().len(), 1);
        assert_eq!(done.try_recv(), Err(TryRecvError::Closed));
        drop((first, second, third, one, other));
        must_be_empty(&room);
    }

    #[test]
    fn who_moves_what_somebody_has_taken_already_passes_errands_to_where_it_is() {
        let room = Arc::new(WaitingRoom::default());
        let (mut first, mut second, third) = (wait(&room, 1, "a"), wait(&room, 2, "b"), wait(&room, 3, "c"));
        let write = to(&room, "a");
        let (one, other) = (to(&room, "b"), to(&room, "c"));
        second.leave(Some(&other), Vec::new());
        // The first one's move is not answered when the write is.
        let (errand, mut done) = oneshot::channel();
        write.arrive([], Arc::new(errand));
        first.leave(Some(&one), Vec::new());
        assert_eq!(done.try_recv(), Err(TryRecvError::Empty));
        drop(third);
        assert_eq!(done.try_recv(), Err(TryRecvError::Closed));
        drop((first, second, one, other));
        must_be_empty(&room);
    }

    #[test]
    fn a_circle_of_moves_ends() {
        let room = Arc::new(WaitingRoom::default());
        let (mut first, mut second) = (wait(&room, 1, "a"), wait(&room, 2, "b"));
        let write = to(&room, "a");
        let (one, other) = (to(&room, "b"), to(&room, "a"));
        first.leave(Some(&one), Vec::new());
        let (errand, mut done) = oneshot::channel();
        write.arrive([], Arc::new(errand));
        assert_eq!(done.try_recv(), Err(TryRecvError::Empty));
        second.leave(Some(&other), second.errands());
        assert_eq!(done.try_recv(), Err(TryRecvError::Closed));
        drop((first, second, one, other));
        must_be_empty(&room);
    }
}
