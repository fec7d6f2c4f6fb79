//! What must hold of every world.

use super::shard::Cell;
use super::world::{Told, World};

/// What must always hold.
impl World {
    fn transactions(&self) -> std::ops::Range<usize> {
        0..self.told.len()
    }

    /// Once applied anywhere, nowhere taken back and nowhere fenced off. (A fence after all is forgotten leaves a tombstone; it is harmless.)
    pub(super) fn agrees(&self) -> bool {
        self.transactions().all(|transaction| {
            let applied = self.shards.iter().any(|shard| shard.applied(transaction) > 0);
            let refused = self.shards.iter().any(|shard| {
                let fenced = shard.records[transaction] == Cell::Aborted && shard.applied(transaction) == 0;
                fenced || shard.rolled_back.contains(&transaction)
            });
            !(applied && refused)
        })
    }

    /// What was lost of a transaction was applied again, or never applied anywhere.
    pub(super) fn is_whole(&self) -> bool {
        self.transactions().all(|transaction| {
            let applied = self.shards.iter().filter(|shard| shard.applied(transaction) > 0).count();
            applied == 0 || applied == self.shards.len()
        })
    }

    /// A transaction has committed although a participant lost its part.
    pub(super) fn is_repaired(&self) -> bool {
        self.wipes > 0 && !self.torn && self.told.contains(&Told::Committed)
    }

    pub(super) fn is_applied(&self) -> bool {
        self.shards.iter().any(|shard| shard.applied(0) > 0)
    }

    pub(super) fn applied_once(&self) -> bool {
        self.transactions().all(|transaction| self.shards.iter().all(|shard| shard.applied(transaction) <= 1))
    }

    pub(super) fn locks_are_owned(&self) -> bool {
        self.shards.iter().all(|shard| {
            let prepared: Vec<_> = self.transactions().filter(|transaction| shard.records[*transaction] == Cell::Prepared).collect();
            prepared == Vec::from_iter(shard.lock)
        })
    }

    pub(super) fn is_serial(&self) -> bool {
        let full: Vec<_> = self.shards.iter().filter(|shard| shard.log.len() == self.told.len()).collect();
        full.windows(2).all(|pair| pair[0].log == pair[1].log)
    }

    pub(super) fn told_the_truth(&self) -> bool {
        self.transactions().all(|transaction| {
            let mut applied = self.shards.iter().map(|shard| shard.applied(transaction));
            match self.told[transaction] {
                Told::Committed => applied.all(|times| times == 1),
                Told::Aborted => applied.all(|times| times == 0),
                Told::Nothing | Told::Unknown => true,
            }
        })
    }

    /// Nothing is under way and nobody waits.
    pub(super) fn is_quiet(&self) -> bool {
        self.sent.is_empty() && self.orphans.is_empty() && self.waiting.is_empty()
    }

    /// No lock is left, and every client was told something. (An unbelievable answer ends an attempt without cleaning up.)
    pub(super) fn is_clean(&self) -> bool {
        let told = self.told.iter().all(|told| *told != Told::Nothing);
        let resigned = self.told.contains(&Told::Unknown);
        told && (resigned || self.shards.iter().all(|shard| shard.lock.is_none()))
    }
}
