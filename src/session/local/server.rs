//! What clients ask a server about itself, where weft is the one to answer: ROLE, its users, its modules.

use super::auth::DEFAULT_USER;
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

/// `ACL WHOAMI`
pub(super) fn who_am_i(mut call: Call<'_>) -> LocalOutcome {
    call.reply().bulk(DEFAULT_USER);
    LocalOutcome::Replied
}

/// `ACL USERS`
pub(super) fn users(mut call: Call<'_>) -> LocalOutcome {
    let mut reply = call.reply();
    reply.array(1);
    reply.bulk(DEFAULT_USER);
    LocalOutcome::Replied
}

/// `ACL LIST`: the one user may do everything. Redis would show a digest of the password; weft shows that there is one by leaving out
/// `nopass`.
pub(super) fn list(mut call: Call<'_>) -> LocalOutcome {
    let password = if call.context.settings.admits_anyone() { "nopass " } else { "" };
    let mut reply = call.reply();
    reply.array(1);
    reply.bulk(format!("user default on {password}sanitize-payload ~* &* +@all").as_bytes());
    LocalOutcome::Replied
}

/// `MODULE LIST`
pub(super) fn modules(mut call: Call<'_>) -> LocalOutcome {
    call.reply().array(0);
    LocalOutcome::Replied
}
