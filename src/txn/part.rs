//! From routed commands to what each participant has to do.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::batch::{Batch, Command, KeyLock, Kind, LockMode, ReRead};
use super::participant::Participant;
use super::script::fits_script;
use crate::affinity::Affinity;
use crate::command::{self, Access, ScriptReply};
use crate::resp::Proto;
use crate::route::{Place, Reach, Routed};
use crate::topology::SlotMap;
use crate::upstream::goes_apart;

/// One participant's share of a transaction.
#[derive(Clone, Debug, Default)]
pub struct Part {
    /// Its commands with the position that each has in the transaction.
    pub commands: Vec<(usize, Routed)>,
    /// Keys that the client watches here.
    pub watched: Vec<Bytes>,
    /// None of the keys may exist.
    pub absent: bool,
}

/// Divides `commands` over their participants, in the participants' order.
pub fn divide(commands: Vec<Routed>) -> BTreeMap<Place, Part> {
    let mut parts: BTreeMap<Place, Part> = BTreeMap::new();
    for (position, command) in commands.into_iter().enumerate() {
        parts.entry(command.place).or_default().commands.push((position, command));
    }
    parts
}

/// The name of the participant at `place`; `None` if the shard is of another map.
pub fn participant(map: &SlotMap, place: Place) -> Option<Participant> {
    match place.slot {
        Some(slot) => Some(Participant::Slot(slot)),
        None => Some(Participant::Shard { name: Arc::from(map.shard(place.shard)?.name.as_str()), db: place.db }),
    }
}

/// Where `participant` is now; `None` while nobody has it.
pub fn place(map: &SlotMap, participant: &Participant) -> Option<Place> {
    match participant {
        Participant::Slot(slot) => Some(Place { slot: Some(*slot), shard: map.owner(*slot)?, db: 0 }),
        Participant::Shard { name, db } => Some(Place { slot: None, shard: map.shard_named(name)?, db: *db }),
    }
}

/// What `commands` and `watched` keys ask of `participant`: each key once, in the strongest mode that anybody needs. The replies are for
/// a client of `proto`.
///
/// A script may use keys that it does not name, of the groups of those that it names. So whoever holds a key holds the key's group too, by
/// the group's name as if that were a key: such a script exclusively, everybody else shared. Those who share it do not hinder each other; a
/// script and they do. A key without a group costs nobody more, one with a group one more name to look for in the same step.
///
/// In a cluster a group is a hash tag, a part of a slot, and so as narrow as the keys that a script can mean by it. All proxies have to
/// hold groups: past the transactions of one that does not, scripts see those keys alone that they declare.
pub fn batch<'a>(
    participant: Participant,
    affinity: &Affinity,
    commands: impl Iterator<Item = &'a Routed>,
    watched: &[Bytes],
    absent: bool,
    proto: Proto,
) -> Batch {
    let mut keys = Vec::new();
    let mut hold = |key: Bytes, mode: LockMode, as_group: LockMode| {
        let group = affinity.group(&key).map(|group| KeyLock { key: key.slice_ref(group), mode: as_group });
        keys.extend(group);
        keys.push(KeyLock { key, mode });
    };
    watched.iter().for_each(|key| hold(key.clone(), LockMode::Shared, LockMode::Shared));
    let exclusive = if absent { LockMode::ExclusiveAbsent } else { LockMode::Exclusive };
    let commands = commands
        .map(|routed| {
            let as_group = match routed.reach {
                Reach::Groups => LockMode::Exclusive,
                Reach::Keys => LockMode::Shared,
            };
            for key in &routed.keys {
                let mode = if key.access == Access::Write { exclusive } else { LockMode::Shared };
                hold(routed.request.arg_bytes(key.index as usize), mode, as_group);
            }
            Command { request: routed.request.clone(), kind: kind(routed, proto) }
        })
        .collect();
    // Of one key the strongest mode comes first, and stays.
    keys.sort_unstable_by(|one, other| one.key.cmp(&other.key).then(other.mode.cmp(&one.mode)));
    keys.dedup_by(|later, first| later.key == first.key);
    Batch { participant, keys, commands }
}

/// How commands are carried out at their participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// They only read: in a native transaction behind a look at the locks.
    Read,
    /// By a script.
    Scripted,
    /// Natively, on a connection that watches the locks or the record.
    Native,
}

impl Way {
    /// The cheapest way that gives every reply of `commands` as the server would give it to a client of `proto`.
    pub fn of<'a>(commands: impl Iterator<Item = &'a Routed> + Clone, proto: Proto) -> Self {
        match () {
            () if commands.clone().any(Routed::is_script) => Self::Native,
            () if !commands.clone().any(Routed::writes) => Self::Read,
            // A script would have them in the server's memory once more.
            () if goes_apart(commands.clone().map(|routed| &routed.request)) => Self::Native,
            () if commands.clone().all(|routed| survives_script(routed, proto)) => Self::Scripted,
            () => Self::Native,
        }
    }
}

/// Whether a script can carry out `routed` and give its reply as the server would to a client of `proto`.
pub fn survives_script(routed: &Routed, proto: Proto) -> bool {
    fits_script(&routed.request) && routed.spec.script_reply.of(&routed.request, proto) != ScriptReply::Native
}

fn kind(routed: &Routed, proto: Proto) -> Kind {
    match routed.spec.script_reply {
        _ if !survives_script(routed, proto) => Kind::Native,
        ScriptReply::WideInteger(command::ReRead::String) => Kind::WideInteger(ReRead::String),
        ScriptReply::WideInteger(command::ReRead::HashField) => Kind::WideInteger(ReRead::HashField),
        _ => Kind::Plain,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::route::{Route, route};
    use crate::topology::{Shard, SlotMap};

    /// The names that `commands`, and a watch of `watched`, hold with their modes.
    fn held(commands: &[&[&str]], watched: &[&'static str], absent: bool) -> Vec<(String, LockMode)> {
        held_within(None, commands, watched, absent)
    }

    /// The same if the commands are known to reach no further than `reach`.
    fn held_within(reach: Option<Reach>, commands: &[&[&str]], watched: &[&'static str], absent: bool) -> Vec<(String, LockMode)> {
        let affinity = Affinity::new(vec!["app:{user}:*".parse().unwrap()]);
        let shard = Shard { name: "a".into(), address: "h:1".parse().unwrap(), replicas: vec![] };
        let map = SlotMap::new(crate::topology::Mode::Static, vec![(shard, vec![0..=16383])]).with_affinity(affinity.clone());
        let routed = commands.iter().map(|words| {
            let request = crate::resp::Request::new(words);
            match route(&map, 0, command::lookup(&request).unwrap(), &request) {
                Ok(Route::One(routed)) => Routed { reach: reach.unwrap_or(routed.reach), ..routed },
                other => unreachable!("{other:?}"),
            }
        });
        let routed: Vec<Routed> = routed.collect();
        let watched: Vec<Bytes> = watched.iter().map(|key| Bytes::from_static(key.as_bytes())).collect();
        let participant =
            participant(&map, routed.first().map_or(Place { slot: None, shard: map.ids().next().unwrap(), db: 0 }, |routed| routed.place));
        let batch = batch(participant.unwrap(), &affinity, routed.iter(), &watched, absent, Proto::Resp2);
        batch.keys.into_iter().map(|lock| (String::from_utf8(lock.key.to_vec()).unwrap(), lock.mode)).collect()
    }

    fn expected(locks: &[(&str, LockMode)]) -> Vec<(String, LockMode)> {
        locks.iter().map(|(name, mode)| ((*name).to_owned(), *mode)).collect()
    }

    #[test]
    fn whoever_holds_a_key_shares_its_group_and_a_script_has_it_alone() {
        use LockMode::{Exclusive, ExclusiveAbsent, Shared};
        assert_eq!(held(&[&["SET", "app:1:a", "v"]], &[], false), expected(&[("app:1", Shared), ("app:1:a", Exclusive)]));
        assert_eq!(
            held(&[&["GET", "{t}a"]], &["app:1:a"], false),
            expected(&[("app:1", Shared), ("app:1:a", Shared), ("{t}", Shared), ("{t}a", Shared)])
        );
        for script in ["EVAL", "EVAL_RO", "FCALL"] {
            let mode = if script == "EVAL_RO" { Shared } else { Exclusive };
            let both = held(&[&["INCR", "app:1:b"], &[script, "s", "1", "app:1:a"]], &["app:1:c"], false);
            assert_eq!(both, expected(&[("app:1", Exclusive), ("app:1:a", mode), ("app:1:b", Exclusive), ("app:1:c", Shared)]));
        }
        assert_eq!(
            held(&[&["MSET", "app:1:a", "v", "k", "v"]], &[], true),
            expected(&[("app:1", Shared), ("app:1:a", ExclusiveAbsent), ("k", ExclusiveAbsent)])
        );
        // A script that is known to use nothing but its keys is like any command.
        assert_eq!(
            held_within(Some(Reach::Keys), &[&["EVAL", "s", "1", "{t}a"]], &[], false),
            expected(&[("{t}", Shared), ("{t}a", Exclusive)])
        );
        // A key that is called as the group is held as the stronger of the two.
        assert_eq!(held(&[&["SET", "{t}", "v"], &["GET", "{t}a"]], &[], false), expected(&[("{t}", Exclusive), ("{t}a", Shared)]));
    }
}
