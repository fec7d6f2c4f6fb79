//! Who has come to a stream and has not looked at it yet.
//!
//! A client that blocks in XREADGROUP is told when its stream goes away, and one that blocks in XREAD waits for another; but whoever comes
//! when it is gone gets an error. At a server, which has one thread, that is decided by who came first. Here both commands are under way to
//! the shard on different connections, and either may be ahead. So within a process whoever takes streams or groups away, and comes upon
//! somebody who is still about to look at the key for the first time, lets them look first. That is one more round trip for such a
//! writer; who adds to a stream makes no difference to those who look, and does not wait.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::{Errand, Family, Key, Line, PlaceInLine, Waiter, WaitingRoom};

/// Ready when those have looked for whom somebody lets them; it ends by being dropped.
pub(in crate::session) type Arrivals = oneshot::Receiver<()>;

impl WaitingRoom {
    /// Whether anybody has come to a stream and has not looked yet: read by every write, without the lock.
    pub(in crate::session) fn has_arrivals(&self) -> bool {
        self.arriving.load(Ordering::Relaxed) > 0
    }

    /// Those who have come to one of the streams `keys`; `None` if nobody has.
    pub(in crate::session) fn arrivals(&self, keys: impl Iterator<Item = Key>) -> Option<Arrivals> {
        let lines = self.has_arrivals().then(|| self.lock())?;
        waited_for(keys.filter_map(|(db, key)| lines.by_key.get(&Line { family: Family::Stream, db, key })).flatten())
    }

    /// Those who have come to any stream; `None` if nobody has.
    pub(in crate::session) fn arrivals_anywhere(&self) -> Option<Arrivals> {
        let lines = self.has_arrivals().then(|| self.lock())?;
        waited_for(lines.by_client.values())
    }

    /// Somebody has come to `lines`: what those will hold out for who let it look.
    pub(super) fn arrive(&self, lines: &[Line]) -> Option<Vec<Errand>> {
        lines.iter().any(|line| line.family == Family::Stream).then(|| {
            self.arriving.fetch_add(1, Ordering::Relaxed);
            Vec::new()
        })
    }
}

impl PlaceInLine {
    /// The client has looked, or is gone.
    pub(super) fn settle(&self) {
        if self.waiter.arrival().take().is_some() {
            self.room.arriving.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Waiter {
    fn arrival(&self) -> MutexGuard<'_, Option<Vec<Errand>>> {
        self.arrival.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn waited_for<'a>(waiters: impl Iterator<Item = &'a Arc<Waiter>>) -> Option<Arrivals> {
    let (errand, done) = oneshot::channel();
    let errand = Errand::new(errand);
    for waiter in waiters {
        waiter.arrival().iter_mut().for_each(|errands| errands.push(Errand::clone(&errand)));
    }
    (Errand::strong_count(&errand) > 1).then_some(done)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;

    #[test]
    fn who_takes_a_stream_away_waits_for_those_who_came_before_and_for_nobody_else() {
        let room = Arc::new(WaitingRoom::default());
        let line = |family, key: &'static str| vec![Line { family, db: 0, key: Bytes::from_static(key.as_bytes()) }];
        let arrivals = |key: &'static str| room.arrivals([(0, Bytes::from_static(key.as_bytes()))].into_iter());
        let _list = room.join(1, line(Family::List, "k"));
        assert!(!room.has_arrivals() && arrivals("k").is_none());
        let (mut first, second) = (room.join(2, line(Family::Stream, "k")), room.join(3, line(Family::Stream, "k")));
        assert!(arrivals("other").is_none());
        let mut both = arrivals("k").into_iter().chain(room.arrivals_anywhere()).collect::<Vec<_>>();
        assert_eq!(both.len(), 2);
        first.block();
        both.iter_mut().for_each(|done| assert_eq!(done.try_recv(), Err(TryRecvError::Empty)));
        drop(second);
        both.iter_mut().for_each(|done| assert_eq!(done.try_recv(), Err(TryRecvError::Closed)));
        // It waits, and has looked.
        assert!(!room.has_arrivals() && arrivals("k").is_none());
    }
}
