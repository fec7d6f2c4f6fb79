//! prepare: *absent → prepared*. The participant takes the locks and keeps the batch, or refuses and keeps nothing.

use bytes::Bytes;

use super::answer::{self, Said};
use super::batch::{self, Batch, KeyLock};
use super::script::Script;
use super::{Locked, Refusal, State, Terms, internal_keys};
use crate::resp::Request;

/// What a participant answers to prepare.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// `Prepared` is a yes. Any other state was there before.
    Found(State),
    /// No: a key is held by another transaction.
    Locked(Locked),
    /// No: a key exists that must not.
    Exists,
    /// No: the shard's clock and the transaction's start are more than five minutes apart.
    ClockApart,
}

/// The prepare of `batch`. `run_id` is that of the shard's run that the proxy believes it talks to.
pub fn request(terms: &Terms, batch: &Batch, run_id: &str) -> Request {
    let keys = KeyLock::declare(&batch.participant, internal_keys::record(&batch.participant, terms.tid), &batch.keys);
    let args = terms.staged(batch, run_id);
    Script::Prepare.call(&keys, &args)
}

/// Reads the answer.
pub fn answer(frame: &Bytes) -> Result<Answer, Refusal> {
    match answer::read(frame)? {
        Said::Locked(locked) => Ok(Answer::Locked(locked)),
        Said::Word(word, rest) => match word.as_ref() {
            b"exists" => Ok(Answer::Exists),
            b"clock" => Ok(Answer::ClockApart),
            word => State::of(word, &rest).map(Answer::Found),
        },
    }
}

impl Terms {
    /// The arguments that prepare and reapply share.
    pub(super) fn staged(&self, batch: &Batch, run_id: &str) -> Vec<Bytes> {
        vec![
            self.tid.to_string().into(),
            self.tid.start_ms.to_string().into(),
            self.lease_ms.to_string().into(),
            Bytes::from_static(batch::proto(self.proto)),
            Bytes::copy_from_slice(run_id.as_bytes()),
            self.participants.clone(),
            batch.pack(),
            KeyLock::modes(&batch.keys).into(),
        ]
    }
}
