//! guarded: commands of one participant in one step, unless another transaction's lock is in their way.
//!
//! Plain writes, runs of pipelined writes, and transactions that have a single participant. Nothing is staged: a lost reply means
//! that nobody knows whether the commands ran, and they are never sent again.

use bytes::Bytes;

use super::answer;
use super::batch::{self, Command, KeyLock, LockMode};
use super::script::Script;
use super::{Locked, Participant, Refusal, internal_keys};
use crate::resp::{Proto, Request, elements};

/// What a participant answers to a guarded batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The commands ran: their replies, one frame each.
    Done(Vec<Bytes>),
    /// Nothing ran.
    Locked(Locked),
}

/// The guarded run of `commands`, whose keys are `keys`: read or watched ones shared, written ones exclusive.
pub fn request(participant: &Participant, keys: &[KeyLock], commands: &[Command], proto: Proto) -> Request {
    let mut declared = locks(participant, keys);
    let (count, counts): (String, Vec<String>) =
        (declared.len().to_string(), commands.iter().map(|command| command.request.argc().to_string()).collect());
    declared.extend(keys.iter().map(|lock| lock.key.clone()));
    let mut args: Vec<&[u8]> = vec![count.as_bytes(), batch::proto(proto)];
    for (command, argc) in commands.iter().zip(&counts) {
        args.extend([argc.as_bytes(), command.kind.letter()]);
        args.extend(command.request.args_from(0));
    }
    Script::Guarded.call(&declared, &args)
}

/// The locks that must be free for commands over `keys`: readers look at the exclusive one only, writers at both.
pub fn locks(participant: &Participant, keys: &[KeyLock]) -> Vec<Bytes> {
    let mut locks = Vec::with_capacity(3 * keys.len());
    for KeyLock { key, mode } in keys {
        locks.push(internal_keys::exclusive_lock(participant, key));
        match mode {
            LockMode::Shared => {}
            LockMode::Exclusive | LockMode::ExclusiveAbsent => locks.push(internal_keys::shared_lock(participant, key)),
        }
    }
    locks
}

/// Reads the answer; `commands` are those that were sent.
pub fn answer(frame: &Bytes, commands: &[Command]) -> Result<Answer, Refusal> {
    if let Some(locked) = answer::error_or_lock(frame)? {
        return Ok(Answer::Locked(locked));
    }
    let replies = elements(frame)?.filter(|replies| replies.len() == commands.len());
    let replies = replies.ok_or_else(Refusal::malformed)?;
    Ok(Answer::Done(replies.into_iter().zip(commands).map(|(reply, command)| command.restore(reply)).collect()))
}
