//! XREAD and XREADGROUP over streams of several participants.
//!
//! XREAD is one snapshot, or split if the configuration says so. XREADGROUP is carried out at each participant for itself: what it
//! delivers from one stream does not depend on another, so nobody can tell from the replies. If one participant refuses, what others
//! delivered is handed over, for it already counts as delivered; the refusal is the reply only if there is nothing else.

use bytes::{Bytes, BytesMut};

use super::Context;
use crate::command::{CommandSpec, KeyRef, Keys};
use crate::config::MultiKey;
use crate::resp::{Proto, ReplyWriter, Request, elements, error_reply};
use crate::route::{Place, Reach, Routed};
use crate::txn::ExecError;

impl Context {
    /// Reads the streams `keys` of `request`, which are on the places beside them.
    pub(super) async fn read_streams(
        &self,
        spec: &'static CommandSpec,
        request: &Request,
        keys: &[(KeyRef, Place)],
        proto: Proto,
    ) -> Result<Bytes, ExecError> {
        let commands = divide(spec, request, keys).ok_or_else(|| ExecError::Rejected(error_reply::SYNTAX.to_owned()))?;
        let replies = match self.multi_key(spec) {
            MultiKey::Reject => return Err(ExecError::Rejected(error_reply::CROSSSLOT.to_owned())),
            MultiKey::Atomic if !spec.is_write() => self.engine.snapshot(commands, proto).await?,
            MultiKey::Atomic | MultiKey::Split => self.engine.scatter(commands, proto).await?,
        };
        Ok(merge(request, keys, &replies, proto))
    }
}

/// One command for each participant; `None` if there are not as many ids as keys.
fn divide(spec: &'static CommandSpec, request: &Request, keys: &[(KeyRef, Place)]) -> Option<Vec<Routed>> {
    let first = keys.first()?.0.index as usize;
    let count = keys.len();
    if request.argc() != first + 2 * count {
        return None;
    }
    let mut places: Vec<Place> = keys.iter().map(|(_, place)| *place).collect();
    places.sort_unstable();
    places.dedup();
    let part = |place: Place| {
        let own = || keys.iter().filter(move |(_, other)| *other == place).map(|(key, _)| key);
        let mut args: Vec<&[u8]> = request.args_from(0).take(first).collect();
        args.extend(own().map(|key| request.arg(key.index as usize)));
        let refs: Keys = own().enumerate().map(|(number, key)| KeyRef { index: (first + number) as u32, ..*key }).collect();
        args.extend(own().map(|key| request.arg(key.index as usize + count)));
        Routed { spec, request: Request::new(&args), place, keys: refs, reach: Reach::Keys }
    };
    Some(places.into_iter().map(part).collect())
}

/// The streams of all replies, in the order in which the request names them.
fn merge(request: &Request, keys: &[(KeyRef, Place)], replies: &[Bytes], proto: Proto) -> Bytes {
    let mut streams: Vec<(Bytes, Bytes)> = Vec::new();
    for part in replies.iter().filter_map(|reply| elements(reply).ok().flatten()) {
        match proto {
            Proto::Resp3 => streams.extend(part.chunks_exact(2).map(|pair| (pair[0].clone(), pair.concat().into()))),
            Proto::Resp2 => streams.extend(part.into_iter().filter_map(|stream| Some((elements(&stream).ok()??.first()?.clone(), stream)))),
        }
    }
    if streams.is_empty()
        && let Some(error) = replies.iter().find(|reply| reply.first() == Some(&b'-'))
    {
        return error.clone();
    }
    let position = |name: &Bytes| keys.iter().position(|(key, _)| is_bulk(name, request.arg(key.index as usize)));
    streams.sort_by_key(|(name, _)| position(name));
    let mut out = BytesMut::new();
    let mut writer = ReplyWriter::new(&mut out, proto);
    match proto {
        _ if streams.is_empty() => writer.null_array(),
        Proto::Resp2 => writer.array(streams.len()),
        Proto::Resp3 => writer.map(streams.len()),
    }
    streams.iter().for_each(|(_, stream)| out.extend_from_slice(stream));
    out.freeze()
}

/// Whether `frame` is `text` as a bulk string.
fn is_bulk(frame: &[u8], text: &[u8]) -> bool {
    frame.strip_suffix(b"\r\n").is_some_and(|frame| frame.ends_with(text) && frame.len() == text.len() + 3 + text.len().to_string().len())
}
