//! Lanes: how many transactions over the same participants a worker has under way at once before those that come next go together.
//!
//! What a transaction costs a shard is mostly that a script is called at all, and that a record comes and goes. While a few are under way
//! there is nothing to be won by making anybody wait; where clients are many, those who come while all lanes are taken become one
//! transaction when the next is free ([`turn`](super::turn)), so that the work for each falls as the load grows. It is the group commit of
//! databases (DeWitt et al., *Implementation Techniques for Main Memory Database Systems*, SIGMOD 1984), for two phases.
//!
//! A lane is given up when the first attempt is over: who has to wait for somebody's lock holds up nobody else.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::route::Place;

/// The lanes of one worker.
#[derive(Default)]
pub(super) struct Lanes(RefCell<HashMap<Vec<Place>, Arc<Semaphore>>>);

/// A lane that is taken until this is dropped.
pub(super) struct Lane(#[expect(dead_code, reason = "held to be dropped")] OwnedSemaphorePermit);

impl Lanes {
    /// A lane for a transaction over `places`, if there is one that nobody waits for.
    pub(super) fn try_enter(&self, places: &[Place]) -> Option<Lane> {
        self.over(places).try_acquire_owned().ok().map(Lane)
    }

    /// A lane for a transaction over `places`, when those who wait for one already have had theirs.
    pub(super) async fn enter(&self, places: &[Place]) -> Option<Lane> {
        self.over(places).acquire_owned().await.ok().map(Lane)
    }

    fn over(&self, places: &[Place]) -> Arc<Semaphore> {
        let mut all = self.0.borrow_mut();
        if let Some(lanes) = all.get(places) {
            return Arc::clone(lanes);
        }
        // Those that nobody uses: a permit, or who waits for one, has a share.
        all.retain(|_, lanes| Arc::strong_count(lanes) > 1);
        Arc::clone(all.entry(places.to_vec()).or_insert_with(|| Arc::new(Semaphore::new(LANES))))
    }
}

/// So few that companies form under load, and so many that the shards have work while answers are on their way.
const LANES: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::ShardId;

    fn place(shard: u16) -> Place {
        Place { slot: None, shard: ShardId::new(shard), db: 0 }
    }

    #[test]
    fn those_over_the_same_participants_have_so_many_and_no_more() {
        let lanes = Lanes::default();
        let mut taken: Vec<Lane> = (0..LANES).filter_map(|_| lanes.try_enter(&[place(0), place(1)])).collect();
        assert_eq!(taken.len(), LANES);
        assert!(lanes.try_enter(&[place(0), place(1)]).is_none());
        assert!(lanes.try_enter(&[place(0), place(2)]).is_some());
        taken.pop();
        assert!(lanes.try_enter(&[place(0), place(1)]).is_some());
    }

    #[test]
    fn who_waits_is_not_overtaken() {
        let lanes = Lanes::default();
        let places = [place(0), place(1)];
        let mut taken: Vec<Lane> = (0..LANES).filter_map(|_| lanes.try_enter(&places)).collect();
        let mut waiting = std::pin::pin!(lanes.enter(&places));
        let poll = |waiting: std::pin::Pin<&mut _>| futures::FutureExt::now_or_never(waiting);
        assert!(poll(waiting.as_mut()).is_none());
        taken.pop();
        assert!(lanes.try_enter(&places).is_none());
        assert!(poll(waiting.as_mut()).flatten().is_some());
    }

    #[test]
    fn what_nobody_uses_is_forgotten() {
        let lanes = Lanes::default();
        let kept = lanes.try_enter(&[place(0), place(1)]);
        drop(lanes.try_enter(&[place(0), place(2)]));
        drop(lanes.try_enter(&[place(1), place(2)]));
        assert_eq!(lanes.0.borrow().len(), 2);
        drop(kept);
        drop(lanes.try_enter(&[place(0), place(3)]));
        assert_eq!(lanes.0.borrow().len(), 1);
    }
}
