//! Hot path: what is to be written to a client, in order.
//!
//! Small replies gather in one buffer, which leaves in one write. A large one stays the piece of memory that it arrived in: a value of a
//! hundred megabytes is in the process once, and given back as soon as it is written.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

/// Bytes on their way to a client.
#[derive(Default)]
pub(in crate::session) struct Output {
    /// What goes before `tail`.
    pieces: VecDeque<Bytes>,
    pieces_len: usize,
    tail: BytesMut,
}

impl Output {
    pub(in crate::session) fn len(&self) -> usize {
        self.pieces_len + self.tail.len()
    }

    pub(in crate::session) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where small things are appended.
    pub(super) fn tail(&mut self) -> &mut BytesMut {
        &mut self.tail
    }

    /// Appends `bytes`; copies them only if they are few.
    pub(super) fn append(&mut self, bytes: Bytes) {
        if bytes.len() < PIECE_BYTES_MIN {
            return self.tail.extend_from_slice(&bytes);
        }
        if !self.tail.is_empty() {
            let tail = std::mem::take(&mut self.tail).freeze();
            self.push(tail);
        }
        self.push(bytes);
    }

    fn push(&mut self, piece: Bytes) {
        self.pieces_len += piece.len();
        self.pieces.push_back(piece);
    }

    /// What can be written next; empty only when all is written.
    pub(in crate::session) fn first(&self) -> &[u8] {
        self.pieces.front().map_or(&self.tail[..], |piece| &piece[..])
    }

    /// `count` bytes of [`first`](Self::first) are written.
    pub(in crate::session) fn advance(&mut self, count: usize) {
        let Some(piece) = self.pieces.front_mut() else { return self.tail.advance(count) };
        piece.advance(count);
        self.pieces_len -= count;
        if piece.is_empty() {
            self.pieces.pop_front();
        }
    }

    /// Takes back everything behind the first `len` bytes.
    pub(in crate::session) fn truncate(&mut self, len: usize) {
        self.tail.truncate(len.saturating_sub(self.pieces_len));
        while self.pieces_len > len {
            let Some(mut piece) = self.pieces.pop_back() else { return };
            self.pieces_len -= piece.len();
            if self.pieces_len < len {
                piece.truncate(len - self.pieces_len);
                return self.push(piece);
            }
        }
    }

    /// Whether exactly `bytes`, which are few, stand behind the first `len` bytes.
    pub(in crate::session) fn is_behind(&self, len: usize, bytes: &[u8]) -> bool {
        len.checked_sub(self.pieces_len).and_then(|start| self.tail.get(start..)) == Some(bytes)
    }

    /// Gives a large buffer back once it is empty.
    pub(in crate::session) fn shed(&mut self) {
        // What was written counts as well: the buffer's capacity alone is only what lies behind it.
        if self.is_empty() && self.tail.try_reclaim(KEPT_BYTES + 1) {
            self.tail = BytesMut::new();
        }
    }

    /// Gives everything back; only when it is empty.
    pub(super) fn rest(&mut self) {
        (self.pieces, self.tail) = (VecDeque::new(), BytesMut::new());
    }

    /// Whether it holds memory.
    pub(super) fn has_buffers(&self) -> bool {
        self.pieces.capacity() > 0 || self.tail.capacity() > 0
    }
}

/// Where copying costs more than another write.
pub(super) const PIECE_BYTES_MIN: usize = 64 * 1024;

/// A buffer larger than this is given back when it is empty.
const KEPT_BYTES: usize = 64 * 1024;

#[cfg(test)]
impl Output {
    /// All of it, and nothing is left.
    pub(super) fn take(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        while !self.is_empty() {
            let first = self.first().to_vec();
            self.advance(first.len());
            all.extend(first);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a`, a large piece of `b`, `c`: 2 bytes around it.
    fn output() -> (Output, usize) {
        let mut output = Output::default();
        output.append(Bytes::from_static(b"a"));
        output.append(vec![b'b'; PIECE_BYTES_MIN].into());
        output.append(Bytes::from_static(b"c"));
        (output, PIECE_BYTES_MIN + 2)
    }

    fn must_be_the_first(mut output: Output, len: usize) {
        let all = output.take();
        let (whole, _) = output_bytes();
        assert!(all == whole[..len], "{} bytes instead of {len}", all.len());
    }

    fn output_bytes() -> (Vec<u8>, usize) {
        let (mut output, len) = output();
        (output.take(), len)
    }

    #[test]
    fn small_and_large_leave_in_order_and_the_large_is_not_copied() {
        let large: Bytes = vec![b'b'; PIECE_BYTES_MIN].into();
        let mut output = Output::default();
        output.append(Bytes::from_static(b"a"));
        output.append(large.clone());
        output.append(Bytes::from_static(b"c"));
        assert_eq!((output.first(), output.len()), (&b"a"[..], large.len() + 2));
        output.advance(1);
        assert_eq!(output.first().as_ptr(), large.as_ptr());
        output.advance(large.len());
        assert_eq!((output.first(), output.len()), (&b"c"[..], 1));
    }

    #[test]
    fn it_is_cut_off_anywhere() {
        for cut in [0, 1, 2, PIECE_BYTES_MIN, PIECE_BYTES_MIN + 1, PIECE_BYTES_MIN + 2, PIECE_BYTES_MIN + 3] {
            let (mut output, len) = output();
            output.truncate(cut);
            assert_eq!(output.len(), cut.min(len));
            must_be_the_first(output, cut.min(len));
        }
    }

    #[test]
    fn what_stands_at_the_end_is_known() {
        let (output, len) = output();
        assert!(output.is_behind(len - 1, b"c"));
        assert!(!output.is_behind(len, b"c") && !output.is_behind(0, b"c") && output.is_behind(len, b""));
    }

    #[test]
    fn a_large_buffer_is_given_back_when_it_is_written() {
        let mut output = Output::default();
        output.tail().extend_from_slice(&vec![b'x'; KEPT_BYTES + 1]);
        output.shed();
        assert_eq!(output.len(), KEPT_BYTES + 1);
        output.advance(KEPT_BYTES + 1);
        output.shed();
        assert!(!output.has_buffers());
    }
}
