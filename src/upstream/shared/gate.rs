//! What is known of the gate of the participant at the other end, and how much to rely on it.

/// The looks at the gate that were sent, and what the last one said.
#[derive(Default)]
pub(super) struct Gate {
    /// The stream offset of the last look that was put into the output.
    asked_at: Option<u64>,
    /// What the last look that was answered said: nobody holds a lock.
    free: bool,
    /// How many requests go past the gate, with checks of their own, until it is tried again, and how many after it fails once more.
    avoid: (u32, u32),
}

impl Gate {
    /// Whether a request to be put at stream offset `end` needs a look in front of it, which then is there: all before `written` was sent.
    pub(super) fn owes_look(&mut self, written: u64, end: u64) -> bool {
        let owes = self.asked_at.is_none_or(|at| at < written);
        if owes {
            self.asked_at = Some(end);
        }
        owes
    }

    /// Takes in what a look was answered.
    pub(super) fn answered(&mut self, frame: &[u8]) {
        self.free = frame == b":0\r\n";
        let next = self.avoid.1.clamp(AVOID.0, AVOID.1);
        self.avoid = if self.free { (0, AVOID.0) } else { (next, next * 2) };
    }

    /// Whether what stands behind the last look that was answered counts.
    pub(super) fn is_free(&self) -> bool {
        self.free
    }

    /// Whether the next request had better rely on it.
    pub(super) fn is_trusted(&mut self) -> bool {
        let avoid = &mut self.avoid.0;
        let trusted = *avoid == 0;
        *avoid = avoid.saturating_sub(1);
        trusted
    }

    /// What was asked will not be answered.
    pub(super) fn forget(&mut self) {
        self.asked_at = None;
    }
}

/// How many requests go past a gate that was closed: at first, and at most.
const AVOID: (u32, u32) = (32, 1024);
