//! Transactions over several participants.

mod answer;
mod attempt;
mod batch;
mod coordinator;
mod drive;
mod engine;
mod error;
mod failpoint;
mod id;
mod one_phase;
mod participant;
mod recovery;
mod script;
mod snapshot;
mod sweeper;
mod wait;

pub mod abort;
pub mod commit;
pub mod fence;
pub mod forget;
pub mod guarded;
pub mod internal_keys;
pub mod lock;
pub mod part;
pub mod prepare;
pub mod reapply;
pub mod state;
pub mod watch;

use bytes::Bytes;

pub use answer::{Locked, Malformed, Refusal, Refused, State};
pub use attempt::Redirect;
pub use batch::{Batch, Command, KeyLock, Kind, LockMode, ReRead};
pub use engine::{Engine, Executed};
pub use error::ExecError;
pub use id::{TxnId, TxnIds};
pub use one_phase::guarded_request;
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
