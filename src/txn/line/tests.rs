//! Who goes one at a time, and who goes with others.

use std::sync::Arc;

use super::*;
use crate::topology::ShardId;

const PLACE: Place = Place { slot: None, shard: ShardId::new(0), db: 0 };

fn lines<'a>(latches: &Latches, keys: impl IntoIterator<Item = &'a str>) -> Habit {
    Habit::of_writing(latches, keys.into_iter().map(|key| (&PLACE, key.as_bytes())))
}

fn keys(keys: &[&'static str]) -> Vec<(Place, Vec<Bytes>)> {
    vec![(PLACE, keys.iter().map(|key| Bytes::from_static(key.as_bytes())).collect())]
}

#[test]
fn who_writes_what_it_watches_goes_alone_and_who_only_reads_it_goes_with_others() {
    let latches = Arc::new(Latches::default());
    let (writer, reader) = (lines(&latches, ["key"]), Habit::default());
    let of = |habit: &Habit| habit.wanted(&latches, &keys(&["key"]));
    let reading = [of(&reader), of(&reader)].map(|wanted| latches.try_take(&wanted).ok());
    assert!(reading.iter().all(Option::is_some) && latches.try_take(&of(&writer)).is_err());
    drop(reading);
    let writing = latches.try_take(&of(&writer));
    assert!(writing.is_ok() && latches.try_take(&of(&reader)).is_err() && latches.try_take(&of(&writer)).is_err());
    drop(writing);
    assert!(!latches.is_any_held(&of(&reader)), "a line that nobody stands in does not exist");
}

#[test]
fn habit_is_about_keys_and_not_about_the_client() {
    let latches = Latches::default();
    let habit = lines(&latches, ["hot"]);
    assert!(habit.wanted(&latches, &keys(&["cold", "hot"])).is_exclusive());
    assert!(!habit.wanted(&latches, &keys(&["cold"])).is_exclusive());
}

#[test]
fn a_line_is_not_the_latch_that_a_transaction_takes() {
    use crate::txn::batch::{KeyLock, LockMode};
    let latches = Arc::new(Latches::default());
    let line = lines(&latches, ["key"]).wanted(&latches, &keys(&["key"]));
    let latch = latches.wanted_at(&PLACE, &[KeyLock { key: Bytes::from_static(b"key"), mode: LockMode::Exclusive }]);
    let both = (latches.try_take(&line), latches.try_take(&latch));
    assert!(matches!(both, (Ok(_), Ok(_))));
}

#[test]
fn what_is_remembered_of_a_client_is_bounded() {
    let names: Vec<String> = (0..10 * KEYS_MAX).map(|index| index.to_string()).collect();
    assert_eq!(lines(&Latches::default(), names.iter().map(String::as_str)).wrote.len(), KEYS_MAX);
}
