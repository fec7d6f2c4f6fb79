//! The one MULTI in which a server computes on copies: how it is put together, and what its replies say.
//!
//! ```text
//! MULTI
//! RESTORE __weft:c:<key> …      for each key that there is, in the database that it is of
//! the commands                  with these names in place of the keys'
//! DUMP, PEXPIRETIME             of each copy that they may have written
//! UNLINK                        of all copies
//! EXEC
//! ```
//!
//! SELECT stands wherever the database changes, and at the end, since the connection is shared. A server that refuses one of them
//! while they are queued carries out none, so that the database is as it was. The same goes for HELLO, which may be among the commands.

use bytes::{Bytes, BytesMut};
use memchr::memmem;

use super::shim::{self, Token};
use super::{Spread, integer};
use crate::command::Handling;
use crate::resp::{Proto, Request, Value, elements};
use crate::route::Place;
use crate::txn::{ExecError, Participant, internal_keys};

/// A key, and what it held.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) place: Place,
    pub(super) key: Bytes,
    /// The commands may write it.
    pub(super) write: bool,
    /// `None`: there is no such key.
    pub(super) copy: Option<Image>,
}

/// A value as DUMP gives it, and when it expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) payload: Bytes,
    /// Milliseconds since 1970; 0 is never.
    pub(super) expires_ms: i64,
}

impl Image {
    /// Reads the replies to DUMP and PEXPIRETIME.
    pub(super) fn of(dump: &Bytes, expires: &Bytes) -> Result<Option<Self>, ExecError> {
        let error = [dump, expires].into_iter().find(|reply| reply.first() == Some(&b'-'));
        if let Some(error) = error {
            return Err(ExecError::Refused(error.clone()));
        }
        let payload = match Value::parse(dump) {
            Ok(Value::Bulk(payload)) => payload,
            Ok(Value::Null) => return Ok(None),
            _ => return Err(ExecError::Unreachable),
        };
        match integer(expires) {
            Some(-1) => Ok(Some(Self { payload, expires_ms: 0 })),
            // It expired between the two.
            Some(-2) => Ok(None),
            Some(expires_ms) => Ok(Some(Self { payload, expires_ms })),
            None => Err(ExecError::Unreachable),
        }
    }
}

/// What came of the computing.
pub(super) struct Worked {
    /// The reply to each command.
    pub(super) replies: Vec<Bytes>,
    /// For each item that may have been written, what it is now.
    pub(super) after: Vec<Option<Option<Image>>>,
}

/// Where to compute: where most of the bytes are, or after `tries` in vain at another participant.
pub(super) fn place(items: &[Item], tries: usize) -> Option<Place> {
    let size = |item: &Item| item.copy.as_ref().map_or(0, |copy| copy.payload.len());
    let mut places: Vec<(Place, usize)> = Vec::new();
    for item in items {
        match places.iter_mut().find(|(place, _)| *place == item.place) {
            Some((_, bytes)) => *bytes += size(item),
            None => places.push((item.place, size(item))),
        }
    }
    places.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    places.get(tries % places.len().max(1)).map(|(place, _)| *place)
}

/// Requests, and what the reply to each is good for.
pub(super) struct Script<'a> {
    participant: &'a Participant,
    commands: &'a [Spread],
    items: &'a [Item],
    requests: Vec<Request>,
    roles: Vec<Role>,
    db: u32,
    token: Token,
}

/// What a reply inside of EXEC's is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// OK, or something is wrong.
    Scaffold,
    /// A command's.
    Command,
    /// What an item has become: its DUMP; its time of expiry follows.
    After(usize),
    Expiry,
}

impl<'a> Script<'a> {
    /// `commands` on copies of `items`, at `participant`, whose connection has database `db` selected and speaks `proto`.
    pub(super) fn new(participant: &'a Participant, db: u32, proto: Proto, commands: &'a [Spread], items: &'a [Item]) -> Self {
        let (requests, token) = (vec![Request::new(&["MULTI"])], Token::random());
        let mut script = Self { participant, commands, items, requests, roles: Vec::new(), db, token };
        for item in items {
            let Some(Image { payload, expires_ms }) = &item.copy else { continue };
            let (name, expires) = (script.name(&item.key), expires_ms.to_string());
            script.add(item.place.db, Role::Scaffold, &[&b"RESTORE"[..], &name, expires.as_bytes(), payload, b"REPLACE", b"ABSTTL"]);
        }
        for command in commands {
            let request = script.on_copies(command);
            script.select(command.db);
            script.push(Role::Command, request);
        }
        for (index, item) in items.iter().enumerate().filter(|(_, item)| item.write) {
            let name = script.name(&item.key);
            script.add(item.place.db, Role::After(index), &[b"DUMP", &name[..]]);
            script.add(item.place.db, Role::Expiry, &[b"PEXPIRETIME", &name[..]]);
        }
        for item in items {
            let name = script.name(&item.key);
            script.add(item.place.db, Role::Scaffold, &[b"UNLINK", &name[..]]);
        }
        script.select(db);
        if commands.iter().any(|command| command.spec.name == "hello") {
            script.push(Role::Scaffold, Request::new(&["HELLO", if proto == Proto::Resp3 { "3" } else { "2" }]));
        }
        script.requests.push(Request::new(&["EXEC"]));
        script
    }

    /// What to send, all at once.
    pub(super) fn requests(&self) -> &[Request] {
        &self.requests
    }

    /// Reads the replies to the requests, none of which is a redirect.
    ///
    /// # Errors
    /// Also that of a script which lets nothing be applied.
    pub(super) fn read(&self, replies: &[Bytes]) -> Result<Worked, ExecError> {
        let worked = self.worked(replies)?;
        match shim::final_error(self.commands, &worked.replies, self.token) {
            Some(error) => Err(error),
            None => Ok(worked),
        }
    }

    fn worked(&self, replies: &[Bytes]) -> Result<Worked, ExecError> {
        let [_, queued @ .., executed] = replies else { return Err(ExecError::Unreachable) };
        if let Some(error) = queued.iter().find(|reply| reply.first() == Some(&b'-')) {
            return self.not_queued(error);
        }
        let inner = match elements(executed) {
            Ok(Some(inner)) if inner.len() == self.roles.len() => inner,
            _ => return Err(ExecError::Refused(executed.clone())),
        };
        let mut worked = Worked { replies: Vec::with_capacity(self.commands.len()), after: vec![None; self.items.len()] };
        for (at, (role, reply)) in self.roles.iter().zip(&inner).enumerate() {
            match role {
                Role::Scaffold if reply.first() == Some(&b'-') => return Err(ExecError::Refused(reply.clone())),
                Role::Scaffold | Role::Expiry => {}
                Role::Command => worked.replies.push(self.unnamed(&self.commands[worked.replies.len()], reply)),
                Role::After(index) => worked.after[*index] = Some(Image::of(reply, &inner[at + 1])?),
            }
        }
        Ok(worked)
    }

    /// The server would not even queue a command. Nothing ran; a command that came alone has its error for a reply.
    fn not_queued(&self, error: &Bytes) -> Result<Worked, ExecError> {
        match self.commands {
            [only] => Ok(Worked { replies: vec![self.unnamed(only, error)], after: vec![None; self.items.len()] }),
            _ => Err(ExecError::Refused(error.clone())),
        }
    }

    fn name(&self, key: &[u8]) -> Bytes {
        internal_keys::copy(self.participant, key)
    }

    fn select(&mut self, db: u32) {
        if std::mem::replace(&mut self.db, db) != db {
            self.push(Role::Scaffold, Request::new(&["SELECT", &db.to_string()]));
        }
    }

    fn add<A: AsRef<[u8]>>(&mut self, db: u32, role: Role, args: &[A]) {
        self.select(db);
        self.push(role, Request::new(args));
    }

    fn push(&mut self, role: Role, request: Request) {
        self.requests.push(request);
        self.roles.push(role);
    }

    /// `command` with the copies' names in place of the keys'.
    fn on_copies(&self, command: &Spread) -> Request {
        match (command.spec.handling, &command.source) {
            (Handling::Script, Some(source)) => shim::request(command, source, self.token, |key| self.name(key)),
            (Handling::Script, None) => shim::unknown(command, |key| self.name(key)),
            _ => {
                let mut args: Vec<Bytes> = (0..command.request.argc()).map(|index| command.request.arg_bytes(index)).collect();
                // MOVE names one argument twice.
                command.keys.iter().for_each(|(key, _)| args[key.index as usize] = self.name(command.request.arg(key.index as usize)));
                Request::new(&args)
            }
        }
    }

    /// `reply` with the client's names for those of the copies: as a whole string of it (LMPOP, XREAD), or anywhere in an error.
    fn unnamed(&self, command: &Spread, reply: &Bytes) -> Bytes {
        let mut reply = reply.clone();
        for (key, _) in &command.keys {
            let name = command.request.arg(key.index as usize);
            let copy = self.name(name);
            reply = match reply.first() {
                Some(b'-') => replace(&reply, &copy, name),
                _ => replace(&reply, &bulk(&copy), &bulk(name)),
            };
        }
        match &command.source {
            Some(source) if reply.first() == Some(&b'-') => shim::in_its_words(&reply, source),
            _ => reply,
        }
    }
}

fn bulk(text: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", text.len()).as_bytes(), text, b"\r\n"].concat()
}

/// `text` with every `from` replaced by `to`.
pub(super) fn replace(text: &Bytes, from: &[u8], to: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    let mut rest = 0;
    for at in memmem::find_iter(text, from) {
        out.extend_from_slice(&text[rest..at]);
        out.extend_from_slice(to);
        rest = at + from.len();
    }
    if rest == 0 {
        return text.clone();
    }
    out.extend_from_slice(&text[rest..]);
    out.freeze()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::command::{self, Keys};
    use crate::slot::Slot;

    #[test]
    fn the_commands_see_copies_and_the_client_its_own_names() {
        let request = Request::new(&["RENAME", "a", "b"]);
        let spec = command::lookup(&request).unwrap();
        let mut keys = Keys::new();
        command::keys(spec, &request, &mut keys).unwrap();
        let place = |key: &str| Place { slot: Some(Slot::of(key.as_bytes())), shard: crate::topology::ShardId::new(0), db: 0 };
        let keys = keys.iter().zip(["a", "b"]).map(|(key, name)| (*key, place(name))).collect();
        let commands = [Spread { spec, request, db: 0, keys, source: None, hidden: 0 }];
        let copy = Image { payload: Bytes::from_static(b"value"), expires_ms: 0 };
        let item = |name: &'static str, copy| Item { place: place(name), key: Bytes::from_static(name.as_bytes()), write: true, copy };
        let items = [item("a", Some(copy)), item("b", None)];
        let participant = Participant::Slot(Slot::of(b"a"));
        let script = Script::new(&participant, 0, Proto::Resp2, &commands, &items);
        let names: Vec<_> = script.requests().iter().map(|request| String::from_utf8(request.arg(0).to_vec()).unwrap()).collect();
        assert_eq!(names.join(" "), "MULTI RESTORE RENAME DUMP PEXPIRETIME DUMP PEXPIRETIME UNLINK UNLINK EXEC");
        let renamed = &script.requests()[2];
        assert!(renamed.args_from(1).all(|name| internal_keys::is_internal(name) && Slot::of(name) == Slot::of(b"a")));

        let queued = vec![Bytes::from_static(b"+QUEUED\r\n"); 9];
        let executed = Bytes::from_static(b"*8\r\n+OK\r\n+OK\r\n$-1\r\n:-2\r\n$5\r\nvalue\r\n:-1\r\n:0\r\n:1\r\n");
        let worked = script.read(&[queued, vec![executed]].concat()).unwrap();
        assert_eq!(worked.replies, ["+OK\r\n"]);
        assert_eq!(worked.after[0], Some(None));
        assert_eq!(worked.after[1].clone().unwrap().unwrap().payload, "value");
        let name = String::from_utf8(renamed.arg(1).to_vec()).unwrap();
        let reply = Bytes::from(format!("*2\r\n${}\r\n{name}\r\n$1\r\nx\r\n", name.len()));
        assert_eq!(script.unnamed(&commands[0], &reply), "*2\r\n$1\r\na\r\n$1\r\nx\r\n");
        let reply = Bytes::from(format!("-ERR no such key '{name}'\r\n"));
        assert_eq!(script.unnamed(&commands[0], &reply), "-ERR no such key 'a'\r\n");
    }
}
