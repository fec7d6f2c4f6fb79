//! The attempt of the proxy that was asked: prepare all, then commit all, and what follows when something goes wrong.
//!
//! The one thing to keep: *the transaction is committed if and only if every participant has been prepared*. So a lost prepare
//! is not a no. It is settled by a fence, whose answer is a vote like prepare's; nothing that is in doubt is ever sent again,
//! and what is certain (commit, abort, fence) is sent until it is answered.

use bytes::Bytes;
use smallvec::smallvec;

use super::{Action, Actions, BELIEVED_MS, Event, Outcome, Reason, Refused, State, Step};
use crate::txn::{Locked, Refusal, TxnId, prepare, reapply};

/// In which order an attempt prepares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// All at once, and a lock in the way is a no: whoever holds locks must not wait.
    Parallel,
    /// One after another in the global order of participants. Such an attempt may wait while it holds locks: no cycle can form.
    Ordered,
}

/// One attempt at a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Coordinator {
    start_ms: u64,
    order: Order,
    phase: Phase,
    members: Vec<Member>,
    told: bool,
    repaired: bool,
}

/// What the attempt as a whole is at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    /// Undecided.
    Voting,
    /// Every participant has been prepared.
    Committing,
    /// Every participant has been prepared, and then all of them lost the transaction: see what is really there.
    Surveying,
    /// It can never commit: some participant said no to prepare, or holds a tombstone.
    Aborting(Reason, Evidence),
    /// Over.
    Done,
}

/// What an abort rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Evidence {
    /// A participant refused to prepare: it never was, and never will be.
    Refusal,
    /// A participant has nothing. It may have lost what it had, after somebody committed elsewhere: the client hears nothing before
    /// everyone has answered.
    Absence,
}

/// What the coordinator knows of one participant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Member {
    stand: Stand,
    /// A commit or reapply was sent that nobody answered, so a missing record does not mean a missing effect.
    unanswered: bool,
    /// Why its prepare is in doubt, where a server said so.
    refusal: Option<Refusal>,
}

/// Where a participant stands, or which step is under way to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Stand {
    /// Nothing was sent.
    Idle,
    /// Prepare is under way.
    Preparing,
    /// A lock is in the way of prepare or reapply.
    Waiting(Locked, Step),
    /// Fence is under way.
    Fencing,
    Prepared,
    /// Commit is under way.
    Committing,
    /// Reapply is under way.
    Reapplying,
    /// Abort is under way.
    Aborting,
    Committed(Option<Vec<Bytes>>),
    /// It has nothing, and will not have anything by our doing.
    Nothing,
    /// It had been prepared, and has lost it.
    Lost,
    /// It has lost it for good.
    Torn,
}

impl Coordinator {
    /// Begins an attempt with so many participants; at least one.
    pub fn new(tid: TxnId, participants: usize, order: Order) -> (Self, Actions) {
        let members = vec![Member { stand: Stand::Idle, unanswered: false, refusal: None }; participants];
        let start_ms = tid.start_ms;
        let mut attempt = Self { start_ms, order, phase: Phase::Voting, members, told: false, repaired: false };
        let mut actions = smallvec![];
        attempt.proceed(&mut actions);
        (attempt, actions)
    }

    /// Takes in what happened at `now_ms`.
    #[must_use]
    pub fn on(mut self, now_ms: u64, event: Event) -> (Self, Actions) {
        let mut actions = smallvec![];
        if self.phase == Phase::Done {
            return (self, actions);
        }
        match event {
            Event::Impatient => self.impatient(&mut actions),
            Event::FailedOver(at) => self.members[at].unanswered = false,
            Event::Refused(at, step, refusal) => self.refused(at, step, refusal, &mut actions),
            Event::Lost(at, step) => self.lost(at, step, &mut actions),
            Event::Free(at) => self.free(at, &mut actions),
            Event::GaveUp(at) => self.gave_up(at, &mut actions),
            Event::WatchBroken(at) => self.no(at, Reason::WatchBroken),
            Event::Prepare(at, answer) => self.voted(at, answer, &mut actions),
            Event::Reapply(at, answer) => self.reapplied(at, answer, &mut actions),
            Event::Fence(at, record) => self.found(at, record.state, now_ms, &mut actions),
            Event::Commit(at, state) | Event::Abort(at, state) | Event::Inspect(at, super::Record { state, .. }) => {
                self.found(at, state, now_ms, &mut actions);
            }
        }
        self.proceed(&mut actions);
        (self, actions)
    }

    /// Whether every participant is known to have been prepared.
    pub fn is_decided(&self) -> bool {
        matches!(self.phase, Phase::Committing)
    }

    /// The same attempt with its participants numbered anew: the first is the one that was `order[0]`.
    #[cfg(test)]
    pub(in crate::txn) fn renumbered(mut self, order: &[usize]) -> Self {
        self.members = order.iter().map(|at| self.members[*at].clone()).collect();
        self
    }

    fn voted(&mut self, at: usize, answer: prepare::Answer, actions: &mut Actions) {
        match answer {
            prepare::Answer::Found(State::Prepared) => self.members[at].stand = Stand::Prepared,
            prepare::Answer::Found(State::Committed(_)) => self.members[at].stand = Stand::Committed(None),
            prepare::Answer::Found(State::Aborted | State::Gone) => self.no(at, Reason::Resolved),
            prepare::Answer::Exists => self.no(at, Reason::Exists),
            prepare::Answer::ClockApart => self.no(at, Reason::ClockApart),
            prepare::Answer::Locked(locked) if self.order == Order::Ordered && self.phase == Phase::Voting => {
                self.wait(at, locked, Step::Prepare, actions);
            }
            prepare::Answer::Locked(locked) => self.no(at, Reason::Locked(locked)),
        }
    }

    /// A definite no: the participant has nothing, and prepare will not be sent to it any more.
    fn no(&mut self, at: usize, reason: Reason) {
        let evidence = if reason == Reason::Resolved { Evidence::Absence } else { Evidence::Refusal };
        self.members[at].stand = Stand::Nothing;
        if self.phase == Phase::Voting {
            self.phase = Phase::Aborting(reason, evidence);
        }
    }

    /// The answer to commit, abort or fence.
    fn found(&mut self, at: usize, state: State, now_ms: u64, actions: &mut Actions) {
        let absent = matches!(state, State::Aborted | State::Gone);
        let decides = !matches!(self.phase, Phase::Aborting(_, Evidence::Refusal));
        if absent && decides && now_ms > self.start_ms.saturating_add(BELIEVED_MS) {
            return self.disbelieve(actions);
        }
        self.members[at].stand = match state {
            State::Prepared => Stand::Prepared,
            State::Committed(replies) => Stand::Committed(replies),
            State::Aborted | State::Gone if self.phase == Phase::Committing => Stand::Lost,
            State::Aborted | State::Gone => Stand::Nothing,
        };
        if absent && self.phase == Phase::Voting {
            let reason = self.members[at].refusal.take().map_or(Reason::Resolved, Reason::Refused);
            self.phase = Phase::Aborting(reason, Evidence::Absence);
        }
    }

    fn reapplied(&mut self, at: usize, answer: reapply::Answer, actions: &mut Actions) {
        match answer {
            reapply::Answer::Found(State::Committed(replies)) => self.members[at].stand = Stand::Committed(replies),
            reapply::Answer::Found(_) => self.send(at, Step::Reapply, actions),
            reapply::Answer::Locked(locked) => self.wait(at, locked, Step::Reapply, actions),
            reapply::Answer::TooLate => self.tear(at, actions),
        }
    }

    fn refused(&mut self, at: usize, step: Step, refusal: Refusal, actions: &mut Actions) {
        match (step, refusal.kind) {
            (Step::Prepare, Refused::NoScript | Refused::Moved | Refused::Ask) if self.phase != Phase::Voting => {
                self.members[at].stand = Stand::Nothing;
            }
            (Step::Prepare, Refused::Later) => self.no(at, Reason::Refused(refusal)),
            // A script that stopped half way says so with an error too: only a fence tells what is there.
            (Step::Prepare, Refused::Error | Refused::Malformed) => {
                self.members[at].refusal = Some(refusal);
                self.send(at, Step::Fence, actions);
            }
            (Step::Commit | Step::Reapply, Refused::Malformed) => self.lost(at, step, actions),
            (step, kind) => actions.push(Action::Resend(at, step, kind)),
        }
    }

    fn lost(&mut self, at: usize, step: Step, actions: &mut Actions) {
        match step {
            Step::Prepare => self.send(at, Step::Fence, actions),
            Step::Commit => {
                self.members[at].unanswered = true;
                actions.push(Action::Resend(at, Step::Commit, Refused::Later));
            }
            // Commit finds out whether it was applied.
            Step::Reapply => {
                self.members[at].unanswered = true;
                self.members[at].stand = Stand::Committing;
                actions.push(Action::Resend(at, Step::Commit, Refused::Later));
            }
            Step::Abort | Step::Fence | Step::Inspect | Step::Unlock => actions.push(Action::Resend(at, step, Refused::Later)),
        }
    }

    fn wait(&mut self, at: usize, locked: Locked, step: Step, actions: &mut Actions) {
        self.members[at].stand = Stand::Waiting(locked, step);
        actions.push(Action::Wait(at, locked));
    }

    fn free(&mut self, at: usize, actions: &mut Actions) {
        if let Stand::Waiting(_, step) = self.members[at].stand {
            self.send(at, step, actions);
        }
    }

    /// Who gives up prepare says no. What is decided is asked for again, until the lock is gone or it is too late.
    fn gave_up(&mut self, at: usize, actions: &mut Actions) {
        match self.members[at].stand {
            Stand::Waiting(locked, Step::Prepare) => self.no(at, Reason::Locked(locked)),
            Stand::Waiting(_, step) => self.send(at, step, actions),
            _ => {}
        }
    }

    fn impatient(&mut self, actions: &mut Actions) {
        let outcome = if self.phase == Phase::Committing { Outcome::Pending } else { Outcome::Unknown };
        self.tell(outcome, actions);
    }

    /// The absence of a record says nothing any more. Whoever finds the other records will resolve them.
    fn disbelieve(&mut self, actions: &mut Actions) {
        self.tell(Outcome::Unknown, actions);
        self.done(actions);
    }

    /// Does what has become possible or necessary.
    fn proceed(&mut self, actions: &mut Actions) {
        match self.phase {
            Phase::Voting => self.proceed_voting(actions),
            Phase::Committing => self.proceed_committing(actions),
            Phase::Surveying => self.proceed_surveying(actions),
            Phase::Aborting(..) => self.proceed_aborting(actions),
            Phase::Done => {}
        }
    }

    fn proceed_voting(&mut self, actions: &mut Actions) {
        if self.all(|stand| matches!(stand, Stand::Prepared | Stand::Committed(_))) {
            self.phase = Phase::Committing;
            return self.send_where(|_| true, Step::Commit, actions);
        }
        match self.order {
            Order::Parallel => self.send_where(|stand| *stand == Stand::Idle, Step::Prepare, actions),
            Order::Ordered => {
                let next = self.members.iter().position(|member| !matches!(member.stand, Stand::Prepared | Stand::Committed(_)));
                if let Some(next) = next.filter(|next| self.members[*next].stand == Stand::Idle) {
                    self.send(next, Step::Prepare, actions);
                }
            }
        }
    }

    /// Repair begins when every commit was answered: until then nobody knows whether the decision left a trace.
    fn proceed_committing(&mut self, actions: &mut Actions) {
        self.send_where(|stand| *stand == Stand::Prepared, Step::Commit, actions);
        if !self.all(|stand| matches!(stand, Stand::Committed(_) | Stand::Lost | Stand::Torn)) {
            return;
        }
        if !self.any(|stand| matches!(stand, Stand::Committed(_))) {
            self.phase = Phase::Surveying;
            return self.send_where(|stand| *stand == Stand::Lost, Step::Fence, actions);
        }
        for at in 0..self.members.len() {
            if self.members[at].stand != Stand::Lost {
                continue;
            }
            if self.members[at].unanswered {
                self.tear(at, actions);
            } else {
                self.repaired = true;
                actions.push(Action::Repair(at));
                self.send(at, Step::Reapply, actions);
            }
        }
        if self.all(|stand| matches!(stand, Stand::Committed(_) | Stand::Torn)) {
            self.finish(actions);
        }
    }

    /// Everyone has committed, or has lost it for good.
    fn finish(&mut self, actions: &mut Actions) {
        let torn = self.any(|stand| *stand == Stand::Torn);
        let replies = self.members.iter_mut().map(|member| match &mut member.stand {
            Stand::Committed(replies) => replies.take(),
            _ => None,
        });
        let outcome = Outcome::Committed(replies.collect());
        self.tell(if torn { Outcome::Unknown } else { outcome }, actions);
        if !torn && !self.repaired {
            actions.push(Action::Forget);
        }
        self.done(actions);
    }

    fn proceed_surveying(&mut self, actions: &mut Actions) {
        if self.any(|stand| *stand == Stand::Fencing) {
            return;
        }
        if self.any(|stand| matches!(stand, Stand::Committed(_))) {
            return self.stand_by_decision(actions);
        }
        self.phase = Phase::Aborting(Reason::AllLost, Evidence::Absence);
        self.proceed_aborting(actions);
    }

    /// Somebody has committed after all; commit asks for the replies.
    fn stand_by_decision(&mut self, actions: &mut Actions) {
        self.phase = Phase::Committing;
        for member in &mut self.members {
            member.stand = match member.stand {
                Stand::Nothing => Stand::Lost,
                _ => Stand::Prepared,
            };
        }
        self.proceed_committing(actions);
    }

    fn proceed_aborting(&mut self, actions: &mut Actions) {
        let Phase::Aborting(reason, evidence) = self.phase.clone() else { return };
        if evidence == Evidence::Refusal {
            self.tell(Outcome::Aborted(reason.clone()), actions);
        }
        self.send_where(|stand| *stand == Stand::Prepared, Step::Abort, actions);
        for member in &mut self.members {
            if matches!(member.stand, Stand::Idle | Stand::Waiting(..)) {
                member.stand = Stand::Nothing;
            }
        }
        if !self.all(|stand| matches!(stand, Stand::Nothing | Stand::Committed(_))) {
            return;
        }
        let committed = self.members.iter().position(|member| matches!(member.stand, Stand::Committed(_)));
        match (committed, evidence) {
            (None, _) => {
                let doubt = self.members.iter().any(|member| member.unanswered);
                self.tell(if doubt { Outcome::Unknown } else { Outcome::Aborted(reason) }, actions);
                self.done(actions);
            }
            (Some(_), Evidence::Absence) => self.stand_by_decision(actions),
            (Some(at), Evidence::Refusal) => {
                actions.push(Action::Torn(at));
                self.done(actions);
            }
        }
    }

    fn tear(&mut self, at: usize, actions: &mut Actions) {
        self.members[at].stand = Stand::Torn;
        actions.push(Action::Torn(at));
    }

    fn tell(&mut self, outcome: Outcome, actions: &mut Actions) {
        if !std::mem::replace(&mut self.told, true) {
            actions.push(Action::Tell(outcome));
        }
    }

    fn done(&mut self, actions: &mut Actions) {
        if std::mem::replace(&mut self.phase, Phase::Done) != Phase::Done {
            actions.push(Action::Done);
        }
    }

    fn send_where(&mut self, is: impl Fn(&Stand) -> bool, step: Step, actions: &mut Actions) {
        for at in 0..self.members.len() {
            if is(&self.members[at].stand) {
                self.send(at, step, actions);
            }
        }
    }

    fn send(&mut self, at: usize, step: Step, actions: &mut Actions) {
        self.members[at].stand = match step {
            Step::Prepare => Stand::Preparing,
            Step::Commit => Stand::Committing,
            Step::Reapply => Stand::Reapplying,
            Step::Abort => Stand::Aborting,
            Step::Fence | Step::Inspect | Step::Unlock => Stand::Fencing,
        };
        actions.push(Action::Send(at, step));
    }

    fn all(&self, is: impl Fn(&Stand) -> bool) -> bool {
        self.members.iter().all(|member| is(&member.stand))
    }

    fn any(&self, is: impl Fn(&Stand) -> bool) -> bool {
        self.members.iter().any(|member| is(&member.stand))
    }
}
