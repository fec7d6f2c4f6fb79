//! AUTH and HELLO.
//!
//! There is one user, `default`, as in a Redis without ACLs: with a password if the configuration sets one.

use bytes::Bytes;

use super::client::is_label;
use super::{Call, LocalOutcome, LocalSettings, integer};
use crate::resp::{Proto, Request, error_reply};
use crate::session::client::Label;

/// `AUTH [username] password`. A wrong password takes nothing away from a client that is authenticated already.
pub(super) fn auth(mut call: Call<'_>) -> LocalOutcome {
    let settings = call.context.settings;
    let (user, password) = match call.request.argc() {
        2 if settings.admits_anyone() => return call.error(error_reply::AUTH_WITHOUT_PASSWORD),
        2 => (DEFAULT_USER, call.arg(1)),
        3 => (call.arg(1), call.arg(2)),
        _ => return call.error(error_reply::SYNTAX),
    };
    if !is_known(settings, user, password) {
        return call.error(error_reply::WRONGPASS);
    }
    call.client.authenticated = true;
    call.ok()
}

/// `HELLO [version [AUTH username password] [SETNAME name]]`. A HELLO that is refused changes nothing, as from Redis 7.2 on.
pub(super) fn hello(mut call: Call<'_>) -> LocalOutcome {
    let hello = match Hello::read(call.request) {
        Ok(hello) => hello,
        Err(text) => return call.error(&text),
    };
    if let Some((user, password)) = hello.credentials {
        if !is_known(call.context.settings, user, password) {
            return call.error(error_reply::WRONGPASS);
        }
        call.client.authenticated = true;
    }
    if !call.client.authenticated {
        return call.error(error_reply::NOAUTH_HELLO);
    }
    if let Some(name) = hello.name {
        call.client.set_label(Label::Name, name);
    }
    if let Some(proto) = hello.proto {
        call.client.profile.proto = proto;
    }
    greet(call)
}

/// The protocol version that `request`, a HELLO of a client that has authenticated, asks for and will get.
pub(super) fn greeted(request: &Request, settings: &LocalSettings) -> Option<Proto> {
    let hello = Hello::read(request).ok()?;
    hello.proto.filter(|_| hello.credentials.is_none_or(|(user, password)| is_known(settings, user, password)))
}

/// Says who answers. Clients look for `server` and `version` to learn what they may send, so these are the shards'.
fn greet(mut call: Call<'_>) -> LocalOutcome {
    let version = call.context.redis_version;
    let proto = i64::from(call.client.profile.resp());
    let id = call.client.id();
    let mut reply = call.reply();
    reply.map(7);
    reply.bulk(b"server");
    reply.bulk(b"redis");
    reply.bulk(b"version");
    reply.bulk(version.as_bytes());
    reply.bulk(b"proto");
    reply.integer(proto);
    reply.bulk(b"id");
    reply.integer(id as i64);
    reply.bulk(b"mode");
    reply.bulk(b"standalone");
    reply.bulk(b"role");
    reply.bulk(b"master");
    reply.bulk(b"modules");
    reply.array(0);
    LocalOutcome::Replied
}

/// What a HELLO asks for.
#[derive(Default)]
struct Hello<'a> {
    proto: Option<Proto>,
    credentials: Option<(&'a [u8], &'a [u8])>,
    name: Option<Bytes>,
}

impl<'a> Hello<'a> {
    fn read(request: &'a Request) -> Result<Self, String> {
        let mut hello = Self::default();
        if request.argc() == 1 {
            return Ok(hello);
        }
        hello.proto = match integer(request.arg(1)) {
            Some(2) => Some(Proto::Resp2),
            Some(3) => Some(Proto::Resp3),
            Some(_) => return Err(error_reply::NOPROTO.to_owned()),
            None => return Err(error_reply::PROTOCOL_VERSION.to_owned()),
        };
        let mut at = 2;
        while at < request.argc() {
            let option = request.arg(at);
            let more = request.argc() - at - 1;
            if option.eq_ignore_ascii_case(b"auth") && more >= 2 {
                hello.credentials = Some((request.arg(at + 1), request.arg(at + 2)));
                at += 3;
            } else if option.eq_ignore_ascii_case(b"setname") && more >= 1 {
                let name = request.arg(at + 1);
                if !is_label(name) {
                    return Err(error_reply::CLIENT_NAME.to_owned());
                }
                hello.name = Some(Bytes::copy_from_slice(name));
                at += 2;
            } else {
                return Err(error_reply::hello_option(option));
            }
        }
        Ok(hello)
    }
}

/// Whether these are a user's name and password. Where no password is set any will do, as in Redis.
fn is_known(settings: &LocalSettings, user: &[u8], password: &[u8]) -> bool {
    user == DEFAULT_USER && settings.password.as_ref().is_none_or(|secret| secret.matches(password))
}

pub(super) const DEFAULT_USER: &[u8] = b"default";
