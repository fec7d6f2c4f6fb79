//! Hot path: the one match on how a command is handled.

use super::client::ReplyMode;
use super::{Mode, Pending, Session};
use crate::command::Handling;
use crate::resp::error_reply;

/// What became of a request.
pub(super) enum Step {
    /// It was answered, or is on its way.
    Sent,
    /// Something in flight has to be answered before it may be sent.
    Stalled(Pending),
    /// It has to be carried out with nothing else in flight.
    Alone(Pending),
}

impl Session {
    /// Sends `pending` on its way.
    pub(super) fn dispatch(&mut self, pending: Pending) -> Step {
        // Muted replies are taken back, which only works for what is carried out alone.
        if self.client.reply_mode != ReplyMode::On {
            return Step::Alone(pending);
        }
        let step = match self.client.profile.tracking {
            None => self.dispatch_aloud(pending),
            Some(terms) => self.dispatch_tracked(pending, terms),
        };
        // CLIENT REPLY SKIP means the command after it.
        self.client.reply_mode = self.client.reply_mode.next();
        step
    }

    /// Like [`dispatch`](Self::dispatch) when the client wants to hear the reply.
    pub(super) fn dispatch_aloud(&mut self, pending: Pending) -> Step {
        if matches!(self.mode, Mode::Multi(_)) && !acts_at_once(pending.spec.name) {
            return if self.context.scripts.running.is_any() { Step::Alone(pending) } else { self.enqueue(pending) };
        }
        if pending.spec.is_write() || matches!(pending.spec.handling, Handling::Script | Handling::Transaction) {
            self.writes.note(self.context.upstreams.version());
        }
        match pending.spec.handling {
            Handling::Keyed | Handling::Move | Handling::Split(_) => self.forward(pending),
            Handling::Blocking | Handling::Script | Handling::AnyShard | Handling::Everywhere | Handling::Keyspace(_) => {
                Step::Alone(pending)
            }
            Handling::Transaction => self.transaction(pending),
            Handling::PubSub => self.pubsub(pending),
            Handling::Local if pending.spec.name == "ping" && self.context.scripts.running.is_any() => Step::Alone(pending),
            // What is in flight may have to be sent again, in the same database and the same protocol as before.
            Handling::Local if changes_the_connection(pending.spec.name) && !self.window.is_settled() => Step::Stalled(pending),
            Handling::Local => self.local(pending),
            Handling::Later(_) => self.refuse(&error_reply::not_supported(pending.spec.name)),
            Handling::Disabled(text) => self.refuse(text),
            Handling::Refused(reason) => self.refuse(&error_reply::refused(pending.spec.name, reason)),
        }
    }

    /// Answers with an error.
    pub(super) fn refuse(&mut self, text: &str) -> Step {
        self.reply(|reply| reply.error(text));
        Step::Sent
    }
}

/// Whether the command changes what the requests before it were sent for.
fn changes_the_connection(name: &str) -> bool {
    matches!(name, "select" | "hello" | "reset")
}

/// Whether the command acts at once even between MULTI and EXEC.
pub(super) fn acts_at_once(name: &str) -> bool {
    matches!(name, "exec" | "discard" | "multi" | "watch" | "quit" | "reset")
}
