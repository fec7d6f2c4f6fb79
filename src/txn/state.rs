//! The two machines that drive a transaction, without a clock, a network or a choice left to whoever runs them.
//!
//! [`Coordinator`] is one attempt of the proxy that was asked for the transaction; [`Resolver`] finishes one that somebody
//! left behind. A machine takes an [`Event`] and gives back itself and the [`Action`]s that follow. Participants are
//! numbered as in the list they were made with. The driver sends what it is told to, once per action, and reports for each
//! sending exactly one event: an answer, a refusal, or that the reply is lost. It may drop a machine at any time,
//! as a crash would: that is what resolvers are for.

mod coordinator;
mod resolver;

use bytes::Bytes;
use smallvec::SmallVec;

pub use coordinator::{Coordinator, Order};
pub use resolver::{Resolver, Verdict};

use super::fence::Record;
use super::{Locked, Refusal, Refused, State, prepare, reapply};

/// What is sent to a participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// See [`prepare`].
    Prepare,
    /// See [`commit`](super::commit).
    Commit,
    /// See [`reapply`].
    Reapply,
    /// See [`abort`](super::abort).
    Abort,
    /// See [`fence`](super::fence).
    Fence,
    /// A look without a fence.
    Inspect,
    /// A look after locks without a record are gone: see [`unlock`](super::unlock).
    Unlock,
}

/// What became of something that a machine asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The participant answered prepare.
    Prepare(usize, prepare::Answer),
    /// It answered commit.
    Commit(usize, State),
    /// It answered reapply.
    Reapply(usize, reapply::Answer),
    /// It answered abort.
    Abort(usize, State),
    /// It answered fence.
    Fence(usize, Record),
    /// It answered inspect or unlock.
    Inspect(usize, Record),
    /// EXEC around its prepare answered nil, or the connection that watched broke or was redirected before prepare was sent.
    WatchBroken(usize),
    /// Its server would not run the step.
    Refused(usize, Step, Refusal),
    /// No reply came, or none in time: the step may have run, may run yet, or never.
    Lost(usize, Step),
    /// The lock that [`Action::Wait`] named is free, or was resolved: try again.
    Free(usize),
    /// It was waited for as long as an attempt may that holds locks.
    GaveUp(usize),
    /// Its shard has had a failover since the last step that was lost there.
    FailedOver(usize),
    /// The client has waited long enough.
    Impatient,
}

/// What the driver has to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Send the step to the participant.
    Send(usize, Step),
    /// Send the step again, after what the refusal asks for: load, refresh, follow, or back off. A lost reply is
    /// [`Refused::Later`].
    Resend(usize, Step, Refused),
    /// Wait for the lock at the participant: until its owner is done, or else its lease is over and the owner resolved.
    Wait(usize, Locked),
    /// Tell the client. At most once.
    Tell(Outcome),
    /// The participant has lost its part of a committed transaction; the coordinator applies it again. To be counted and logged.
    Repair(usize),
    /// The participant has lost its part of a committed transaction, for good. To be counted and logged.
    Torn(usize),
    /// Forget the records everywhere, no sooner than five seconds from now.
    Forget,
    /// Nothing follows any more.
    Done,
}

/// The actions of one event, to be done in order.
pub type Actions = SmallVec<[Action; 4]>;

/// What a client learns.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Applied everywhere; the replies of each participant's batch, unless they were too long to be kept.
    Committed(Vec<Option<Vec<Bytes>>>),
    /// Applied nowhere, and never will be.
    Aborted(Reason),
    /// Decided, but some participant has not answered yet: `TXNPENDING`.
    Pending,
    /// Not known: `TXNUNKNOWN`.
    Unknown,
}

/// Why a transaction was aborted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A key was held by another transaction.
    Locked(Locked),
    /// A watched key had changed.
    WatchBroken,
    /// A key existed that must not.
    Exists,
    /// A shard's clock and the proxy's are more than five minutes apart.
    ClockApart,
    /// A server would not prepare.
    Refused(Refusal),
    /// Another proxy thought the transaction abandoned, or a prepare did not arrive.
    Resolved,
    /// Every participant had lost it.
    AllLost,
}

/// How long after its start an absent or aborted record is still evidence. Tombstones and committed records are deleted by age later.
const BELIEVED_MS: u64 = 600_000;

#[cfg(test)]
mod tests;
