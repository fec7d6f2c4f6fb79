//! A whole weft, with shards made up in this process: one client sends anything, and another, at the same time, gets its own replies.

#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_fuzz::{Client, Rig};

fuzz_target!(init: Rig::running().must_recover(), |bytes: &[u8]| {
    let rig = Rig::running();
    let mut other = Client::connect(rig.address());
    other.send(b"*2\r\n$4\r\nECHO\r\n$5\r\nfirst\r\n");
    let mut client = Client::connect(rig.address());
    client.send(bytes);
    client.finish();
    let replies = client.receive_all();
    assert!(replies.is_ok(), "replies that are none: {replies:?}");
    other.send(b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n");
    other.must_receive(b"$5\r\nfirst\r\n$5\r\nvalue\r\n");
});
