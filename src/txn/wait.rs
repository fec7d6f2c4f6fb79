//! Meeting a lock: short jittered polls while its owner may be alive, resolving the owner when its lease is over (protocol §7).

use super::attempt::{Attempt, Target};
use super::batch::Batch;
use super::engine::Engine;
use super::one_phase::{guarded_answer, guarded_request};
use super::{Locked, recovery};
use crate::metrics::Counter;
use crate::resp::Proto;

impl Engine {
    /// Returns when it is worth trying `batch` again, which met a lock `tries` times before: after a moment, or when an owner whose
    /// lease is over was resolved. `locked` is the owner if the answer named it.
    pub(super) async fn wait_for_lock(&self, batch: &Batch, locked: Option<Locked>, tries: u32) {
        self.counts.count(Counter::LockWaits);
        let locked = match locked {
            // Most locks are gone after the round trip that their commit takes: only who met one before asks whose it is.
            None if tries % OWNER_LOOKS == 1 => self.owner(batch).await,
            known => known,
        };
        match locked {
            Some(Locked { owner, lease_left_ms: ..=0 }) => recovery::resolve(self, owner, &batch.participant, batch.keys.clone()).await,
            _ => self.pause(tries).await,
        }
    }

    /// Who stands in the way of `batch`: a guarded run of no commands answers just that.
    pub(super) async fn owner(&self, batch: &Batch) -> Option<Locked> {
        let question = Batch { commands: Vec::new(), ..batch.clone() };
        let target: Target = self.target(&batch.participant, None)?;
        let reply = target.call(Proto::Resp2, &[guarded_request(&question, Proto::Resp2)]).await.ok()?.pop()?;
        match guarded_answer(&reply, &question) {
            Attempt::Locked(locked) => locked,
            _ => None,
        }
    }
}

/// Every how many looks at a lock its owner is asked for.
const OWNER_LOOKS: u32 = 4;
