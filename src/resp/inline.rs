//! Inline commands: a line of words, as a person types it into telnet and a health check into a socket.
//!
//! The quoting is that of Redis's `sdssplitargs`, oddities included: a quote may open in the middle of a word and
//! joins it, but a closing one must end it; `"` knows escapes, `'` only `\'`.

/// The arguments of `line` (without its line end), or `None` where quotes are unbalanced.
pub(super) fn split(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut args = Vec::new();
    let mut rest = line;
    loop {
        while let [first, tail @ ..] = rest
            && is_space(*first)
        {
            rest = tail;
        }
        if rest.is_empty() {
            return Some(args);
        }
        let (word, after) = word(rest)?;
        args.push(word);
        rest = after;
    }
}

/// The first word of `rest`, unquoted, and what follows it.
fn word(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut word = Vec::new();
    loop {
        match rest {
            [] | [b' ' | b'\n' | b'\r' | b'\t', ..] => return Some((word, rest)),
            [quote @ (b'"' | b'\''), tail @ ..] => {
                let after = if *quote == b'"' { double_quoted(tail, &mut word)? } else { single_quoted(tail, &mut word)? };
                return after.first().is_none_or(|&byte| is_space(byte)).then_some((word, after));
            }
            [byte, tail @ ..] => {
                word.push(*byte);
                rest = tail;
            }
        }
    }
}

/// Appends what stands before the closing `"`; returns what stands behind it.
fn double_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, tail) = match rest {
            [] => return None,
            [b'"', tail @ ..] => return Some(tail),
            [b'\\', b'x', high, low, tail @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                (hex(*high) << 4 | hex(*low), tail)
            }
            [b'\\', escaped, tail @ ..] => (unescape(*escaped), tail),
            [byte, tail @ ..] => (*byte, tail),
        };
        word.push(byte);
        rest = tail;
    }
}

/// Appends what stands before the closing `'`; returns what stands behind it.
fn single_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, tail) = match rest {
            [] => return None,
            [b'\'', tail @ ..] => return Some(tail),
            [b'\\', b'\'', tail @ ..] => (b'\'', tail),
            [byte, tail @ ..] => (*byte, tail),
        };
        word.push(byte);
        rest = tail;
    }
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

/// What C's `isspace` takes for a space; Rust's own functions leave out the vertical tab.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Option<Vec<String>> {
        Some(split(line.as_bytes())?.into_iter().map(|word| String::from_utf8_lossy(&word).into_owned()).collect())
    }

    #[test]
    fn words_are_split_and_unquoted_as_redis_does_it() {
        for (line, expected) in [
            ("", &[][..]),
            (" \t\u{b} ", &[]),
            ("PING", &["PING"]),
            ("  set  k\tv ", &["set", "k", "v"]),
            (r#"set k "a b""#, &["set", "k", "a b"]),
            (r"set k 'a b\' \n'", &["set", "k", r"a b' \n"]),
            (r#"set k "\x41\n\r\t\b\a\"\q\xzz""#, &["set", "k", "A\n\r\t\u{8}\u{7}\"qxzz"]),
            (r#"a"b c""#, &["ab c"]),
            (r#"echo """#, &["echo", ""]),
            ("a\u{b}b", &["a\u{b}b"]),
        ] {
            assert_eq!(words(line).as_deref(), Some(expected.iter().map(ToString::to_string).collect::<Vec<_>>().as_slice()), "{line:?}");
        }
    }

    #[test]
    fn unbalanced_quotes_are_refused() {
        for line in [r#"set k "a"#, "set k 'a", r#"set k "a"b"#, "set k 'a'b", r#"set k "a\"#, r#"""""#] {
            assert_eq!(words(line), None, "{line:?}");
        }
    }
}
