//! What a client has a server run: a script, or a function as one.
//!
//! A function's text is in a library, which only the shards have, and there it runs as it is: nothing can be put before it that would hold it to its
//! keys. So where that has to be, its library is asked for, and becomes the text of a script: the library is carried out as at its loading, which
//! registers its functions, and then the one is called that the client means. A library cannot do much while it loads, least of all call a
//! command, so that to load it for each call shows in nothing but the time that it takes, and in that locals of the library
//! do not keep what one call leaves in them for the next.
//!
//! Errors name a function and not a script; `in_its_words` puts that back.

use std::sync::LazyLock;

use bytes::Bytes;

use super::home::replace;
use super::shim::{code, digest};
use crate::resp::{Value, error_reply};

/// The text of a script, and what the client knows it as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    text: Bytes,
    /// The name of the function that it calls; `None`: it is a script.
    function: Option<Bytes>,
}

impl Source {
    /// A script.
    pub fn script(text: Bytes) -> Self {
        Self { text, function: None }
    }

    /// The text.
    pub fn text(&self) -> &Bytes {
        &self.text
    }

    /// Whether it is a function.
    pub fn is_function(&self) -> bool {
        self.function.is_some()
    }

    /// `error`, of a server that calls this `digest`, as one about what the client has called.
    pub(super) fn in_its_words(&self, error: &Bytes, as_run: &str) -> Bytes {
        match &self.function {
            None => replace(error, as_run.as_bytes(), digest(&self.text).as_bytes()),
            Some(name) => {
                let error = replace(error, as_run.as_bytes(), name);
                WORDS.iter().fold(error, |error, (script, function)| replace(&error, script, function))
            }
        }
    }
}

/// The function `name`, in any case, out of `list`, the reply to FUNCTION LIST WITHCODE, and the name of its library; `None` if there is
/// none in Lua.
pub fn function(list: &Value, name: &[u8]) -> Option<(Bytes, Source)> {
    list.items()?.iter().find_map(|library| {
        let is_meant = |function: &&Value| text(function, b"name").is_some_and(|known| known.eq_ignore_ascii_case(name));
        let function = field(library, b"functions")?.items()?.iter().find(is_meant)?;
        let name = text(function, b"name")?;
        let flags: Vec<&[u8]> = field(function, b"flags")?.items()?.iter().filter_map(|flag| Some(&flag.text()?[..])).collect();
        let code = text(library, b"library_code")?;
        if !text(library, b"engine")?.eq_ignore_ascii_case(b"LUA") {
            return None;
        }
        // The line that names the library makes room for that which names the flags.
        let code = memchr::memchr(b'\n', code).map_or(&b""[..], |end| &code[end + 1..]);
        let call = [b"\nend library() loaded() return registered['", name, b"'](KEYS, ARGV)"].concat();
        let flags = if flags.is_empty() { Vec::new() } else { [b" flags=", &flags.join(&b","[..])[..]].concat() };
        let source = [b"#!lua", &flags[..], b"\n", LIBRARY.as_bytes(), code, &call].concat();
        let function = Some(Bytes::copy_from_slice(name));
        Some((Bytes::copy_from_slice(text(library, b"library_name")?), Source { text: source.into(), function }))
    })
}

fn field<'a>(entry: &'a Value, name: &[u8]) -> Option<&'a Value> {
    entry.pairs()?.into_iter().find(|(key, _)| key.text().is_some_and(|key| key.as_ref() == name)).map(|(_, value)| value)
}

fn text<'a>(entry: &'a Value, name: &[u8]) -> Option<&'a [u8]> {
    field(entry, name)?.text().map(|text| &text[..])
}

/// What is said of a script, and of a function.
const WORDS: [(&[u8], &[u8]); 2] = [(b"user_script:", b"user_function:"), (b"with SCRIPT KILL", b"with FUNCTION KILL")];

/// The text before a library.
static LIBRARY: LazyLock<String> =
    LazyLock::new(|| code(&include_str!("../lua/function.lua").replace("@late@", error_reply::REGISTERED_LATE)));

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::Bulk(Bytes::copy_from_slice(text.as_bytes()))
    }

    fn library(engine: &str, functions: &[(&str, &[&str])]) -> Value {
        let functions = functions.iter().map(|(name, flags)| {
            let flags = Value::Set(flags.iter().map(|flag| bulk(flag)).collect());
            Value::Array(vec![bulk("name"), bulk(name), bulk("description"), Value::Null, bulk("flags"), flags])
        });
        let functions = Value::Array(functions.collect());
        let code = bulk("#!lua name=lib\nfirst\nsecond -- done");
        let pairs = [("library_name", bulk("lib")), ("engine", bulk(engine)), ("functions", functions), ("library_code", code)];
        Value::Map(pairs.into_iter().map(|(name, value)| (bulk(name), value)).collect())
    }

    #[test]
    fn a_function_becomes_a_script_with_the_same_lines() {
        let list = Value::Array(vec![library("LUA", &[("f", &[]), ("g", &["no-writes", "allow-oom"])])]);
        let (name, source) = function(&list, b"G").unwrap();
        assert_eq!(name, "lib");
        let lines: Vec<&[u8]> = source.text().split(|byte| *byte == b'\n').collect();
        assert_eq!(lines[0], b"#!lua flags=no-writes,allow-oom");
        assert!(lines[1].ends_with(b" first") && lines[2] == b"second -- done" && lines.len() == 4);
        assert_eq!(lines[3], b"end library() loaded() return registered['g'](KEYS, ARGV)");
        assert!(function(&list, b"f").unwrap().1.text().starts_with(b"#!lua\nlocal registered"));
        assert_eq!(function(&list, b"h"), None);
        assert_eq!(function(&Value::Array(vec![library("JS", &[("f", &[])])]), b"f"), None);
        let error = Bytes::from_static(b"-ERR user_script:2: x script: abc, on @user_script:2.\r\n");
        assert_eq!(source.in_its_words(&error, "abc"), "-ERR user_function:2: x script: g, on @user_function:2.\r\n");
    }
}
