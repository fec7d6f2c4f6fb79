//! Which keys belong together: the groups that a shard is chosen for as a whole.
//!
//! Scripts build names of keys by themselves, out of those that they were given: `bull:mail:wait` out of `bull:mail:`. On one server that
//! works. On several it works if all such keys live together; then whoever has the script's keys has the others too. A hash tag in the
//! keys says so, and in a cluster nothing else does, where slots are the servers' matter. Before static shards, where an application
//! knows nothing of hash tags, a rule in the configuration says it instead:
//!
//! | rule | key | group |
//! |---|---|---|
//! | `bull:{queue}:*` | `bull:mail:wait`, `bull:mail:` | `bull:mail` |
//! | `bull:{queue}:*` | `bull:mail`, `bull::wait` | none |
//! | `dramatiq:*` | `dramatiq:default.msgs` | `dramatiq` |
//! | no rule fits | `{user:1}:name` | `{user:1}` |
//! | no rule fits | `name` | none |
//!
//! A rule is literal text with at most one capture, the braces, and at most one asterisk, at its end. The capture takes one byte or more,
//! up to the first that the text behind it begins with. The group is the key up to the end of the capture; of a rule without one, the
//! rule's text up to the asterisk, without the colons before that. The first rule that fits counts; only if none does, a hash tag.
//!
//! The group is a piece of the key, and its hash slot is the slot of the whole group. Nothing is kept anywhere: weft processes before the
//! same shards must have the same rules in the same order, and to change one means to move the data.
//!
//! A script has to tell groups too, while it runs at its shard: [`Affinity::lua_patterns`] are the same rules for Lua's matcher.

use std::fmt::{self, Display, Formatter, Write};
use std::str::FromStr;
use std::sync::Arc;

use crate::slot::Slot;

/// What says which group a key belongs to. By default only hash tags do, as in a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Affinity {
    rules: Arc<[Rule]>,
}

/// One rule; see the [module](self).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The literal text before the capture, or before the asterisk.
    before: String,
    /// The literal text behind the capture; `None` if there is none.
    behind: Option<String>,
    /// Anything may follow.
    open: bool,
    /// As it was written.
    text: String,
}

impl Affinity {
    /// Groups by `rules` and hash tags.
    pub fn new(rules: Vec<Rule>) -> Self {
        Self { rules: rules.into() }
    }

    /// The group of `key`, a piece of it.
    #[inline]
    pub fn group<'a>(&self, key: &'a [u8]) -> Option<&'a [u8]> {
        self.by_rule(key).or_else(|| tagged(key))
    }

    /// The slot of `key`: that of its group, if it has one. A hash tag need not be looked for, since the slot is that of the tag anyway.
    #[inline]
    pub fn slot(&self, key: &[u8]) -> Slot {
        Slot::of(self.by_rule(key).unwrap_or(key))
    }

    #[inline]
    fn by_rule<'a>(&self, key: &'a [u8]) -> Option<&'a [u8]> {
        self.rules.iter().find_map(|rule| rule.group(key))
    }

    /// `keys`, and the group of each that has one: the names of what is locked for them.
    pub fn with_groups<'a>(&self, keys: impl Iterator<Item = &'a [u8]> + Clone) -> impl Iterator<Item = &'a [u8]> + Clone {
        keys.flat_map(move |key| [Some(key), self.group(key)].into_iter().flatten())
    }

    /// Whether there is any rule.
    pub fn has_rules(&self) -> bool {
        !self.rules.is_empty()
    }

    /// The rules as patterns for Lua's `string.match`, each a string literal, with the group as their capture.
    pub fn lua_patterns(&self) -> impl Iterator<Item = String> {
        self.rules.iter().map(Rule::lua_pattern)
    }
}

impl Rule {
    /// The rules for an application that is known by `name`.
    pub fn preset(name: &str) -> Option<Vec<Self>> {
        let (_, rules) = PRESETS.iter().find(|(known, _)| *known == name)?;
        rules.iter().map(|rule| rule.parse().ok()).collect()
    }

    fn group<'a>(&self, key: &'a [u8]) -> Option<&'a [u8]> {
        let rest = key.strip_prefix(self.before.as_bytes())?;
        let (end, rest) = match self.behind.as_deref().map(str::as_bytes) {
            None => (self.name().len(), rest),
            Some(behind) => {
                let len = behind.first().map_or(Some(rest.len()), |stop| memchr::memchr(*stop, rest)).filter(|len| *len > 0)?;
                (self.before.len() + len, rest[len..].strip_prefix(behind)?)
            }
        };
        (self.open || rest.is_empty()).then_some(&key[..end])
    }

    /// The group of a rule without capture.
    fn name(&self) -> &str {
        if self.open { self.before.trim_end_matches(':') } else { &self.before }
    }

    fn lua_pattern(&self) -> String {
        let pattern = match &self.behind {
            None => format!("^({}){}", escaped(self.name()), escaped(&self.before[self.name().len()..])),
            Some(behind) => {
                let capture = behind.chars().next().map_or(".+".to_owned(), |stop| format!("[^{}]+", escaped(&stop.to_string())));
                format!("^({}{capture}){}", escaped(&self.before), escaped(behind))
            }
        };
        let end = if self.open { "" } else { "$" };
        let literal = (pattern + end).bytes().fold(String::new(), |mut literal, byte| {
            // A string literal of bytes that mean something to nobody.
            let _ = write!(literal, "\\{byte:03}");
            literal
        });
        format!("'{literal}'")
    }
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(RuleError("a rule has printable ASCII characters and no blanks"));
        }
        let (body, open) = text.strip_suffix('*').map_or((text, false), |body| (body, true));
        if body.contains('*') {
            return Err(RuleError("an asterisk stands only at the end"));
        }
        let rule = |before: &str, behind: Option<&str>| Self {
            before: before.to_owned(),
            behind: behind.map(str::to_owned),
            open,
            text: text.to_owned(),
        };
        let Some((before, rest)) = body.split_once('{') else {
            let rule = rule(body, None);
            return if rule.name().is_empty() || body.contains('}') { Err(RuleError("a rule names a group")) } else { Ok(rule) };
        };
        let named = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
        match rest.split_once('}').filter(|(name, _)| named(name) && !before.contains('}')) {
            Some((_, "")) if open => Err(RuleError("where a capture ends must be told by text between it and the asterisk")),
            Some((_, behind)) if !behind.contains(['{', '}']) => Ok(rule(before, Some(behind))),
            _ => Err(RuleError("a rule has one capture at most, written {name}")),
        }
    }
}

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What is wrong with the text of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleError(&'static str);

impl Display for RuleError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Applications whose scripts build names of keys, with the rules that hold those together. What they call their keys by can be changed in
/// some of them; then it takes rules of one's own.
pub const PRESETS: &[(&str, &[&str])] =
    &[("bullmq", &["bull:{queue}:*"]), ("dramatiq", &["dramatiq", "dramatiq:*"]), ("channels_redis", &["asgi*"])];

/// The hash tag of `key` with its braces.
fn tagged(key: &[u8]) -> Option<&[u8]> {
    let open = memchr::memchr(b'{', key)?;
    let len = memchr::memchr(b'}', &key[open + 1..])?;
    (len > 0).then(|| &key[open..=open + 1 + len])
}

/// `text` as a Lua pattern for itself. No byte of it is outside of ASCII.
fn escaped(text: &str) -> String {
    text.chars().flat_map(|c| (!c.is_ascii_alphanumeric()).then_some('%').into_iter().chain([c])).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn affinity(rules: &[&str]) -> Affinity {
        Affinity::new(rules.iter().map(|rule| rule.parse().unwrap()).collect())
    }

    fn group(affinity: &Affinity, key: &'static str) -> Option<&'static str> {
        affinity.group(key.as_bytes()).map(|group| std::str::from_utf8(group).unwrap())
    }

    #[test]
    fn a_rule_says_which_keys_belong_together() {
        let affinity = affinity(&["bull:{queue}:*", "dramatiq", "dramatiq:*", "cart.{user}", "{tenant}::end", "asgi*"]);
        for (key, expected) in [
            ("bull:mail:wait", Some("bull:mail")),
            ("bull:mail:", Some("bull:mail")),
            ("bull:mail", None),
            ("bull::wait", None),
            ("bull:{a}:wait", Some("bull:{a}")),
            ("dramatiq", Some("dramatiq")),
            ("dramatiq:default.msgs", Some("dramatiq")),
            ("dramatiq-results:x", None),
            ("cart.7", Some("cart.7")),
            ("cart.", None),
            ("acme::end", Some("acme")),
            ("acme::end:more", None),
            ("acme:x::end", None),
            ("asgispecific.x!", Some("asgi")),
            ("{user:1}:name", Some("{user:1}")),
            ("a{b}{c}", Some("{b}")),
            ("a{}b", None),
            ("a{b", None),
            ("", None),
        ] {
            assert_eq!(group(&affinity, key), expected, "{key}");
        }
    }

    #[test]
    fn keys_of_a_group_share_its_slot() {
        let ruled = affinity(&["bull:{queue}:*"]);
        assert_eq!(ruled.slot(b"bull:mail:wait"), Slot::of(b"bull:mail"));
        assert_eq!(ruled.slot(b"bull:{mail}:wait"), Slot::of(b"mail"));
        for affinity in [ruled, affinity(&[]), Affinity::default()] {
            for key in [&b"{user:1}:name"[..], b"name", b"", b"}{", b"a{}b"] {
                assert_eq!(affinity.slot(key), Slot::of(key));
            }
        }
    }

    #[test]
    fn without_rules_a_group_is_a_hash_tag_and_its_slot_that_of_the_key() {
        for (key, expected) in [("{a}b", Some("{a}")), ("x{a}{b}", Some("{a}")), ("{}{a}", None), ("{a", None), ("{{a}}", Some("{{a}"))] {
            assert_eq!(group(&Affinity::default(), key), expected, "{key}");
            assert_eq!(Affinity::default().slot(key.as_bytes()), Slot::of(key.as_bytes()), "{key}");
        }
    }

    #[test]
    fn the_lua_patterns_are_the_rules() {
        let pattern = |rule: &str| {
            let literal = affinity(&[rule]).lua_patterns().next().unwrap();
            let bytes = literal.trim_matches('\'').split('\\').skip(1).map(|number| number.parse::<u8>().unwrap());
            String::from_utf8(bytes.collect()).unwrap()
        };
        assert_eq!(pattern("bull:{queue}:*"), "^(bull%:[^%:]+)%:");
        assert_eq!(pattern("cart.{user}"), "^(cart%..+)$");
        assert_eq!(pattern("dramatiq:*"), "^(dramatiq)%:");
        assert_eq!(pattern("dramatiq"), "^(dramatiq)$");
    }

    #[test]
    fn what_names_no_group_is_no_rule() {
        for text in ["", "*", ":*", "a*b", "a*b*", "{}", "{a}{b}", "{a}*", "a{b", "a}b", "}{a}", "a{b c}:*", "ä:*", "{a}:{b}:*", "a b*"] {
            assert!(text.parse::<Rule>().is_err(), "{text}");
        }
        for (name, rules) in PRESETS {
            assert_eq!(Rule::preset(name).map(|rules| rules.len()), Some(rules.len()), "{name}");
        }
        assert_eq!(Rule::preset("sidekiq"), None);
    }
}
