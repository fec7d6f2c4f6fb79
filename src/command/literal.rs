//! Whether a script can be seen to use no keys but those of KEYS, by its text alone.
//!
//! Such a script need not be watched while it runs. Only the plainest is recognised: each call names its command by a string, the command
//! has one key, and that is `KEYS[…]` with a number or a name between the brackets; KEYS itself is never changed or handed on, and nothing
//! is there by which code or `redis` could come from elsewhere. What is written in any other way counts as not seen, which costs a little time and
//! never correctness. The text is not parsed: what stands in a comment or a string is held to the same, which can only refuse more.

use super::lookup::all;
use super::lua::rule;

/// Whether the script `source` is one of those.
pub fn uses_keys_literally(source: &[u8]) -> bool {
    let has = |word: &str| memchr::memmem::find(source, word.as_bytes()).is_some();
    let all = |word: &str, is_plain: &dyn Fn(&[u8], &[u8]) -> bool| {
        memchr::memmem::find_iter(source, word.as_bytes()).all(|at| is_plain(&source[..at], &source[at + word.len()..]))
    };
    // Servers keep their globals from being changed; who tries is to get their own error.
    let is_protected = |before: &[u8], rest: &[u8]| is_assigned(rest) || before.ends_with(b"metatable(");
    !ELSEWHERE.iter().any(|word| has(word))
        && all("_G", &is_protected)
        && all("metatable", &|_, rest| rest.starts_with(b"(_G"))
        && all("redis", &|_, rest| is_plain_use(rest))
        && all("KEYS", &is_plain_key)
}

/// Words that lead to more than meets the eye.
const ELSEWHERE: &[&str] = &["fenv", "load", "dofile", "require", "rawset", "rawget", "debug", "server", "\u{1b}"];

/// What of `redis` touches no key.
const HARMLESS: &[&str] = &["error_reply", "status_reply", "sha1hex", "log", "setresp"];

/// Whether `redis`, before `rest`, calls a command with a key of KEYS, or something harmless. To assign to it gives nobody more than he had.
fn is_plain_use(rest: &[u8]) -> bool {
    if is_assigned(rest) {
        return true;
    }
    let Some(rest) = rest.strip_prefix(b".") else { return false };
    let (word, rest) = name(rest);
    if is_assigned(rest) || HARMLESS.iter().any(|harmless| harmless.as_bytes() == word) || word.starts_with(b"LOG_") {
        return true;
    }
    if word != b"call" && word != b"pcall" {
        return false;
    }
    let Some(rest) = after(rest, b"(") else { return false };
    let Some((quote @ (b'\'' | b'"'), rest)) = rest.trim_ascii_start().split_first() else { return false };
    let (command, rest) = name(rest);
    let Some(rest) = rest.strip_prefix(&[*quote]) else { return false };
    let command = command.to_ascii_lowercase();
    let Some(spec) = all().find(|spec| spec.name.as_bytes() == command) else { return false };
    match rule(spec).trim_start_matches('~') {
        "-" => true,
        "r1,0,1" => {
            let key = after(rest, b",").and_then(|rest| after(rest, b"KEYS")).and_then(subscript);
            key.is_some_and(|rest| matches!(rest.trim_ascii_start().first(), Some(b',' | b')')))
        }
        _ => false,
    }
}

/// Whether `KEYS`, between `before` and `rest`, is read: one of its elements, or their number.
fn is_plain_key(before: &[u8], rest: &[u8]) -> bool {
    let before = before.trim_ascii_end();
    if before.ends_with(b"#") {
        return !rest.first().is_some_and(|byte| is_of_name(*byte)) && !is_assigned(rest);
    }
    let in_call = before.ends_with(b",") && {
        let before = before[..before.len() - 1].trim_ascii_end();
        // The string before it; that it is a command's name, the look at `redis` finds.
        matches!(before.last(), Some(b'\'' | b'"'))
    };
    let read = in_call || before.ends_with(b"=") || before.ends_with(b"(") || is_word_at_end(before, b"return");
    read && subscript(rest).is_some_and(|rest| !is_assigned(rest))
}

/// What follows the brackets with a number or a name, with which `rest` begins.
fn subscript(rest: &[u8]) -> Option<&[u8]> {
    let (index, rest) = name(after(rest, b"[")?.trim_ascii_start());
    if index.is_empty() { None } else { after(rest, b"]") }
}

fn is_assigned(rest: &[u8]) -> bool {
    let rest = rest.trim_ascii_start();
    rest.starts_with(b"=") && !rest.starts_with(b"==")
}

fn is_word_at_end(text: &[u8], word: &[u8]) -> bool {
    text.strip_suffix(word).is_some_and(|before| !before.last().is_some_and(|byte| is_of_name(*byte)))
}

fn after<'a>(text: &'a [u8], token: &[u8]) -> Option<&'a [u8]> {
    text.trim_ascii_start().strip_prefix(token)
}

fn name(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(text.iter().position(|byte| !is_of_name(*byte)).unwrap_or(text.len()))
}

fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plainest_scripts_are_seen_through() {
        for source in [
            "return redis.call('get', KEYS[1])",
            "return redis.call(\"INCRBY\", KEYS[1], ARGV[1])",
            "if redis.call('GET' , KEYS[ 1 ] ) == ARGV[1] then return redis.call('expire', KEYS[1], 1) end",
            "for i = 1, #KEYS do redis.pcall('incr', KEYS[i]) end return redis.error_reply('x')",
            "local key = KEYS[1]; return tonumber(KEYS[1]) == KEYS[2]",
            "local t = redis.call('TIME') return 1",
            "redis = function() return 1 end",
            "redis.call = function() return 1 end",
            "_G = {}",
            "local g = getmetatable(_G) g.__index = {}",
            "return 1",
        ] {
            assert!(uses_keys_literally(source.as_bytes()), "{source}");
        }
    }

    #[test]
    fn anything_else_is_not() {
        for source in [
            "return redis.call('get', KEYS[1] .. ':x')",
            "return redis.call('get', ARGV[1])",
            "return redis.call('get', 'k')",
            "return redis.call(ARGV[1], KEYS[1])",
            "return redis.call('del', KEYS[1], 'other')",
            "return redis.call('mset', KEYS[1], 1, 'other', 2)",
            "return redis.call('keys', '*')",
            "return redis.call('flushall')",
            "return redis.call'dbsize'",
            "return redis['call']('get', 'k')",
            "local r = redis; return r.call('get', 'k')",
            "local call = redis.call; return call('get', 'k')",
            "KEYS[1] = 'other'; return redis.call('get', KEYS[1])",
            "KEYS[1], x = 'other', 1; return redis.call('get', KEYS[1])",
            "x, KEYS[1], y = 1, 'other', 2; return redis.call('get', KEYS[1])",
            "x['a'], KEYS[1] = 1, 'other'; return redis.call('get', KEYS[1])",
            "local KEYS = {'other'}; return redis.call('get', KEYS[1])",
            "local function f(KEYS) return redis.call('get', KEYS[1]) end; return f({'other'})",
            "KEYS = {'other'}; return redis.call('get', KEYS[1])",
            "table.insert(KEYS, 1, 'other'); return redis.call('get', KEYS[1])",
            "return loadstring('return 1')()",
            "redis = {call = redis.call}; return redis.call('get', 'k')",
            "local g = _G; return g.redis.call('get', 'k')",
            "return getmetatable(KEYS)",
            "return _G.redis.call('get', 'k')",
            "local other = KEYS; other[1] = 'x'; return redis.call('get', KEYS[1])",
            "return redis.call('get', KEYS[1]:upper())",
            "return redis.call('nonsense', KEYS[1])",
            "return redis.call('sort', KEYS[1], 'by', 'w_*')",
            "return server.call('get', 'k')",
        ] {
            assert!(!uses_keys_literally(source.as_bytes()), "{source}");
        }
    }
}
