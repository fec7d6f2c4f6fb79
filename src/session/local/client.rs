//! The subcommands of CLIENT.

use std::time::Duration;

use bytes::Bytes;

use super::{Call, LocalOutcome, integer};
use crate::resp::{Request, error_reply};
use crate::session::blocking::lines::Release;
use crate::session::client::{Label, ReplyMode};
use crate::session::pause::Held;
use crate::session::registry::{ClientFilter, ClientKind, KillTarget};

/// `CLIENT ID`.
pub(super) fn id(mut call: Call<'_>) -> LocalOutcome {
    let id = call.client.id() as i64;
    call.reply().integer(id);
    LocalOutcome::Replied
}

/// `CLIENT GETNAME`.
pub(super) fn name(mut call: Call<'_>) -> LocalOutcome {
    let name = call.client.labels().name.clone();
    if name.is_empty() {
        call.reply().null();
    } else {
        call.reply().bulk(&name);
    }
    LocalOutcome::Replied
}

/// `CLIENT SETNAME name`.
pub(super) fn set_name(mut call: Call<'_>) -> LocalOutcome {
    set_label(&mut call, 2, Label::Name, error_reply::CLIENT_NAME)
}

/// `CLIENT SETINFO LIB-NAME|LIB-VER value`.
pub(super) fn set_info(mut call: Call<'_>) -> LocalOutcome {
    let attribute = call.arg(2);
    let Some(&(attribute, label)) = ATTRIBUTES.iter().find(|(name, _)| attribute.eq_ignore_ascii_case(name.as_bytes())) else {
        let text = error_reply::client_attribute(attribute);
        return call.error(&text);
    };
    set_label(&mut call, 3, label, &error_reply::client_attribute_value(attribute))
}

const ATTRIBUTES: &[(&str, Label)] = &[("lib-name", Label::LibName), ("lib-ver", Label::LibVer)];

/// Gives the client the label that stands at `index`, or says `refusal`. The value is copied: a slice would keep the read buffer alive.
fn set_label(call: &mut Call<'_>, index: usize, label: Label, refusal: &str) -> LocalOutcome {
    if !is_label(call.arg(index)) {
        return call.error(refusal);
    }
    let value = Bytes::copy_from_slice(call.arg(index));
    call.client.set_label(label, value);
    call.ok()
}

/// Whether `text` can stand in a line of CLIENT LIST without breaking it: `!` to `~` only.
pub(super) fn is_label(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_graphic)
}

/// `CLIENT INFO`.
pub(super) fn info(mut call: Call<'_>) -> LocalOutcome {
    let line = call.client.line(call.context.now);
    call.reply().verbatim("txt", &line);
    LocalOutcome::Replied
}

/// `CLIENT LIST [TYPE kind | ID id …]`: the clients of all workers.
pub(super) fn list(mut call: Call<'_>) -> LocalOutcome {
    let filter = match filter(call.request) {
        Ok(filter) => filter,
        Err(text) => return call.error(&text),
    };
    call.client.publish();
    let lines = call.context.clients.list(&filter, call.context.now);
    call.reply().verbatim("txt", &lines);
    LocalOutcome::Replied
}

fn filter(request: &Request) -> Result<ClientFilter, String> {
    match request.argc() {
        2 => Ok(ClientFilter::All),
        4 if request.arg(2).eq_ignore_ascii_case(b"type") => kind(request.arg(3)).map(ClientFilter::Kind),
        4.. if request.arg(2).eq_ignore_ascii_case(b"id") => {
            let ids: Option<Vec<i64>> = request.args_from(3).map(integer).collect();
            let ids = ids.ok_or_else(|| error_reply::CLIENT_ID.to_owned())?;
            Ok(ClientFilter::Ids(ids.into_iter().filter_map(|id| u64::try_from(id).ok()).collect()))
        }
        _ => Err(error_reply::SYNTAX.to_owned()),
    }
}

fn kind(word: &[u8]) -> Result<ClientKind, String> {
    let known = KINDS.iter().find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes()));
    known.map(|&(_, kind)| kind).ok_or_else(|| error_reply::client_type(word))
}

const KINDS: &[(&str, ClientKind)] = &[
    ("normal", ClientKind::Normal),
    ("slave", ClientKind::Replica),
    ("replica", ClientKind::Replica),
    ("pubsub", ClientKind::PubSub),
    ("master", ClientKind::Master),
];

/// `CLIENT REPLY ON|OFF|SKIP`: only ON is answered.
pub(super) fn reply_mode(mut call: Call<'_>) -> LocalOutcome {
    let mode = call.arg(2);
    if mode.eq_ignore_ascii_case(b"on") {
        call.client.reply_mode = ReplyMode::On;
        return call.ok();
    }
    if mode.eq_ignore_ascii_case(b"off") {
        call.client.reply_mode = ReplyMode::Off;
    } else if !mode.eq_ignore_ascii_case(b"skip") {
        return call.error(error_reply::SYNTAX);
    } else if call.client.reply_mode != ReplyMode::Off {
        call.client.reply_mode = ReplyMode::SkipNext;
    }
    LocalOutcome::Replied
}

/// `CLIENT UNBLOCK id [TIMEOUT|ERROR]`: 1 if that client waited.
pub(super) fn unblock(mut call: Call<'_>) -> LocalOutcome {
    let request = call.request;
    let how = match request.args_from(3).next() {
        None => Release::TimedOut,
        Some(word) if word.eq_ignore_ascii_case(b"timeout") => Release::TimedOut,
        Some(word) if word.eq_ignore_ascii_case(b"error") => Release::Error,
        Some(_) => return call.error(error_reply::UNBLOCK_REASON),
    };
    let Some(id) = integer(call.arg(2)) else { return call.error(error_reply::NOT_AN_INTEGER) };
    let released = u64::try_from(id).is_ok_and(|id| call.context.waiting.release(id, how));
    call.reply().integer(i64::from(released));
    LocalOutcome::Replied
}

/// `CLIENT KILL address`, or `CLIENT KILL [ID id] [TYPE kind] [ADDR address] [LADDR address] [USER name] [SKIPME yes|no]`. What a client that
/// is killed has in flight is brought to its end; it hears nothing of it.
pub(super) fn kill(mut call: Call<'_>) -> LocalOutcome {
    let own = call.client.id();
    call.client.publish();
    if call.request.argc() == 3 {
        let target = KillTarget { addr: Some(address(call.arg(2))), ..KillTarget::default() };
        return match call.context.clients.kill(&target, own) {
            (0, false) => call.error(error_reply::NO_SUCH_CLIENT),
            (_, own) => call.ok().closing_if(own),
        };
    }
    let (target, skips_own) = match kill_target(call.request) {
        Ok(target) => target,
        Err(text) => return call.error(&text),
    };
    let (killed, own) = call.context.clients.kill(&target, own);
    let own = own && !skips_own;
    call.reply().integer(killed as i64 + i64::from(own));
    LocalOutcome::Replied.closing_if(own)
}

/// Whom CLIENT KILL with filters means, and whether it spares whoever asks.
fn kill_target(request: &Request) -> Result<(KillTarget, bool), String> {
    let (mut target, mut skips_own) = (KillTarget::default(), true);
    let mut words = request.args_from(2);
    while let Some(filter) = words.next() {
        let value = words.next().ok_or(error_reply::SYNTAX)?;
        match filter.to_ascii_lowercase().as_slice() {
            b"id" => {
                let id = integer(value).and_then(|id| u64::try_from(id).ok()).filter(|id| *id > 0);
                target.id = Some(id.ok_or(error_reply::CLIENT_ID_RANGE)?);
            }
            b"type" => target.kind = Some(kind(value)?),
            b"addr" => target.addr = Some(address(value)),
            b"laddr" => target.laddr = Some(address(value)),
            // There is one, and everybody is it.
            b"user" if value == b"default" => {}
            b"user" => return Err(error_reply::no_such_user(value)),
            b"skipme" if value.eq_ignore_ascii_case(b"yes") => skips_own = true,
            b"skipme" if value.eq_ignore_ascii_case(b"no") => skips_own = false,
            _ => return Err(error_reply::SYNTAX.to_owned()),
        }
    }
    Ok((target, skips_own))
}

fn address(word: &[u8]) -> String {
    String::from_utf8_lossy(word).into_owned()
}

/// `CLIENT PAUSE milliseconds [WRITE|ALL]`: the clients of this weft.
pub(super) fn pause(mut call: Call<'_>) -> LocalOutcome {
    let request = call.request;
    let held = match request.args_from(3).next() {
        None => Held::All,
        Some(word) if word.eq_ignore_ascii_case(b"all") => Held::All,
        Some(word) if word.eq_ignore_ascii_case(b"write") => Held::Writes,
        Some(_) => return call.error(error_reply::PAUSE_MODE),
    };
    let Some(milliseconds) = integer(call.arg(2)) else { return call.error(error_reply::TIMEOUT_NOT_AN_INTEGER) };
    let Ok(milliseconds) = u64::try_from(milliseconds) else { return call.error(error_reply::TIMEOUT_NEGATIVE) };
    let Some(end) = tokio::time::Instant::now().checked_add(Duration::from_millis(milliseconds)) else {
        return call.error(error_reply::TIMEOUT_NOT_AN_INTEGER);
    };
    call.context.clients.pause().begin(held, end);
    call.ok()
}

/// `CLIENT UNPAUSE`.
pub(super) fn unpause(mut call: Call<'_>) -> LocalOutcome {
    call.context.clients.pause().end();
    call.ok()
}

/// `CLIENT NO-EVICT ON|OFF`. weft disconnects no client to free memory; the wish is kept and shown.
pub(super) fn no_evict(mut call: Call<'_>) -> LocalOutcome {
    switch(&mut call, |call, on| call.client.profile.no_evict = on)
}

/// `CLIENT NO-TOUCH ON|OFF`. Connections to the shards are shared, so keys are touched all the same; the wish is kept and shown.
pub(super) fn no_touch(mut call: Call<'_>) -> LocalOutcome {
    switch(&mut call, |call, on| call.client.profile.no_touch = on)
}

fn switch(call: &mut Call<'_>, set: fn(&mut Call<'_>, bool)) -> LocalOutcome {
    let on = match call.arg(2) {
        word if word.eq_ignore_ascii_case(b"on") => true,
        word if word.eq_ignore_ascii_case(b"off") => false,
        _ => return call.error(error_reply::SYNTAX),
    };
    set(call, on);
    call.ok()
}
