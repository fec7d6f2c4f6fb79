//! The file as it is written: a mirror of `proxy.yaml` in which everything may be missing, and the only place that knows YAML.
//!
//! Serde tells the shape's errors (unknown keys, wrong types); [`parse`] turns its texts into ours. What the shape cannot tell is checked
//! in `read`, which asks [`line_of`] where a key stands: a second pass over the text that follows the key's path and stops there.

use std::fmt::{self, Formatter};

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, Error as _, IgnoredAny, IntoDeserializer, MapAccess, SeqAccess, Visitor};

use super::error::ConfigError;
use super::{Isolation, LogFormat, LogLevel, MultiKey, Spread, WaitFsync};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfig {
    pub(super) listen: Option<String>,
    pub(super) password: Option<String>,
    pub(super) password_file: Option<String>,
    pub(super) workers: Option<u64>,
    pub(super) spread: Option<Spread>,
    pub(super) isolation: Option<Isolation>,
    pub(super) topology: Option<RawTopology>,
    pub(super) affinity: Option<Vec<String>>,
    pub(super) upstream: Option<RawUpstream>,
    pub(super) transactions: Option<RawTransactions>,
    pub(super) sweep: Option<RawSweep>,
    pub(super) limits: Option<RawLimits>,
    pub(super) log: Option<RawLog>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTopology {
    pub(super) cluster: Option<RawCluster>,
    #[serde(rename = "static")]
    pub(super) fixed: Option<RawStatic>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCluster {
    pub(super) seeds: Option<Vec<String>>,
    pub(super) refresh_interval_ms: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawStatic {
    pub(super) databases: Option<u64>,
    pub(super) shards: Option<Vec<RawShard>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawShard {
    pub(super) name: Option<String>,
    pub(super) address: Option<String>,
    pub(super) slots: Option<Vec<RawSlots>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "neither a slot number nor a range such as \"0-5460\"")]
pub(super) enum RawSlots {
    One(u64),
    Range(String),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawUpstream {
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
    pub(super) password_file: Option<String>,
    pub(super) connect_timeout_ms: Option<u64>,
    pub(super) reply_timeout_ms: Option<u64>,
    pub(super) leased_connections_max: Option<u64>,
    pub(super) pending_bytes_max: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTransactions {
    pub(super) lease_ms: Option<u64>,
    pub(super) lock_wait_timeout_ms: Option<u64>,
    pub(super) patience_ms: Option<u64>,
    pub(super) queue_commands_max: Option<u64>,
    pub(super) queue_bytes_max: Option<u64>,
    pub(super) watch_keys_max: Option<u64>,
    pub(super) watch_turn_ms: Option<u64>,
    pub(super) allow_eviction: Option<bool>,
    pub(super) kept_reply_bytes_max: Option<u64>,
    pub(super) compute_bytes_max: Option<u64>,
    pub(super) undeclared_keys_max: Option<u64>,
    pub(super) multi_key: Option<RawMultiKey>,
    pub(super) wait_replicas: Option<u64>,
    pub(super) wait_fsync: Option<WaitFsync>,
    pub(super) wait_timeout_ms: Option<u64>,
}

/// One word for all classes of commands, or one for each.
#[derive(Debug)]
pub(super) enum RawMultiKey {
    All(MultiKey),
    Each(RawMultiKeys),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawMultiKeys {
    pub(super) reads: Option<MultiKey>,
    pub(super) writes: Option<MultiKey>,
    pub(super) deletes: Option<MultiKey>,
    pub(super) computed: Option<MultiKey>,
    pub(super) scripts: Option<MultiKey>,
}

/// By hand, so that an error is about the word or the key that is wrong.
impl<'de> Deserialize<'de> for RawMultiKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = RawMultiKey;

            fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
                f.write_str("`atomic`, `split` or `reject`, or one of these for each of reads, writes, deletes, computed, scripts")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<RawMultiKey, E> {
                MultiKey::deserialize(word.into_deserializer()).map(RawMultiKey::All)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawMultiKey, A::Error> {
                RawMultiKeys::deserialize(MapAccessDeserializer::new(map)).map(RawMultiKey::Each)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSweep {
    pub(super) interval_ms: Option<u64>,
    pub(super) prepared_age_ms: Option<u64>,
    pub(super) committed_age_ms: Option<u64>,
    pub(super) aborted_age_ms: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLimits {
    pub(super) clients_max: Option<u64>,
    pub(super) bulk_bytes_max: Option<u64>,
    pub(super) inline_bytes_max: Option<u64>,
    pub(super) client_query_bytes_max: Option<u64>,
    pub(super) client_output_bytes_max: Option<u64>,
    pub(super) client_pending_commands_max: Option<u64>,
    pub(super) clients_bytes_max: Option<u64>,
    pub(super) tracked_keys_max: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLog {
    pub(super) level: Option<LogLevel>,
    pub(super) format: Option<LogFormat>,
}

/// Reads the shape of `text`. An empty file is an empty configuration.
pub(super) fn parse(text: &str, file: &str) -> Result<RawConfig, ConfigError> {
    let config: Option<RawConfig> = serde_yaml::from_str(text).map_err(|error| shape_error(text, file, &error))?;
    Ok(config.unwrap_or_default())
}

/// The line, counted from one, on which the key at `path` stands: `topology.static.shards[1].name`. A key that is not in `text` is looked
/// for where it is missing.
pub(super) fn line_of(text: &str, path: &str) -> Option<usize> {
    let steps: Vec<&str> = path.split(['.', '[']).map(|step| step.trim_end_matches(']')).filter(|step| !step.is_empty()).collect();
    (1..=steps.len()).rev().find_map(|len| {
        let stop = Seek(&steps[..len]).deserialize(serde_yaml::Deserializer::from_str(text)).err()?;
        Some(stop.location()?.line())
    })
}

/// Serde's `path: text at line 7 column 3` as file, line, key, problem and remedy.
fn shape_error(document: &str, file: &str, error: &serde_yaml::Error) -> ConfigError {
    let line = error.location().map(|at| at.line());
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    let (path, text) = match text.split_once(": ") {
        Some((path, rest)) if !path.contains(' ') => (path, rest),
        _ => ("", text),
    };
    let quoted: Vec<&str> = text.split('`').skip(1).step_by(2).collect();
    let fail = |key: &str, problem: String, remedy: String| ConfigError::new(file, line, key, problem, remedy);
    let child = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match quoted.split_first() {
        Some((key, known)) if text.starts_with("unknown field") => fail(&child(key), "unknown key".into(), closest(key, known)),
        Some((word, known)) if text.starts_with("unknown variant") => {
            fail(path, format!("`{word}` is not one of {}", known.join(", ")), closest(word, known))
        }
        Some((key, _)) if text.starts_with("duplicate field") => {
            let key = child(key);
            ConfigError::new(file, line_of(document, &key), &key, "given twice".into(), "keep one of the two".into())
        }
        // The text would repeat what was written, which may be a password.
        _ if path.ends_with("password") => fail(path, "not a text".into(), "put the password in quotes".into()),
        _ => fail(path, text.to_owned(), "see the documented sample `proxy.yaml`".into()),
    }
}

/// What to do about `word`, which is none of `known`.
fn closest(word: &str, known: &[&str]) -> String {
    let distance = |candidate: &str| strsim::damerau_levenshtein(word, candidate);
    match known.iter().map(|candidate| (distance(candidate), candidate)).min() {
        Some((distance, candidate)) if distance <= candidate.len() / 2 => format!("did you mean `{candidate}`?"),
        _ => format!("known here: {}", known.join(", ")),
    }
}

/// Follows a path through a document and fails where it ends; the failure's location is what was sought.
struct Seek<'a>(&'a [&'a str]);

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = ();

    /// Whatever is here is not expected, so that the visit ends here.
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("another key")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((step, rest)) = self.0.split_first() else { return Err(A::Error::custom("found")) };
        while let Some(here) = map.next_key_seed(SeekKey { key: step, last: rest.is_empty() })? {
            if here {
                map.next_value_seed(Seek(rest))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Some((step, rest)) = self.0.split_first() else { return Err(A::Error::custom("found")) };
        let Ok(before) = step.parse::<usize>() else { return Ok(()) };
        for _ in 0..before {
            seq.next_element::<IgnoredAny>()?;
        }
        seq.next_element_seed(Seek(rest))?;
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<(), E> {
        if self.0.is_empty() { Err(E::custom("found")) } else { Ok(()) }
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.visit_str("")
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<(), E> {
        self.visit_str("")
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<(), E> {
        self.visit_str("")
    }
}

/// Compares one key of a mapping; fails at the last one sought.
struct SeekKey<'a> {
    key: &'a str,
    last: bool,
}

impl<'de> DeserializeSeed<'de> for SeekKey<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for SeekKey<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<bool, E> {
        match key == self.key {
            true if self.last => Err(E::custom("found")),
            here => Ok(here),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "a: 1\nb:\n  c:\n    - {x: 1, y: 2}\n    - x: 3\n      y: [4, 5]\n# comment\nd: {e: {f: 1}}\n";

    #[test]
    fn a_key_is_found_on_its_line_in_block_and_flow_style() {
        for (path, line) in [("a", 1), ("b", 2), ("b.c", 3), ("b.c[0].y", 4), ("b.c[1]", 5), ("b.c[1].y[1]", 6), ("d.e.f", 8)] {
            assert_eq!(line_of(TEXT, path), Some(line), "{path}");
        }
    }

    #[test]
    fn a_missing_key_is_looked_for_where_it_is_missing() {
        for (path, line) in [("b.z", Some(2)), ("b.c[7].x", Some(3)), ("b.c[1].z", Some(5)), ("a.b", Some(1)), ("z", None)] {
            assert_eq!(line_of(TEXT, path), line, "{path}");
        }
    }
}
