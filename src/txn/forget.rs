//! forget: deletes records that nobody needs any more.
//!
//! The coordinator forgets what it has seen committed everywhere. Everyone else may forget by age alone ([`Age`]).

use bytes::Bytes;

use super::script::Script;
use super::{Participant, Refusal, TxnId, answer, internal_keys};
use crate::resp::{Request, Value};

/// Which records may go. The ages end after everything that relies on the records: a prepare is refused five minutes after its
/// transaction's start, an answer is not believed after ten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// Committed, and the coordinator knows that every participant is.
    CommittedEverywhere,
    /// Committed, and old: after an hour.
    OldCommitted,
    /// A tombstone that no prepare can come to meet any more: after half an hour.
    OldTombstone,
}

/// The forgetting of several transactions at `participant`.
pub fn request(tids: &[TxnId], participant: &Participant, age: Age) -> Request {
    let records: Vec<Bytes> = tids.iter().map(|tid| internal_keys::record(participant, *tid)).collect();
    let (state, least_ms): (&[u8], &[u8]) = match age {
        Age::CommittedEverywhere => (b"committed", b"0"),
        Age::OldCommitted => (b"committed", b"3600000"),
        Age::OldTombstone => (b"aborted", b"1800000"),
    };
    Script::Forget.call(&records, &[state, least_ms])
}

/// Reads the answer: how many records were deleted.
pub fn answer(frame: &Bytes) -> Result<u64, Refusal> {
    answer::error_or_lock(frame)?;
    let count = Value::parse(frame)?.integer();
    count.and_then(|count| count.try_into().ok()).ok_or_else(Refusal::malformed)
}
