//! What was counted, as a file of the repository, and what is held against it.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::cost::Subject;
use crate::cost::callgrind::Callgrind;
use crate::table::{Row, aligned};

/// By how much a count may exceed the recorded one.
const TOLERANCE: f64 = 0.10;

/// Counts, and what they were taken with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    tools: Tools,
    subjects: Vec<Entry>,
}

/// On what a count depends besides the program's text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tools {
    rustc: String,
    valgrind: String,
    architecture: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    name: String,
    title: String,
    instructions: u64,
}

/// What came of holding counts against the recorded ones.
pub(super) struct Verdict {
    pub(super) holds: bool,
    pub(super) text: String,
}

impl Tools {
    pub(super) fn look(callgrind: &Callgrind) -> Self {
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let rustc = Command::new(rustc).arg("--version").output();
        Self {
            rustc: rustc.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default(),
            valgrind: callgrind.version().unwrap_or_default(),
            architecture: std::env::consts::ARCH.to_owned(),
        }
    }

    fn all(&self) -> [(&'static str, &str); 3] {
        [("rustc", &self.rustc), ("valgrind", &self.valgrind), ("architecture", &self.architecture)]
    }
}

impl Record {
    pub(super) fn new(tools: Tools, costs: &[(&Subject, u64)]) -> Self {
        let entry = |(subject, instructions): &(&Subject, u64)| Entry {
            name: subject.name.to_owned(),
            title: subject.title.to_owned(),
            instructions: *instructions,
        };
        Self { tools, subjects: costs.iter().map(entry).collect() }
    }

    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read(path).with_context(|| format!("{} is missing: make cost ARGS=--record", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is no record", path.display()))
    }

    pub(super) fn write(&self, path: &Path) -> anyhow::Result<()> {
        Ok(fs::write(path, serde_json::to_string_pretty(self)? + "\n")?)
    }

    /// What was counted, beside what is recorded if that is given.
    pub(super) fn table(&self, recorded: Option<&Self>) -> String {
        let headings: &[&str] = if recorded.is_some() { &["instructions", "recorded", "ratio"] } else { &["instructions"] };
        let mut rows = vec![Row { label: "of one operation".to_owned(), contents: headings.iter().map(ToString::to_string).collect() }];
        for entry in &self.subjects {
            let mut contents = vec![entry.instructions.to_string()];
            if let Some(recorded) = recorded {
                let known = recorded.of(&entry.name);
                contents.push(known.map_or("-".to_owned(), |known| known.to_string()));
                contents.push(known.map_or("-".to_owned(), |known| format!("{:.3}", entry.instructions as f64 / known as f64)));
            }
            rows.push(Row { label: format!("{:<10}{}", entry.name, entry.title), contents });
        }
        aligned(&rows)
    }

    /// Whether these counts exceed `recorded` ones nowhere by more than is tolerated.
    pub(super) fn against(&self, recorded: &Self) -> Verdict {
        let mut text = String::new();
        // Writing to a String cannot fail.
        for ((tool, now), (_, then)) in self.tools.all().into_iter().zip(recorded.tools.all()).filter(|((_, now), (_, then))| now != then) {
            writeln!(text, "NOTE: recorded with another {tool}: {then}; now {now}. Some percent may be its doing.").ok();
        }
        let mut holds = true;
        for entry in &self.subjects {
            let (name, now) = (&entry.name, entry.instructions);
            match recorded.of(name) {
                None => {
                    writeln!(text, "FAILED: {name} is not recorded: make cost ARGS=--record").ok();
                    holds = false;
                }
                Some(then) if now as f64 > then as f64 * (1.0 + TOLERANCE) => {
                    writeln!(text, "FAILED: {name} takes {now} instructions, over {:.0} % more than {then}", TOLERANCE * 100.0).ok();
                    holds = false;
                }
                Some(then) if (now as f64) < then as f64 * (1.0 - TOLERANCE) => {
                    writeln!(text, "{name} takes {now} instructions, well under {then}: make cost ARGS=--record keeps that").ok();
                }
                Some(_) => {}
            }
        }
        Verdict { holds, text }
    }

    fn of(&self, name: &str) -> Option<u64> {
        self.subjects.iter().find(|entry| entry.name == name).map(|entry| entry.instructions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::SUBJECTS;

    fn record(rustc: &str, instructions: u64) -> Record {
        let tools = Tools { rustc: rustc.to_owned(), valgrind: "valgrind-3".to_owned(), architecture: "x86_64".to_owned() };
        Record::new(tools, &[(&SUBJECTS[0], instructions)])
    }

    fn held(counted: &Record) -> (bool, String) {
        let verdict = counted.against(&record("rustc 1", 1000));
        (verdict.holds, verdict.text)
    }

    #[test]
    fn a_tenth_more_fails_and_less_than_that_does_not() {
        assert_eq!(held(&record("rustc 1", 1099)), (true, String::new()));
        let (holds, text) = held(&record("rustc 1", 1101));
        assert!(!holds && text.contains("1101 instructions"), "{text}");
    }

    #[test]
    fn a_tenth_less_asks_to_be_recorded() {
        let (holds, text) = held(&record("rustc 1", 800));
        assert!(holds && text.contains("--record"), "{text}");
    }

    #[test]
    fn another_compiler_is_named_and_excuses_nothing() {
        let (holds, text) = held(&record("rustc 2", 1101));
        assert!(!holds && text.starts_with("NOTE: recorded with another rustc: rustc 1; now rustc 2."), "{text}");
    }

    #[test]
    fn what_is_not_recorded_fails() {
        let mut counted = record("rustc 1", 1000);
        counted.subjects[0].name = "new".to_owned();
        let (holds, text) = held(&counted);
        assert!(!holds && text.contains("new is not recorded"), "{text}");
    }

    #[test]
    fn a_record_is_read_as_it_was_written() -> anyhow::Result<()> {
        let (directory, record) = (tempfile::tempdir()?, record("rustc 1", 1000));
        let path = directory.path().join("cost.json");
        record.write(&path)?;
        assert_eq!(Record::read(&path)?, record);
        Ok(())
    }
}
