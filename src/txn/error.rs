//! Why a command or a transaction has no reply of a shard's: each says whether anything was applied.

use bytes::Bytes;

/// Whose fault it is, whether something was applied, whether it may be tried again: one variant for each combination that a client is
/// told apart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExecError {
    /// A lock of another transaction was waited for in vain. Nothing was applied; trying again is safe.
    #[error("lock wait timed out")]
    LockWait,
    /// A shard could not be reached, or its slot kept moving. Nothing was applied; trying again is safe.
    #[error("shard unreachable")]
    Unreachable,
    /// A request that changes data in one step was sent and its reply was lost. It may have been applied.
    #[error("outcome unknown")]
    OutcomeUnknown,
    /// A transaction over several participants is undecided, as far as can be told. It will be applied everywhere or nowhere.
    #[error("transaction outcome unknown")]
    TxnUnknown,
    /// A transaction is decided and will be applied everywhere, but its replies are not available.
    #[error("transaction committed, replies unavailable")]
    TxnPending,
    /// A transaction is applied, and too few replicas have confirmed it in time.
    #[error("transaction committed, unconfirmed")]
    Unconfirmed,
    /// A shard refused before anything was applied. The text is the shard's error reply, a whole frame.
    #[error("refused by a shard")]
    Refused(Bytes),
    /// A script that is computed uses a key that it has not declared. Nothing was applied; with that key it can be tried again.
    #[error("{text}")]
    Undeclared {
        /// Which of the commands it is.
        command: usize,
        /// The key.
        key: Bytes,
        /// The error for the client, if it is not tried again.
        text: String,
    },
    /// weft refuses: nothing was applied. The text begins with its code.
    #[error("{0}")]
    Rejected(String),
}
