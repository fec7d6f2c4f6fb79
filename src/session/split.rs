//! Commands whose keys may be on several participants: one command for each of them, and one reply out of theirs.

use bytes::{Bytes, BytesMut};

use crate::command::{CommandSpec, KeyRef, Keys, SplitKind};
use crate::resp::{Proto, ReplyWriter, Request, Value, elements};
use crate::route::{Place, Reach, Routed};

/// A command divided over participants.
pub(super) struct Plan {
    kind: SplitKind,
    /// One command for each participant.
    pub(super) commands: Vec<Routed>,
    /// For each key of the original, which of `commands` has it; the keys of each are in the original's order.
    origin: Vec<usize>,
}

impl Plan {
    /// Whether it may change anything.
    pub(super) fn writes(&self) -> bool {
        self.commands.iter().any(Routed::writes)
    }
}

/// Divides `request`, whose keys are on the places beside them. `None` when it is malformed. The parts of MSETNX are MSETs, whose
/// condition is the caller's to check.
pub(super) fn divide(kind: SplitKind, spec: &'static CommandSpec, request: &Request, keys: &[(KeyRef, Place)]) -> Option<Plan> {
    let pairs = matches!(kind, SplitKind::Pairs | SplitKind::PairsIfAbsent);
    if pairs && request.argc().is_multiple_of(2) {
        return None;
    }
    let name: &[u8] = if kind == SplitKind::PairsIfAbsent { b"MSET" } else { request.arg(0) };
    let mut parts: Vec<(Place, Vec<&[u8]>, Keys)> = Vec::new();
    let mut origin = Vec::with_capacity(keys.len());
    for (key, place) in keys {
        let part = parts.iter().position(|(other, ..)| other == place).unwrap_or_else(|| {
            parts.push((*place, vec![name], Keys::new()));
            parts.len() - 1
        });
        let (_, args, refs) = &mut parts[part];
        refs.push(KeyRef { index: args.len() as u32, ..*key });
        args.extend(request.args_from(key.index as usize).take(if pairs { 2 } else { 1 }));
        origin.push(part);
    }
    let commands = parts
        .into_iter()
        .map(|(place, args, keys)| Routed { spec, request: Request::new(&args), place, keys, reach: Reach::Keys })
        .collect();
    Some(Plan { kind, commands, origin })
}

/// The one reply that the replies of `plan`'s commands amount to, in pieces of them. An error of any of them is the reply.
pub(super) fn merge(plan: &Plan, replies: &[Bytes], proto: Proto) -> Vec<Bytes> {
    if let Some(error) = replies.iter().find(|reply| reply.first() == Some(&b'-')) {
        return vec![error.clone()];
    }
    let mut head = BytesMut::new();
    let mut writer = ReplyWriter::new(&mut head, proto);
    let mut found = Vec::new();
    match plan.kind {
        SplitKind::Pairs => writer.simple("OK"),
        SplitKind::PairsIfAbsent => writer.integer(1),
        SplitKind::Count => writer.integer(replies.iter().filter_map(integer).sum()),
        SplitKind::Values => {
            writer.array(plan.origin.len());
            let mut values: Vec<_> = replies.iter().map(|reply| elements(reply).ok().flatten().unwrap_or_default().into_iter()).collect();
            found = plan.origin.iter().map(|part| values[*part].next().unwrap_or_else(|| null(proto))).collect();
        }
    }
    found.insert(0, head.freeze());
    found
}

fn null(proto: Proto) -> Bytes {
    let mut out = BytesMut::new();
    ReplyWriter::new(&mut out, proto).null();
    out.freeze()
}

fn integer(reply: &Bytes) -> Option<i64> {
    match Value::parse(reply) {
        Ok(Value::Integer(value)) => Some(value),
        _ => None,
    }
}
