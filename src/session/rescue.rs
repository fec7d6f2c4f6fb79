//! The one place where an error becomes bytes for the client, and where errors are counted.

use crate::command::{CommandSpec, KeyError, LookupError};
use crate::metrics::WorkerMetrics;
use crate::resp::{ProtocolError, ReplyWriter, Request, error_reply};
use crate::route::RouteError;
use crate::txn::ExecError;
use crate::upstream::UpstreamError;

/// A request that cannot be looked up.
pub(super) fn lookup(reply: &mut ReplyWriter<'_>, error: &LookupError, request: &Request) {
    reply.error(&match error {
        LookupError::Unknown => error_reply::unknown_command(request.arg(0), request.args_from(1)),
        LookupError::UnknownSubcommand(spec) => error_reply::unknown_subcommand(spec.name, request.arg(1)),
        LookupError::WrongArity(spec) if spec.name == "exec" => error_reply::exec_abort(&error_reply::wrong_arity(spec.name)),
        LookupError::WrongArity(spec) => error_reply::wrong_arity(spec.name),
    });
}

/// Bytes that are no request.
pub(super) fn protocol(reply: &mut ReplyWriter<'_>, error: &ProtocolError) {
    if !matches!(error, ProtocolError::CrossProtocol) {
        reply.error(&format!("ERR {error}"));
    }
}

/// A plain command that got no reply.
pub(super) fn upstream(reply: &mut ReplyWriter<'_>, error: UpstreamError, write: bool) {
    reply.error(match error {
        UpstreamError::MaybeApplied if write => error_reply::OUTCOME_UNKNOWN,
        UpstreamError::MaybeApplied | UpstreamError::NotSent => error_reply::UPSTREAM_UNAVAILABLE,
    });
}

/// A command or a transaction that was not carried out, or whose outcome is not known.
pub(super) fn exec(reply: &mut ReplyWriter<'_>, error: &ExecError) {
    match error {
        ExecError::LockWait => reply.error(error_reply::LOCK_WAIT),
        ExecError::Unreachable => reply.error(error_reply::UPSTREAM_UNAVAILABLE),
        ExecError::OutcomeUnknown => reply.error(error_reply::OUTCOME_UNKNOWN),
        ExecError::TxnUnknown => reply.error(error_reply::TXNUNKNOWN),
        ExecError::TxnPending => reply.error(error_reply::TXNPENDING),
        ExecError::Unconfirmed => reply.error(error_reply::TXNUNCONFIRMED),
        ExecError::Rejected(text) | ExecError::Undeclared { text, .. } => reply.error(text),
        ExecError::Refused(frame) => reply.error(&server_error(frame)),
    }
}

/// An EXEC that was not carried out, or whose outcome is not known. What a server refused is an aborted transaction to the client, as it
/// would be on that server.
pub(super) fn transaction(reply: &mut ReplyWriter<'_>, error: &ExecError) {
    match error {
        ExecError::Refused(frame) => reply.error(&error_reply::exec_abort(&server_error(frame))),
        error => exec(reply, error),
    }
}

/// The text of a server's error.
fn server_error(frame: &[u8]) -> String {
    String::from_utf8_lossy(frame.strip_prefix(b"-").unwrap_or(frame)).trim_end().to_owned()
}

/// The text for a request that has no place to go.
pub(super) fn route(error: &RouteError, spec: &CommandSpec) -> String {
    match error {
        RouteError::Unowned => error_reply::CLUSTERDOWN_SLOT.to_owned(),
        RouteError::Internal => error_reply::INTERNAL_KEY.to_owned(),
        RouteError::Keys(KeyError::Pattern | KeyError::Get) => error_reply::not_supported(&format!("{} BY and GET", spec.name)),
        RouteError::Keys(KeyError::OtherDatabase) => error_reply::not_supported(&format!("{} to another database", spec.name)),
        RouteError::Keys(KeyError::NotAnInteger | KeyError::OutOfRange | KeyError::Syntax) => error_reply::SYNTAX.to_owned(),
    }
}

/// Whether the arguments are such that any shard refuses them before it looks at data: it has the exact words.
pub(super) fn is_the_shards_to_tell(error: KeyError) -> bool {
    matches!(error, KeyError::NotAnInteger | KeyError::OutOfRange | KeyError::Syntax)
}

/// Counts `reply` if it is an error, a shard's or weft's own. What EXEC's array holds is not looked at.
#[inline]
pub(super) fn count(counts: &WorkerMetrics, reply: &[u8]) {
    if let Some(text) = reply.strip_prefix(b"-") {
        counts.count_error(text.trim_ascii_end());
    }
}

/// Whether `frame` says that the command was not carried out because its slot is elsewhere.
#[inline]
pub(super) fn is_redirect(frame: &[u8]) -> bool {
    frame.first() == Some(&b'-') && crate::txn::Redirect::parse(frame).is_some()
}
