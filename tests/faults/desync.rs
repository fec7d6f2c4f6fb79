//! A shard that answers what nobody asked for: whose reply is whose can no longer be told, so the connection is given up, and its requests
//! count as ones whose replies are lost.

use weft::txn::Script;

use super::wire::Wire;
use super::*;
use crate::support::{Fault, PATIENCE, Way, eventually};

/// What no server that speaks RESP says at the beginning of a reply.
const GARBAGE: [&[u8]; 6] = [b"\0\0\0\0", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"$-7\r\n", b":12a\r\n", b"$3\r\nabcd\r\n", b"*1\r\n\r\n"];

#[test]
fn garbage_before_a_reply_costs_the_connection_and_never_misleads() {
    for mode in Mode::ALL {
        let wire = Wire::start(mode);
        let mut client = wire.weft.client();
        for garbage in GARBAGE {
            client.must_ok(&format!("SET {} value", wire.keys[1]));
            // A read is sent again.
            wire.proxy.set(Way::Replies, "$5\r\nvalue", Fault::Insert(garbage));
            client.must_bulk(&format!("GET {}", wire.keys[1]), "value");
            assert!(wire.proxy.has_sprung());
            // A write is not.
            wire.proxy.set(Way::Replies, "*1\r\n:6\r\n", Fault::Insert(garbage));
            client.must_err(&format!("APPEND {} x", wire.keys[1]), "UNKNOWN");
            client.must_bulk(&format!("GET {}", wire.keys[1]), "valuex");
        }
    }
}

#[test]
fn garbage_before_the_answer_to_a_step_is_an_answer_that_is_lost() {
    for mode in Mode::ALL {
        let wire = Wire::start(mode);
        let mut client = wire.weft.client();
        let steps = [(Script::Prepare, "prepared\r\n"), (Script::Commit, "committed\r\n")];
        for ((garbage, (script, answer)), round) in GARBAGE.into_iter().flat_map(|garbage| steps.map(|step| (garbage, step))).zip(1..) {
            wire.proxy.set(Way::Replies, answer, Fault::Insert(garbage));
            send_transaction(&mut client, increments(&wire.keys));
            assert_eq!(client.receive(), integers([round, round]), "{script:?} {garbage:?}");
            assert!(wire.proxy.has_sprung());
            must_have_no_locks(&wire.shards);
        }
    }
}

#[test]
fn a_reply_too_many_is_never_taken_for_that_to_the_next_request() {
    for mode in Mode::ALL {
        let wire = Wire::start(mode);
        let mut client = wire.weft.client();
        client.must_ok(&format!("SET {} value", wire.keys[1]));
        // Whole, and in part: the rest would come with the next reply.
        for surplus in [&b"$7\r\nforeign\r\n"[..], b"$7\r\nfor", b"$", b"-ERR foreign\r\n", b"*2\r\n:1\r\n"] {
            // On a shared connection.
            wire.proxy.set(Way::Replies, "$5\r\nvalue\r\n", Fault::Append(surplus));
            client.must_bulk(&format!("GET {}", wire.keys[1]), "value");
            assert!(wire.proxy.has_sprung());
            for _ in 0..20 {
                client.must_bulk(&format!("GET {}", wire.keys[1]), "value");
            }
            // On a leased one, which goes back to its pool and is taken again.
            for _ in 0..2 {
                wire.proxy.set(Way::Replies, "+OK\r\n:0\r\n", Fault::Append(surplus));
                client.must_ok(&format!("WATCH {}", wire.keys[1]));
                client.must_ok("MULTI");
                client.must_queue(&format!("GET {}", wire.keys[1]));
                let reply = client.call("EXEC");
                assert!(reply == Reply::Array(vec!["value".into()]) || reply == Reply::NilArray, "{surplus:?}: {reply:?}");
            }
        }
    }
}

#[test]
fn a_shard_that_says_more_than_it_is_asked_in_the_handshake_is_not_believed() {
    let wire = Wire::start(Mode::Static);
    let mut client = wire.weft.client();
    wire.proxy.set(Way::Replies, Script::Forget.sha1(), Fault::Append(b"$7\r\nforeign\r\n"));
    wire.proxy.cut_all();
    eventually(PATIENCE, "it is connected again", || {
        let reply = client.call(&format!("GET {}", wire.keys[1]));
        assert!(reply == Reply::Nil || matches!(reply, Reply::Error(_)), "{reply:?}");
        wire.proxy.has_sprung() && reply == Reply::Nil
    });
}
