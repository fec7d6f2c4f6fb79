//! The users' scripts that went through weft, so that a shard that has forgotten one can be given it back.
//!
//! A server keeps scripts in memory only, and each shard for itself: one that was restarted, or joined, or never saw the EVAL, answers
//! NOSCRIPT to the EVALSHA of a client that has every reason to expect otherwise of a single Redis. Nothing ran then, so weft loads the
//! script and calls again. Inside a transaction NOSCRIPT would be one of EXEC's replies, and its neighbours would have run; so EXEC asks
//! the shards first. weft remembers what was loaded, or run by its text, through this process; SCRIPT FLUSH makes it forget. An EVALSHA over
//! several shards has no other place to take the text from, nor has one that is to be held to its keys ([`script`](crate::session)).

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::affinity::Affinity;
use crate::command;
use crate::config::TopologyConfig;
use crate::resp::Request;
use crate::session::busy::Running;
use crate::topology::Mode;
use crate::txn::compute::shim::{Held, Holder, keys_of};
use crate::txn::compute::source::Source;

/// The scripts that the clients of this process have used.
#[derive(Debug, Default)]
pub struct Scripts {
    inner: Mutex<Inner>,
    /// What holds those that need it to their keys; `None` where none needs it.
    holder: Option<Holder>,
    /// Those of them that are running now.
    pub(crate) running: Running,
}

#[derive(Debug, Default)]
struct Inner {
    /// By the digest under which servers know them, in lower case.
    bodies: HashMap<Bytes, Bytes>,
    /// The digests, the oldest first.
    order: VecDeque<Bytes>,
    bytes: usize,
    /// What was made of scripts to hold them, by the digest; `None` if they need not be held.
    held: HashMap<String, Option<Arc<Held>>>,
    held_bytes: usize,
    /// Where a function was found the last time.
    libraries: HashMap<Bytes, Bytes>,
}

/// How a script is called.
pub(in crate::session) enum Called {
    /// As the client calls it.
    AsItIs,
    /// Likewise, and it uses nothing but its keys.
    Literally,
    /// As one that is held to its keys.
    Held(Arc<Held>),
    /// It would have to be held, and weft has not its text.
    Unknown,
}

impl Scripts {
    /// For the shards of `topology`. On a single server every key is where the script is; a cluster of one node may grow.
    pub fn new(topology: &TopologyConfig) -> Self {
        let holder = match topology {
            TopologyConfig::Static(fixed) if fixed.shards.len() == 1 => None,
            TopologyConfig::Static(fixed) => Some(Holder::new(&Affinity::new(fixed.affinity.clone()), Mode::Static)),
            TopologyConfig::Cluster(_) => Some(Holder::new(&Affinity::default(), Mode::Cluster)),
        };
        Self { holder, ..Self::default() }
    }

    /// Whether scripts may have to be held.
    pub(in crate::session) fn are_held(&self) -> bool {
        self.holder.is_some()
    }

    /// How `request`, of the command `name`, calls its script.
    pub(in crate::session) fn called(&self, name: &str, request: &Request) -> Called {
        // What names its keys in a wrong way a server refuses.
        let (Some(holder), Some(_)) = (&self.holder, name.starts_with("eval").then(|| keys_of(request)).flatten()) else {
            return Called::AsItIs;
        };
        let source = match name {
            "eval" | "eval_ro" => request.arg_bytes(1),
            _ => match self.body(request.arg(1)) {
                Some(body) => body,
                None => return Called::Unknown,
            },
        };
        self.held(holder, &Source::script(source)).map_or(Called::Literally, Called::Held)
    }

    /// Whether a function that `request` calls has to be held. What names its keys in a wrong way a server refuses.
    pub(in crate::session) fn holds(&self, request: &Request) -> bool {
        self.holder.is_some() && keys_of(request).is_some()
    }

    /// How `source` is called.
    pub(in crate::session) fn called_as(&self, source: &Source) -> Called {
        self.holder.as_ref().and_then(|holder| self.held(holder, source)).map_or(Called::AsItIs, Called::Held)
    }

    /// The library that the function `name` was in.
    pub(in crate::session) fn library_of(&self, name: &[u8]) -> Option<Bytes> {
        self.lock().libraries.get(name).cloned()
    }

    /// Takes note that the function `name` is in `library`.
    pub(in crate::session) fn note_library(&self, name: &[u8], library: Bytes) {
        let mut inner = self.lock();
        if inner.libraries.get(name) != Some(&library) {
            if inner.libraries.len() >= SCRIPTS_MAX {
                inner.libraries.clear();
            }
            inner.libraries.insert(Bytes::copy_from_slice(name), library);
        }
    }

    /// `source` as `holder` holds it; `None` if it need not be held.
    fn held(&self, holder: &Holder, source: &Source) -> Option<Arc<Held>> {
        let digest = sha1_smol::Sha1::from(source.text()).digest().to_string();
        if let Some(held) = self.lock().held.get(&digest) {
            return held.clone();
        }
        let held = (source.is_function() || !command::uses_keys_literally(source.text())).then(|| Arc::new(holder.hold(source)));
        let bytes = held.as_ref().map_or(0, |held| held.text().len() + source.text().len());
        if bytes <= 2 * SCRIPT_BYTES_MAX {
            let mut inner = self.lock();
            if inner.held.len() >= SCRIPTS_MAX || inner.held_bytes + bytes > SCRIPTS_BYTES_MAX {
                // They are made again when they are called again.
                inner.held.clear();
                inner.held_bytes = 0;
            }
            inner.held_bytes += bytes;
            inner.held.insert(digest, held.clone());
        }
        held
    }

    /// Takes note of a request, of the command `name`, that was carried out.
    pub(crate) fn note(&self, name: &str, request: &Request) {
        match name {
            "script|load" => self.remember(request.arg(2)),
            "eval" | "eval_ro" => self.remember(request.arg(1)),
            "script|flush" => *self.lock() = Inner::default(),
            _ => {}
        }
    }

    /// The script with this digest, in any case.
    pub(crate) fn body(&self, digest: &[u8]) -> Option<Bytes> {
        self.lock().bodies.get(&digest.to_ascii_lowercase()[..]).cloned()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.lock().bodies.len()
    }

    fn remember(&self, body: &[u8]) {
        if body.len() > SCRIPT_BYTES_MAX {
            return;
        }
        let digest = Bytes::from(sha1_smol::Sha1::from(body).digest().to_string());
        let mut inner = self.lock();
        if inner.bodies.contains_key(&digest) {
            return;
        }
        inner.bytes += body.len();
        inner.order.push_back(digest.clone());
        inner.bodies.insert(digest, Bytes::copy_from_slice(body));
        while inner.bytes > SCRIPTS_BYTES_MAX || inner.order.len() > SCRIPTS_MAX {
            let Some(oldest) = inner.order.pop_front() else { return };
            inner.bytes -= inner.bodies.remove(&oldest).map_or(0, |body| body.len());
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A program has dozens of scripts of some kilobytes. Whoever makes up a script for each call pushes the others out: servers of today
/// forget the scripts of EVAL after 500.
const SCRIPTS_MAX: usize = 1_000;
const SCRIPT_BYTES_MAX: usize = 1024 * 1024;
const SCRIPTS_BYTES_MAX: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &[u8] = b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db";

    #[test]
    fn what_was_loaded_or_run_is_remembered_until_a_flush() {
        let scripts = Scripts::default();
        for request in [Request::new(&["EVAL", "return 1", "0"]), Request::new(&["SCRIPT", "LOAD", "return 1"])] {
            let name = if request.argc() == 3 && request.arg(0) == b"EVAL" { "eval" } else { "script|load" };
            scripts.note(name, &request);
            assert_eq!(scripts.body(ONE).as_deref(), Some(&b"return 1"[..]));
            assert_eq!(scripts.body(&ONE.to_ascii_uppercase()).as_deref(), Some(&b"return 1"[..]));
            scripts.note("script|flush", &Request::new(&["SCRIPT", "FLUSH"]));
            assert_eq!(scripts.body(ONE), None);
        }
    }

    #[test]
    fn the_oldest_make_room() {
        let scripts = Scripts::default();
        scripts.note("eval", &Request::new(&["EVAL", "return 1", "0"]));
        for number in 0..SCRIPTS_MAX {
            scripts.note("eval", &Request::new(&["EVAL", &format!("return {number} + 1"), "0"]));
        }
        assert_eq!(scripts.body(ONE), None);
        assert_eq!(scripts.lock().order.len(), SCRIPTS_MAX);
        scripts.note("eval", &Request::new(&["EVAL", &"x".repeat(SCRIPT_BYTES_MAX + 1), "0"]));
        assert_eq!(scripts.lock().order.len(), SCRIPTS_MAX);
    }
}
