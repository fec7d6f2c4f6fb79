//! CLIENT PAUSE: commands of the clients of this process wait until it is over or taken back.
//!
//! It is for an operator who moves something behind weft. Other proxies before the same shards are not told; each is paused by itself.
//! A command that was taken on before is carried out, and so is what weft does of itself: a transaction that has begun is
//! brought to its end, or its locks would stop the other proxies.
//!
//! Hot: a command pays for one relaxed read of a flag while nothing is paused.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::watch;
use tokio::time::Instant;

use crate::command::{CommandSpec, Flags};

/// Whether clients are paused, and until when.
#[derive(Debug)]
pub struct Pause {
    is_on: AtomicBool,
    now: watch::Sender<Option<InForce>>,
    waiting: AtomicUsize,
}

/// Which commands wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Held {
    /// Those that may change something, or publish.
    Writes,
    /// All.
    All,
}

#[derive(Clone, Copy, Debug)]
struct InForce {
    held: Held,
    end: Instant,
}

impl InForce {
    fn holds(self, writes: bool) -> bool {
        writes || self.held == Held::All
    }
}

impl Default for Pause {
    fn default() -> Self {
        Self { is_on: AtomicBool::new(false), now: watch::Sender::new(None), waiting: AtomicUsize::new(0) }
    }
}

impl Pause {
    /// Holds clients back until `end`. As in Redis, what is in force already is only made longer or stricter.
    pub fn begin(&self, held: Held, end: Instant) {
        self.now.send_modify(|now| {
            let longer = now.filter(|now| now.end > Instant::now());
            *now = Some(longer.map_or(InForce { held, end }, |now| InForce { held: now.held.max(held), end: now.end.max(end) }));
            self.is_on.store(true, Ordering::Relaxed);
        });
    }

    /// Lets all go on.
    pub fn end(&self) {
        self.now.send_modify(|now| {
            *now = None;
            self.is_on.store(false, Ordering::Relaxed);
        });
    }

    /// Whether somebody may have to wait.
    pub fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// Whether a command that writes, or does not, has to wait.
    pub fn holds(&self, writes: bool) -> bool {
        self.now.borrow().is_some_and(|now| now.holds(writes))
    }

    /// Returns when a command may go on that writes, or does not.
    pub async fn over(&self, writes: bool) {
        let mut changes = self.now.subscribe();
        let _waiting = Waiting::new(&self.waiting);
        loop {
            let now = *changes.borrow_and_update();
            let Some(InForce { end, .. }) = now.filter(|now| now.holds(writes)) else { return };
            tokio::select! {
                // The sender is `self`.
                _ = changes.changed() => {}
                () = tokio::time::sleep_until(end) => self.expire(),
            }
        }
    }

    /// How many clients wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    fn expire(&self) {
        self.now.send_if_modified(|now| {
            let expires = now.is_some_and(|now| now.end <= Instant::now());
            if expires {
                *now = None;
                self.is_on.store(false, Ordering::Relaxed);
            }
            expires
        });
    }
}

/// Counts one who waits, until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether a pause of writes holds `spec` back, which is no EXEC: what may reach replicas (`is_may_replicate_command` in Redis's server.c).
pub(super) fn may_replicate(spec: &CommandSpec) -> bool {
    spec.flags.contains(Flags::WRITE) || MAY_REPLICATE.contains(&spec.name)
}

const MAY_REPLICATE: [&str; 6] = ["eval", "evalsha", "fcall", "pfcount", "publish", "spublish"];

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_ends_by_itself_and_is_only_made_longer_and_stricter() {
        let pause = Pause::default();
        let begin = Instant::now();
        assert!(!pause.is_on());
        pause.begin(Held::Writes, begin + Duration::from_secs(2));
        pause.begin(Held::Writes, begin + Duration::from_secs(1));
        assert!(pause.is_on());
        assert_eq!(pause.over(false).now_or_never(), Some(()));
        pause.begin(Held::All, begin + Duration::from_secs(1));
        pause.begin(Held::Writes, begin);
        pause.over(false).await;
        assert_eq!(begin.elapsed().as_secs(), 2);
        assert!(!pause.is_on());
        assert_eq!(pause.over(true).now_or_never(), Some(()));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_goes_on_when_it_is_taken_back() {
        let pause = Pause::default();
        pause.begin(Held::All, Instant::now() + Duration::from_secs(1000));
        let mut waits = std::pin::pin!(pause.over(true));
        assert!(waits.as_mut().now_or_never().is_none());
        assert_eq!(pause.waiting(), 1);
        pause.end();
        assert_eq!(waits.now_or_never(), Some(()));
        assert_eq!(pause.waiting(), 0);
    }
}
