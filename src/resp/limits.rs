//! How large a request may be.
//!
//! The defaults are Redis's own, so that what a client could send to Redis it can send to weft. A client that has not
//! authenticated yet gets far less, because it could otherwise make the proxy hold gigabytes before it is known
//! (CVE-2021-32675): enough for AUTH and HELLO, no more.
//! What limits apply is asked anew for each frame, so a session must not decode ahead of an AUTH that it has not carried out.

use super::ProtocolError;

/// The limits that [`RequestDecoder`](super::RequestDecoder) holds a client to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest argument (Redis: `proto-max-bulk-len`).
    pub bulk_bytes_max: u32,
    /// Most arguments of one command, its name included.
    pub multibulk_len_max: u32,
    /// Longest inline command, and longest line that announces a count or a length.
    pub inline_bytes_max: u32,
}

impl Limits {
    /// For a client that must authenticate and has not done so.
    pub const UNAUTHENTICATED: Self = Self { bulk_bytes_max: 16_384, multibulk_len_max: 10, inline_bytes_max: DEFAULT.inline_bytes_max };

    /// What to say to a count of arguments above the limit.
    pub(super) fn multibulk_error(&self, count: u64) -> ProtocolError {
        if *self == Self::UNAUTHENTICATED && count <= u64::from(DEFAULT.multibulk_len_max) {
            ProtocolError::UnauthenticatedMultibulkLength
        } else {
            ProtocolError::MultibulkLength
        }
    }

    /// What to say to an argument's length above the limit.
    pub(super) fn bulk_error(&self, len: u64) -> ProtocolError {
        if *self == Self::UNAUTHENTICATED && len <= u64::from(DEFAULT.bulk_bytes_max) {
            ProtocolError::UnauthenticatedBulkLength
        } else {
            ProtocolError::BulkLength
        }
    }
}

impl Default for Limits {
    /// Redis 7.0's defaults.
    fn default() -> Self {
        DEFAULT
    }
}

const DEFAULT: Limits = Limits { bulk_bytes_max: 512 << 20, multibulk_len_max: i32::MAX as u32, inline_bytes_max: 64 << 10 };
