//! A weft that dies at each step of the protocol, as coordinator and as resolver, and what the next one finds.

use std::os::unix::process::ExitStatusExt as _;
use std::time::Instant;

use rustix::process::Signal;

use super::*;
use crate::support::{PATIENCE, eventually};

/// What a death leaves for the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// Nothing at all.
    Nothing,
    /// A prepared transaction, at all participants.
    Prepared,
    /// A committed one, whose records were not forgotten.
    Committed,
    /// Between two of these.
    Some,
}

impl Left {
    /// The kinds of keys of a transaction that wrote one key on each of `count` shards; `None` if they are not determined.
    fn keys(self, count: usize) -> Option<Vec<(usize, char)>> {
        let kinds: &[char] = match self {
            Self::Nothing => &[],
            Self::Prepared => &['t', 'x'],
            Self::Committed => &['t'],
            Self::Some => return None,
        };
        Some((0..count).flat_map(|shard| kinds.iter().map(move |kind| (shard, *kind))).collect())
    }

    /// Whether the transaction is applied in the end, if that is determined.
    fn applied(self) -> Option<bool> {
        match self {
            Self::Nothing => Some(false),
            Self::Prepared | Self::Committed => Some(true),
            Self::Some => None,
        }
    }
}

/// Every moment at which the coordinator of a transaction over `count` participants may die.
fn deaths(count: usize) -> Vec<(String, Left)> {
    let moment = |name: &str, turn: usize| format!("{name}:{turn}");
    vec![
        (moment("before-prepare", 1), Left::Nothing),
        (moment("before-prepare", count), Left::Nothing),
        (moment("after-prepare", 1), Left::Some),
        (moment("after-prepare", count), Left::Prepared),
        (moment("before-commit", 1), Left::Prepared),
        (moment("before-commit", count), Left::Prepared),
        (moment("after-commit", 1), Left::Some),
        (moment("after-commit", count), Left::Committed),
    ]
}

#[test]
fn a_coordinator_that_dies_leaves_all_or_nothing_on_static_shards() {
    die_at_each_step(Mode::Static);
}

#[test]
fn a_coordinator_that_dies_leaves_all_or_nothing_in_a_cluster() {
    die_at_each_step(Mode::Cluster);
}

fn die_at_each_step(mode: Mode) {
    let shards = Shards::start(mode, Flavor::Redis, 3);
    let survivor = setup(&shards).start();
    for count in [2, 3] {
        for (failpoint, expected) in deaths(count) {
            let before = shards.internal_keys();
            let keys = keys(&shards, count, &format!("{count}-{failpoint}-"));
            let mut doomed = setup(&shards).env("WEFT_FAILPOINT", &failpoint).start();
            let mut client = doomed.client();
            send_transaction(&mut client, increments(&keys));
            assert_eq!(doomed.process().must_exit().signal(), Some(Signal::KILL.as_raw()));
            client.must_be_closed();
            let (context, found) = (format!("{failpoint} of {count}"), left(&shards, &before));
            if let Some(kinds) = expected.keys(count) {
                assert_eq!(found, kinds, "{context}");
            }
            must_be_all_or_nothing(&survivor, &keys, expected.applied(), &context);
            must_have_no_locks(&shards);
        }
    }
}

/// The survivor's clients, one for each key and all at once, see the same on all of them and can write them.
#[track_caller]
pub(super) fn must_be_all_or_nothing(survivor: &Weft, keys: &[String], expected: Option<bool>, context: &str) {
    let mut clients: Vec<Client> = keys.iter().map(|_| survivor.client()).collect();
    let mut call_all = |verb: &str| -> Vec<Reply> {
        clients.iter_mut().zip(keys).for_each(|(client, key)| client.send(&format!("{verb} {key}")));
        clients.iter_mut().map(Client::receive).collect()
    };
    let values = call_all("GET");
    let applied = values[0] != Reply::Nil;
    let value = if applied { Reply::from("1") } else { Reply::Nil };
    assert!(values.iter().all(|found| *found == value), "{context}: {values:?}");
    assert!(expected.is_none_or(|expected| expected == applied), "{context}: applied {applied}");
    let counts = call_all("INCR");
    assert!(counts.iter().all(|count| *count == Reply::Integer(1 + i64::from(applied))), "{context}: {counts:?}");
}

#[test]
fn a_dead_coordinators_locks_are_gone_before_two_leases_are_over() {
    for mode in Mode::ALL {
        let shards = Shards::start(mode, Flavor::Redis, 2);
        let keys = keys(&shards, 2, "k");
        // With the defaults: long enough that a busy machine does not decide.
        let lease = Duration::from_secs(2);
        let survivor = Weft::start(&shards);
        let mut doomed = Weft::setup(&shards).env("WEFT_FAILPOINT", "before-commit").start();
        send_transaction(&mut doomed.client(), increments(&keys));
        doomed.process().must_exit();
        let death = Instant::now();
        keys.iter().for_each(|key| survivor.client().must_bulk(&format!("GET {key}"), "1"));
        assert!(death.elapsed() < 2 * lease, "{:?}", death.elapsed());
        must_have_no_locks(&shards);
    }
}

/// A weft whose transaction over the key on shard 2 died prepared, with a lease of a minute: whoever needs that key has to abort.
fn hold(shards: &Shards, prefix: &str) -> (String, String) {
    let held = (shards.key_on(1, prefix), shards.key_on(2, prefix));
    let mut holder = Weft::setup(shards).set("transactions.lease_ms", 60_000).env("WEFT_FAILPOINT", "before-commit").start();
    send_transaction(&mut holder.client(), [format!("INCR {}", held.0), format!("INCR {}", held.1)]);
    holder.process().must_exit();
    held
}

#[test]
fn a_coordinator_that_dies_while_it_gives_way_has_applied_nothing() {
    for mode in Mode::ALL {
        let shards = Shards::start(mode, Flavor::Redis, 3);
        let survivor = setup(&shards).start();
        let (_, held) = hold(&shards, "held");
        // The third prepare is that of the second attempt, which prepares one shard after the other.
        for failpoint in ["before-abort", "after-abort", "after-prepare:3", "before-prepare:4", "after-prepare:4"] {
            let free = shards.key_on(0, failpoint);
            let mut doomed = setup(&shards).env("WEFT_FAILPOINT", failpoint).start();
            let mut client = doomed.client();
            send_transaction(&mut client, increments(&[free.clone(), held.clone()]));
            doomed.process().must_exit();
            client.must_be_closed();
            must_be_all_or_nothing(&survivor, &[free], Some(false), failpoint);
        }
        let locks: Vec<_> = shards.internal_keys().into_iter().filter(|(_, name)| kind(name) == 'x').collect();
        assert_eq!(locks.len(), 2, "{locks:?}");
        assert_eq!(shards.servers()[2].client().call(&format!("EXISTS {held}")), Reply::Integer(0));
    }
}

#[test]
fn a_resolver_that_dies_is_taken_over_from() {
    for mode in Mode::ALL {
        let shards = Shards::start(mode, Flavor::Redis, 3);
        let survivor = setup(&shards).start();
        let (_, held) = hold(&shards, "held");
        let moments = ["before-unlock", "after-unlock", "before-fence:1", "before-fence:2", "after-fence:1", "after-fence:2"];
        let commits = ["before-commit:1", "before-commit:2", "after-commit:1", "after-commit:2"];
        let aborts = ["before-abort", "after-abort"];
        for (applied, resolver) in
            moments.iter().chain(&commits).map(|moment| (true, moment)).chain(moments.iter().chain(&aborts).map(|moment| (false, moment)))
        {
            let context = format!("{resolver}-{applied}");
            let first = shards.key_on(0, &context);
            let second = if applied { shards.key_on(1, &context) } else { held.clone() };
            let failpoint = if applied { "before-commit" } else { "before-abort" };
            let mut doomed = setup(&shards).env("WEFT_FAILPOINT", failpoint).start();
            send_transaction(&mut doomed.client(), increments(&[first.clone(), second.clone()]));
            doomed.process().must_exit();

            let mut doomed = setup(&shards).env("WEFT_FAILPOINT", resolver).start();
            let mut client = doomed.client();
            client.send(&format!("GET {first}"));
            doomed.process().must_exit();
            // The key is free when its own shard has committed; the client may have heard of it before the other shard had.
            match client.try_receive() {
                Ok(reply) => assert_eq!((*resolver, reply), ("after-commit:2", Reply::from("1"))),
                Err(_) => client.must_be_closed(),
            }

            let keys = if applied { vec![first, second] } else { vec![first] };
            must_be_all_or_nothing(&survivor, &keys, Some(applied), &context);
        }
    }
}

#[test]
fn records_are_forgotten_by_the_coordinator_or_left_to_the_sweepers() {
    for mode in Mode::ALL {
        let shards = Shards::start(mode, Flavor::Redis, 2);
        let keys = keys(&shards, 2, "k");
        let kinds = |shards: &Shards| left(shards, &[]).len();
        // One after the other: the coordinator that lives leaves nothing.
        for (failpoint, records) in [("before-forget", 2), ("after-forget:1", 3), ("after-forget:2", 3)] {
            let mut doomed = setup(&shards).env("WEFT_FAILPOINT", failpoint).start();
            let mut client = doomed.client();
            send_transaction(&mut client, increments(&keys));
            assert!(matches!(client.receive(), Reply::Array(_)));
            doomed.process().must_exit();
            client.must_be_closed();
            assert_eq!(kinds(&shards), records, "{failpoint}");
        }
        let living = setup(&shards).start();
        let mut client = living.client();
        send_transaction(&mut client, increments(&keys));
        assert_eq!(client.receive(), integers([4, 4]));
        eventually(PATIENCE, "the coordinator forgets", || kinds(&shards) == 3);
        must_have_no_locks(&shards);
    }
}
