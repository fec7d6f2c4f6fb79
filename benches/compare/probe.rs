//! Asks a target whether it can do an operation, by doing it once with other values and a look at what it left.
//!
//! "Not refused" is not enough: a proxy may take a transaction over two shards and send all of it to the first key's shard, where
//! nobody will look for the second key again.

use anyhow::{Context, bail};
use redis::Value;

use crate::client::Client;
use crate::fleet::Deployment;
use crate::keyspace;
use crate::load::random::Random;
use crate::load::script::Script;
use crate::operation::{Operation, Step};

/// The probe's values: same length, other bytes than the load's.
const FILL: u8 = b'p';

/// Does `operation` once on every place of its pipeline; an error says why it cannot be done.
pub(crate) fn probe(deployment: &Deployment, operation: &Operation, value_bytes: usize) -> anyhow::Result<()> {
    if !deployment.placement.allows(operation.draw) {
        bail!("one server has no two shards");
    }
    let mut ids = vec![0; operation.key_count()];
    deployment.placement.draw(operation.draw, (0, 1), &mut Random::new(1), &mut ids);
    let mut script = Script::new(operation, value_bytes, FILL);
    script.aim(&ids.repeat(operation.pipeline));

    let mut client = Client::connect(deployment.address())?;
    for (hop, steps) in script.hops.iter().zip(&operation.hops) {
        client.send(&hop.bytes)?;
        for index in 0..hop.expected.len() {
            let step = steps[index % steps.len()];
            let reply = client.receive().with_context(|| format!("refuses {}", command_name(step)))?;
            must_succeed(&reply).with_context(|| format!("fails inside {}", command_name(step)))?;
        }
    }
    let mut reader = Client::connect(deployment.address())?;
    operation.written().try_for_each(|key| must_hold(&mut reader, ids[key], value_bytes))
}

fn must_hold(reader: &mut Client, id: u32, value_bytes: usize) -> anyhow::Result<()> {
    let key = String::from_utf8_lossy(&keyspace::key(id)).into_owned();
    let value: Vec<u8> = reader.call_as(&["GET", &key])?;
    if value != vec![FILL; value_bytes] {
        bail!("wrong: says OK, but the write is not where GET looks for it");
    }
    Ok(())
}

/// A reply that EXEC gives holds no error.
pub(crate) fn must_succeed(reply: &Value) -> anyhow::Result<()> {
    let Value::Array(elements) = reply else { return Ok(()) };
    elements.iter().try_for_each(|element| match element {
        Value::ServerError(error) => bail!("{} {}", error.code(), error.details().unwrap_or_default()),
        _ => Ok(()),
    })
}

fn command_name(step: Step) -> &'static str {
    match step {
        Step::Get(_) => "GET",
        Step::Set(_) => "SET",
        Step::WatchBoth => "WATCH",
        Step::Multi => "MULTI",
        Step::Exec => "EXEC",
    }
}
