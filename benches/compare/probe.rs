//! Asks a target whether it can do a workload, by one operation with other values and a look at what it left.
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
use crate::workload::{Step, Workload};

/// The probe's values: same length, other bytes than the load's.
const FILL: u8 = b'p';

/// Does one operation of `workload`; an error says why it cannot be done.
pub(crate) fn probe(deployment: &Deployment, workload: &Workload, value_bytes: usize) -> anyhow::Result<()> {
    if !deployment.placement.allows(workload.draw) {
        bail!("one server has no two shards");
    }
    let ids = deployment.placement.draw(workload.draw, &mut Random::new(1)).repeat(workload.pipeline);
    let mut script = Script::new(workload, value_bytes, FILL);
    script.aim(&ids);

    let mut client = Client::connect(deployment.address())?;
    for (hop, steps) in script.hops.iter().zip(workload.hops) {
        client.send(&hop.bytes)?;
        for index in 0..hop.expected.len() {
            let step = steps[index % steps.len()];
            let reply = client.receive().with_context(|| format!("refuses {}", command_name(step)))?;
            if let Some(error) = error_within(&reply) {
                bail!("fails inside {}: {error}", command_name(step));
            }
        }
    }
    if workload.hops.iter().flat_map(|steps| *steps).any(|step| matches!(step, Step::Set(_))) {
        let mut reader = Client::connect(deployment.address())?;
        let written = if workload.hops.iter().any(|steps| steps.contains(&Step::Exec)) { &ids[..2] } else { &ids[..1] };
        written.iter().try_for_each(|&id| must_hold(&mut reader, id, value_bytes))?;
    }
    Ok(())
}

fn must_hold(reader: &mut Client, id: u32, value_bytes: usize) -> anyhow::Result<()> {
    let key = String::from_utf8_lossy(&keyspace::key(id)).into_owned();
    let value: Vec<u8> = reader.call_as(&["GET", &key])?;
    if value != vec![FILL; value_bytes] {
        bail!("wrong: says OK, but the write is not where GET looks for it");
    }
    Ok(())
}

fn error_within(reply: &Value) -> Option<String> {
    let Value::Array(elements) = reply else { return None };
    elements.iter().find_map(|element| match element {
        Value::ServerError(error) => Some(format!("{} {}", error.code(), error.details().unwrap_or_default())),
        _ => None,
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
