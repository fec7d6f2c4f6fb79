//! One command as it goes over the wire.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
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

/// What goes around an argument at most: `$`, ten digits, two line ends.
const HEAD_BYTES_MAX: usize = 15;

impl Request {
    /// Encodes `args`, the first of which is the command's name.
    pub fn new<A: AsRef<[u8]>>(args: &[A]) -> Self {
        // A vector, not `BytesMut`: this is done for every step of every transaction, and appending to a vector takes half the instructions.
        let size: usize = args.iter().map(|arg| arg.as_ref().len() + HEAD_BYTES_MAX).sum();
        let mut bytes = Vec::with_capacity(size + HEAD_BYTES_MAX);
        let mut ranges = Args::with_capacity(args.len());
        let mut digits = itoa::Buffer::new();
        bytes.push(b'*');
        bytes.extend_from_slice(digits.format(args.len()).as_bytes());
        bytes.extend_from_slice(b"\r\n");
        for arg in args {
            let arg = arg.as_ref();
            bytes.push(b'$');
            bytes.extend_from_slice(digits.format(arg.len()).as_bytes());
            bytes.extend_from_slice(b"\r\n");
            let start = bytes.len() as u32;
            bytes.extend_from_slice(arg);
            ranges.push((start, bytes.len() as u32));
            bytes.extend_from_slice(b"\r\n");
        }
        Self { bytes: bytes.into(), args: ranges }
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
