//! The bytes of a shard, cut into replies: the cuts of the network change nothing, whatever was recognised as a reply can be read, and
//! its elements are all there is of it.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use weft::resp::{ReplyScanner, Value, elements};

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, bytes) = input;
    let whole = scan(bytes, bytes.len().max(1));
    assert_eq!(whole, scan(bytes, usize::from(piece).max(1)), "in pieces");
    for frame in whole.0 {
        let frame = Bytes::from(frame);
        assert!(Value::parse(&frame).is_ok(), "{frame:?} was recognised");
        if let Ok(Some(elements)) = elements(&frame) {
            let inner: usize = elements.iter().map(Bytes::len).sum();
            assert!(inner < frame.len(), "{frame:?}");
            elements.iter().for_each(|element| assert_eq!(scan(element, element.len()).0, [element.to_vec()]));
        }
    }
    // And what was not must be refused, not believed.
    let _ = Value::parse(&Bytes::copy_from_slice(bytes));
    let _ = elements(&Bytes::copy_from_slice(bytes));
});

/// The bytes of each reply, and whether an error ended them.
fn scan(bytes: &[u8], piece: usize) -> (Vec<Vec<u8>>, bool) {
    let (mut scanner, mut start, mut end, mut replies) = (ReplyScanner::new(), 0, 0, Vec::new());
    while end < bytes.len() {
        end = (end + piece).min(bytes.len());
        while start < end {
            match scanner.scan(&bytes[start..end]) {
                Ok(Some(length)) => {
                    replies.push(bytes[start..start + length].to_vec());
                    start += length;
                }
                Ok(None) => break,
                Err(_) => return (replies, true),
            }
        }
    }
    (replies, false)
}
