//! What is put before a user's script, and taken out of its reply, so that it touches no keys but those that it may.
//!
//! On one server a script may use any key, whether it names it among KEYS or not. Here a key that it makes up may live at another shard,
//! or be locked by a transaction that nobody has looked at for it. So Lua text goes before it (`lua/shim.lua`) that hides the server's
//! `redis` behind one of its own: that one knows from the command table which words of a command are keys, and refuses, before the command
//! runs, a key that is not the script's, or a command that is not about keys. There are two kinds of it:
//!
//! - A script whose keys are at one place runs there, and **held** to them: to those that it declares, and those of their groups
//!   ([`affinity`](crate::affinity)), which live there too and are guarded by the group's lock (`part.rs`). What it writes stays as it writes it.
//! - A script whose keys are on several participants runs on **copies** of those that it declares ([`compute`](super)). The names of
//!   the copies are put in the place of the keys' names. What reaches beyond keys (PUBLISH, SCAN) is refused: at the home it would
//!   find or change what is not meant, and each try of the computing would do it again. Of a script that ends with a refusal nothing is
//!   applied. Any other error is Redis's own matter, where what was written before it stays.
//!
//! A refusal ends the script: whatever of Lua's could catch it lets it through, since a script that went on would answer as if it had done
//! what it was kept from. In front of its text stands a [`Token`], by which weft knows it for its own, and then the key that it was
//! about, if nothing is written yet that stays. Then the script can be run once more, with that key as if the client had declared it, wherever it
//! is. Such a key is **hidden**: last among KEYS for the server, not there for the script.
//!
//! The clients' script can tell our `redis` from the server's only where it asks for it: `redis.call` is a table that can be called.
//!
//! The text is one line, put on the first line of the script, behind the one that begins with `#!` if there is one: the lines in
//! errors stay the client's. The digest in them is put back here. A function is made a script first: [`source`](super::source).

use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memmem;

use super::Spread;
use super::source::Source;
use crate::affinity::Affinity;
use crate::command::{self, Flags};
use crate::resp::{Request, error_reply};
use crate::topology::Mode;
use crate::txn::ExecError;

/// What holds scripts to the keys of groups, ready to be put before them.
#[derive(Clone, Debug)]
pub struct Holder(Bytes);

impl Holder {
    /// For the groups of `affinity`, in a deployment of `mode`: before static shards a refusal names a rule that would help, in a cluster a
    /// hash tag.
    pub fn new(affinity: &Affinity, mode: Mode) -> Self {
        let patterns: Vec<String> = affinity.lua_patterns().collect();
        let refusal = match mode {
            Mode::Static => include_str!("../lua/refuse_by_rule.lua"),
            Mode::Cluster => include_str!("../lua/refuse_by_tag.lua"),
        };
        let head = include_str!("../lua/declared.lua").replace("@refusal@", refusal).replace("@patterns@", &patterns.join(", "));
        Self(line(&head, error_reply::SCRIPT_COMMAND_HERE).into())
    }

    /// `source`, held to its keys.
    pub fn hold(&self, source: &Source) -> Held {
        let text = wrapped(source.text(), &self.0);
        Held { digest: digest(&text), source: source.clone(), text }
    }
}

/// A script that is held to its keys.
#[derive(Clone, Debug)]
pub struct Held {
    /// The script as the client knows it.
    source: Source,
    /// The script as the server is to run it, and how the server calls it.
    text: Bytes,
    digest: String,
}

impl Held {
    /// The text that is loaded at the servers.
    pub fn text(&self) -> &Bytes {
        &self.text
    }

    /// The name of that text.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// `call`, an EVAL, EVALSHA or FCALL of the script whose last `hidden` of `keys` keys are hidden, as the server is to have it: by its text, or
    /// by the digest. Its refusals bear `token`.
    pub fn request(&self, call: &Request, keys: usize, hidden: usize, by_text: bool, token: Token) -> Request {
        let readonly = call.arg(0).to_ascii_uppercase().ends_with(b"_RO");
        let verb: &[u8] = match (by_text, readonly) {
            (true, false) => b"EVAL",
            (true, true) => b"EVAL_RO",
            (false, false) => b"EVALSHA",
            (false, true) => b"EVALSHA_RO",
        };
        let name = if by_text { &self.text[..] } else { self.digest.as_bytes() };
        let for_shim = token.with(hidden);
        let mut words: Vec<&[u8]> = vec![verb, name, call.arg(2)];
        words.extend((ARGUMENTS..ARGUMENTS + keys).map(|index| call.arg(index)));
        words.push(for_shim.as_bytes());
        words.extend(call.args_from(ARGUMENTS + keys));
        Request::new(&words)
    }

    /// `reply` to a call with `token` as the client is to have it, and the key that weft may add if it is the refusal of one.
    pub fn read(&self, reply: &Bytes, token: Token) -> (Bytes, Option<Bytes>) {
        if reply.first() != Some(&b'-') {
            return (reply.clone(), None);
        }
        let reply = self.source.in_its_words(reply, &self.digest);
        match token.refusal(&reply) {
            Some(Refusal { error, key }) => (error, key),
            None => (reply, None),
        }
    }
}

/// What weft knows the refusals of one call by. A script that could make up one would be run again after it has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(u64);

/// The error that weft has ended a script with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// As the client is to have it.
    pub error: Bytes,
    /// The key that the script lacks, if it may run again with it.
    pub key: Option<Bytes>,
}

impl Token {
    /// One that no script knows.
    pub fn random() -> Self {
        Self(fastrand::u64(..))
    }

    /// The argument for the shim of a script with `hidden` keys, which the script does not see.
    fn with(self, hidden: usize) -> String {
        format!("{hidden} {:016x}", self.0)
    }

    /// What `error` says if it is a refusal in a call with this token.
    pub fn refusal(self, error: &Bytes) -> Option<Refusal> {
        let mark = format!("-{}{:016x} ", error_reply::SCRIPT_REFUSED, self.0);
        let rest = error.strip_prefix(mark.as_bytes())?;
        let end = memchr::memchr(b' ', rest)?;
        let digits = std::str::from_utf8(&rest[..end]).ok()?;
        let byte = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
        let key = (0..digits.len()).step_by(2).map(byte).collect::<Option<Vec<_>>>();
        Some(Refusal { error: [b"-", &rest[end + 1..]].concat().into(), key: key.map(Bytes::from) })
    }
}

/// `call`, an EVAL, EVALSHA or FCALL of `keys` keys, with one more, which the script is not to see.
pub fn with_hidden(call: &Request, keys: usize, key: &[u8]) -> Request {
    let count = (keys + 1).to_string();
    let mut words: Vec<&[u8]> = vec![call.arg(0), call.arg(1), count.as_bytes()];
    words.extend((ARGUMENTS..ARGUMENTS + keys).map(|index| call.arg(index)));
    words.push(key);
    words.extend(call.args_from(ARGUMENTS + keys));
    Request::new(&words)
}

/// The number of keys that `call`, an EVAL, EVALSHA or FCALL, says it has; `None` if it has not so many.
pub fn keys_of(call: &Request) -> Option<usize> {
    let count: usize = std::str::from_utf8(call.arg(2)).ok()?.parse().ok()?;
    (count <= call.argc().saturating_sub(ARGUMENTS)).then_some(count)
}

/// A request that runs the script of `command`, the text of which is `source`, on the copies that `name` tells the names of. Its refusals
/// bear `token`.
pub(super) fn request(command: &Spread, source: &Source, token: Token, name: impl Fn(&[u8]) -> Bytes) -> Request {
    let verb: &[u8] = if command.spec.flags.contains(Flags::READONLY) { b"EVAL_RO" } else { b"EVAL" };
    let (text, count, for_shim) = (wrapped(source.text(), COPIES.as_bytes()), command.keys.len().to_string(), token.with(command.hidden));
    let clients: Vec<Bytes> = command.keys.iter().map(|(key, _)| command.request.arg_bytes(key.index as usize)).collect();
    let mut words = vec![Bytes::copy_from_slice(verb), text, Bytes::from(count)];
    words.extend(clients.iter().map(|key| name(key)));
    words.push(Bytes::from(for_shim));
    words.extend(clients.iter().cloned());
    words.extend(command.request.args_from(ARGUMENTS + clients.len()).map(Bytes::copy_from_slice));
    Request::new(&words)
}

/// What is the name neither of a script nor of a function.
pub const NOBODY: &str = "----------------------------------------";

/// A request that is answered as the call of a script that nobody knows; it has the keys of `command`, so that it goes where they are.
pub(super) fn unknown(command: &Spread, name: impl Fn(&[u8]) -> Bytes) -> Request {
    let mut words = vec![command.request.arg_bytes(0), Bytes::from(NOBODY), Bytes::from(command.keys.len().to_string())];
    words.extend(command.keys.iter().map(|(key, _)| name(command.request.arg(key.index as usize))));
    Request::new(&words)
}

/// An error that `source` ended with on copies, about what the client knows.
pub(super) fn in_its_words(error: &Bytes, source: &Source) -> Bytes {
    source.in_its_words(error, &digest(&wrapped(source.text(), COPIES.as_bytes())))
}

/// The error with which everything ends, and nothing of `commands` is applied, if the reply of one of them is such a one: a refusal, which
/// bears `token`, or that a user has killed the script. It must not begin again then, whatever has become of its keys.
pub(super) fn final_error(commands: &[Spread], replies: &[Bytes], token: Token) -> Option<ExecError> {
    commands.iter().zip(replies).enumerate().filter(|(_, (command, _))| command.is_script()).find_map(|(at, (_, reply))| {
        let text = |error: &[u8]| String::from_utf8_lossy(&error[1..]).trim_end().to_owned();
        match token.refusal(reply) {
            Some(Refusal { error, key: Some(key) }) => Some(ExecError::Undeclared { command: at, key, text: text(&error) }),
            Some(Refusal { error, key: None }) => Some(ExecError::Rejected(text(&error))),
            None if reply.first() != Some(&b'-') => None,
            None => memmem::find(reply, error_reply::SCRIPT_KILLED).map(|_| ExecError::Rejected(text(reply))),
        }
    })
}

/// `source` with `shim` before it.
fn wrapped(source: &[u8], shim: &[u8]) -> Bytes {
    let behind = match source.starts_with(b"#!") {
        false => 0,
        // Without a second line a server refuses it.
        true => memchr::memchr(b'\n', source).map_or(source.len(), |end| end + 1),
    };
    let (flags, code) = source.split_at(behind);
    Bytes::from([flags, shim, code].concat())
}

pub(super) fn digest(text: &[u8]) -> String {
    sha1_smol::Sha1::from(text).digest().to_string()
}

/// The text before a script that runs on copies.
static COPIES: LazyLock<String> = LazyLock::new(|| line(include_str!("../lua/copies.lua"), error_reply::SCRIPT_COMMAND));

/// The text before a script, with `head` for what differs, on one line.
fn line(head: &str, refused_command: &str) -> String {
    let text = code(&include_str!("../lua/shim.lua").replace("@head@", head));
    let marks = [
        ("@key@", error_reply::SCRIPT_KEY),
        ("@key_rule@", error_reply::SCRIPT_KEY_RULE),
        ("@key_tag@", error_reply::SCRIPT_KEY_TAG),
        ("@key_hash_tag@", error_reply::SCRIPT_KEY_HASH_TAG),
        ("@key_no_tag@", error_reply::SCRIPT_KEY_NO_TAG),
        ("@command@", refused_command),
        ("@mark@", error_reply::SCRIPT_REFUSED),
        ("@longest@", LONGEST_KEY),
        ("@rules@", &command::lua_rules()),
    ];
    marks.iter().fold(text, |code, (mark, text)| code.replace(mark, text))
}

/// The code of `text` on one line, for what follows it there.
pub(super) fn code(text: &str) -> String {
    let lines = text.lines().map(str::trim);
    let code: Vec<&str> = lines.filter(|line| !line.is_empty() && !line.starts_with("--")).collect();
    code.join(" ") + " "
}

/// A longer key is not told with its refusal; it is not run again for that.
const LONGEST_KEY: &str = "1024";

/// Where the keys of EVAL begin.
const ARGUMENTS: usize = 3;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_one_line_before_the_first_line_of_code() {
        let by_rule = Holder::new(&Affinity::new(vec!["bull:{queue}:*".parse().unwrap()]), Mode::Static);
        let by_tag = Holder::new(&Affinity::default(), Mode::Cluster);
        for shim in [COPIES.as_bytes(), &by_rule.0[..], &by_tag.0[..]] {
            let text = std::str::from_utf8(shim).unwrap();
            assert!(!text.contains('\n') && !text.contains('@') && !text.contains("--"), "{text}");
            assert_eq!(wrapped(b"return 1", shim), format!("{text}return 1"));
            assert_eq!(wrapped(b"#!lua flags=no-writes\nreturn 1", shim), format!("#!lua flags=no-writes\n{text}return 1"));
        }
    }

    #[test]
    fn a_held_call_names_hidden_keys_last_and_says_how_many() {
        let held = Holder::new(&Affinity::default(), Mode::Cluster).hold(&Source::script("return 1".into()));
        let call = Request::new(&["evalsha", "digest", "1", "k", "a", "b"]);
        assert_eq!(keys_of(&call), Some(1));
        let call = with_hidden(&call, 1, b"h");
        assert_eq!(call.bytes(), Request::new(&["evalsha", "digest", "2", "k", "h", "a", "b"]).bytes());
        let expected = Request::new(&["EVALSHA", held.digest(), "2", "k", "h", "1 00000000000000ff", "a", "b"]);
        assert_eq!(held.request(&call, 2, 1, false, Token(0xff)).bytes(), expected.bytes());
        assert_eq!(held.request(&Request::new(&["EVAL_RO", "x", "0"]), 0, 0, true, Token(0)).arg(0), b"EVAL_RO");
        assert_eq!(keys_of(&Request::new(&["EVAL", "x", "2", "k"])), None);
        assert_eq!(keys_of(&Request::new(&["EVAL", "x", "-1"])), None);
    }

    #[test]
    fn a_refusal_tells_the_key_in_front_of_the_error() {
        let read = |error: &'static str| Token(0xff).refusal(&Bytes::from(error));
        for (key, expected) in [("6b2079", Some("k y")), ("", Some("")), ("-", None), ("6b6", None)] {
            let error = Bytes::from(format!("-WEFTREFUSED 00000000000000ff {key} CROSSSLOT a script cannot\r\n"));
            let expected = Refusal { error: "-CROSSSLOT a script cannot\r\n".into(), key: expected.map(Bytes::from) };
            assert_eq!(Token(0xff).refusal(&error), Some(expected));
            assert_eq!(Token(0xfe).refusal(&error), None);
        }
        for other in ["-ERR x\r\n", "-WEFTREFUSED 00000000000000ff\r\n", "-WEFTREFUSED 00000000000000ff 6\r\n", "+OK\r\n"] {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
