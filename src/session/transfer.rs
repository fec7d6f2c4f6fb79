//! LMOVE and RPOPLPUSH between lists of two participants: a transaction with an optimistic lock.
//!
//! Both keys are watched, then the element is looked at, then a transaction takes it from the one list and adds it to the other if
//! neither has changed since: the very thing that a client would write by hand, with the same guarantees. Whoever loses tries again, and
//! stands in line for it. A source without elements costs reads only.

use bytes::Bytes;
use tokio::time::Instant;

use super::Context;
use crate::command::{self, KeyRef, Keys};
use crate::config::MultiKey;
use crate::resp::{Proto, Request, Value, error_reply};
use crate::route::{Place, Reach, Routed};
use crate::txn::{ExecError, Executed, Habit};

/// What is to be moved, from where to where.
struct Transfer {
    source: (Place, Bytes),
    destination: (Place, Bytes),
    /// The commands that take and add an element.
    take: &'static str,
    add: &'static str,
}

impl Context {
    /// Moves an element as `request` (LMOVE or RPOPLPUSH) says, whose `keys` are on different places. The reply, a whole frame.
    pub(super) async fn transfer(&self, request: &Request, keys: &[(KeyRef, Place)], proto: Proto) -> Result<Bytes, ExecError> {
        if self.config.transactions.multi_key.computed == MultiKey::Reject {
            return Err(ExecError::Rejected(error_reply::CROSSSLOT.to_owned()));
        }
        let transfer = Transfer::of(request, keys).ok_or_else(|| ExecError::Rejected(error_reply::SYNTAX.to_owned()))?;
        let start = Instant::now();
        let mut habit =
            self.engine.habit_of_writing([&transfer.source, &transfer.destination].map(|(place, key)| (place, &key[..])).into_iter());
        loop {
            if let Some(reply) = self.try_transfer(&transfer, &habit, proto).await? {
                return Ok(reply);
            }
            habit.set_broken(true);
            if start.elapsed() >= self.config.transactions.lock_wait_timeout {
                return Err(ExecError::LockWait);
            }
        }
    }

    /// The reply, unless a list changed in between.
    async fn try_transfer(&self, transfer: &Transfer, habit: &Habit, proto: Proto) -> Result<Option<Bytes>, ExecError> {
        let Transfer { source, destination, .. } = transfer;
        // Most tries of those who wait find nothing, and need no watch for that.
        let element = self.engine.single(command(source, &[b"LINDEX", &source.1, transfer.index()])?, proto, true).await?;
        if !element.starts_with(b"$") || element.starts_with(b"$-") {
            return Ok(Some(element));
        }
        let mut watch = None;
        let keys = [source, destination].map(|(place, key)| (*place, vec![key.clone()])).to_vec();
        self.engine.watch(&mut watch, keys, habit, proto).await?;
        let looks = vec![command(source, &[b"LINDEX", &source.1, transfer.index()])?, command(destination, &[b"TYPE", &destination.1])?];
        let looks = self.engine.scatter(looks, proto).await?;
        let [element, kind] = &looks[..] else { return Err(ExecError::Unreachable) };
        let Ok(Value::Bulk(value)) = Value::parse(element) else { return Ok(Some(element.clone())) };
        if !matches!(&kind[..], b"+none\r\n" | b"+list\r\n") {
            return Err(ExecError::Rejected(error_reply::WRONGTYPE.to_owned()));
        }
        let commands = vec![
            command(source, &[transfer.take.as_bytes(), &source.1])?,
            command(destination, &[transfer.add.as_bytes(), &destination.1, &value])?,
        ];
        match self.engine.exec(commands.clone(), watch, proto).await? {
            Executed::WatchBroken => Ok(None),
            Executed::Replies(_) => {
                commands.iter().for_each(|command| self.ring(command));
                Ok(Some(element.clone()))
            }
        }
    }
}

impl Transfer {
    fn of(request: &Request, keys: &[(KeyRef, Place)]) -> Option<Self> {
        let [source, destination] = keys else { return None };
        let named = |(key, place): &(KeyRef, Place)| (*place, request.arg_bytes(key.index as usize));
        let from_left = match request.args_from(3).next() {
            Some(side) => is_left(side)?,
            None => false,
        };
        let to_left = match request.args_from(4).next() {
            Some(side) => is_left(side)?,
            None => true,
        };
        Some(Self {
            source: named(source),
            destination: named(destination),
            take: if from_left { "LPOP" } else { "RPOP" },
            add: if to_left { "LPUSH" } else { "RPUSH" },
        })
    }

    fn index(&self) -> &'static [u8] {
        if self.take == "LPOP" { b"0" } else { b"-1" }
    }
}

fn is_left(side: &[u8]) -> Option<bool> {
    match () {
        () if side.eq_ignore_ascii_case(b"LEFT") => Some(true),
        () if side.eq_ignore_ascii_case(b"RIGHT") => Some(false),
        () => None,
    }
}

/// A command whose one key is at `place`.
fn command((place, _): &(Place, Bytes), args: &[&[u8]]) -> Result<Routed, ExecError> {
    let request = Request::new(args);
    let Ok(spec) = command::lookup(&request) else { return Err(ExecError::Unreachable) };
    let mut keys = Keys::new();
    command::keys(spec, &request, &mut keys).map_err(|_| ExecError::Unreachable)?;
    Ok(Routed { spec, request, place: *place, keys, reach: Reach::Keys })
}
