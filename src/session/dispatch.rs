//! Hot path: the one match on how a command is handled.

use super::local::{self, LocalOutcome};
use super::multi::Queue;
use super::{Mode, Pending, Session, rescue};
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
        if self.client.is_silent() {
            return Step::Alone(pending);
        }
        self.dispatch_aloud(pending)
    }

    /// Like [`dispatch`](Self::dispatch) when the client wants to hear the reply.
    pub(super) fn dispatch_aloud(&mut self, pending: Pending) -> Step {
        if matches!(self.mode, Mode::Multi(_)) && !pending.spec.runs_inside_multi() {
            return self.enqueue(pending);
        }
        match pending.spec.handling {
            Handling::Keyed => self.forward(pending),
            Handling::Split(_) => self.forward_split(pending),
            Handling::Script => Step::Alone(pending),
            Handling::Transaction => self.transaction(pending),
            Handling::Local => self.local(pending),
            Handling::Later(reason) => self.refuse(&error_reply::not_supported_yet(pending.spec.name, reason)),
            Handling::Refused(reason) => self.refuse(&error_reply::refused(pending.spec.name, reason)),
        }
    }

    /// Answers with an error.
    pub(super) fn refuse(&mut self, text: &str) -> Step {
        self.reply(|reply| reply.error(text));
        Step::Sent
    }
}
