//! A client's line in `CLIENT LIST`: the fields and the order of Redis 7.0, then the library's as 7.2 appends them.
//!
//! Figures that describe Redis's own buffers are 0 where weft has nothing of the kind; `fd` and sizes are weft's.

use std::io::Write;
use std::time::Instant;

use super::{ClientShared, Labels, Profile};
use crate::session::tracking::terms::{self, Kind};

/// Appends the line, with its line feed.
pub(super) fn write(out: &mut Vec<u8>, client: &ClientShared, profile: &Profile, labels: &Labels, now: Instant) {
    let peer = client.peer;
    let age = client.age(now).as_secs();
    let idle = now.saturating_duration_since(profile.last_interaction).as_secs();
    let subscriptions = profile.subscriptions;
    let multi = profile.queued.map_or(-1, |queued| i64::from(queued.commands));
    let multi_bytes = profile.queued.map_or(0, |queued| queued.bytes);
    let (input, output) = (profile.buffered_input, profile.buffered_output);

    put(out, format_args!("id={} addr={} laddr={} fd={} name=", client.id, peer.addr, peer.laddr, peer.fd));
    out.extend_from_slice(&labels.name);
    put(out, format_args!(" age={age} idle={idle} flags={} db={}", flags(profile), profile.db));
    put(out, format_args!(" sub={} psub={} ssub={}", subscriptions.channels, subscriptions.patterns, subscriptions.shard_channels));
    put(out, format_args!(" multi={multi} qbuf={input} qbuf-free=0 argv-mem=0 multi-mem={multi_bytes} rbs=0 rbp=0"));
    put(out, format_args!(" obl={output} oll=0 omem=0 tot-mem={} events=r", input + multi_bytes + output));
    put(
        out,
        format_args!(" cmd={} user=default redir={}", profile.command.unwrap_or("NULL"), terms::redirection(profile.tracking.as_ref())),
    );
    put(out, format_args!(" resp={} lib-name=", profile.resp()));
    out.extend_from_slice(&labels.lib_name);
    out.extend_from_slice(b" lib-ver=");
    out.extend_from_slice(&labels.lib_ver);
    out.push(b'\n');
}

/// Redis's letters, in its order; `N` when none holds.
fn flags(profile: &Profile) -> String {
    let letters = [
        (profile.monitors, 'O'),
        (profile.subscriptions.any(), 'P'),
        (profile.queued.is_some(), 'x'),
        (profile.blocked, 'b'),
        (profile.tracking.is_some(), 't'),
        (profile.tracking.is_some_and(|terms| terms.is_broken), 'R'),
        (profile.tracking.is_some_and(|terms| terms.kind == Kind::Broadcast), 'B'),
        (profile.no_evict, 'e'),
        (profile.no_touch, 'T'),
    ];
    let set: String = letters.into_iter().filter_map(|(holds, letter)| holds.then_some(letter)).collect();
    if set.is_empty() { "N".to_owned() } else { set }
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to a Vec cannot fail.
    let _ = out.write_fmt(text);
}
