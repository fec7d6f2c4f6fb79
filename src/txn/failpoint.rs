//! Dying on purpose, for the tests: `WEFT_FAILPOINT=before-commit` makes the process kill itself right before it sends a commit,
//! `after-prepare:2` when a prepare is answered the second time in its life.
//!
//! Set from outside and read once; without it a hit costs one load. The process dies by SIGKILL, in the middle of
//! whatever its other threads are doing.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::state::Step;

/// A moment in the life of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// Right before this is sent to a participant.
    Before(Deed),
    /// Right after a participant has answered this, or its answer is lost.
    After(Deed),
}

/// What is sent to a participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    /// A step of a machine.
    Step(Step),
    /// The forgetting of records.
    Forget,
    /// The wait for replicas.
    Wait,
}

/// Ends the process if this is the moment.
pub(super) fn hit(moment: Moment) {
    static CHOSEN: LazyLock<Option<(Moment, u32)>> = LazyLock::new(|| parse(&std::env::var("WEFT_FAILPOINT").ok()?));
    static HITS: AtomicU32 = AtomicU32::new(0);
    if let Some((chosen, turn)) = *CHOSEN
        && chosen == moment
        && HITS.fetch_add(1, Ordering::Relaxed) + 1 == turn
    {
        // It cannot fail, and takes effect before it returns.
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

fn parse(text: &str) -> Option<(Moment, u32)> {
    let (moment, turn) = text.split_once(':').unwrap_or((text, "1"));
    let (when, deed) = moment.split_once('-')?;
    let deed = DEEDS.iter().find(|(name, _)| *name == deed)?.1;
    let moment = match when {
        "before" => Moment::Before(deed),
        "after" => Moment::After(deed),
        _ => return None,
    };
    Some((moment, turn.parse().ok()?))
}

const DEEDS: [(&str, Deed); 9] = [
    ("prepare", Deed::Step(Step::Prepare)),
    ("commit", Deed::Step(Step::Commit)),
    ("reapply", Deed::Step(Step::Reapply)),
    ("abort", Deed::Step(Step::Abort)),
    ("fence", Deed::Step(Step::Fence)),
    ("inspect", Deed::Step(Step::Inspect)),
    ("unlock", Deed::Step(Step::Unlock)),
    ("forget", Deed::Forget),
    ("wait", Deed::Wait),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_has_a_name_and_perhaps_a_turn() {
        assert_eq!(parse("before-commit"), Some((Moment::Before(Deed::Step(Step::Commit)), 1)));
        assert_eq!(parse("after-forget:3"), Some((Moment::After(Deed::Forget), 3)));
        for text in ["", "commit", "before", "before-", "during-commit", "before-commit:", "before-commit:x"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
