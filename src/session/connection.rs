//! The connection's own commands: from the session to the pure functions of `local`, and what they leave to be done.

use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::BytesMut;

use super::dispatch::Step;
use super::local::{self, Call, LocalContext, LocalOutcome};
use super::{Pending, Session};

impl Session {
    /// Answers a command that is about the connection.
    pub(super) fn local(&mut self, pending: Pending) -> Step {
        let context = Rc::clone(&self.context);
        self.client.publish();
        let local = LocalContext {
            now: context.engine.now(),
            unix_time: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            settings: &context.settings,
            redis_version: "7.0.15",
            clients: &context.registry,
        };
        let mut out = BytesMut::new();
        let call = Call { request: &pending.request, client: &mut self.client, context: &local, out: &mut out };
        let outcome = local::answer(pending.spec.name, call);
        match outcome {
            LocalOutcome::Replied => {}
            LocalOutcome::Close => self.closing = true,
            LocalOutcome::Reset => {
                self.leave_multi();
                self.watch = None;
            }
            LocalOutcome::AnyShard | LocalOutcome::NotLocal => return Step::Alone(pending),
        }
        self.window.reply(|buffer| buffer.extend_from_slice(&out));
        Step::Sent
    }

    /// The same with nothing in flight, when a shard may be asked.
    pub(super) async fn alone_local(&mut self, pending: Pending) {
        let Step::Alone(pending) = self.local(pending) else { return };
        let engine = Rc::clone(&self.context.engine);
        let result = engine.any_shard(&pending.request, self.client.proto()).await;
        self.deliver(result);
    }
}
