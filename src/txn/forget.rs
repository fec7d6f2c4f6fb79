//! forget: deletes records that nobody needs any more.
//!
//! The coordinator forgets what it has seen committed everywhere. Everyone else may forget by age alone ([`Age`]).

use std::time::Duration;

use bytes::Bytes;

use super::script::Script;
use super::{Participant, Refusal, TxnId, answer, internal_keys};
use crate::resp::{Pieces, Value};

/// Which records may go. The ages end after everything that relies on the records: a prepare is refused five minutes after its
/// transaction's start, an answer is not believed after ten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// Committed, and the coordinator knows that every participant is.
    CommittedEverywhere,
    /// Committed, and at least so old.
    OldCommitted(Duration),
    /// A tombstone at least so old: no prepare can come to meet it any more.
    OldTombstone(Duration),
}

/// The forgetting of several transactions at `participant`.
pub fn request(tids: &[TxnId], participant: &Participant, age: Age) -> Pieces {
    let (state, least) = match age {
        Age::CommittedEverywhere => ("committed", Duration::ZERO),
        Age::OldCommitted(least) => ("committed", least),
        Age::OldTombstone(least) => ("aborted", least),
    };
    let mut call = Script::Forget.begin(tids.len(), 2, tids.len() * RECORD_BYTES);
    tids.iter().for_each(|tid| internal_keys::write(&mut call, participant, internal_keys::RECORD, tid.name().as_bytes()));
    call.arg(state.as_bytes());
    call.number(least.as_millis() as u64);
    call.finish()
}

/// Reads the answer: how many records were deleted.
pub fn answer(frame: &Bytes) -> Result<u64, Refusal> {
    answer::error_or_lock(frame)?;
    let count = Value::parse(frame)?.integer();
    count.and_then(|count| count.try_into().ok()).ok_or_else(Refusal::malformed)
}

/// About what the name of a record has.
const RECORD_BYTES: usize = 64;
