//! Worlds that differ by names only are explored once.
//!
//! Which resolver came first makes no difference, nor, where everybody prepares at once, which participant is which. Both are put
//! into an order that depends on what they are at. Two that cannot be told apart that way may stand in either order, which costs
//! states and hides none.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::world::{From, Orphan, Sent, World, participant, place};
use crate::txn::state::Step;

impl World {
    /// Its like with the names in order.
    pub(super) fn in_order(self, interchangeable: bool) -> Self {
        if interchangeable { self.with_participants_in_order().with_resolvers_in_order() } else { self.with_resolvers_in_order() }
    }

    fn with_resolvers_in_order(mut self) -> Self {
        let Some(order) = order(self.resolvers.len(), |index| {
            let own = self.sent.iter().filter(|sent| sent.from == From::Resolver(index));
            let own = Vec::from_iter(own.map(|sent| (sent.transaction, sent.to, sent.step)));
            (self.resolvers[index].is_none(), hash(&(&self.resolvers[index], own)))
        }) else {
            return self;
        };
        self.resolvers = order.iter().map(|index| self.resolvers[*index].clone()).collect();
        let renamed = |from| match from {
            From::Resolver(index) => From::Resolver(number(&order, index)),
            From::Coordinator => from,
        };
        self.sent = self.sent.into_iter().map(|sent| Sent { from: renamed(sent.from), ..sent }).collect();
        self
    }

    fn with_participants_in_order(mut self) -> Self {
        let Some(order) = order(self.shards.len(), |at| {
            let sent = Vec::from_iter(self.sent.iter().filter(|sent| sent.to == at).map(|sent| (sent.from, sent.transaction, sent.step)));
            let orphans = self.orphans.iter().filter(|(orphan, _)| orphan.to == at);
            let orphans = Vec::from_iter(orphans.map(|(orphan, count)| (orphan.transaction, orphan.step, count)));
            let coordinators = Vec::from_iter(self.coordinators.iter().map(|it| it.clone().map(|it| it.renumbered(&[at]))));
            hash(&(&self.shards[at], sent, orphans, coordinators))
        }) else {
            return self;
        };
        self.shards = order.iter().map(|at| self.shards[*at].clone()).collect();
        let coordinators = self.coordinators.into_iter();
        self.coordinators = coordinators.map(|coordinator| coordinator.map(|it| it.renumbered(&order))).collect();
        let resolvers = self.resolvers.into_iter();
        self.resolvers = resolvers.map(|it| it.map(|it| it.renamed(|old| participant(number(&order, place(old)))))).collect();
        let renamed = |sent: Sent| {
            let to = number(&order, sent.to);
            // A resolver that inspects knows of no other participant yet.
            Sent { to, at: if matches!(sent.step, Step::Inspect | Step::Unlock) { 0 } else { to }, ..sent }
        };
        self.sent = self.sent.into_iter().map(renamed).collect();
        let orphans = self.orphans.into_iter();
        self.orphans = orphans.map(|(orphan, count)| (Orphan { to: number(&order, orphan.to), ..orphan }, count)).collect();
        self.waiting = self.waiting.into_iter().map(|(transaction, at)| (transaction, number(&order, at))).collect();
        self
    }
}

/// The numbers below `count` in the order of their keys; `None` if they are in order.
fn order<K: Ord>(count: usize, key: impl Fn(usize) -> K) -> Option<Vec<usize>> {
    let mut order = Vec::from_iter(0..count);
    order.sort_by_cached_key(|index| key(*index));
    Some(order).filter(|order| !order.is_sorted())
}

/// The new number of `old`.
fn number(order: &[usize], old: usize) -> usize {
    order.iter().position(|other| *other == old).unwrap_or(old)
}

fn hash(it: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    it.hash(&mut hasher);
    hasher.finish()
}
