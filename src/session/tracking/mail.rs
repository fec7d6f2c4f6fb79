//! News for clients of other workers: a client may have another one told in its place, and that one may be anybody's.
//!
//! Each worker has a box. What is put into it is never lost: where more waits for one client than is worth carrying, it is told instead
//! that any key may have changed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

/// What a client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::session) enum News {
    /// These keys have changed.
    Keys(Arc<[Bytes]>),
    /// Any key may have changed.
    All,
}

/// What waits for the clients of one worker.
#[derive(Debug, Default)]
pub struct Mailbox {
    letters: Mutex<HashMap<u64, Vec<News>>>,
    arrived: Notify,
}

impl Mailbox {
    /// Puts in `news` for client `id`.
    pub(in crate::session) fn put(&self, id: u64, news: News) {
        let mut all = self.lock();
        let letters = all.entry(id).or_default();
        if letters.len() >= LETTERS_MAX {
            *letters = vec![News::All];
        } else {
            letters.push(news);
        }
        drop(all);
        self.arrived.notify_one();
    }

    /// Takes out what is there; waits for it if there is nothing.
    pub(super) async fn take(&self) -> HashMap<u64, Vec<News>> {
        self.arrived.notified().await;
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Vec<News>>> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Letters that wait for one client.
const LETTERS_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_to_carry_becomes_all() {
        let mailbox = Mailbox::default();
        let news = News::Keys([Bytes::from_static(b"k")].into());
        (0..LETTERS_MAX).for_each(|_| mailbox.put(1, news.clone()));
        assert_eq!(mailbox.lock()[&1].len(), LETTERS_MAX);
        mailbox.put(1, news.clone());
        mailbox.put(2, news.clone());
        let letters = mailbox.lock();
        assert_eq!((&letters[&1][..], &letters[&2][..]), (&[News::All][..], &[news][..]));
    }
}
