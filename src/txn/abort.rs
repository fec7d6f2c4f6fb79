//! abort: *prepared → gone*. The participant gives back the locks and forgets; any other state is left as it is.

use bytes::Bytes;

use super::answer::{self, Said};
use super::batch::KeyLock;
use super::script::Script;
use super::{Participant, Refusal, State, TxnId};
use crate::resp::Pieces;

/// The abort at `participant`, whose record has `keys`.
pub fn request(tid: TxnId, participant: &Participant, keys: &[KeyLock]) -> Pieces {
    Script::Abort.begin_with_locks(tid, participant, keys, 0, 0).finish()
}

/// Reads the answer: the state after it.
pub fn answer(frame: &Bytes) -> Result<State, Refusal> {
    match answer::read(frame)? {
        Said::Locked(_) => Err(Refusal::malformed()),
        Said::Word(word, rest) => State::of(&word, &rest),
    }
}
