//! What can go wrong between weft and a shard, told apart by the one question that matters: may the request have been executed?

/// Why a request has no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// Not a byte of the request was sent: it was certainly not executed and may be sent again.
    #[error("the shard cannot be reached")]
    NotSent,
    /// The request was sent, wholly or in part, and its reply will never be known.
    #[error("the connection to the shard was lost before the reply came")]
    MaybeApplied,
}
