//! prepare: *absent → prepared*. The participant takes the locks and keeps the batch, or refuses and keeps nothing.

use bytes::Bytes;

use super::answer::{self, Said};
use super::batch::{self, Batch, KeyLock};
use super::script::Script;
use super::{Locked, Refusal, State, Terms};
use crate::resp::{FrameWriter, Pieces};

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
pub fn request(terms: &Terms, batch: &Batch, run_id: &str) -> Pieces {
    terms.begin_staging(Script::Prepare, batch, run_id, 0).finish()
}

/// Reads the answer.
pub fn answer(frame: &Bytes) -> Result<Answer, Refusal> {
    if frame == YES {
        return Ok(Answer::Found(State::Prepared));
    }
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
    /// Begins the call of a script that stages `batch`; `args` more will follow.
    pub(super) fn begin_staging(&self, script: Script, batch: &Batch, run_id: &str, args: usize) -> FrameWriter {
        let commands: usize = batch.commands.iter().map(|command| command.request.bytes().len()).sum();
        let size = STAGED_BYTES + self.participants.len() + commands.min(COPIED_BYTES_MAX);
        let mut call = script.begin_with_locks(self.tid, &batch.participant, &batch.keys, 7 + args, size);
        call.number(self.tid.start_ms);
        call.number(self.lease_ms.into());
        call.arg(batch::proto(self.proto));
        call.arg(run_id.as_bytes());
        call.arg(&self.participants);
        batch.write(&mut call);
        KeyLock::write_modes(&batch.keys, &mut call);
        call
    }
}

/// `Prepared`, which is the answer as a rule.
const YES: &[u8] = b"*1\r\n$8\r\nprepared\r\n";

/// About what is staged beside commands and participants.
const STAGED_BYTES: usize = 160;

/// Commands with more bytes have arguments that are shared.
const COPIED_BYTES_MAX: usize = 64 * 1024;
