//! Finishing what somebody else began: fence all; then commit all if any has committed or all have prepared, else abort.
//!
//! Anyone may do it at any time, several at once, the coordinator still at work: each step changes only what the rule
//! *committed if and only if all have been prepared* has already settled. A resolver never forgets and never applies again:
//! only the coordinator knows what those need.
//!
//! One participant that has committed is enough to commit the others, each as soon as it has answered: a shard that is away delays
//! nobody else. An abort waits for all answers. A tombstone may stand where a record was lost, and the one that has not answered may
//! have committed.

use smallvec::smallvec;

use super::{Action, Actions, Event, Refusal, Refused, State, Step};
use crate::txn::{KeyLock, Participant};

/// The resolution of one transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Resolver {
    phase: Phase,
    members: Vec<Member>,
}

/// How a resolution ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// There was nothing to do at the participant that led here: it was finished already.
    Finished,
    /// Committed wherever it was prepared.
    Committed,
    /// Aborted everywhere.
    Aborted,
    /// Its record is of a format that only another version of weft understands: it is left to that.
    Foreign,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Looking,
    Fencing,
    Committing,
    Aborting,
    Done(Verdict),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Member {
    participant: Participant,
    keys: Vec<KeyLock>,
    /// As last answered in this phase; unknown while a step is under way.
    state: Option<State>,
}

impl Resolver {
    /// Begins with the participant at which a lock of the transaction, on one of the keys `met`, or a record was met. Its record names
    /// the others.
    pub fn new(home: Participant, met: Vec<KeyLock>) -> (Self, Actions) {
        let step = if met.is_empty() { Step::Inspect } else { Step::Unlock };
        let members = vec![Member { participant: home, keys: met, state: None }];
        (Self { phase: Phase::Looking, members }, smallvec![Action::Send(0, step)])
    }

    /// The participant that a number in an action stands for.
    pub fn participant(&self, at: usize) -> &Participant {
        &self.members[at].participant
    }

    /// The keys of its record, which commit and abort need; those that were met, before the record is known.
    pub fn keys(&self, at: usize) -> &[KeyLock] {
        &self.members[at].keys
    }

    /// How it ended, once it has.
    pub fn verdict(&self) -> Option<Verdict> {
        if let Phase::Done(verdict) = self.phase { Some(verdict) } else { None }
    }

    /// Whether the transaction is known to hold nothing any more at `home`.
    pub fn has_released(&self, home: &Participant) -> bool {
        let released =
            |member: &Member| member.participant == *home && member.state.as_ref().is_some_and(|state| *state != State::Prepared);
        match self.phase {
            Phase::Looking => false,
            Phase::Fencing | Phase::Committing | Phase::Aborting => self.members.iter().any(released),
            Phase::Done(_) => true,
        }
    }

    /// Takes in what happened.
    #[must_use]
    pub fn on(mut self, event: Event) -> (Self, Actions) {
        let mut actions = smallvec![];
        match event {
            Event::Inspect(_, record) if self.phase == Phase::Looking => match record.staged {
                Some(staged) => self.fence_all(staged.participants, &mut actions),
                None => self.done(Verdict::Finished, &mut actions),
            },
            Event::Fence(at, record) if matches!(self.phase, Phase::Fencing | Phase::Committing) => {
                self.members[at].keys = record.staged.map(|staged| staged.keys).unwrap_or_default();
                self.members[at].state = Some(record.state);
                self.decide(&mut actions);
            }
            Event::Commit(at, state) | Event::Abort(at, state) => {
                self.members[at].state = Some(state);
                self.settle(&mut actions);
            }
            Event::Refused(.., Refusal { kind: Refused::Foreign, .. }) => self.done(Verdict::Foreign, &mut actions),
            Event::Refused(at, step, refusal) => actions.push(Action::Resend(at, step, refusal.kind)),
            Event::Lost(at, step) => actions.push(Action::Resend(at, step, Refused::Later)),
            Event::Inspect(..)
            | Event::Fence(..)
            | Event::Prepare(..)
            | Event::Reapply(..)
            | Event::WatchBroken(_)
            | Event::Free(_)
            | Event::GaveUp(_)
            | Event::FailedOver(_)
            | Event::Impatient => {}
        }
        (self, actions)
    }

    /// The same resolution with its participants renamed, in the order of their new names.
    #[cfg(test)]
    pub(in crate::txn) fn renamed(mut self, name: impl Fn(&Participant) -> Participant) -> Self {
        self.members.iter_mut().for_each(|member| member.participant = name(&member.participant));
        self.members.sort_by(|one, other| one.participant.cmp(&other.participant));
        self
    }

    fn fence_all(&mut self, participants: Vec<Participant>, actions: &mut Actions) {
        self.phase = Phase::Fencing;
        self.members = participants.into_iter().map(|participant| Member { participant, keys: Vec::new(), state: None }).collect();
        actions.extend((0..self.members.len()).map(|at| Action::Send(at, Step::Fence)));
    }

    fn decide(&mut self, actions: &mut Actions) {
        let committed = self.members.iter().any(|member| matches!(member.state, Some(State::Committed(_))));
        if !committed && self.members.iter().any(|member| member.state.is_none()) {
            return;
        }
        let prepared = self.members.iter().all(|member| member.state == Some(State::Prepared));
        let step = if committed || prepared { Step::Commit } else { Step::Abort };
        self.phase = if step == Step::Commit { Phase::Committing } else { Phase::Aborting };
        for (at, member) in self.members.iter_mut().enumerate() {
            if member.state == Some(State::Prepared) {
                member.state = None;
                actions.push(Action::Send(at, step));
            }
        }
        self.settle(actions);
    }

    fn settle(&mut self, actions: &mut Actions) {
        if self.members.iter().any(|member| member.state.is_none()) {
            return;
        }
        match self.phase {
            Phase::Committing => self.done(Verdict::Committed, actions),
            Phase::Aborting => self.done(Verdict::Aborted, actions),
            Phase::Looking | Phase::Fencing | Phase::Done(_) => {}
        }
    }

    fn done(&mut self, verdict: Verdict, actions: &mut Actions) {
        self.phase = Phase::Done(verdict);
        actions.push(Action::Done);
    }
}
