//! A whole weft whose shards answer anything: the client gets well-formed replies, no more than it sent commands, or is cut off; and when
//! the shards are sane again, so is everything.

#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_fuzz::{Client, Rig};

/// Reads and writes, of one key and of several, alone and in transactions.
const COMMANDS: &[&[u8]] = &[
    b"GET key\r\nGET key\r\n",
    b"SET key value\r\nGET key\r\n",
    b"MGET key {key}other\r\n",
    b"MGET a b c d\r\n",
    b"MSET a 1 b 2\r\n",
    b"WATCH a b\r\nMULTI\r\nINCR a\r\nEXEC\r\n",
    b"MULTI\r\nINCR a\r\nINCR b\r\nEXEC\r\n",
    b"LPOP list 1\r\nEVAL return{} 1 a\r\n",
    b"HELLO 3\r\nHGETALL key\r\nSCAN 0\r\nDBSIZE\r\n",
];

fuzz_target!(init: Rig::running().must_recover(), |input: (u8, &[u8])| {
    let (choice, bytes) = input;
    let (rig, commands) = (Rig::running(), COMMANDS[usize::from(choice) % COMMANDS.len()]);
    rig.answer(bytes);
    let mut client = Client::connect(rig.address());
    client.send(commands);
    client.finish();
    let replies = client.receive_all();
    let count = commands.iter().filter(|byte| **byte == b'\n').count();
    assert!(matches!(replies, Ok(replies) if replies <= count), "{replies:?} replies to {count} commands");
    rig.answer(b"");
    rig.must_recover();
});
