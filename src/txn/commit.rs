//! commit: *prepared → committed*. The participant runs its batch, keeps the replies and gives back the locks, all in one step.
//!
//! It may be sent any number of times: a committed participant answers the replies of the one execution. A batch that no script can
//! carry out is answered instead of run: whoever commits, be it the coordinator or a resolver, then runs it natively.

use bytes::Bytes;

use super::answer::{self, Said};
use super::batch::{Command, KeyLock, LockMode};
use super::script::Script;
use super::{Participant, Refusal, State, TxnId, internal_keys};
use crate::resp::{Pieces, Request, Value, elements};

/// The commit at `participant`, whose record has `keys`.
pub fn request(tid: TxnId, participant: &Participant, keys: &[KeyLock], kept_reply_bytes_max: u32) -> Pieces {
    let mut call = Script::Commit.begin_with_locks(tid, participant, keys, 1, 0);
    call.number(kept_reply_bytes_max.into());
    call.finish()
}

/// What a participant answers to commit.
#[derive(Clone, Debug)]
pub enum Answer {
    /// It stands so now; `Committed` is what was asked for.
    Found(State),
    /// It is prepared, and these commands of its batch have to run natively, with [`native_closing`].
    Native(Vec<Request>),
}

/// Reads the answer. `commands` are those of the batch, where they are known: their replies are put into the form that the client expects.
pub fn answer(frame: &Bytes, commands: &[Command]) -> Result<Answer, Refusal> {
    if let Some(replies) = frame.strip_prefix(DONE) {
        return Ok(Answer::Found(State::Committed(elements(&frame.slice_ref(replies))?).restored(commands)));
    }
    match answer::read(frame)? {
        Said::Locked(_) => Err(Refusal::malformed()),
        Said::Word(word, rest) if word == "native" => {
            let batch = Value::parse(rest.first().ok_or_else(Refusal::malformed)?)?;
            let commands = batch.items().and_then(|commands| commands.iter().map(unpacked).collect());
            commands.map(Answer::Native).ok_or_else(Refusal::malformed)
        }
        Said::Word(word, rest) => State::of(&word, &rest).map(|state| Answer::Found(state.restored(commands))),
    }
}

/// How the answer begins as a rule: `Committed`, and what follows are the replies.
const DONE: &[u8] = b"*2\r\n$9\r\ncommitted\r\n";

/// A command of a batch as the scripts have it: its kind, then its arguments.
fn unpacked(command: &Value) -> Option<Request> {
    let (_kind, args) = command.items()?.split_first()?;
    let args: Vec<&Bytes> = args.iter().map(Value::text).collect::<Option<_>>()?;
    (!args.is_empty()).then(|| Request::new(&args))
}

/// The closing step as plain commands, for a batch that must run natively: they go into the MULTI before the batch's commands, on
/// a connection that watches the record and has seen it prepared. They leave a record that is committed without replies.
pub fn native_closing(tid: TxnId, participant: &Participant, keys: &[KeyLock]) -> Vec<Request> {
    let (record, name) = (internal_keys::record(participant, tid), tid.to_string());
    let mut closing = vec![
        Request::new(&[b"HSET", &record[..], b"state", b"committed"]),
        Request::new(&[b"HDEL", &record[..], b"batch"]),
        Request::new(&[b"SREM", &internal_keys::gate(participant)[..], name.as_bytes()]),
    ];
    closing.extend(keys.iter().map(|lock| match lock.mode {
        LockMode::Shared => Request::new(&[b"HDEL", &internal_keys::shared_lock(participant, &lock.key)[..], name.as_bytes()]),
        LockMode::Exclusive | LockMode::ExclusiveAbsent => {
            Request::new(&[b"DEL", &internal_keys::exclusive_lock(participant, &lock.key)[..]])
        }
    }));
    closing
}

impl State {
    pub(super) fn restored(self, commands: &[Command]) -> Self {
        let Self::Committed(Some(replies)) = self else { return self };
        let restore = |(index, reply)| commands.get(index).map_or(Bytes::clone(&reply), |command: &Command| command.restore(reply));
        Self::Committed(Some(replies.into_iter().enumerate().map(restore).collect()))
    }
}
