//! From a node's word to a [`SlotMap`]: the replies of `CLUSTER SHARDS` (7.0 and later) and `CLUSTER SLOTS` (where the former is denied).
//!
//! The reply is input like any other: what cannot be understood is an error, never a panic or a guess. What real nodes do is allowed
//! for: a node that has met no other does not know its own address (empty ip), one whose endpoint is unknown says `?` or null; in both
//! cases it is meant to be reached as it just was. A primary stays the owner of its slots while it fails, since nobody else may serve
//! them; replicas that are not online are left out. Primaries without slots are kept, since an ASK may lead there, unless they failed: one
//! whose replica took over stays in the cluster's memory until it comes back, and must not keep commands for every shard from working.

use std::ops::RangeInclusive;

use redis::Value;

use super::slot_map::{Mode, Shard, SlotMap};
use crate::node_addr::NodeAddr;

/// The reply is not what the command answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{command} answered something else: {what}")]
pub struct DiscoveryError {
    command: &'static str,
    what: &'static str,
}

/// Reads the reply of `CLUSTER SHARDS` that `asked` gave.
pub fn from_shards(reply: &Value, asked: &NodeAddr) -> Result<SlotMap, DiscoveryError> {
    let fail = |what| DiscoveryError { command: "CLUSTER SHARDS", what };
    let mut shards = Vec::new();
    for entry in items(reply).ok_or(fail("not an array"))? {
        let bounds = items(field(entry, "slots").ok_or(fail("no slots"))?).ok_or(fail("slots are not an array"))?;
        let (pairs, []) = bounds.as_chunks::<2>() else { return Err(fail("an odd number of slot bounds")) };
        let ranges = pairs.iter().map(|[first, last]| range(first, last)).collect::<Option<Vec<_>>>().ok_or(fail("not a slot range"))?;
        let nodes = items(field(entry, "nodes").ok_or(fail("no nodes"))?).ok_or(fail("nodes are not an array"))?;
        let nodes = nodes.iter().map(|node| Node::of_shards(node, asked)).collect::<Option<Vec<_>>>().ok_or(fail("not a node"))?;
        // A shard that lost its last node is told without a primary; its slots then have no owner.
        if let Some(shard) = shard(nodes, ranges.is_empty()) {
            shards.push((shard, ranges));
        }
    }
    Ok(assemble(shards))
}

/// Reads the reply of `CLUSTER SLOTS` that `asked` gave.
pub fn from_slots(reply: &Value, asked: &NodeAddr) -> Result<SlotMap, DiscoveryError> {
    let fail = |what| DiscoveryError { command: "CLUSTER SLOTS", what };
    let mut shards: Vec<(Shard, Vec<RangeInclusive<u16>>)> = Vec::new();
    for entry in items(reply).ok_or(fail("not an array"))? {
        let Some([first, last, primary, replicas @ ..]) = items(entry) else { return Err(fail("an entry without a primary")) };
        let range = range(first, last).ok_or(fail("not a slot range"))?;
        let (name, address) = node_of_slots(primary, asked).ok_or(fail("not a node"))?;
        if let Some((_, ranges)) = shards.iter_mut().find(|(shard, _)| shard.name == name) {
            ranges.push(range);
            continue;
        }
        let replicas = replicas.iter().map(|node| node_of_slots(node, asked).map(|(_, address)| address));
        let replicas = replicas.collect::<Option<_>>().ok_or(fail("not a node"))?;
        shards.push((Shard { name, address, replicas }, vec![range]));
    }
    Ok(assemble(shards))
}

/// One node of `CLUSTER SHARDS`.
struct Node {
    id: String,
    address: NodeAddr,
    primary: bool,
    health: Health,
}

/// What the cluster thinks of a node, best first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Health {
    Online,
    Loading,
    Failed,
}

impl Node {
    fn of_shards(node: &Value, asked: &NodeAddr) -> Option<Self> {
        let port = field(node, "port").or_else(|| field(node, "tls-port"))?;
        // The endpoint is what the cluster wants clients to use; `?` is an unset hostname, null asks to keep the host.
        let host = match field(node, "endpoint").map(text) {
            Some(Some("" | "?")) => field(node, "ip").and_then(text).unwrap_or_default(),
            Some(Some(endpoint)) => endpoint,
            Some(None) | None => "",
        };
        Some(Self {
            id: text(field(node, "id")?)?.to_owned(),
            address: address(host, port, asked)?,
            primary: text(field(node, "role")?)? == "master",
            health: match field(node, "health").and_then(text) {
                Some("online") | None => Health::Online,
                Some("loading") => Health::Loading,
                Some(_) => Health::Failed,
            },
        })
    }
}

/// The healthiest primary with its online replicas. A failed primary may still be told beside the one that took over, or, `idle`, apart.
fn shard(nodes: Vec<Node>, idle: bool) -> Option<Shard> {
    let primaries = nodes.iter().filter(|node| node.primary && !(idle && node.health == Health::Failed));
    let primary = primaries.min_by_key(|node| node.health)?;
    let replicas = nodes.iter().filter(|node| !node.primary && node.health == Health::Online);
    Some(Shard {
        name: primary.id.clone(),
        address: primary.address.clone(),
        replicas: replicas.map(|node| node.address.clone()).collect(),
    })
}

/// Nodes tell their shards in any order; a map has them in the order of their first slots, so that two nodes' words can be compared.
fn assemble(mut shards: Vec<(Shard, Vec<RangeInclusive<u16>>)>) -> SlotMap {
    for (shard, _) in &mut shards {
        shard.replicas.sort_unstable();
    }
    let first = |ranges: &[RangeInclusive<u16>]| ranges.iter().map(|range| *range.start()).min().unwrap_or(u16::MAX);
    shards.sort_by(|(a, a_slots), (b, b_slots)| (first(a_slots), &a.name).cmp(&(first(b_slots), &b.name)));
    SlotMap::new(Mode::Cluster, shards)
}

/// One node of `CLUSTER SLOTS`: endpoint, port, id, metadata.
fn node_of_slots(node: &Value, asked: &NodeAddr) -> Option<(String, NodeAddr)> {
    let [endpoint, port, id, ..] = items(node)? else { return None };
    let host = text(endpoint).filter(|host| *host != "?").unwrap_or_default();
    Some((text(id)?.to_owned(), address(host, port, asked)?))
}

fn address(host: &str, port: &Value, asked: &NodeAddr) -> Option<NodeAddr> {
    let host = if host.is_empty() { asked.host() } else { host };
    NodeAddr::new(host, number(port)?)
}

fn range(first: &Value, last: &Value) -> Option<RangeInclusive<u16>> {
    Some(number(first)?..=number(last)?).filter(|range| !range.is_empty())
}

/// The value of `name` in a map, which RESP2 tells as an array of keys and values.
fn field<'a>(map: &'a Value, name: &str) -> Option<&'a Value> {
    match map {
        Value::Map(pairs) => pairs.iter().find(|(key, _)| text(key) == Some(name)).map(|(_, value)| value),
        Value::Array(items) => items.as_chunks::<2>().0.iter().find(|[key, _]| text(key) == Some(name)).map(|[_, value]| value),
        _ => None,
    }
}

fn items(value: &Value) -> Option<&[Value]> {
    if let Value::Array(items) = value { Some(items) } else { None }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

fn number(value: &Value) -> Option<u16> {
    match value {
        Value::Int(number) => u16::try_from(*number).ok(),
        // CLUSTER SHARDS of some versions tells slots as text.
        other => text(other)?.parse().ok(),
    }
}

#[cfg(test)]
mod tests;
