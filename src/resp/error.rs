//! What can be wrong with the bytes of a client, and with those of a shard.
//!
//! Both ends are beyond repair: after either error nobody knows where the next frame begins, so the connection is
//! closed. They are two types because two different parties are at fault.

use thiserror::Error;

/// A client broke the protocol. Displays as the text that follows `-ERR `, letter for letter Redis's where Redis
/// has one; the connection is closed after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ProtocolError {
    /// The count after `*` is no number or too large.
    #[error("Protocol error: invalid multibulk length")]
    MultibulkLength,
    /// More arguments than a client may send before it has authenticated.
    #[error("Protocol error: unauthenticated multibulk length")]
    UnauthenticatedMultibulkLength,
    /// The line that begins with `*` does not end.
    #[error("Protocol error: too big mbulk count string")]
    MultibulkLine,
    /// Something else than a bulk string stands where an argument should.
    #[error("Protocol error: expected '$', got '{}'", char::from(*.0))]
    ExpectedBulk(u8),
    /// The length after `$` is no number, negative or too large.
    #[error("Protocol error: invalid bulk length")]
    BulkLength,
    /// A longer argument than a client may send before it has authenticated.
    #[error("Protocol error: unauthenticated bulk length")]
    UnauthenticatedBulkLength,
    /// The line that should begin with `$` does not end.
    #[error("Protocol error: too big bulk count string")]
    BulkLine,
    /// A CR without its LF, or an argument that is not followed by CRLF. Redis lets both pass and reads the rest as
    /// something else; Valkey 9.0.5 and later refuse them with this text.
    #[error("Protocol error: invalid CRLF in request")]
    Crlf,
    /// The whole command is longer than 4 GiB.
    #[error("Protocol error: request is longer than 4 GiB")]
    RequestTooLong,
    /// An inline command does not end.
    #[error("Protocol error: too big inline request")]
    InlineLine,
    /// An inline command with a quote that is not closed, or is followed by something else than a space.
    #[error("Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
    /// A zero byte in an inline command. Redis takes it for the end of its buffer and waits for ever; what arrives
    /// here is mostly a TLS handshake on a plain port, which had better be told.
    #[error("Protocol error: zero byte in inline request")]
    InlineZero,
    /// `POST` or `Host:` as a command: a browser was talked into speaking to us. Closed without an answer, which
    /// the attacker's page could read.
    #[error("possible cross-protocol scripting")]
    CrossProtocol,
}

/// A shard sent what is not RESP: the connection is out of step and must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReplyError {
    /// A reply begins with a byte that is no type.
    #[error("reply of unknown type '{}'", .0.escape_ascii())]
    UnknownType(u8),
    /// The length of a bulk string or the count of an aggregate is no number or too large.
    #[error("invalid length in a reply")]
    Length,
    /// An integer, double, boolean, big number or null that is none.
    #[error("invalid number, boolean or null in a reply")]
    Scalar,
    /// A CR without LF, a LF without CR, or a bulk string that is not followed by CRLF.
    #[error("invalid CRLF in a reply")]
    Crlf,
    /// Aggregates within aggregates, more than [`NESTING_MAX`](super::NESTING_MAX) levels of them, or more than
    /// [`Value`](super::Value) descends.
    #[error("reply is nested too deeply")]
    TooDeep,
    /// A frame handed over as complete ends early.
    #[error("reply ends early")]
    Incomplete,
    /// A frame handed over as one frame is followed by something.
    #[error("reply is followed by other bytes")]
    Trailing,
    /// An array, set, map or push was expected.
    #[error("reply is not an aggregate")]
    NotAggregate,
}
