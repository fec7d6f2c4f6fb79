//! The order of a line, and that nothing is left behind by whoever leaves it.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use futures::task::noop_waker;

use super::*;

type Turn<'a> = Pin<Box<dyn Future<Output = Latched> + 'a>>;

fn wanted(exclusive: &[u64], shared: &[u64]) -> Wanted {
    let want = |exclusive| move |number: &u64| Want { number: *number, exclusive };
    Wanted::of(exclusive.iter().map(want(true)).chain(shared.iter().map(want(false))).collect())
}

fn poll(future: &mut Turn<'_>) -> Poll<Latched> {
    future.as_mut().poll(&mut Context::from_waker(&noop_waker()))
}

fn must_wait(future: &mut Turn<'_>) {
    assert!(poll(future).is_pending());
}

#[track_caller]
#[expect(clippy::panic, reason = "tests")]
fn must_hold(future: &mut Turn<'_>) -> Latched {
    match poll(future) {
        Poll::Ready(latched) => latched,
        Poll::Pending => panic!("still waits"),
    }
}

fn must_be_empty(latches: &Latches) {
    assert!(latches.shelves.iter().all(|shelf| shelf.lock().unwrap_or_else(PoisonError::into_inner).is_empty()));
}

fn take<'a>(latches: &'a Arc<Latches>, wanted: &'a Wanted) -> Turn<'a> {
    Box::pin(latches.take(wanted))
}

#[test]
fn who_waits_is_let_in_in_the_order_of_coming() {
    let latches = Arc::new(Latches::default());
    let both = wanted(&[1, 2], &[]);
    let first = latches.try_take(&both);
    let mut turns: Vec<_> = (0..5).map(|_| take(&latches, &both)).collect();
    turns.iter_mut().for_each(must_wait);
    drop(first);
    for at in 0..turns.len() {
        // The last asks first.
        turns[at + 1..].iter_mut().rev().for_each(must_wait);
        let latched = must_hold(&mut turns[at]);
        turns[at + 1..].iter_mut().rev().for_each(must_wait);
        drop(latched);
    }
    must_be_empty(&latches);
}

#[test]
fn readers_share_and_do_not_pass_a_writer() {
    let latches = Arc::new(Latches::default());
    let (write, read) = (wanted(&[1], &[]), wanted(&[], &[1]));
    let reader = latches.try_take(&read);
    let other = latches.try_take(&read);
    assert!(reader.is_ok() && other.is_ok() && latches.try_take(&write).is_err());
    let mut writer = take(&latches, &write);
    must_wait(&mut writer);
    assert!(latches.try_take(&read).is_err(), "a reader has passed the writer");
    let mut late = [take(&latches, &read), take(&latches, &read)];
    late.iter_mut().for_each(must_wait);
    drop((reader, other));
    let written = must_hold(&mut writer);
    late.iter_mut().for_each(must_wait);
    drop(written);
    let [mut one, mut two] = late;
    drop((must_hold(&mut one), must_hold(&mut two)));
    must_be_empty(&latches);
}

#[test]
fn who_goes_away_leaves_the_line() {
    let latches = Arc::new(Latches::default());
    let (write, read) = (wanted(&[1], &[]), wanted(&[], &[1]));
    let reader = latches.try_take(&read);
    let mut writer = take(&latches, &write);
    must_wait(&mut writer);
    let mut late = take(&latches, &read);
    must_wait(&mut late);
    drop(writer);
    drop((must_hold(&mut late), reader));
    must_be_empty(&latches);
}

#[test]
fn who_goes_away_at_the_moment_of_being_let_in_lets_the_next_in() {
    let latches = Arc::new(Latches::default());
    let write = wanted(&[1], &[]);
    let first = latches.try_take(&write);
    let (mut second, mut third) = (take(&latches, &write), take(&latches, &write));
    must_wait(&mut second);
    must_wait(&mut third);
    drop(first);
    drop(second);
    drop(must_hold(&mut third));
    must_be_empty(&latches);
}

#[test]
fn who_goes_ahead_waits_for_nobody_but_the_holder() {
    let latches = Arc::new(Latches::default());
    let write = wanted(&[1], &[]);
    let first = latches.try_take(&write);
    let (mut second, mut ahead): (Turn<'_>, Turn<'_>) = (take(&latches, &write), Box::pin(latches.take_ahead(&write)));
    must_wait(&mut second);
    must_wait(&mut ahead);
    drop(first);
    must_wait(&mut second);
    drop(must_hold(&mut ahead));
    drop(must_hold(&mut second));
    must_be_empty(&latches);
}

#[test]
fn who_gets_only_some_at_once_holds_none() {
    let latches = Arc::new(Latches::default());
    let second = latches.try_take(&wanted(&[2], &[]));
    assert_eq!(latches.try_take(&wanted(&[1, 2], &[])).err(), Some(Want { number: 2, exclusive: true }));
    assert!(latches.try_take(&wanted(&[1], &[])).is_ok());
    drop(second);
    must_be_empty(&latches);
}

#[test]
fn what_is_added_is_added_whole_or_not_at_all() {
    let latches = Arc::new(Latches::default());
    let other = latches.try_take(&wanted(&[3], &[]));
    let mut latched = latches.try_take(&wanted(&[1], &[5])).ok();
    let mut add = |wanted: &Wanted| latched.as_mut().map(|latched| latched.try_add(wanted).is_ok());
    assert_eq!(add(&wanted(&[1, 2], &[5])), Some(true), "what it holds it need not take");
    assert_eq!(add(&wanted(&[3, 0], &[])), Some(false), "somebody else holds one of them");
    assert_eq!(add(&wanted(&[5], &[])), Some(false), "it holds it for reading");
    assert!(latches.try_take(&wanted(&[0], &[])).is_ok());
    drop((latched, other));
    must_be_empty(&latches);
}

#[test]
fn a_waiter_learns_whether_its_key_was_changed_meanwhile() {
    let latches = Arc::new(Latches::default());
    let place = Place { slot: None, shard: crate::topology::ShardId::new(0), db: 0 };
    let key = Bytes::from_static(b"key");
    let lock = |mode| [KeyLock { key: key.clone(), mode }];
    let (write, read) = (latches.wanted_at(&place, &lock(LockMode::Exclusive)), latches.wanted_at(&place, &lock(LockMode::Shared)));
    for changes in [true, false] {
        let mut first = latches.try_take(&write);
        let mut second = take(&latches, &read);
        must_wait(&mut second);
        if let (Ok(first), true) = (&mut first, changes) {
            first.set_changed();
        }
        drop(first);
        let latched = must_hold(&mut second);
        assert_eq!(latched.saw_change_of([(&place, &key)]), changes);
        assert!(!latched.saw_change_of([(&place, &Bytes::from_static(b"other"))]));
        // Who comes now has seen nothing.
        drop(latched);
        let mut third = pin!(latches.take(&read));
        let third = third.as_mut().poll(&mut Context::from_waker(&noop_waker()));
        assert!(matches!(third, Poll::Ready(latched) if !latched.saw_change_of([(&place, &key)])));
    }
    must_be_empty(&latches);
}

#[test]
fn a_key_that_is_read_and_written_is_wanted_once() {
    assert_eq!(wanted(&[7, 3], &[3, 9]), wanted(&[3, 7], &[9]));
}
