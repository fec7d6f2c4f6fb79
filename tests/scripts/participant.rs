//! A participant as the tests see it: a real server, and the steps as verbs.

use std::io::{Read, Write};
use std::net::TcpStream;

use bytes::Bytes;
use weft::resp::{Frame, Proto, ReplyScanner, Request};
use weft::txn::{
    Batch, Command, KeyLock, Kind, LockMode, Locked, Participant, ReRead, Refusal, Refused, Script, State, Terms, TxnId, TxnIds, abort,
    commit, fence, forget, guarded, prepare, reapply,
};

use crate::support::{Flavor, PATIENCE, Server};

/// One database of a server of its own, with the scripts loaded.
pub(crate) struct Shard {
    pub(crate) server: Server,
    stream: TcpStream,
    pub(crate) at: Participant,
    pub(crate) proto: Proto,
    pub(crate) kept_reply_bytes_max: u32,
    ids: TxnIds,
}

impl Shard {
    pub(crate) fn start(flavor: Flavor) -> Self {
        let server = Server::start(flavor, &[]);
        let at = Participant::Shard { name: "a".into(), db: 0 };
        let stream = connect(&server);
        let mut shard = Self { server, stream, at, proto: Proto::Resp2, kept_reply_bytes_max: 1024, ids: TxnIds::new(1, 1) };
        shard.load();
        shard
    }

    /// Turns to the server that has taken the place of the one before.
    pub(crate) fn reconnect(&mut self) {
        self.stream = connect(&self.server);
        self.load();
    }

    fn load(&mut self) {
        for script in Script::ALL {
            let loaded = self.call(&script.load());
            assert_eq!(loaded, format!("$40\r\n{}\r\n", script.sha1()));
        }
    }

    /// Goes on in RESP3.
    pub(crate) fn speak_resp3(&mut self) {
        self.proto = Proto::Resp3;
        self.run("HELLO 3");
    }

    /// A new transaction that starts now by the server's clock, plus `offset_ms`.
    pub(crate) fn begin(&mut self, offset_ms: i64) -> TxnId {
        let time = self.run("TIME");
        let seconds: i64 = std::str::from_utf8(&time).unwrap().split("\r\n").nth(2).unwrap().parse().unwrap();
        self.ids.next((seconds * 1000 + offset_ms).try_into().unwrap())
    }

    /// Sends a request and gives the frame that comes back.
    pub(crate) fn call(&mut self, request: &impl Frame) -> Bytes {
        request.pieces().iter().for_each(|piece| self.stream.write_all(piece).unwrap());
        let (mut scanner, mut received, mut chunk) = (ReplyScanner::new(), Vec::new(), [0; 65536]);
        loop {
            let read = self.stream.read(&mut chunk).unwrap();
            assert_ne!(read, 0, "the server closed the connection");
            received.extend_from_slice(&chunk[..read]);
            if let Some(length) = scanner.scan(&received).unwrap() {
                assert_eq!(length, received.len(), "more than one reply");
                return received.into();
            }
        }
    }

    /// Runs a line as a command.
    pub(crate) fn run(&mut self, line: &str) -> Bytes {
        self.call(&Request::new(&line.split(' ').collect::<Vec<_>>()))
    }

    /// The frame that a line is answered.
    #[track_caller]
    pub(crate) fn must(&mut self, line: &str, frame: &str) {
        assert_eq!(self.run(line), frame.to_owned(), "{line}");
    }

    pub(crate) fn terms(&self, tid: TxnId) -> Terms {
        let participants = format!("{} b/0", self.at).into();
        Terms { tid, participants, lease_ms: 2000, proto: self.proto, kept_reply_bytes_max: self.kept_reply_bytes_max }
    }

    pub(crate) fn prepare(&mut self, tid: TxnId, batch: &Batch) -> Result<prepare::Answer, Refusal> {
        let frame = self.call(&prepare::request(&self.terms(tid), batch, "run-1"));
        prepare::answer(&frame)
    }

    #[track_caller]
    pub(crate) fn must_prepare(&mut self, tid: TxnId, batch: &Batch) {
        assert_eq!(self.prepare(tid, batch), Ok(prepare::Answer::Found(State::Prepared)));
    }

    /// Prepare meets a lock of `owner`.
    #[track_caller]
    pub(crate) fn must_be_locked(&mut self, tid: TxnId, batch: &Batch, owner: TxnId) {
        match self.prepare(tid, batch) {
            Ok(prepare::Answer::Locked(locked)) => assert_lock_of(locked, owner),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn commit(&mut self, tid: TxnId, batch: &Batch) -> Result<State, Refusal> {
        let frame = self.call(&commit::request(tid, &self.at, &batch.keys, self.kept_reply_bytes_max));
        commit::answer(&frame, &batch.commands).map(|answer| match answer {
            commit::Answer::Found(state) => state,
            commit::Answer::Native(commands) => panic!("to be run natively: {commands:?}"),
        })
    }

    /// Commit leaves it to the caller to run the whole batch natively.
    #[track_caller]
    pub(crate) fn must_leave_to_native(&mut self, tid: TxnId, batch: &Batch) {
        let frame = self.call(&commit::request(tid, &self.at, &batch.keys, self.kept_reply_bytes_max));
        let Ok(commit::Answer::Native(commands)) = commit::answer(&frame, &[]) else { panic!("{frame:?}") };
        let bytes = |request: &Request| request.bytes().clone();
        let expected: Vec<Bytes> = batch.commands.iter().map(|command| bytes(&command.request)).collect();
        assert_eq!(commands.iter().map(bytes).collect::<Vec<_>>(), expected);
    }

    /// Commit answers these replies.
    #[track_caller]
    pub(crate) fn must_commit(&mut self, tid: TxnId, batch: &Batch, replies: &[&str]) {
        let replies = replies.iter().map(|reply| Bytes::copy_from_slice(reply.as_bytes())).collect();
        assert_eq!(self.commit(tid, batch), Ok(State::Committed(Some(replies))));
    }

    pub(crate) fn reapply(&mut self, tid: TxnId, batch: &Batch) -> Result<reapply::Answer, Refusal> {
        let frame = self.call(&reapply::request(&self.terms(tid), batch, "run-1"));
        reapply::answer(&frame, &batch.commands)
    }

    #[track_caller]
    pub(crate) fn must_abort(&mut self, tid: TxnId, batch: &Batch, state: State) {
        let frame = self.call(&abort::request(tid, &self.at, &batch.keys));
        assert_eq!(abort::answer(&frame), Ok(state));
    }

    pub(crate) fn fence(&mut self, tid: TxnId) -> fence::Record {
        let frame = self.call(&fence::request(tid, &self.at));
        fence::answer(&frame).unwrap()
    }

    pub(crate) fn inspect(&mut self, tid: TxnId) -> fence::Record {
        let frame = self.call(&fence::inspect(tid, &self.at));
        fence::answer(&frame).unwrap()
    }

    pub(crate) fn forget(&mut self, tids: &[TxnId], age: forget::Age) -> u64 {
        let frame = self.call(&forget::request(tids, &self.at, age));
        forget::answer(&frame).unwrap()
    }

    pub(crate) fn guarded(&mut self, batch: &Batch) -> Result<guarded::Answer, Refusal> {
        let frame = self.call(&guarded::request(&self.at, &batch.keys, &batch.commands, self.proto));
        guarded::answer(&frame, &batch.commands)
    }

    #[track_caller]
    pub(crate) fn must_guard(&mut self, batch: &Batch, replies: &[&str]) {
        let replies = replies.iter().map(|reply| Bytes::copy_from_slice(reply.as_bytes())).collect();
        assert_eq!(self.guarded(batch), Ok(guarded::Answer::Done(replies)));
    }

    /// Only these keys are there, and none has a TTL.
    #[track_caller]
    pub(crate) fn must_have_keys(&mut self, keys: &[&str]) {
        let frame = weft::resp::Value::parse(&self.run("KEYS *")).unwrap();
        let mut found: Vec<Bytes> = frame.items().unwrap().iter().filter_map(|key| key.text().cloned()).collect();
        found.sort();
        assert_eq!(found, keys);
        for key in found {
            assert_eq!(self.call(&Request::new(&[&b"TTL"[..], &key[..]])), ":-1\r\n", "{key:?}");
        }
    }
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[track_caller]
pub(crate) fn assert_lock_of(locked: Locked, owner: TxnId) {
    assert_eq!(locked.owner, owner);
    assert!((1..=2000).contains(&locked.lease_left_ms), "{locked:?}");
}

#[track_caller]
pub(crate) fn assert_refused<T: std::fmt::Debug>(answer: Result<T, Refusal>, kind: Refused, code: &str) {
    match answer {
        Err(refusal) if refusal.kind == kind && refusal.text.starts_with(code.as_bytes()) => {}
        other => panic!("{other:?}"),
    }
}

/// A batch at the shard: keys written as `x:key`, `s:key` or `n:key`, commands as lines.
pub(crate) fn batch(keys: &str, commands: &[&str]) -> Batch {
    let commands: Vec<Vec<&str>> = commands.iter().map(|line| line.split(' ').collect()).collect();
    let keys = keys.split_whitespace().map(|key| lock(&key[..1], &key.as_bytes()[2..])).collect();
    Batch {
        participant: Participant::Shard { name: "a".into(), db: 0 },
        keys,
        commands: commands.iter().map(|words| command(words)).collect(),
    }
}

pub(crate) fn lock(mode: &str, key: &[u8]) -> KeyLock {
    let mode = match mode {
        "s" => LockMode::Shared,
        "x" => LockMode::Exclusive,
        _ => LockMode::ExclusiveAbsent,
    };
    KeyLock { key: Bytes::copy_from_slice(key), mode }
}

pub(crate) fn command<A: AsRef<[u8]>>(words: &[A]) -> Command {
    let kind = match words[0].as_ref() {
        b"INCRBY" => Kind::WideInteger(ReRead::String),
        b"HINCRBY" => Kind::WideInteger(ReRead::HashField),
        b"EVAL" => Kind::Native,
        _ => Kind::Plain,
    };
    Command { request: Request::new(words), kind }
}
