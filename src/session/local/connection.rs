//! PING, ECHO, SELECT, TIME, QUIT and RESET.

use super::{Call, Databases, LocalOutcome, integer};
use crate::resp::{Proto, error_reply};

/// `PING [message]`. A RESP2 client with subscriptions reads messages only, and gets its answer in the form of one.
pub(super) fn ping(mut call: Call<'_>) -> LocalOutcome {
    let request = call.request;
    if request.argc() > 2 {
        return call.error(&error_reply::wrong_arity("ping"));
    }
    let message = request.args_from(1).next();
    if call.client.proto() == Proto::Resp2 && call.client.profile.subscriptions.any() {
        let mut reply = call.reply();
        reply.array(2);
        reply.bulk(b"pong");
        reply.bulk(message.unwrap_or_default());
    } else {
        match message {
            Some(message) => call.reply().bulk(message),
            None => call.reply().simple("PONG"),
        }
    }
    LocalOutcome::Replied
}

/// `ECHO message`.
pub(super) fn echo(mut call: Call<'_>) -> LocalOutcome {
    let request = call.request;
    for message in request.args_from(1).take(1) {
        call.reply().bulk(message);
    }
    LocalOutcome::Replied
}

/// `SELECT index`.
pub(super) fn select(mut call: Call<'_>) -> LocalOutcome {
    match database(call.arg(1), call.context.settings.databases) {
        Ok(db) => {
            call.client.profile.db = db;
            call.ok()
        }
        Err(text) => call.error(text),
    }
}

/// A cluster's refusal is Redis Cluster's own: it tells people why there is no second database, which "out of range" would not.
pub(super) fn database(index: &[u8], databases: Databases) -> Result<u32, &'static str> {
    let index = integer(index).ok_or(error_reply::NOT_AN_INTEGER)?;
    let index = i32::try_from(index).map_err(|_| error_reply::NOT_A_32_BIT_INTEGER)?;
    let count = match databases {
        Databases::Cluster if index == 0 => return Ok(0),
        Databases::Cluster => return Err(error_reply::SELECT_IN_CLUSTER),
        Databases::Count(count) => u32::from(count),
    };
    u32::try_from(index).ok().filter(|&index| index < count).ok_or(error_reply::DB_INDEX)
}

/// `TIME`: weft's clock. It costs no round trip, and shards would not agree among themselves either.
pub(super) fn time(mut call: Call<'_>) -> LocalOutcome {
    let time = call.context.unix_time;
    let mut digits = itoa::Buffer::new();
    let mut reply = call.reply();
    reply.array(2);
    reply.bulk(digits.format(time.as_secs()).as_bytes());
    reply.bulk(digits.format(time.subsec_micros()).as_bytes());
    LocalOutcome::Replied
}

/// `QUIT`.
pub(super) fn quit(mut call: Call<'_>) -> LocalOutcome {
    call.reply().simple("OK");
    LocalOutcome::Close
}

/// `RESET`.
pub(super) fn reset(mut call: Call<'_>) -> LocalOutcome {
    let authenticated = call.context.settings.admits_anyone();
    call.client.reset(authenticated);
    call.reply().simple("RESET");
    LocalOutcome::Reset
}
