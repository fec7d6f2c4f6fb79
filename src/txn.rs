//! Transactions over several participants: the commit protocol.
//!
//! # Guarantee
//!
//! A transaction is applied at all its participants or at none, whatever dies and whenever; nobody sees a part of it; and what its
//! client is told is what happened. A participant is where Redis itself runs several keys atomically: a slot of a cluster, a
//! database of a static shard ([`Participant`]). Redis's own semantics hold inside: a command that fails yields its error and undoes nothing.
//!
//! # Not guaranteed
//!
//! Anything to clients that bypass the proxies; writes that Redis acknowledged and then lost (failover, eviction, restart without
//! persistence), except that a participant's loss between prepare and commit is repaired while the coordinator lives, and that a
//! transaction can be made to wait until replicas and files have what it rests on (`durable.rs`); replies longer than a record keeps, when the answer to commit is lost.
//!
//! # How
//!
//! Each participant keeps a *record* of the transaction, a hash beside the data ([`internal_keys`]):
//!
//! ```text
//! absent ──prepare──▶ prepared ──commit──▶ committed ──forget──▶ gone
//!    │                    └──────abort────▶ gone
//!    └─────fence────▶ aborted, a tombstone
//! ```
//!
//! **A transaction is committed if and only if every participant has been prepared.** There is no decision record: the records
//! together are the decision, anyone can read it off them, and so anyone can finish what a dead proxy began. That makes two
//! round trips: prepare to all (locks, and the commands themselves), commit to all (run, answer the replies, unlock). With a single
//! participant it is one round trip and no record ([`guarded`]).
//!
//! The price is care about absence. A record that is not there means *never prepared* only where no prepare can arrive any more and
//! none was ever deleted. Hence the fence, which leaves a tombstone where it finds nothing; hence records have no TTL; hence a prepare is
//! sent once, is refused five minutes after the transaction's start, and evidence of absence is not believed after ten, long before
//! records are deleted by age ([`forget::Age`]).
//!
//! Locks are politeness towards the living: each carries a deadline after which whoever meets it resolves its owner instead of
//! waiting. Safety never depends on a clock agreeing with another to better than minutes.
//!
//! # When something fails
//!
//! | what | then |
//! |---|---|
//! | prepare is refused: a lock, a condition, a broken watch, a full memory | definite no: abort the prepared ones, tell at once |
//! | prepare or its answer is lost | fence there; its answer is the vote |
//! | a tombstone is found | abort the prepared ones, tell when all have answered: one may have been committed already |
//! | commit is refused or lost | sent until it is answered; committed answers the kept replies |
//! | the proxy dies | locks outlive it; whoever meets one resolves: fence all, then commit all or abort all |
//! | a participant lost its record after the decision | the coordinator applies its part again ([`reapply`]), unless it might be there already: a commit went unanswered, and no failover or restart explains the loss |
//! | all lost it | told as aborted |
//! | too few replicas confirm a vote in time, where that is asked for | it counts, and the client is told `TXNUNCONFIRMED` (`durable.rs`) |
//! | a lock is left without its record | whoever meets it after its lease takes it away ([`unlock`]); the sweeper does |
//! | a record is of a format that this version does not know | nothing is fenced or aborted; its locks stay for a version that does |
//! | the client's patience ends | `TXNPENDING` if decided, `TXNUNKNOWN` if not; the machine goes on |
//!
//! # Where is what
//!
//! - One step, one module, two functions, `request` and `answer`: [`prepare`], [`commit`], [`reapply`], [`abort`], [`fence`] (and
//!   inspect), [`unlock`], [`forget`], [`guarded`]. Their scripts are in `lua/`, put together by [`Script`].
//! - [`gate`]: one key that stands for all locks of a participant.
//! - `latch`, `turn`, `line`, `wait`: who has to wait for whom, within this process and for others.
//! - [`state`]: what to do next, as machines without clock or I/O. `model` explores them.
//! - [`TxnId`], [`Participant`], [`Batch`]: who, where, what. [`State`], [`Locked`], [`Refusal`]: what came back.

mod answer;
mod attempt;
mod batch;
mod coordinator;
mod drive;
mod durable;
mod engine;
mod error;
mod failpoint;
mod id;
mod lane;
mod latch;
mod line;
#[cfg(test)]
mod model;
mod one_phase;
mod overview;
mod participant;
mod recovery;
mod script;
mod snapshot;
mod swap;
mod sweeper;
mod turn;
mod wait;
mod walk;
mod whole;

pub mod abort;
pub mod commit;
pub mod compute;
pub mod fence;
pub mod forget;
pub mod gate;
pub mod guarded;
pub mod internal_keys;
pub mod lock;
pub mod part;
pub mod prepare;
pub mod reapply;
pub mod state;
pub mod unlock;
pub mod watch;

use bytes::Bytes;

pub use answer::{Locked, Malformed, Refusal, Refused, State};
pub use attempt::Redirect;
pub use batch::{Batch, Command, KeyLock, Kind, LockMode, ReRead};
pub use durable::trace;
pub use engine::{Engine, Executed};
pub use error::ExecError;
pub use id::{TxnId, TxnIds};
pub use latch::Latches;
pub use line::Habit;
pub use one_phase::guarded_request;
pub use overview::{Decision, Found, Overview, Resolution, Sighting, Standing};
pub use participant::{Participant, parse_participants, participants_text};
pub use script::{Script, fits_script};

use crate::resp::Proto;

/// What every participant of a transaction is told alike.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The transaction.
    pub tid: TxnId,
    /// All participants, as [`participants_text`] writes them.
    pub participants: Bytes,
    /// How long after prepare others may be asked to wait before they resolve it.
    pub lease_ms: u32,
    /// The version of RESP that the replies are for.
    pub proto: Proto,
    /// How many bytes of replies a committed record keeps at most.
    pub kept_reply_bytes_max: u32,
}
