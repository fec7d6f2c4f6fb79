//! ACL, where there is one user: `default`, who may do everything, with the password that weft's file sets.
//!
//! Users are weft's affair, since it is to weft that clients prove who they are; the shards' own users stand between them and weft. So
//! what is asked about users is answered as by a Redis without any of its own, and adding some is refused.

use super::auth::DEFAULT_USER;
use super::{Call, LocalOutcome, integer};
use crate::command::{self, LookupError};
use crate::resp::{Request, error_reply};

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

/// `ACL LIST`. Redis would show a digest of the password; weft shows that there is one by leaving out `nopass`.
pub(super) fn list(mut call: Call<'_>) -> LocalOutcome {
    let password = if call.context.settings.admits_anyone() { "nopass " } else { "" };
    let mut reply = call.reply();
    reply.array(1);
    reply.bulk(format!("user default on {password}sanitize-payload ~* &* +@all").as_bytes());
    LocalOutcome::Replied
}

/// `ACL GETUSER name`
pub(super) fn user(mut call: Call<'_>) -> LocalOutcome {
    let is_default = call.arg(2) == DEFAULT_USER;
    let flags: &[&[u8]] = if call.context.settings.admits_anyone() { &[b"on", b"nopass"] } else { &[b"on"] };
    let mut reply = call.reply();
    if !is_default {
        reply.null();
        return LocalOutcome::Replied;
    }
    reply.map(6);
    reply.bulk(b"flags");
    reply.set(flags.len());
    flags.iter().for_each(|flag| reply.bulk(flag));
    reply.bulk(b"passwords");
    reply.array(0);
    for (name, value) in [("commands", "+@all"), ("keys", "~*"), ("channels", "&*")] {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"selectors");
    reply.array(0);
    LocalOutcome::Replied
}

/// `ACL DELUSER name …`: there is nobody who could be removed.
pub(super) fn remove(mut call: Call<'_>) -> LocalOutcome {
    if call.args_from(2).any(|name| name == DEFAULT_USER) {
        return call.error(error_reply::ACL_DEFAULT_USER);
    }
    call.reply().integer(0);
    LocalOutcome::Replied
}

/// `ACL DRYRUN name command [arg …]`: whoever there is may do whatever there is.
pub(super) fn dry_run(mut call: Call<'_>) -> LocalOutcome {
    let name = call.arg(2);
    if name != DEFAULT_USER {
        let text = error_reply::acl_no_such_user(name);
        return call.error(&text);
    }
    let words: Vec<&[u8]> = call.args_from(3).collect();
    match command::lookup(&Request::new(&words)) {
        Ok(_) => call.ok(),
        Err(LookupError::WrongArity(spec)) => {
            let text = error_reply::wrong_arity(spec.name);
            call.error(&text)
        }
        Err(_) => {
            let text = error_reply::acl_no_such_command(words.first().copied().unwrap_or_default());
            call.error(&text)
        }
    }
}

/// `ACL LOG [count | RESET]`: who may do everything is refused nothing.
pub(super) fn log(mut call: Call<'_>) -> LocalOutcome {
    let what = call.arg(2);
    if what.eq_ignore_ascii_case(b"reset") {
        return call.ok();
    }
    if call.request.argc() > 2 && integer(what).is_none() {
        return call.error(error_reply::NOT_AN_INTEGER);
    }
    call.reply().array(0);
    LocalOutcome::Replied
}

/// `ACL LOAD` and `ACL SAVE`
pub(super) fn file(mut call: Call<'_>) -> LocalOutcome {
    call.error(error_reply::ACL_WITHOUT_FILE)
}
