//! The answers to WEFT TXN: what is in the shards' records, for people and for scripts, as maps like those of CLUSTER SHARDS.
//!
//! Names of commands and keys are shown, values never.

use std::rc::Rc;

use super::Session;
use super::local::weft::Inquiry;
use crate::resp::ReplyWriter;
use crate::txn::{Decision, LockMode, Overview, Resolution, Sighting, Standing, State};

impl Session {
    /// Answers an operator.
    pub(super) async fn inquire(&mut self, inquiry: Inquiry) {
        let engine = Rc::clone(&self.context.engine);
        match inquiry {
            Inquiry::List { count, least_age } => {
                let overview = engine.overview(count, least_age).await;
                self.reply(|reply| list(reply, &overview));
            }
            Inquiry::Show(tid) => match engine.sighting(tid).await {
                Some(sighting) => self.reply(|reply| show(reply, &sighting)),
                None => self.reply(|reply| reply.null()),
            },
            Inquiry::Resolve(tid) => {
                let resolution = engine.resolve(tid).await;
                self.reply(|reply| reply.simple(outcome(resolution)));
            }
        }
    }
}

fn list(reply: &mut ReplyWriter<'_>, overview: &Overview) {
    reply.map(2);
    reply.bulk(b"complete");
    reply.integer(i64::from(overview.complete));
    reply.bulk(b"transactions");
    reply.array(overview.transactions.len());
    for sighting in &overview.transactions {
        reply.map(6);
        head(reply, sighting);
        reply.bulk(b"participants");
        reply.map(sighting.standings.len());
        for standing in &sighting.standings {
            text(reply, &standing.participant.to_string());
            reply.bulk(state(standing));
        }
    }
}

fn show(reply: &mut ReplyWriter<'_>, sighting: &Sighting) {
    reply.map(6);
    head(reply, sighting);
    reply.bulk(b"participants");
    reply.array(sighting.standings.len());
    sighting.standings.iter().for_each(|standing| show_standing(reply, standing));
}

/// What a transaction in the list and one that is shown have in common.
fn head(reply: &mut ReplyWriter<'_>, sighting: &Sighting) {
    field(reply, "tid", &sighting.tid.to_string());
    field(reply, "proxy", &format!("{:x}", sighting.tid.proxy));
    reply.bulk(b"age-ms");
    reply.integer(sighting.age_ms.try_into().unwrap_or(i64::MAX));
    reply.bulk(b"lease-left-ms");
    integer_or_null(reply, sighting.lease_left_ms());
    field(
        reply,
        "decision",
        match sighting.decision() {
            Decision::Committed => "committed",
            Decision::Aborted => "aborted",
            Decision::Open => "open",
        },
    );
}

fn show_standing(reply: &mut ReplyWriter<'_>, standing: &Standing) {
    let found = standing.found.as_ref();
    let record = found.map(|found| &found.record);
    let staged = record.and_then(|record| record.staged.as_ref());
    reply.map(8);
    field(reply, "participant", &standing.participant.to_string());
    field(reply, "address", &standing.address);
    reply.bulk(b"state");
    reply.bulk(state(standing));
    reply.bulk(b"age-ms");
    integer_or_null(reply, record.filter(|record| record.state != State::Gone).map(|record| record.age_ms));
    reply.bulk(b"lease-ms");
    integer_or_null(reply, staged.and_then(|staged| staged.lease_ms.try_into().ok()));
    field(reply, "run-id", staged.map_or("", |staged| &staged.run_id));
    let keys = staged.map_or(&[][..], |staged| &staged.keys);
    reply.bulk(b"keys");
    reply.array(keys.len());
    for lock in keys {
        reply.array(2);
        reply.bulk(&lock.key);
        reply.bulk(match lock.mode {
            LockMode::Shared => b"shared",
            LockMode::Exclusive => b"exclusive",
            LockMode::ExclusiveAbsent => b"exclusive-absent",
        });
    }
    let commands = found.map_or(&[][..], |found| &found.commands);
    reply.bulk(b"commands");
    reply.array(commands.len());
    commands.iter().for_each(|name| reply.bulk(name));
}

/// Where a participant stands, in a word.
fn state(standing: &Standing) -> &'static [u8] {
    match standing.found.as_ref().map(|found| &found.record.state) {
        Some(State::Prepared) => b"prepared",
        Some(State::Committed(_)) => b"committed",
        Some(State::Aborted) => b"aborted",
        Some(State::Gone) => b"gone",
        None => b"unreachable",
    }
}

fn outcome(resolution: Resolution) -> &'static str {
    match resolution {
        Resolution::Committed => "committed",
        Resolution::Aborted => "aborted",
        Resolution::Unknown => "unknown",
        Resolution::Unresolved => "unresolved",
    }
}

fn field(reply: &mut ReplyWriter<'_>, name: &str, value: &str) {
    text(reply, name);
    text(reply, value);
}

fn text(reply: &mut ReplyWriter<'_>, text: &str) {
    reply.bulk(text.as_bytes());
}

fn integer_or_null(reply: &mut ReplyWriter<'_>, value: Option<i64>) {
    match value {
        Some(value) => reply.integer(value),
        None => reply.null(),
    }
}
