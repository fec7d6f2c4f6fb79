//! The Lua scripts that make each step atomic at its participant.
//!
//! A script declares in KEYS every key it may touch, so that a shard redirects it before it runs; it checks everything before
//! its first write, because a script that fails half way is not undone; and it answers with the state it found. The flags in its first
//! line make the server refuse it as a whole or not at all: the steps that may not be stopped by a full memory run then too.

use std::sync::LazyLock;

use super::internal_keys::{EXCLUSIVE, GATE, RECORD, SHARED, write};
use super::{KeyLock, Participant, TxnId};
use crate::resp::{FrameWriter, Request};

/// One of the scripts. Each is put together from fragments in `lua/`; its own part begins with its name and format version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Script {
    /// Commands in one step, unless a lock is in their way.
    Guarded,
    /// Absent to prepared.
    Prepare,
    /// Prepared to committed.
    Commit,
    /// Lost to committed.
    Reapply,
    /// Prepared to gone.
    Abort,
    /// Absent to aborted.
    Fence,
    /// Answers the record.
    Inspect,
    /// Committed or aborted to gone.
    Forget,
    /// Takes away locks without a record.
    Unlock,
    /// Answers the record and what is to be done.
    Show,
}

impl Script {
    /// Every script: what is loaded on each node when a connection to it is made.
    pub const ALL: [Self; 10] = [
        Self::Guarded,
        Self::Prepare,
        Self::Commit,
        Self::Reapply,
        Self::Abort,
        Self::Fence,
        Self::Inspect,
        Self::Forget,
        Self::Unlock,
        Self::Show,
    ];

    /// The whole text.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Guarded => source!("#!lua\n", "clock", "held", "run", "guarded"),
            Self::Prepare => source!("#!lua\n", "clock", "held", "many", "format", "stage", "prepare"),
            Self::Commit => source!("#!lua flags=allow-oom\n", "native", "run", "many", "release", "finish", "commit"),
            Self::Reapply => {
                source!(
                    "#!lua flags=allow-oom\n",
                    "clock",
                    "held",
                    "many",
                    "format",
                    "stage",
                    "native",
                    "run",
                    "release",
                    "finish",
                    "reapply"
                )
            }
            Self::Abort => source!("#!lua flags=allow-oom\n", "many", "release", "abort"),
            Self::Fence => source!("#!lua flags=allow-oom\n", "clock", "format", "describe", "fence"),
            Self::Inspect => source!("#!lua flags=no-writes\n", "clock", "format", "describe", "inspect"),
            Self::Forget => source!("#!lua flags=allow-oom\n", "clock", "format", "forget"),
            Self::Unlock => source!("#!lua flags=allow-oom\n", "clock", "format", "describe", "unlock"),
            Self::Show => source!("#!lua flags=no-writes\n", "clock", "format", "describe", "show"),
        }
    }

    /// The name by which a server knows it once it is loaded.
    pub fn sha1(self) -> &'static str {
        &DIGESTS[self as usize]
    }

    /// `SCRIPT LOAD` of this script.
    pub fn load(self) -> Request {
        Request::new(&["SCRIPT", "LOAD", self.text()])
    }

    /// Begins `EVALSHA` of this script with so many keys and arguments, which the caller will write, of about `size` bytes.
    pub(super) fn begin(self, keys: usize, args: usize, size: usize) -> FrameWriter {
        let mut call = FrameWriter::new(3 + keys + args, HEAD_BYTES + size);
        call.arg(b"EVALSHA");
        call.arg(self.sha1().as_bytes());
        call.number(keys as u64);
        call
    }

    /// Begins the call of a script that takes or gives back locks. Its KEYS are the record, then for each key its x-lock, its s-lock and the
    /// key, then the gate; the first of its ARGV is the transaction. `args` more will follow, of about `size` bytes.
    pub(super) fn begin_with_locks(self, tid: TxnId, at: &Participant, keys: &[KeyLock], args: usize, size: usize) -> FrameWriter {
        let names: usize = keys.iter().map(|lock| 3 * (lock.key.len() + NAME_BYTES)).sum();
        let mut call = self.begin(2 + 3 * keys.len(), 1 + args, names + 4 * NAME_BYTES + size);
        let name = tid.name();
        write(&mut call, at, RECORD, name.as_bytes());
        for KeyLock { key, .. } in keys {
            write(&mut call, at, EXCLUSIVE, key);
            write(&mut call, at, SHARED, key);
            call.arg(key);
        }
        write(&mut call, at, GATE, b"");
        call.arg(name.as_bytes());
        call
    }

    /// `EVALSHA` of this script.
    pub(super) fn call(self, keys: &[impl AsRef<[u8]>], args: &[impl AsRef<[u8]>]) -> Request {
        let count = keys.len().to_string();
        let mut words: Vec<&[u8]> = vec![b"EVALSHA", self.sha1().as_bytes(), count.as_bytes()];
        words.extend(keys.iter().map(AsRef::as_ref));
        words.extend(args.iter().map(AsRef::as_ref));
        Request::new(&words)
    }
}

/// About what the head of a call has, and what is around a name or is the name of a transaction.
const HEAD_BYTES: usize = 96;
const NAME_BYTES: usize = 32;

/// How many arguments a command may have to be run by a script: `unpack` puts them on Lua's stack, which holds 8,000 values.
const SCRIPT_ARGS_MAX: usize = 7_900;

/// Whether `request` is short enough to be run by a script; otherwise it must run natively.
pub fn fits_script(request: &Request) -> bool {
    request.argc() <= SCRIPT_ARGS_MAX
}

static DIGESTS: LazyLock<[String; 10]> =
    LazyLock::new(|| Script::ALL.map(|script| sha1_smol::Sha1::from(script.text()).digest().to_string()));

macro_rules! source {
    ($flags:literal, $($fragment:literal),+) => {
        concat!($flags, $(include_str!(concat!("lua/", $fragment, ".lua"))),+)
    };
}
use source;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_says_its_format_version() {
        for (index, script) in Script::ALL.into_iter().enumerate() {
            assert_eq!(script as usize, index, "ALL is in the order of the variants");
            assert!(script.text().starts_with("#!lua"));
            let name = format!("-- weft {} 1\n", format!("{script:?}").to_lowercase());
            assert!(script.text().contains(&name), "{script:?}");
            assert_eq!(script.sha1().len(), 40);
        }
    }
}
