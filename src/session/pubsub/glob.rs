//! Whether a name matches a pattern of PSUBSCRIBE, exactly as Redis decides it (`stringmatchlen`).

/// Whether `text` matches `pattern`: `*`, `?`, `[a-z]`, `[^a]`, `\` before a character that means itself.
pub(in crate::session) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut from) = (0, 0);
    // Where to go on when what follows the last star does not match: one byte of text further on.
    let mut star: Option<(usize, usize)> = None;
    loop {
        if pattern.get(at) == Some(&b'*') {
            at += 1;
            star = Some((at, from));
            continue;
        }
        let step = match text.get(from) {
            Some(byte) => one(&pattern[at..], *byte),
            None if at == pattern.len() => return true,
            None => return false,
        };
        match (step, star) {
            (Some(len), _) => (at, from) = (at + len, from + 1),
            (None, Some((after, tried))) => {
                (at, from) = (after, tried + 1);
                star = Some((after, tried + 1));
            }
            (None, None) => return false,
        }
    }
}

/// How long the element at the start of `pattern` is, if it matches `byte`.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'\\', escaped, ..] => (*escaped == byte).then_some(2),
        [b'[', rest @ ..] => class(rest, byte).map(|len| len + 1),
        [literal, ..] => (*literal == byte).then_some(1),
    }
}

/// How long the class behind `[` is, if it matches `byte`. A class that is not closed ends with the pattern.
fn class(pattern: &[u8], byte: u8) -> Option<usize> {
    let negated = pattern.first() == Some(&b'^');
    let (mut at, mut found) = (usize::from(negated), false);
    let end = loop {
        match &pattern[at.min(pattern.len())..] {
            [] => break pattern.len(),
            [b']', ..] => break at + 1,
            [b'\\', escaped, ..] => {
                found |= *escaped == byte;
                at += 2;
            }
            [low, b'-', high, ..] => {
                found |= (*low.min(high)..=*low.max(high)).contains(&byte);
                at += 3;
            }
            [literal, ..] => {
                found |= *literal == byte;
                at += 1;
            }
        }
    };
    (found != negated).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_as_in_redis() {
        let yes = [
            "", "", "*", "", "*", "abc", "a*c", "abbc", "a*c*", "acb", "?", "x", "h[ae]llo", "hello", "h[^e]llo", "hallo", "h[a-c]t",
            "hbt", "h[c-a]t", "hbt", "\\*", "*", "a[\\]]", "a]", "news.*", "news.", "**a", "ba", "[a", "a",
        ];
        let no = [
            "", "a", "?", "", "a", "b", "a*c", "ab", "h[^e]llo", "hello", "h[a-c]t", "hdt", "\\*", "a", "news.*", "new", "ab", "a", "[]",
            "a",
        ];
        for pair in yes.chunks(2) {
            assert!(matches(pair[0].as_bytes(), pair[1].as_bytes()), "{pair:?}");
        }
        for pair in no.chunks(2) {
            assert!(!matches(pair[0].as_bytes(), pair[1].as_bytes()), "{pair:?}");
        }
    }
}
