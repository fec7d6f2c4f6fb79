//! Dying on purpose, for the tests: `WEFT_FAILPOINT=before-commit` makes the process kill itself right before it sends a commit.
//!
//! Set from outside and read once; without it a hit costs one load. The process dies by SIGABRT without unwinding, so nothing is
//! cleaned up: for the shards and for other proxies that is a SIGKILL.

use std::sync::LazyLock;

use super::state::Step;

/// A moment in the life of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    after: bool,
    step: Step,
}

impl Moment {
    /// Right before a step is sent to a participant.
    pub(super) fn before(step: Step) -> Self {
        Self { after: false, step }
    }

    /// Right after a participant has answered a step.
    pub(super) fn after(step: Step) -> Self {
        Self { after: true, step }
    }

    fn parse(text: &str) -> Option<Self> {
        let (when, step) = text.split_once('-')?;
        let step = STEPS.iter().find(|(name, _)| *name == step)?.1;
        match when {
            "before" => Some(Self { after: false, step }),
            "after" => Some(Self { after: true, step }),
            _ => None,
        }
    }
}

/// Ends the process if this is the moment.
pub(super) fn hit(moment: Moment) {
    static CHOSEN: LazyLock<Option<Moment>> = LazyLock::new(|| Moment::parse(&std::env::var("WEFT_FAILPOINT").ok()?));
    if *CHOSEN == Some(moment) {
        std::process::abort();
    }
}

const STEPS: [(&str, Step); 5] =
    [("prepare", Step::Prepare), ("commit", Step::Commit), ("reapply", Step::Reapply), ("abort", Step::Abort), ("fence", Step::Fence)];
