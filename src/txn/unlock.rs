//! unlock: takes away the locks of a transaction that no prepared record stands behind, and looks at the record.
//!
//! Locks and record are written and deleted in one step, so a lock without a prepared record means that the record was lost: deleted by
//! hand, evicted, left out of a backup. Nobody could give such a lock back, and it decides nothing: the record would. What becomes of the
//! transaction is not touched. Other participants fence this one, find that it has nothing, and go by that; a coordinator that lives
//! applies its part again.
//!
//! While a slot moves key by key, record and lock may be on different nodes: then the script runs on neither.

use bytes::Bytes;

use super::batch::KeyLock;
use super::fence::{self, Record};
use super::script::Script;
use super::{Participant, Refusal, TxnId};
use crate::resp::{Pieces, Value, elements};

/// The unlock at `participant`, of whichever of `keys` the transaction has locked.
pub fn request(tid: TxnId, participant: &Participant, keys: &[KeyLock]) -> Pieces {
    Script::Unlock.begin_with_locks(tid, participant, keys, 0, 0).finish()
}

/// Reads the answer: how many locks were taken away, and the record.
pub fn answer(frame: &Bytes) -> Result<(u64, Record), Refusal> {
    super::answer::error_or_lock(frame)?;
    let parts = elements(frame)?.ok_or_else(Refusal::malformed)?;
    let [count, record] = &parts[..] else { return Err(Refusal::malformed()) };
    let count = Value::parse(count)?.integer().and_then(|count| count.try_into().ok()).ok_or_else(Refusal::malformed)?;
    Ok((count, fence::answer(record)?))
}
