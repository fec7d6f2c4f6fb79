//! What the machines do, one case at a time; all schedules of small worlds are explored in `txn::model`.

use super::*;
use crate::txn::fence::Staged;
use crate::txn::{KeyLock, LockMode, Participant, TxnId};

const TID: TxnId = TxnId { proxy: 1, incarnation: 1, sequence: 1, start_ms: 1_000 };
const OWNER: Locked = Locked { owner: TxnId { sequence: 2, ..TID }, lease_left_ms: 5 };
const NOW: u64 = TID.start_ms;

/// A coordinator of two participants after these events, and what followed the last.
fn after(order: Order, events: impl IntoIterator<Item = Event>) -> (Coordinator, Vec<Action>) {
    let (machine, actions) = Coordinator::new(TID, 2, order);
    events.into_iter().fold((machine, actions.to_vec()), |(machine, _), event| {
        let (machine, actions) = machine.on(NOW, event);
        (machine, actions.to_vec())
    })
}

fn parallel(events: impl IntoIterator<Item = Event>) -> Vec<Action> {
    after(Order::Parallel, events).1
}

fn yes(at: usize) -> Event {
    Event::Prepare(at, prepare::Answer::Found(State::Prepared))
}

fn committed(at: usize, reply: &'static str) -> Event {
    Event::Commit(at, State::Committed(Some(vec![Bytes::from_static(reply.as_bytes())])))
}

fn tombstone() -> Record {
    Record { state: State::Aborted, age_ms: 0, staged: None }
}

fn refusal(kind: Refused) -> Refusal {
    Refusal { kind, text: Bytes::from_static(b"ERR no") }
}

#[test]
fn all_prepare_then_all_commit_then_the_client_learns_the_replies() {
    assert_eq!(parallel([]), [Action::Send(0, Step::Prepare), Action::Send(1, Step::Prepare)]);
    assert_eq!(parallel([yes(1)]), []);
    assert_eq!(parallel([yes(1), yes(0)]), [Action::Send(0, Step::Commit), Action::Send(1, Step::Commit)]);
    let replies = vec![Some(vec![Bytes::from_static(b"+A\r\n")]), Some(vec![Bytes::from_static(b"+B\r\n")])];
    assert_eq!(
        parallel([yes(0), yes(1), committed(1, "+B\r\n"), committed(0, "+A\r\n")]),
        [Action::Tell(Outcome::Committed(replies)), Action::Forget, Action::Done]
    );
}

#[test]
fn a_lock_in_the_way_of_a_parallel_attempt_is_a_no() {
    let locked = Event::Prepare(1, prepare::Answer::Locked(OWNER));
    let told = Action::Tell(Outcome::Aborted(Reason::Locked(OWNER)));
    assert_eq!(parallel([yes(0), locked.clone()]), [told.clone(), Action::Send(0, Step::Abort)]);
    assert_eq!(parallel([locked.clone()]), [told]);
    assert_eq!(parallel([locked.clone(), yes(0)]), [Action::Send(0, Step::Abort)]);
    assert_eq!(parallel([locked, yes(0), Event::Abort(0, State::Gone)]), [Action::Done]);
}

#[test]
fn an_ordered_attempt_waits_for_a_lock() {
    let locked = |at| Event::Prepare(at, prepare::Answer::Locked(OWNER));
    let ordered = |events: Vec<Event>| after(Order::Ordered, events).1;
    assert_eq!(ordered(vec![]), [Action::Send(0, Step::Prepare)]);
    assert_eq!(ordered(vec![yes(0)]), [Action::Send(1, Step::Prepare)]);
    assert_eq!(ordered(vec![yes(0), locked(1)]), [Action::Wait(1, OWNER)]);
    assert_eq!(ordered(vec![yes(0), locked(1), Event::Free(1)]), [Action::Send(1, Step::Prepare)]);
    let told = Action::Tell(Outcome::Aborted(Reason::Locked(OWNER)));
    assert_eq!(ordered(vec![yes(0), locked(1), Event::GaveUp(1)]), [told.clone(), Action::Send(0, Step::Abort)]);
    assert_eq!(ordered(vec![locked(0), Event::GaveUp(0)]), [told, Action::Done]);
}

#[test]
fn a_lost_prepare_is_settled_by_a_fence_and_never_sent_again() {
    let lost = Event::Lost(1, Step::Prepare);
    assert_eq!(parallel([yes(0), lost.clone()]), [Action::Send(1, Step::Fence)]);
    let prepared = Event::Fence(1, Record { state: State::Prepared, ..tombstone() });
    assert_eq!(parallel([yes(0), lost.clone(), prepared]), [Action::Send(0, Step::Commit), Action::Send(1, Step::Commit)]);
    let aborted = [yes(0), lost, Event::Fence(1, tombstone())];
    assert_eq!(parallel(aborted.clone()), [Action::Send(0, Step::Abort)], "0 may have been committed, and 1 lost");
    let told = Action::Tell(Outcome::Aborted(Reason::Resolved));
    assert_eq!(parallel(aborted.into_iter().chain([Event::Abort(0, State::Gone)])), [told, Action::Done]);
}

#[test]
fn a_refused_prepare_is_sent_again_only_where_nothing_ran() {
    let refused = |kind| Event::Refused(0, Step::Prepare, refusal(kind));
    for kind in [Refused::NoScript, Refused::Moved, Refused::Ask] {
        assert_eq!(parallel([refused(kind)]), [Action::Resend(0, Step::Prepare, kind)]);
        let doomed = [Event::WatchBroken(1), refused(kind)];
        assert_eq!(parallel(doomed), [Action::Done], "what can never commit is not prepared");
    }
    let told = |kind| Action::Tell(Outcome::Aborted(Reason::Refused(refusal(kind))));
    assert_eq!(parallel([refused(Refused::Later)]), [told(Refused::Later)]);
    for kind in [Refused::Error, Refused::Malformed] {
        assert_eq!(parallel([refused(kind)]), [Action::Send(0, Step::Fence)]);
        let events = [yes(1), refused(kind), Event::Fence(0, tombstone()), Event::Abort(1, State::Gone)];
        assert_eq!(parallel(events), [told(kind), Action::Done]);
    }
}

#[test]
fn what_is_certain_is_sent_until_it_is_answered() {
    let decided = [yes(0), yes(1)];
    for kind in [Refused::Later, Refused::Moved, Refused::NoScript, Refused::Error] {
        let events = decided.clone().into_iter().chain([Event::Refused(0, Step::Commit, refusal(kind))]);
        assert_eq!(parallel(events), [Action::Resend(0, Step::Commit, kind)]);
    }
    let events = decided.into_iter().chain([Event::Lost(0, Step::Commit)]);
    assert_eq!(parallel(events), [Action::Resend(0, Step::Commit, Refused::Later)]);
    for step in [Step::Abort, Step::Fence] {
        assert_eq!(parallel([Event::Lost(0, step)]), [Action::Resend(0, step, Refused::Later)]);
    }
}

#[test]
fn an_impatient_client_learns_whether_it_is_decided_and_nothing_more() {
    assert_eq!(parallel([Event::Impatient]), [Action::Tell(Outcome::Unknown)]);
    let pending = [yes(0), yes(1), Event::Impatient];
    assert_eq!(parallel(pending.clone()), [Action::Tell(Outcome::Pending)]);
    let later = pending.into_iter().chain([committed(0, "+A\r\n"), committed(1, "+B\r\n")]);
    assert_eq!(parallel(later), [Action::Forget, Action::Done]);
}

#[test]
fn a_missing_record_says_nothing_ten_minutes_after_the_start() {
    let (machine, _) = after(Order::Parallel, [yes(0), Event::Lost(1, Step::Prepare)]);
    let (_, actions) = machine.on(NOW + BELIEVED_MS + 1, Event::Fence(1, tombstone()));
    assert_eq!(actions.to_vec(), [Action::Tell(Outcome::Unknown), Action::Done]);
}

#[test]
fn what_a_participant_lost_of_a_committed_transaction_is_applied_again_and_never_forgotten() {
    let lost = [yes(0), yes(1), committed(0, "+A\r\n"), Event::Commit(1, State::Gone)];
    assert_eq!(parallel(lost.clone()), [Action::Repair(1), Action::Send(1, Step::Reapply)]);
    let replies = vec![Some(vec![Bytes::from_static(b"+A\r\n")]), None];
    let again = Event::Reapply(1, reapply::Answer::Found(State::Committed(None)));
    assert_eq!(parallel(lost.clone().into_iter().chain([again])), [Action::Tell(Outcome::Committed(replies)), Action::Done]);
    let late = lost.into_iter().chain([Event::Reapply(1, reapply::Answer::TooLate)]);
    assert_eq!(parallel(late), [Action::Torn(1), Action::Tell(Outcome::Unknown), Action::Done]);
}

#[test]
fn what_is_applied_again_is_asked_for_again_however_long_a_lock_is_in_the_way() {
    let locked = Event::Reapply(1, reapply::Answer::Locked(OWNER));
    let met = [yes(0), yes(1), committed(0, "+A\r\n"), Event::Commit(1, State::Gone), locked];
    assert_eq!(parallel(met.clone()), [Action::Wait(1, OWNER)]);
    for event in [Event::Free(1), Event::GaveUp(1)] {
        assert_eq!(parallel(met.clone().into_iter().chain([event])), [Action::Send(1, Step::Reapply)]);
    }
}

#[test]
fn nothing_is_applied_again_after_an_unanswered_commit_unless_a_failover_was_seen() {
    let unanswered = [yes(0), yes(1), committed(0, "+A\r\n"), Event::Lost(1, Step::Commit)];
    let gone = Event::Commit(1, State::Gone);
    let events = unanswered.clone().into_iter().chain([gone.clone()]);
    assert_eq!(parallel(events), [Action::Torn(1), Action::Tell(Outcome::Unknown), Action::Done]);
    let events = unanswered.into_iter().chain([Event::FailedOver(1), gone]);
    assert_eq!(parallel(events), [Action::Repair(1), Action::Send(1, Step::Reapply)]);
}

#[test]
fn what_all_have_lost_is_fenced_and_then_aborted() {
    let lost = [yes(0), yes(1), Event::Commit(0, State::Gone), Event::Commit(1, State::Aborted)];
    assert_eq!(parallel(lost.clone()), [Action::Send(0, Step::Fence), Action::Send(1, Step::Fence)]);
    let fenced = lost.into_iter().chain([Event::Fence(0, tombstone()), Event::Fence(1, tombstone())]);
    assert_eq!(parallel(fenced), [Action::Tell(Outcome::Aborted(Reason::AllLost)), Action::Done]);
}

fn participant(db: u32) -> Participant {
    Participant::Shard { name: "p".into(), db }
}

fn record(state: State) -> Record {
    let participants = vec![participant(0), participant(1)];
    let staged = Staged { start_ms: 0, lease_ms: 0, run_id: String::new(), participants, keys: Vec::new() };
    Record { staged: (!matches!(state, State::Aborted | State::Gone)).then_some(staged), state, age_ms: 0 }
}

/// A resolver that came by participant 1 and found these at both.
fn resolve(first: State, second: State) -> (Resolver, Vec<Action>) {
    let (machine, actions) = Resolver::new(participant(1), Vec::new());
    assert_eq!(actions.to_vec(), [Action::Send(0, Step::Inspect)]);
    let (machine, actions) = machine.on(Event::Inspect(0, record(State::Prepared)));
    assert_eq!(actions.to_vec(), [Action::Send(0, Step::Fence), Action::Send(1, Step::Fence)]);
    let (machine, actions) = machine.on(Event::Fence(1, record(second)));
    assert_eq!(actions.to_vec(), []);
    let (machine, actions) = machine.on(Event::Fence(0, record(first)));
    (machine, actions.to_vec())
}

#[test]
fn a_resolver_commits_what_all_have_prepared_or_any_has_committed() {
    let (machine, actions) = resolve(State::Prepared, State::Prepared);
    assert_eq!(actions, [Action::Send(0, Step::Commit), Action::Send(1, Step::Commit)]);
    let (machine, actions) = machine.on(Event::Lost(1, Step::Commit));
    assert_eq!(actions.to_vec(), [Action::Resend(1, Step::Commit, Refused::Later)]);
    let (machine, _) = machine.on(committed(0, ""));
    let (machine, actions) = machine.on(committed(1, ""));
    assert_eq!((actions.to_vec(), machine.verdict()), (vec![Action::Done], Some(Verdict::Committed)));
    assert_eq!(resolve(State::Committed(None), State::Prepared).1, [Action::Send(1, Step::Commit)]);
    assert_eq!(resolve(State::Committed(None), State::Aborted).0.verdict(), Some(Verdict::Committed));
}

#[test]
fn a_resolver_aborts_what_a_fence_has_stopped() {
    let (machine, actions) = resolve(State::Prepared, State::Aborted);
    assert_eq!(actions, [Action::Send(0, Step::Abort)]);
    let (machine, _) = machine.on(Event::Abort(0, State::Gone));
    assert_eq!(machine.verdict(), Some(Verdict::Aborted));
}

#[test]
fn a_resolver_stops_at_a_record_of_another_version() {
    let foreign = |step| Event::Refused(0, step, refusal(Refused::Foreign));
    let (machine, _) = Resolver::new(participant(0), Vec::new());
    let (machine, actions) = machine.on(foreign(Step::Inspect));
    assert_eq!((actions.to_vec(), machine.verdict()), (vec![Action::Done], Some(Verdict::Foreign)), "nothing is fenced");
    let (machine, _) = Resolver::new(participant(0), Vec::new());
    let (machine, _) = machine.on(Event::Inspect(0, record(State::Prepared)));
    let (machine, actions) = machine.on(foreign(Step::Fence));
    assert_eq!((actions.to_vec(), machine.verdict()), (vec![Action::Done], Some(Verdict::Foreign)), "nothing is aborted");
}

#[test]
fn a_resolver_leaves_alone_what_is_finished() {
    let (machine, _) = Resolver::new(participant(0), Vec::new());
    let (machine, actions) = machine.on(Event::Inspect(0, record(State::Gone)));
    assert_eq!((actions.to_vec(), machine.verdict()), (vec![Action::Done], Some(Verdict::Finished)));
}

#[test]
fn a_resolver_commits_at_once_what_it_may_and_waits_for_everyone_before_it_aborts() {
    let three = Record {
        staged: record(State::Prepared).staged.map(|staged| Staged { participants: (0..3).map(participant).collect(), ..staged }),
        ..record(State::Prepared)
    };
    let looked = || Resolver::new(participant(0), Vec::new()).0.on(Event::Inspect(0, three.clone())).0;
    let (machine, actions) = looked().on(Event::Fence(0, record(State::Prepared)));
    assert_eq!(actions.to_vec(), []);
    assert!(!machine.has_released(&participant(0)));
    let (machine, actions) = machine.on(Event::Fence(1, record(State::Committed(None))));
    assert_eq!(actions.to_vec(), [Action::Send(0, Step::Commit)], "2 has not answered");
    let (machine, _) = machine.on(committed(0, ""));
    assert!(machine.has_released(&participant(0)) && machine.verdict().is_none());
    let (machine, actions) = machine.on(Event::Fence(2, record(State::Prepared)));
    assert_eq!(actions.to_vec(), [Action::Send(2, Step::Commit)]);
    assert_eq!(machine.on(committed(2, "")).0.verdict(), Some(Verdict::Committed));

    let (machine, _) = looked().on(Event::Fence(0, record(State::Prepared)));
    let (machine, actions) = machine.on(Event::Fence(1, record(State::Aborted)));
    assert_eq!(actions.to_vec(), [], "2 may have committed, and 1 lost its part");
    let (_, actions) = machine.on(Event::Fence(2, record(State::Gone)));
    assert_eq!(actions.to_vec(), [Action::Send(0, Step::Abort)]);
}

#[test]
fn a_resolver_that_met_a_lock_takes_it_away_where_no_record_stands_behind_it() {
    let met = vec![KeyLock { key: Bytes::from_static(b"k"), mode: LockMode::Exclusive }];
    let (machine, actions) = Resolver::new(participant(0), met.clone());
    assert_eq!((actions.to_vec(), machine.keys(0)), (vec![Action::Send(0, Step::Unlock)], &met[..]));
    let (machine, _) = machine.on(Event::Inspect(0, record(State::Gone)));
    assert_eq!(machine.verdict(), Some(Verdict::Finished));
}
