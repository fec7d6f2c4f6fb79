//! How many clients of this process listen to what: what makes PUBLISH's count that of one server.
//!
//! A shard counts the connections that listen to it, of which each worker has one, however many clients share it. Of its own process
//! weft knows both numbers, and puts the one in the place of the other. Of other processes it is told the number of their workers
//! that listen: never more than their clients, and zero only if they have none.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::glob;
use crate::upstream::{Topic, TopicKind};

/// The listeners of all workers.
#[derive(Debug, Default)]
pub struct Census(Mutex<HashMap<Topic, Count>>);

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    clients: i64,
    workers: i64,
}

impl Census {
    /// Clients have begun (or, below zero, ceased) to listen to `topic`.
    pub(super) fn clients(&self, topic: &Topic, change: i64) {
        self.change(topic, |count| count.clients += change);
    }

    /// Workers have begun (or, below zero, ceased) to listen to `topic`.
    pub(super) fn workers(&self, topic: &Topic, change: i64) {
        self.change(topic, |count| count.workers += change);
    }

    /// What is to be added to the number that a shard tells for `topic` alone.
    pub(super) fn excess(&self, topic: &Topic) -> i64 {
        self.lock().get(topic).map_or(0, |count| count.clients - count.workers)
    }

    /// What is to be added to the number of receivers of a message on `channel` that a shard tells.
    pub(super) fn excess_receivers(&self, channel: &Topic) -> i64 {
        let all = self.lock();
        let excess = |count: &Count| count.clients - count.workers;
        let direct = all.get(channel).map_or(0, excess);
        if channel.kind != TopicKind::Channel {
            return direct;
        }
        let patterns = all.iter().filter(|(topic, _)| topic.kind == TopicKind::Pattern && glob::matches(&topic.name, &channel.name));
        direct + patterns.map(|(_, count)| excess(count)).sum::<i64>()
    }

    fn change(&self, topic: &Topic, change: impl FnOnce(&mut Count)) {
        let mut all = self.lock();
        let count = all.entry(topic.clone()).or_default();
        change(count);
        if (count.clients, count.workers) == (0, 0) {
            all.remove(topic);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Topic, Count>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn clients_count_instead_of_the_workers_that_listen_for_them() {
        let census = Census::default();
        let channel = Topic { kind: TopicKind::Channel, name: Bytes::from_static(b"news.a") };
        let pattern = Topic { kind: TopicKind::Pattern, name: Bytes::from_static(b"news.*") };
        for (topic, clients, workers) in [(&channel, 3, 2), (&pattern, 5, 1)] {
            census.clients(topic, clients);
            census.workers(topic, workers);
        }
        assert_eq!(census.excess(&channel), 1);
        assert_eq!(census.excess_receivers(&channel), 1 + 4);
        census.clients(&channel, -3);
        census.workers(&channel, -2);
        assert_eq!(census.excess(&channel), 0);
        assert_eq!(census.lock().len(), 1);
    }
}
