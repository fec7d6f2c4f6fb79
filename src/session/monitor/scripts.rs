//! What users' scripts call, out of all that a shard carries out.
//!
//! A shard shows the call of a script first, then what the script calls, as coming from `lua`, with nothing else in between. weft's own
//! scripts name keys of weft's own, and users' scripts never do; what goes before is known from that.

use std::cell::Cell;
use std::sync::Arc;

use bytes::Bytes;

use super::Post;
use crate::route::INTERNAL_PREFIX;
use crate::upstream::EarSink;

/// Passes on to one client what users' scripts call at one shard.
pub(super) struct Calls {
    post: Arc<Post>,
    /// The last call of a script was a user's.
    of_user: Cell<bool>,
}

impl Calls {
    pub(super) fn new(post: &Arc<Post>) -> Self {
        Self { post: Arc::clone(post), of_user: Cell::new(false) }
    }
}

impl EarSink for Calls {
    fn line(&self, line: &Bytes) {
        match Heard::of(line) {
            Some(Heard::Call) if self.of_user.get() => self.post.put(line),
            Some(Heard::Call) | None => {}
            Some(Heard::Script { of_user }) => self.of_user.set(of_user),
            Some(Heard::Other) => self.of_user.set(false),
        }
    }
}

/// What a line is about.
#[derive(Debug, PartialEq)]
enum Heard {
    /// A command that a script calls.
    Call,
    /// The call of a script.
    Script { of_user: bool },
    /// Anything else.
    Other,
}

impl Heard {
    /// Reads `+time [db who] "command" …`.
    fn of(line: &[u8]) -> Option<Self> {
        let opening = memchr::memchr(b'[', line)?;
        let closing = opening + memchr::memmem::find(&line[opening..], b"] \"")?;
        let (who, request) = (&line[opening..closing], &line[closing + 3..]);
        if who.ends_with(b" lua") {
            return Some(Self::Call);
        }
        let name = &request[..memchr::memchr(b'"', request)?];
        let is_script = SCRIPTS.iter().any(|script| name.eq_ignore_ascii_case(script.as_bytes()));
        Some(match is_script {
            true => Self::Script { of_user: memchr::memmem::find(request, INTERNAL_PREFIX).is_none() },
            false => Self::Other,
        })
    }
}

const SCRIPTS: [&str; 6] = ["eval", "evalsha", "fcall", "eval_ro", "evalsha_ro", "fcall_ro"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_users_scripts_call_is_told_from_all_else() {
        for (line, heard) in [
            (r#"+1.000001 [0 127.0.0.1:5] "GET" "a""#, Some(Heard::Other)),
            (r#"+1.000001 [0 [::1]:5] "Eval" "return 1" "0""#, Some(Heard::Script { of_user: true })),
            (r#"+1.000001 [0 127.0.0.1:5] "EVALSHA" "ab" "1" "__weft:x:k""#, Some(Heard::Script { of_user: false })),
            (r#"+1.000001 [9 lua] "set" "[0 x] \"eval\"" "b""#, Some(Heard::Call)),
            ("+OK", None),
            ("+1.0 [", None),
        ] {
            assert_eq!(Heard::of(line.as_bytes()), heard, "{line}");
        }
    }
}
