//! reapply: *gone or aborted → committed*, for a participant that lost a transaction which is committed elsewhere.
//!
//! Only the coordinator can: nobody else has the batch any more. It takes no lock that is held; it is refused when
//! the transaction is older than ten minutes, because nobody may believe then that a missing record means a missing effect.

use bytes::Bytes;

use super::answer::{self, Said};
use super::batch::{Batch, Command};
use super::script::Script;
use super::{Locked, Refusal, State, Terms};
use crate::resp::Pieces;

/// What a participant answers to reapply.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// It stands so now; `Committed` is what was asked for. `Prepared`: its batch has to run natively, and commit does that.
    Found(State),
    /// A key is held by another transaction: wait, then again.
    Locked(Locked),
    /// The transaction is too old.
    TooLate,
}

/// The reapply of `batch`.
pub fn request(terms: &Terms, batch: &Batch, run_id: &str) -> Pieces {
    let mut call = terms.begin_staging(Script::Reapply, batch, run_id, 1);
    call.number(terms.kept_reply_bytes_max.into());
    call.finish()
}

/// Reads the answer; `commands` are those of the batch.
pub fn answer(frame: &Bytes, commands: &[Command]) -> Result<Answer, Refusal> {
    match answer::read(frame)? {
        Said::Locked(locked) => Ok(Answer::Locked(locked)),
        Said::Word(word, _) if word == "clock" => Ok(Answer::TooLate),
        Said::Word(word, rest) => Ok(Answer::Found(State::of(&word, &rest)?.restored(commands))),
    }
}
