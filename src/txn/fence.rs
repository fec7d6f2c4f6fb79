//! fence: *absent → aborted*, for doubt. Afterwards the participant's state can only be what it answered, or follow from it.
//!
//! inspect answers the same and changes nothing: for those who only want to know.

use bytes::Bytes;

use super::batch::KeyLock;
use super::script::Script;
use super::{Participant, Refusal, State, TxnId, answer, internal_keys, participant};
use crate::resp::{Request, Value};

/// A record as its participant has it. A tombstone has nothing staged; replies are not read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    /// Never `Gone` after a fence.
    pub state: State,
    /// How long ago it was written, by the shard's clock.
    pub age_ms: i64,
    /// What prepare left.
    pub staged: Option<Staged>,
}

/// What a resolver must know to finish a transaction that another proxy began.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Staged {
    /// When the transaction started, by its proxy's clock.
    pub start_ms: u64,
    /// How long after prepare others may be asked to wait.
    pub lease_ms: u64,
    /// The run of the shard that the coordinator believed it was talking to.
    pub run_id: String,
    /// All participants.
    pub participants: Vec<Participant>,
    /// The keys of this one.
    pub keys: Vec<KeyLock>,
}

/// The fence at `participant`.
pub fn request(tid: TxnId, participant: &Participant) -> Request {
    Script::Fence.call(&[internal_keys::record(participant, tid)], &NO_ARGS)
}

/// A look at the record at `participant`.
pub fn inspect(tid: TxnId, participant: &Participant) -> Request {
    Script::Inspect.call(&[internal_keys::record(participant, tid)], &NO_ARGS)
}

/// Reads the answer of either.
pub fn answer(frame: &Bytes) -> Result<Record, Refusal> {
    answer::error_or_lock(frame)?;
    let value = Value::parse(frame)?;
    let fields = value.items().ok_or_else(Refusal::malformed)?;
    let text = |index: usize| fields.get(index).and_then(Value::text).and_then(|text| std::str::from_utf8(text).ok());
    let state = State::of(text(0).unwrap_or_default().as_bytes(), &[])?;
    if state == State::Gone {
        return Ok(Record { state, age_ms: 0, staged: None });
    }
    let age_ms = number(text(1))?;
    if state == State::Aborted {
        return Ok(Record { state, age_ms, staged: None });
    }
    let keys = fields.get(7).and_then(Value::items).ok_or_else(Refusal::malformed)?;
    let keys = keys.iter().filter_map(Value::text).cloned().collect();
    let staged = Staged {
        start_ms: number(text(2))?,
        lease_ms: number(text(3))?,
        run_id: text(4).ok_or_else(Refusal::malformed)?.to_owned(),
        participants: participant::parse_participants(text(5).unwrap_or_default())?,
        keys: KeyLock::zip(keys, text(6).unwrap_or_default().as_bytes()).ok_or_else(Refusal::malformed)?,
    };
    Ok(Record { state, age_ms, staged: Some(staged) })
}

const NO_ARGS: [&[u8]; 0] = [];

fn number<T: std::str::FromStr>(text: Option<&str>) -> Result<T, Refusal> {
    text.and_then(|text| text.parse().ok()).ok_or_else(Refusal::malformed)
}
