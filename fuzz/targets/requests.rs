//! The bytes of a client, cut into requests: the cuts of the network change nothing, and what comes out is canonical, so that a shard
//! reads the same requests in it.

#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use weft::command::{Keys, keys, lookup};
use weft::resp::{Limits, Request, RequestDecoder};

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, bytes) = input;
    let whole = decode(bytes, bytes.len().max(1));
    assert_eq!(whole, decode(bytes, usize::from(piece).max(1)), "in pieces");
    let forwarded: Vec<u8> = whole.0.concat();
    assert_eq!(decode(&forwarded, forwarded.len().max(1)), (whole.0, false), "forwarded as it is");
    for request in requests(&forwarded) {
        if let Ok(spec) = lookup(&request) {
            let _ = keys(spec, &request, &mut Keys::new());
        }
    }
});

/// The bytes of each request, and whether an error ended them.
fn decode(bytes: &[u8], piece: usize) -> (Vec<Vec<u8>>, bool) {
    let (mut decoder, mut buffer, mut requests) = (RequestDecoder::new(), BytesMut::new(), Vec::new());
    for piece in bytes.chunks(piece) {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buffer, &Limits::default()) {
                Ok(Some(request)) => requests.push(request.bytes().to_vec()),
                Ok(None) => break,
                Err(_) => return (requests, true),
            }
        }
    }
    (requests, false)
}

fn requests(bytes: &[u8]) -> Vec<Request> {
    let (mut decoder, mut buffer) = (RequestDecoder::new(), BytesMut::from(bytes));
    std::iter::from_fn(|| decoder.decode(&mut buffer, &Limits::default()).ok().flatten()).collect()
}
