//! Transactions.

mod answer;
mod attempt;
mod batch;
mod engine;
mod error;
mod id;
pub mod internal_keys;
pub mod lock;
mod one_phase;
pub mod part;
mod participant;
pub mod guarded;
pub mod prepare;
pub mod commit;
pub mod reapply;
pub mod abort;
pub mod fence;
pub mod forget;
mod script;
mod snapshot;
mod wait;
pub mod watch;

pub use answer::{Locked, Malformed, Refusal, Refused, State};
pub use attempt::Redirect;
pub use batch::{Batch, Command, KeyLock, LockMode};
pub use engine::{Engine, Executed};
pub use error::ExecError;
pub use id::{TxnId, TxnIds};
pub use participant::Participant;
pub use script::Script;

/// terms
#[derive(Clone, Debug)]
pub struct Terms { pub tid: TxnId, pub lease_ms: u32, pub proto: crate::resp::Proto, pub participants: bytes::Bytes, pub kept_reply_bytes_max: u32 }
