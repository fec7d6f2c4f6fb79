//! What clients ask a server about itself, where weft is the one to answer: ROLE and its modules.

use super::{Call, LocalOutcome};

/// `ROLE`: a primary without replicas, like INFO. What the shards replicate to is their own affair.
pub(super) fn role(mut call: Call<'_>) -> LocalOutcome {
    let mut reply = call.reply();
    reply.array(3);
    reply.bulk(b"master");
    reply.integer(0);
    reply.array(0);
    LocalOutcome::Replied
}

/// `MODULE LIST`
pub(super) fn modules(mut call: Call<'_>) -> LocalOutcome {
    call.reply().array(0);
    LocalOutcome::Replied
}
