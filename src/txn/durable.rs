//! Waiting until replicas, and files, have what a shard was told (`transactions.wait_replicas`, `wait_fsync`).
//!
//! # Guarantee
//!
//! With *n* replicas asked for, EXEC's array is answered only when at each participant *n* replicas have had all that is needed to carry the
//! transaction out: the record that prepare leaves, or, on one participant, what its commands wrote. After a failover to one of
//! these replicas the transaction is there, or is finished by whoever meets it.
//!
//! How: *a vote counts only when it is confirmed*. The answer to prepare, and that to fence, reaches the machine when the replicas have it;
//! this goes for a resolver too, so nobody commits anywhere what a failover could take back elsewhere. Commit itself is not waited
//! for, since a participant that is rewound to *prepared* is committed again, as long as the others can tell: so records are forgotten only
//! after the commits have been confirmed everywhere ([`recovery`](super::recovery)).
//!
//! # Not guaranteed
//!
//! Anything with fewer replicas than a failover may choose from: it may promote one that was not among the *n*. Anything about plain
//! commands: WAIT exists for those.
//!
//! # Time-outs
//!
//! | the shard | then |
//! |---|---|
//! | says in time that too few have it | the vote counts all the same, and the client is told `TXNUNCONFIRMED` in place of the array |
//! | did so the last time, or was never asked | is asked before anything is sent: still too few, `NOREPLICAS`, nothing applied |
//! | is lost before it says anything | a vote in doubt, which a fence settles at whoever is the primary then; on one participant `UNKNOWN` |
//!
//! Why the vote counts: all participants may be prepared by then, which *is* the decision, and a resolver may have acted on it. To
//! wait on would keep the keys locked for as long as a replica is away. Only who was under way when the replicas failed meets this.
//!
//! # Why a connection of its own
//!
//! A shard counts the replicas that have what *this connection* last wrote, and a WAIT keeps everything behind it on the connection from
//! being answered. Replication is in order, so on a connection where nothing else waits weft writes something that leaves no trace
//! and waits behind that: whatever was answered before is covered, whichever connection it came by. One such wait at a time serves all
//! transactions of the worker at that shard; those that come meanwhile share the next ([`Rounds`](crate::upstream::Rounds)). PUBLISH would be
//! shorter, but in a cluster it is not replicated.

use std::rc::Rc;

use bytes::Bytes;
use futures::future::join_all;

use super::engine::Engine;
use super::error::ExecError;
use super::failpoint::{self, Deed, Moment};
use super::participant::Participant;
use super::{internal_keys, part};
use crate::config::{WaitConfig, WaitFsync};
use crate::metrics::Counter;
use crate::resp::{Request, Value, error_reply};
use crate::route::Place;
use crate::upstream::Node;

/// What a shard says of its replicas and its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Confirmation {
    /// They have what was asked for, or nothing was.
    Enough,
    /// Too few have it.
    TooFew,
    /// Nothing: it could not be reached any more, or is no primary any more.
    Lost,
}

impl Engine {
    /// Waits until replicas have what `node` has answered until now. `participant` is one that the node has.
    pub(super) async fn confirm(&self, node: &Rc<Node>, participant: &Participant) -> Confirmation {
        let wait = self.config.wait;
        if wait.is_off() {
            return Confirmation::Enough;
        }
        failpoint::hit(Moment::Before(Deed::Wait));
        let rounds = node.rounds();
        let begin = || {
            self.counts.count(Counter::WaitRounds);
            requests(wait, participant)
        };
        let confirmation = rounds.join(begin).await.map_or(Confirmation::Lost, |replies| read(wait, &replies));
        let mut confirming = self.confirming.borrow_mut();
        match confirmation {
            Confirmation::Enough if confirming.contains(node.address()) => {}
            Confirmation::Enough => drop(confirming.insert(node.address().clone())),
            Confirmation::TooFew | Confirmation::Lost => {
                self.counts.count(Counter::WaitTimeouts);
                if confirming.remove(node.address()) {
                    tracing::warn!(shard = %node.address(), ?confirmation, "replicas do not confirm what the shard was told");
                }
            }
        }
        failpoint::hit(Moment::After(Deed::Wait));
        confirmation
    }

    /// Refuses what would have to wait at `places` for replicas that were not there the last time, nor are now.
    pub(super) async fn refuse_unconfirmable(&self, places: impl Iterator<Item = &Place>) -> Result<(), ExecError> {
        if self.config.wait.is_off() {
            return Ok(());
        }
        let map = self.upstreams.map();
        let doubtful = places.filter_map(|place| {
            let node = self.upstreams.primary(place.shard)?;
            let known = self.confirming.borrow().contains(node.address());
            (!known).then(|| part::participant(&map, *place).map(|participant| (*place, node, participant)))?
        });
        let asked = doubtful.map(async |(place, node, participant)| (place, self.confirm(&node, &participant).await));
        for (place, confirmation) in join_all(asked).await {
            match confirmation {
                Confirmation::Enough => {}
                Confirmation::Lost => return Err(ExecError::Unreachable),
                Confirmation::TooFew => {
                    let name = map.shard(place.shard).map_or("?", |shard| &shard.name);
                    return Err(ExecError::Rejected(error_reply::unconfirmable(name)));
                }
            }
        }
        Ok(())
    }
}

/// What `node` is asked: to write something, and who has it.
fn requests(wait: WaitConfig, participant: &Participant) -> Vec<Request> {
    let (replicas, timeout) = (wait.replicas.to_string(), wait.timeout.as_millis().to_string());
    let mut requests = vec![trace(participant)];
    match wait.fsync {
        WaitFsync::All => requests.push(Request::new(&["WAITAOF", "1", &replicas, &timeout])),
        WaitFsync::Primary | WaitFsync::None => {
            if wait.fsync == WaitFsync::Primary {
                requests.push(Request::new(&["WAITAOF", "1", "0", &timeout]));
            }
            if wait.replicas > 0 {
                requests.push(Request::new(&["WAIT", &replicas, &timeout]));
            }
        }
    }
    requests
}

/// A write that leaves no trace at `participant`, so that a WAIT behind it waits for everything before. A full memory does not stop it.
/// The whole script: no server can have forgotten it.
pub fn trace(participant: &Participant) -> Request {
    Request::new(&[&b"EVAL"[..], include_bytes!("lua/trace.lua"), b"1", &internal_keys::trace(participant)])
}

/// Reads the replies to [`requests`].
fn read(wait: WaitConfig, replies: &[Bytes]) -> Confirmation {
    let [traced, waited @ ..] = replies else { return Confirmation::Lost };
    let wanted = i64::from(wait.replicas);
    for reply in std::iter::once(traced).chain(waited) {
        let enough = match Value::parse(reply) {
            Ok(Value::Error(text)) => return read_error(&text),
            Ok(Value::Integer(count)) => std::ptr::eq(reply, traced) || count >= wanted,
            Ok(Value::Array(counts)) => match counts[..] {
                [Value::Integer(own), Value::Integer(replicas)] => own >= 1 && (wait.fsync == WaitFsync::Primary || replicas >= wanted),
                _ => return Confirmation::Lost,
            },
            _ => return Confirmation::Lost,
        };
        if !enough {
            return Confirmation::TooFew;
        }
    }
    Confirmation::Enough
}

/// A server that cannot confirm anything, whoever asks it, has too few replicas; one that is not the participant's primary says nothing.
fn read_error(text: &[u8]) -> Confirmation {
    let code = text.split(|byte| *byte == b' ').next().unwrap_or_default();
    let unable = [&b"ERR"[..], b"NOREPLICAS", b"MISCONF", b"NOPERM", b"OOM"].contains(&code);
    if unable && memchr::memmem::find(text, b"replica instance").is_none() {
        tracing::warn!(error = %String::from_utf8_lossy(text), "a shard cannot confirm what it was told");
        return Confirmation::TooFew;
    }
    Confirmation::Lost
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn wait(replicas: u16, fsync: WaitFsync) -> WaitConfig {
        WaitConfig { replicas, fsync, timeout: Duration::from_millis(70) }
    }

    fn asked(wait: WaitConfig) -> Vec<String> {
        let participant = Participant::Shard { name: "a".into(), db: 0 };
        let requests = requests(wait, &participant);
        assert_eq!(requests[0].bytes(), trace(&participant).bytes());
        let words = |request: &Request| request.args_from(0).map(|word| String::from_utf8_lossy(word).into_owned()).collect::<Vec<_>>();
        requests[1..].iter().map(|request| words(request).join(" ")).collect()
    }

    #[test]
    fn who_is_to_have_it_is_asked_for_it() {
        assert_eq!(asked(wait(2, WaitFsync::None)), ["WAIT 2 70"]);
        assert_eq!(asked(wait(2, WaitFsync::Primary)), ["WAITAOF 1 0 70", "WAIT 2 70"]);
        assert_eq!(asked(wait(0, WaitFsync::Primary)), ["WAITAOF 1 0 70"]);
        assert_eq!(asked(wait(2, WaitFsync::All)), ["WAITAOF 1 2 70"]);
    }

    #[test]
    fn a_count_is_compared_and_a_server_that_cannot_confirm_counts_none() {
        use Confirmation::{Enough, Lost, TooFew};
        use WaitFsync::{All, None, Primary};
        for (wait, replies, expected) in [
            (wait(1, None), &[":1\r\n", ":1\r\n"][..], Enough),
            (wait(1, None), &[":1\r\n", ":2\r\n"], Enough),
            (wait(2, None), &[":1\r\n", ":1\r\n"], TooFew),
            (wait(1, Primary), &[":1\r\n", "*2\r\n:1\r\n:0\r\n", ":1\r\n"], Enough),
            (wait(1, Primary), &[":1\r\n", "*2\r\n:0\r\n:1\r\n", ":1\r\n"], TooFew),
            (wait(1, Primary), &[":1\r\n", "*2\r\n:1\r\n:1\r\n", ":0\r\n"], TooFew),
            (wait(1, All), &[":1\r\n", "*2\r\n:1\r\n:0\r\n"], TooFew),
            (wait(1, All), &[":1\r\n", "*2\r\n:1\r\n:1\r\n"], Enough),
            (wait(1, All), &[":1\r\n", "-ERR unknown command 'WAITAOF'\r\n"], TooFew),
            (wait(1, All), &[":1\r\n", "-ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.\r\n"], TooFew),
            (wait(1, None), &["-NOREPLICAS Not enough good replicas to write.\r\n", ":1\r\n"], TooFew),
            (wait(1, None), &["-MOVED 1 h:1\r\n", ":1\r\n"], Lost),
            (wait(1, None), &["-READONLY You can't write against a read only replica.\r\n", ":1\r\n"], Lost),
            (wait(1, None), &[":1\r\n", "-ERR WAIT cannot be used with replica instances. Please also note …\r\n"], Lost),
            (wait(1, None), &[":1\r\n", "-UNBLOCKED force unblock from blocking operation, instance state changed\r\n"], Lost),
            (wait(1, None), &[":1\r\n", "+?\r\n"], Lost),
            (wait(1, None), &[], Lost),
        ] {
            let replies: Vec<Bytes> = replies.iter().map(|reply| Bytes::from_static(reply.as_bytes())).collect();
            assert_eq!(read(wait, &replies), expected, "{wait:?} {replies:?}");
        }
    }
}
