//! A user's script that runs on copies: what is put before it, and what is taken out of its reply.
//!
//! The script is to see its clients' keys, and to touch nothing but their copies. So Lua text goes before it (`lua/copies.lua`) that
//! hides the server's `redis` behind one of its own: that one knows from the command table which words of a command are keys, puts the
//! copies' names in their place, and refuses a key that has no copy, or a command that reaches beyond keys (PUBLISH, SCAN, FLUSHALL): at
//! the home it would find or change what is not meant, and each try of the computing would do it again. Where such a refusal is the
//! script's reply, nothing of the script is applied. Any other error is Redis's own matter, where what was written before it stays.
//!
//! The clients' script can tell it from the server's only where it asks for it: `redis.call` is a table that can be called.
//!
//! The text is one line, put on the first line of the script, behind the one that begins with `#!` if there is one: the lines in
//! errors stay the client's. The digest in them is put back here.

use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memmem;

use super::Spread;
use super::home::replace;
use crate::command::{self, Flags};
use crate::resp::{Request, error_reply};

/// A request that runs the script of `command`, the text of which is `source`, on the copies that `name` tells the names of.
pub(super) fn request(command: &Spread, source: &[u8], name: impl Fn(&[u8]) -> Bytes) -> Request {
    let verb: &[u8] = if command.spec.flags.contains(Flags::READONLY) { b"EVAL_RO" } else { b"EVAL" };
    let (text, count) = (wrapped(source), command.keys.len().to_string());
    let clients: Vec<Bytes> = command.keys.iter().map(|(key, _)| command.request.arg_bytes(key.index as usize)).collect();
    let mut words = vec![Bytes::copy_from_slice(verb), text, Bytes::from(count)];
    words.extend(clients.iter().map(|key| name(key)));
    words.extend(clients.iter().cloned());
    words.extend(command.request.args_from(ARGUMENTS + clients.len()).map(Bytes::copy_from_slice));
    Request::new(&words)
}

/// A request that is answered as the call of a script that nobody knows; it has the keys of `command`, so that it goes where they are.
pub(super) fn unknown(command: &Spread, name: impl Fn(&[u8]) -> Bytes) -> Request {
    let verb: &[u8] = if command.spec.flags.contains(Flags::READONLY) { b"EVALSHA_RO" } else { b"EVALSHA" };
    let mut words = vec![Bytes::copy_from_slice(verb), Bytes::from("0".repeat(40)), Bytes::from(command.keys.len().to_string())];
    words.extend(command.keys.iter().map(|(key, _)| name(command.request.arg(key.index as usize))));
    Request::new(&words)
}

/// An error that a script ended with, with the digest of what the client knows in it.
pub(super) fn with_own_digest(error: &Bytes, source: &[u8]) -> Bytes {
    replace(error, digest(&wrapped(source)).as_bytes(), digest(source).as_bytes())
}

/// The error with which everything ends, and nothing of `commands` is applied, if the reply of one of them is such a one: a refusal, or
/// that a user has killed the script. It must not begin again then, whatever has become of its keys.
pub(super) fn final_error(commands: &[Spread], replies: &[Bytes]) -> Option<String> {
    let is_final =
        |text: &[u8]| text.starts_with(error_reply::SCRIPT_REFUSED.as_bytes()) || memmem::find(text, error_reply::SCRIPT_KILLED).is_some();
    let error = commands.iter().zip(replies).find_map(|(command, reply)| {
        let text = reply.strip_prefix(b"-").filter(|text| is_final(text))?;
        command.is_script().then_some(text)
    });
    error.map(|text| String::from_utf8_lossy(text).trim_end().to_owned())
}

/// `source` with the text before it.
fn wrapped(source: &[u8]) -> Bytes {
    let behind = match source.starts_with(b"#!") {
        false => 0,
        // Without a second line a server refuses it.
        true => memchr::memchr(b'\n', source).map_or(source.len(), |end| end + 1),
    };
    let (flags, code) = source.split_at(behind);
    Bytes::from([flags, SHIM.as_bytes(), code].concat())
}

fn digest(text: &[u8]) -> String {
    sha1_smol::Sha1::from(text).digest().to_string()
}

/// The text, on one line.
static SHIM: LazyLock<String> = LazyLock::new(|| {
    let lines = include_str!("../lua/copies.lua").lines().map(str::trim);
    let code: Vec<&str> = lines.filter(|line| !line.is_empty() && !line.starts_with("--")).collect();
    let code = code.join(" ").replace("@key@", error_reply::SCRIPT_KEY).replace("@command@", error_reply::SCRIPT_COMMAND);
    format!("{} ", code.replace("@rules@", &command::lua_rules()))
});

/// Where the keys of EVAL begin.
const ARGUMENTS: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_one_line_before_the_first_line_of_code() {
        assert!(!SHIM.contains('\n') && !SHIM.contains('@') && !SHIM.contains("--"));
        assert_eq!(wrapped(b"return 1"), format!("{}return 1", *SHIM));
        assert_eq!(wrapped(b"#!lua flags=no-writes\nreturn 1"), format!("#!lua flags=no-writes\n{}return 1", *SHIM));
    }

    #[test]
    fn both_refusals_are_known_as_such() {
        for text in [error_reply::SCRIPT_KEY, error_reply::SCRIPT_COMMAND] {
            assert!(text.starts_with(error_reply::SCRIPT_REFUSED));
        }
    }
}
