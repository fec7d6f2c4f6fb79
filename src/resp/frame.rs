//! What is sent: a request in one piece, or in several where its large arguments stay where they are.
//!
//! A transaction's commands travel inside of an argument of prepare. Copied into it, a value of a hundred megabytes would lie in memory
//! twice; so a [`FrameWriter`] copies what is small, next to each other, and takes a share in what is large.

use bytes::Bytes;
use smallvec::SmallVec;

use super::Request;

/// A whole request.
pub trait Frame {
    /// Its pieces, to be sent one behind the other.
    fn pieces(&self) -> &[Bytes];

    /// How many bytes that is.
    fn size(&self) -> usize {
        self.pieces().iter().map(Bytes::len).sum()
    }
}

impl Frame for Request {
    fn pieces(&self) -> &[Bytes] {
        std::slice::from_ref(self.bytes())
    }
}

impl<F: Frame + ?Sized> Frame for &F {
    fn pieces(&self) -> &[Bytes] {
        (**self).pieces()
    }
}

/// What a [`FrameWriter`] has written.
#[derive(Clone, Debug)]
pub struct Pieces(SmallVec<[Bytes; 1]>);

impl Frame for Pieces {
    fn pieces(&self) -> &[Bytes] {
        &self.0
    }
}

/// Writes a request argument by argument.
#[derive(Debug)]
pub struct FrameWriter {
    pieces: SmallVec<[Bytes; 1]>,
    /// What comes behind them.
    tail: Vec<u8>,
}

impl FrameWriter {
    /// Begins a request of `argc` arguments, which the caller will write, of about `size` bytes.
    pub fn new(argc: usize, size: usize) -> Self {
        let mut this = Self { pieces: SmallVec::new(), tail: Vec::with_capacity(size) };
        this.head(b'*', argc);
        this
    }

    /// Writes an argument.
    pub fn arg(&mut self, arg: &[u8]) {
        self.arg_of(arg.len(), |out| out.copy(arg));
    }

    /// Writes a number.
    pub fn number(&mut self, number: u64) {
        self.arg(itoa::Buffer::new().format(number).as_bytes());
    }

    /// Writes an argument of `len` bytes, those that `write` copies and shares.
    pub fn arg_of(&mut self, len: usize, write: impl FnOnce(&mut Self)) {
        self.head(b'$', len);
        write(self);
        self.copy(b"\r\n");
    }

    /// Writes a part of an argument.
    pub fn copy(&mut self, part: &[u8]) {
        self.tail.extend_from_slice(part);
    }

    /// Writes the argument at `index` of `request` as a part of one; if it is large, its bytes stay where they are.
    pub fn share(&mut self, request: &Request, index: usize) {
        let part = request.arg(index);
        if part.len() < SHARED_BYTES {
            return self.copy(part);
        }
        self.pieces.extend([std::mem::take(&mut self.tail).into(), request.arg_bytes(index)]);
    }

    /// The request.
    pub fn finish(mut self) -> Pieces {
        self.pieces.push(self.tail.into());
        Pieces(self.pieces)
    }

    fn head(&mut self, kind: u8, number: usize) {
        let digit = |number: usize| b'0' + number as u8;
        match number {
            // Nearly all of them, and each in one go.
            0..10 => self.tail.extend_from_slice(&[kind, digit(number), b'\r', b'\n']),
            10..100 => self.tail.extend_from_slice(&[kind, digit(number / 10), digit(number % 10), b'\r', b'\n']),
            _ => {
                self.tail.push(kind);
                self.tail.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
                self.tail.extend_from_slice(b"\r\n");
            }
        }
    }
}

/// What is shorter is copied sooner than a write of its own is made for it.
const SHARED_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_same_request_whether_parts_are_copied_or_shared() {
        for (len, pieces) in [(0, 1), (SHARED_BYTES - 1, 1), (SHARED_BYTES, 3)] {
            let value = vec![b'v'; len];
            let request = Request::new(&[&b"SET"[..], b"k", &value]);
            let mut writer = FrameWriter::new(4, 10);
            writer.arg(b"abc");
            writer.arg_of(1 + len, |arg| {
                arg.copy(b"-");
                arg.share(&request, 2);
            });
            writer.number(70);
            writer.arg(&[b'x'; 70]);
            let written = writer.finish();
            let expected = Request::new(&[&b"abc"[..], &[b"-", &value[..]].concat(), b"70", &[b'x'; 70]]);
            assert_eq!(expected.bytes(), &written.pieces().concat());
            assert_eq!((written.size(), written.pieces().len()), (expected.size(), pieces));
            if let [_, shared, _] = written.pieces() {
                assert_eq!(shared.as_ptr(), request.arg(2).as_ptr());
            }
        }
    }
}
