//! Commands whose keys may be on several participants: one command for each of them, and one reply out of theirs.

use bytes::{Bytes, BytesMut};

use crate::command::{CommandSpec, SplitKind};
use crate::resp::{Proto, ReplyWriter, Request, Value, elements};
use crate::route::{PlacedKey, PlacedKeys};
use crate::txn::Command;

/// A command divided over participants.
pub(super) struct Plan {
    kind: SplitKind,
    /// One command for each participant.
    pub(super) commands: Vec<Command>,
    /// For each key of the original, which of `commands` has it; the keys of each are in the original's order.
    origin: Vec<usize>,
}

/// Divides `request`, whose keys are `keys`. `None` when its parts alone do not make it up (MSETNX: each part has a condition).
pub(super) fn plan(kind: SplitKind, spec: &'static CommandSpec, request: &Request, keys: &[PlacedKey]) -> Option<Plan> {
    if kind == SplitKind::PairsIfAbsent { None } else { Some(divide(kind, spec, request, keys)) }
}

/// Divides `request` as if its parts made it up; MSETNX becomes MSETs, whose condition is the caller's to check.
pub(super) fn divide(kind: SplitKind, spec: &'static CommandSpec, request: &Request, keys: &[PlacedKey]) -> Plan {
    let name: &[u8] = if kind == SplitKind::PairsIfAbsent { b"MSET" } else { request.arg(0) };
    let width = if matches!(kind, SplitKind::Pairs | SplitKind::PairsIfAbsent) { 2 } else { 1 };
    let mut parts: Vec<(Vec<&[u8]>, PlacedKeys)> = Vec::new();
    let mut origin = Vec::with_capacity(keys.len());
    for key in keys {
        let part = parts.iter().position(|(_, keys)| keys[0].place == key.place).unwrap_or_else(|| {
            parts.push((vec![name], PlacedKeys::new()));
            parts.len() - 1
        });
        let (args, placed) = &mut parts[part];
        placed.push(PlacedKey { index: args.len() as u32, ..*key });
        args.extend(request.args_from(key.index as usize).take(width));
        origin.push(part);
    }
    let commands = parts.into_iter().map(|(args, keys)| Command { spec, request: Request::new(&args), keys }).collect();
    Plan { kind, commands, origin }
}

/// Writes the one reply that the replies of `plan`'s commands amount to. An error of any of them is the reply.
pub(super) fn merge(plan: &Plan, replies: &[Bytes], out: &mut BytesMut, proto: Proto) {
    let mut writer = ReplyWriter::new(out, proto);
    if let Some(error) = replies.iter().find(|reply| reply.first() == Some(&b'-')) {
        return out.extend_from_slice(error);
    }
    match plan.kind {
        SplitKind::Pairs => writer.simple("OK"),
        SplitKind::PairsIfAbsent => writer.integer(1),
        SplitKind::Count => writer.integer(replies.iter().filter_map(integer).sum()),
        SplitKind::Values => {
            writer.array(plan.origin.len());
            let mut values: Vec<_> =
                replies.iter().map(|reply| elements(reply).ok().flatten().unwrap_or_default().into_iter()).collect();
            for part in &plan.origin {
                match values[*part].next() {
                    Some(value) => out.extend_from_slice(&value),
                    None => ReplyWriter::new(out, proto).null(),
                }
            }
        }
    }
}

fn integer(reply: &Bytes) -> Option<i64> {
    match Value::parse(reply) {
        Ok(Value::Integer(value)) => Some(value),
        _ => None,
    }
}
