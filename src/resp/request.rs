//! One command as it goes over the wire.

use std::fmt;
use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use smallvec::SmallVec;

/// A command and its arguments in canonical RESP2 (`*n`, then n bulk strings), with the place of each argument.
///
/// Cloning is cheap: the bytes are shared. It never has zero arguments.
#[derive(Clone)]
pub struct Request {
    bytes: Bytes,
    args: Args,
}

/// Where each argument lies in the frame. Offsets fit 32 bits because a frame is at most 4 GiB long.
pub(super) type Args = SmallVec<[(u32, u32); 6]>;

impl Request {
    /// Encodes `args`, the first of which is the command's name.
    pub fn new<A: AsRef<[u8]>>(args: &[A]) -> Self {
        let size: usize = args.iter().map(|arg| arg.as_ref().len() + 16).sum();
        let mut bytes = BytesMut::with_capacity(size + 16);
        let mut ranges = Args::new();
        let mut digits = itoa::Buffer::new();
        bytes.put_u8(b'*');
        bytes.put_slice(digits.format(args.len()).as_bytes());
        bytes.put_slice(b"\r\n");
        for arg in args {
            let arg = arg.as_ref();
            bytes.put_u8(b'$');
            bytes.put_slice(digits.format(arg.len()).as_bytes());
            bytes.put_slice(b"\r\n");
            let start = bytes.len() as u32;
            bytes.put_slice(arg);
            ranges.push((start, bytes.len() as u32));
            bytes.put_slice(b"\r\n");
        }
        Self { bytes: bytes.freeze(), args: ranges }
    }

    /// A request whose canonical frame and argument ranges a decoder has found.
    pub(super) fn from_parts(bytes: Bytes, args: Args) -> Self {
        Self { bytes, args }
    }

    /// The same request in memory of its own, unless it is large. A client's requests are slices of the buffer that they were read into,
    /// which many clients share: what stays for long must not keep the whole of it.
    #[must_use]
    pub fn detached(self) -> Self {
        if self.bytes.len() >= DETACHED_BYTES_MAX {
            return self;
        }
        Self { bytes: Bytes::copy_from_slice(&self.bytes), args: self.args }
    }

    /// The whole frame, ready to be sent.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// How many arguments there are, the command's name included.
    pub fn argc(&self) -> usize {
        self.args.len()
    }

    /// The argument at `index`; 0 is the command's name.
    ///
    /// # Panics
    /// When `index` is not below [`argc`](Self::argc).
    pub fn arg(&self, index: usize) -> &[u8] {
        &self.bytes[self.range(index)]
    }

    /// The argument at `index` as shared bytes.
    ///
    /// # Panics
    /// When `index` is not below [`argc`](Self::argc).
    pub fn arg_bytes(&self, index: usize) -> Bytes {
        self.bytes.slice(self.range(index))
    }

    /// All arguments from `first` on.
    pub fn args_from(&self, first: usize) -> impl ExactSizeIterator<Item = &[u8]> {
        self.args[first.min(self.args.len())..].iter().map(|&(start, end)| &self.bytes[start as usize..end as usize])
    }

    fn range(&self, index: usize) -> Range<usize> {
        let (start, end) = self.args[index];
        start as usize..end as usize
    }
}

/// A larger request is most of the buffer that it was read into.
const DETACHED_BYTES_MAX: usize = 16 * 1024;

impl fmt::Debug for Request {
    /// Values may be secret: only the command's name and the number of arguments are shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.arg(0).escape_ascii(), self.argc())
    }
}
