//! Parts of weft by themselves, on input that is always the same: this program once more, told the subject and how many operations.

use std::hint::black_box;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, anyhow, bail};
use bytes::BytesMut;
use weft::command;
use weft::node_addr::NodeAddr;
use weft::resp::{Limits, ReplyScanner, Request, RequestDecoder};
use weft::route::{Route, route as find_place};
use weft::slot::SLOT_COUNT;
use weft::topology::{Mode, Shard, SlotMap};

use crate::cost::callgrind::{Callgrind, instructions};
use crate::cost::{CHILD_ARGUMENT, SUBJECTS, Work};

const KEY: &[u8] = b"key:000000012345";
const VALUE: [u8; 64] = [b'x'; 64];
/// How many requests or replies come together.
const TOGETHER: usize = 16;
/// How many shards there are to choose from.
const SHARDS: u16 = 4;

/// Counts `operations` of the subject called `name`.
pub(super) fn total(name: &str, operations: u64, callgrind: &Callgrind, path: &Path) -> anyhow::Result<u64> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([CHILD_ARGUMENT, name, &operations.to_string()]);
    let status = callgrind.command(&command, path).status()?;
    if !status.success() {
        bail!("it ends with {status}");
    }
    instructions(path)
}

/// The child's main.
pub(crate) fn child() -> anyhow::Result<ExitCode> {
    let mut arguments = std::env::args().skip(2);
    let name = arguments.next().context("which subject?")?;
    let operations = arguments.next().context("how many operations?")?.parse()?;
    let subject = SUBJECTS.iter().find(|subject| subject.name == name).with_context(|| format!("no subject {name}"))?;
    match subject.work {
        Work::Alone(work) => work(operations)?,
        Work::Served(_) => bail!("{name} is not done alone"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Takes requests off a client's buffer.
pub(super) fn decode(operations: u64) -> anyhow::Result<()> {
    let bytes = set().bytes().repeat(TOGETHER);
    let (mut decoder, limits) = (RequestDecoder::new(), Limits::default());
    for _ in 0..operations / TOGETHER as u64 {
        let mut buffer = BytesMut::from(&bytes[..]);
        while let Some(request) = decoder.decode(&mut buffer, &limits).map_err(|error| anyhow!("{error:?}"))? {
            black_box(request);
        }
        debug_assert!(buffer.is_empty());
    }
    Ok(())
}

/// Finds the ends of a shard's replies.
pub(super) fn scan(operations: u64) -> anyhow::Result<()> {
    let reply = [&b"$64\r\n"[..], &VALUE, b"\r\n"].concat();
    let bytes = reply.repeat(TOGETHER);
    let mut scanner = ReplyScanner::new();
    for _ in 0..operations / TOGETHER as u64 {
        let mut rest = &bytes[..];
        while let Some(len) = scanner.scan(rest).map_err(|error| anyhow!("{error:?}"))? {
            rest = &rest[black_box(len)..];
        }
        debug_assert!(rest.is_empty());
    }
    Ok(())
}

/// Finds the row of a request, its key, and where that lives.
pub(super) fn route(operations: u64) -> anyhow::Result<()> {
    let (request, map) = (set(), map()?);
    for _ in 0..operations {
        let request = black_box(&request);
        let spec = command::lookup(request).map_err(|error| anyhow!("{error:?}"))?;
        match find_place(&map, 0, spec, request) {
            Ok(Route::One(routed)) => black_box(routed),
            other => bail!("a SET has one place, not {other:?}"),
        };
    }
    Ok(())
}

fn set() -> Request {
    Request::new(&[&b"SET"[..], KEY, &VALUE])
}

fn map() -> anyhow::Result<SlotMap> {
    let each = SLOT_COUNT / SHARDS;
    let shards = (0..SHARDS).map(|index| {
        let address = NodeAddr::new("127.0.0.1", 7000 + index).context("an address")?;
        let shard = Shard { name: index.to_string(), address, replicas: Vec::new() };
        Ok((shard, vec![index * each..=(index + 1) * each - 1]))
    });
    Ok(SlotMap::new(Mode::Cluster, shards.collect::<anyhow::Result<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_does_its_work() -> anyhow::Result<()> {
        SUBJECTS.iter().try_for_each(|subject| match subject.work {
            Work::Alone(work) => work(64),
            Work::Served(_) => Ok(()),
        })
    }
}
