//! Users' scripts run only where all of their slot is.
//!
//! While a slot of a cluster moves key by key, one node has some of its keys and another has the rest. What names its keys is refused by
//! both until they are together. A script may use keys of its group that it does not name; it would be told of those in the middle of what it does, and
//! what it had written would stay. So the MULTI that it runs in also looks at a key that is nowhere. The server counts that among the keys, and in
//! a slot that is on its way it refuses the MULTI as a whole, to be sent again when the slot has moved. Elsewhere it costs one look.
//!
//! Slots that move in one piece are never in two places.

use super::lock::named;
use super::{Participant, internal_keys};
use crate::command::{self, Handling};
use crate::resp::Request;

/// What has to stand in one MULTI with `commands` at `participant`, if any of them is a script in a slot.
pub(super) fn look<'a>(participant: &Participant, mut commands: impl Iterator<Item = &'a Request>) -> Option<Request> {
    let is_script = |request: &Request| command::lookup(request).is_ok_and(|spec| spec.handling == Handling::Script);
    let Participant::Slot(_) = participant else { return None };
    commands.any(is_script).then(|| named(b"EXISTS", std::iter::once(&internal_keys::trace(participant))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slot::Slot;

    #[test]
    fn only_scripts_in_slots_want_all_of_it() {
        let (slot, shard) = (Participant::Slot(Slot::of(b"k")), Participant::Shard { name: "a".into(), db: 0 });
        let (get, script) = (Request::new(&["GET", "k"]), Request::new(&["EVALSHA", "x", "1", "k"]));
        let looked = look(&slot, [&get, &script].into_iter());
        assert!(looked.is_some_and(|request| Slot::of(request.arg(1)) == Slot::of(b"k")));
        assert!(look(&slot, std::iter::once(&get)).is_none());
        assert!(look(&shard, std::iter::once(&script)).is_none());
    }
}
