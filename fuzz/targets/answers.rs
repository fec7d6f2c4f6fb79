//! What the scripts answer, and what records, locks and their names say: an answer, a refusal or malformed, never a panic.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use weft::resp::Request;
use weft::txn::{
    Command, Kind, ReRead, TxnId, abort, commit, fence, forget, guarded, internal_keys, parse_participants, participants_text, prepare,
    reapply,
};

fuzz_target!(|bytes: &[u8]| {
    let frame = Bytes::copy_from_slice(bytes);
    let commands =
        [Kind::Plain, Kind::WideInteger(ReRead::String), Kind::Native].map(|kind| Command { request: Request::new(&["INCR", "k"]), kind });
    let _ = prepare::answer(&frame);
    let _ = commit::answer(&frame, &commands);
    let _ = reapply::answer(&frame, &commands);
    let _ = abort::answer(&frame);
    let _ = fence::answer(&frame);
    let _ = forget::answer(&frame);
    let _ = guarded::answer(&frame, &commands);
    let _ = internal_keys::tid_of(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(tid) = text.parse::<TxnId>() {
            assert_eq!(tid.to_string(), text);
        }
        if let Ok(participants) = parse_participants(text) {
            assert_eq!(participants_text(&participants), text);
        }
    }
});
