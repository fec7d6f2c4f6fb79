//! The steps of a transaction that is computed: its commands, and in place of a SORT with patterns what that amounts to.
//!
//! Which keys such a SORT reads shows when the commands before it have run. So it is carried out on copies with what is known of it, at
//! first the reads of its source alone; what it reads there tells what else it has to read, and what STORE has to store. With that all of
//! the transaction is carried out again, on copies still, until the last time has read and stored what it had to: that is the one that
//! counts. While nobody interferes that takes two rounds, three where LIMIT leaves some values out, and one more for STORE.
//!
//! Behind a command that picks at random (SPOP) each round may read something else. Then there are more rounds, until the patience for
//! locks is over.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::Spread;
use super::sort::{Reads, STORE_KEYS_MAX, array};
use crate::command::{self, KeyError, Keys, Lookup, Sort};
use crate::resp::{Proto, error_reply};
use crate::txn::engine::Engine;
use crate::txn::error::ExecError;

/// The steps, in the order of the client's commands.
pub(super) struct Steps(Vec<Step>);

enum Step {
    /// One that a server carries out.
    Plain(Spread),
    Sort(Box<Sorting>),
}

/// A SORT with patterns, and what is known of it.
struct Sorting {
    sort: Sort,
    db: u32,
    wanted: BTreeSet<Lookup>,
    /// What STORE stores, as the last round has found it. `None`: nothing, because of an error.
    values: Option<Vec<Option<Bytes>>>,
    /// What this round reads, and how many commands come of it, those that store among them.
    reads: Reads,
    commands: usize,
}

/// What a round has shown of a SORT.
enum Shown {
    Reply(Bytes),
    /// It has to be carried out again.
    Again,
}

impl Steps {
    /// Those of `commands`.
    pub(super) fn of(commands: Vec<Spread>) -> Result<Self, ExecError> {
        let step = |command: Spread| {
            if !matches!(command::keys(command.spec, &command.request, &mut Keys::new()), Err(KeyError::Pattern | KeyError::Get)) {
                return Ok(Step::Plain(command));
            }
            let sort = Sort::parse(command.spec, &command.request).map_err(|text| ExecError::Rejected(text.to_owned()))?;
            let (wanted, reads) = (BTreeSet::new(), Reads::default());
            Ok(Step::Sort(Box::new(Sorting { sort, db: command.db, wanted, values: None, reads, commands: 0 })))
        };
        commands.into_iter().map(step).collect::<Result<_, _>>().map(Self)
    }

    /// Whether one of them may change data.
    pub(super) fn write(&self) -> bool {
        self.0.iter().any(|step| match step {
            Step::Plain(command) => command.writes(),
            Step::Sort(sorting) => sorting.sort.destination().is_some(),
        })
    }

    /// How many rounds it takes when nobody interferes.
    pub(super) fn rounds_owed(&self) -> u32 {
        self.0.iter().map(|step| if let Step::Sort(_) = step { ROUNDS_OF_SORT } else { 0 }).sum()
    }

    /// What a server has to carry out in this round.
    pub(super) fn commands(&mut self, engine: &Engine) -> Result<Vec<Spread>, ExecError> {
        let mut commands = Vec::with_capacity(self.0.len());
        for step in &mut self.0 {
            match step {
                Step::Plain(command) => commands.push(command.clone()),
                Step::Sort(sorting) => commands.extend(sorting.begin(engine)?),
            }
        }
        Ok(commands)
    }

    /// `error`, about the commands of this round, as one about those of the client.
    pub(super) fn own_error(&self, error: ExecError) -> ExecError {
        let ExecError::Undeclared { command, key, text } = error else { return error };
        let ends = self.0.iter().scan(0, |end, step| {
            *end += step.commands();
            Some(*end)
        });
        ExecError::Undeclared { command: ends.take_while(|end| *end <= command).count(), key, text }
    }

    /// The replies to the client's commands, if `replies` to this round's are right; otherwise there has to be another round.
    pub(super) fn replies(&mut self, engine: &Engine, replies: &[Bytes], proto: Proto) -> Result<Option<Vec<Bytes>>, ExecError> {
        let (mut rest, mut own) = (replies, Some(Vec::with_capacity(self.0.len())));
        for step in &mut self.0 {
            let (some, others) = rest.split_at_checked(step.commands()).ok_or(ExecError::Unreachable)?;
            rest = others;
            let reply = match step {
                Step::Plain(_) => some.first().cloned(),
                Step::Sort(sorting) => match sorting.end(engine, some, proto)? {
                    Shown::Reply(reply) => Some(reply),
                    // Those behind it have not seen what it does, but what they want to read is likely to be the same.
                    Shown::Again => None,
                },
            };
            own = own.zip(reply).map(|(mut own, reply)| {
                own.push(reply);
                own
            });
        }
        Ok(own)
    }
}

impl Step {
    /// How many commands it is in this round.
    fn commands(&self) -> usize {
        match self {
            Self::Plain(_) => 1,
            Self::Sort(sorting) => sorting.commands,
        }
    }
}

impl Sorting {
    /// What it amounts to in this round.
    fn begin(&mut self, engine: &Engine) -> Result<Vec<Spread>, ExecError> {
        if self.wanted.len() > STORE_KEYS_MAX {
            return Err(ExecError::Rejected(error_reply::too_many_keys(STORE_KEYS_MAX)));
        }
        self.reads = engine.reads(&self.sort, &self.wanted, self.db)?;
        let mut commands = self.reads.commands.clone();
        if let (Some(values), Some(destination)) = (&self.values, self.sort.destination()) {
            commands.extend(engine.stored(values, destination, self.db)?);
        }
        self.commands = commands.len();
        Ok(commands.into_iter().map(Spread::from).collect())
    }

    /// What this round's `replies` come to.
    fn end(&mut self, engine: &Engine, replies: &[Bytes], proto: Proto) -> Result<Shown, ExecError> {
        let (read, stored) = replies.split_at_checked(self.reads.commands.len()).ok_or(ExecError::Unreachable)?;
        let (values, reply) = match engine.arranged(&self.sort, &self.reads, read) {
            Ok(Ok(values)) => (Some(values), None),
            Ok(Err(lookups)) => {
                self.wanted.extend(lookups);
                return Ok(Shown::Again);
            }
            Err(ExecError::Refused(error)) => (None, Some(error)),
            Err(error) => return Err(error),
        };
        if self.sort.destination().is_none() {
            return Ok(Shown::Reply(reply.unwrap_or_else(|| array(values.as_deref().unwrap_or_default(), proto))));
        }
        if self.values != values {
            self.values = values;
            return Ok(Shown::Again);
        }
        let count = values.map_or(0, |values| values.len());
        let reply = reply.or_else(|| stored.iter().find(|reply| reply.first() == Some(&b'-')).cloned());
        Ok(Shown::Reply(reply.unwrap_or_else(|| Bytes::from(format!(":{count}\r\n")))))
    }
}

/// Source, weights, values, and storing them.
const ROUNDS_OF_SORT: u32 = 4;
