//! What an error tells its client about what has happened: the README's table of errors, as the judge reads it.

use crate::histories::history::Outcome;

/// The outcome of an operation that was answered with the error `text`. `None`: nothing that is done here may be answered so.
pub(super) fn outcome(text: &str) -> Option<Outcome> {
    TOLD.iter().find(|(code, _)| text.split(' ').next() == Some(code)).map(|(_, outcome)| *outcome)
}

/// The code of each error that may be met while things break, and what it says.
const TOLD: [(&str, Outcome); 9] = [
    // Of weft's own.
    ("LOCKWAIT", Outcome::Failed),
    ("TXNREFUSED", Outcome::Failed),
    // No command here goes to every shard.
    ("UNAVAILABLE", Outcome::Failed),
    ("UNKNOWN", Outcome::Unknown),
    ("TXNUNKNOWN", Outcome::Unknown),
    ("TXNPENDING", Outcome::Committed),
    // Of a shard's: it has refused.
    ("EXECABORT", Outcome::Failed),
    // It reads its append-only file.
    ("LOADING", Outcome::Failed),
    // It has lost sight of the other nodes, or has just come back.
    ("CLUSTERDOWN", Outcome::Failed),
];
