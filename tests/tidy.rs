//! The rules of the house that a compiler does not know, as a test: who may import whom, what pure code keeps away from, how long a file
//! may be. A rule that is only written down is forgotten; this one answers with the file, the line and what to do.
//!
//! It reads lines, not syntax: good enough to catch what happens by accident, short enough to be read.

use std::fs;
use std::path::Path;

#[test]
fn the_source_is_tidy() {
    let mut flaws = Vec::new();
    for folder in ["src", "tests", "benches"] {
        visit(Path::new(env!("CARGO_MANIFEST_DIR")), folder, &mut |path, text| flaws.extend(check(path, text)));
    }
    assert!(flaws.is_empty(), "\n{}\n", flaws.join("\n"));
}

/// The modules of the library, lowest first, each with those it may import.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("slot", &[]),
    ("affinity", &["slot"]),
    ("node_addr", &[]),
    ("resp", &[]),
    ("metrics", &[]),
    ("config", &["slot", "affinity", "node_addr"]),
    ("telemetry", &["config"]),
    ("command", &["resp", "slot"]),
    ("topology", &["slot", "affinity", "node_addr", "resp", "config"]),
    ("route", &["command", "topology", "slot", "affinity", "resp"]),
    ("upstream", &["topology", "slot", "node_addr", "resp", "config", "metrics"]),
    ("txn", &["command", "route", "topology", "slot", "affinity", "resp", "upstream", "node_addr", "config", "metrics"]),
    ("session", &["txn", "command", "route", "topology", "slot", "affinity", "node_addr", "resp", "upstream", "config", "metrics"]),
    ("server", &["session", "txn", "upstream", "topology", "resp", "config", "metrics"]),
    ("dev", &["server", "telemetry", "topology", "node_addr", "slot", "config"]),
    ("cli", &["dev", "server", "telemetry", "topology", "config"]),
];

/// Files, and folders of files, that are plain functions over values.
const PURE: &[&str] = &[
    "src/slot.rs",
    "src/affinity.rs",
    "src/node_addr.rs",
    "src/resp.rs",
    "src/resp/",
    "src/command.rs",
    "src/command/",
    "src/topology/slot_map.rs",
    "src/topology/placement.rs",
    "src/topology/discovery.rs",
    "src/route.rs",
    "src/route/",
    "src/txn/state.rs",
    "src/txn/state/",
    "tests/histories/checker.rs",
    "tests/histories/checker/",
    "src/txn/answer.rs",
    "src/txn/batch.rs",
    "src/txn/id.rs",
    "src/txn/lock.rs",
    "src/txn/part.rs",
    "src/txn/participant.rs",
    "src/txn/script.rs",
    "src/session/state.rs",
];

/// What pure files do without.
const IMPURE: &[&str] = &["tokio", "Instant", "SystemTime", "TcpStream", "std::fs", "std::thread", "std::env"];

/// Tables may be as long as what they list.
const MAY_BE_LONG: &[&str] = &["src/command/table.rs"];
const LINES_MAX: usize = 500;

/// Names that say nothing, so that everything ends up there.
const VAGUE: &[&str] = &["util", "utils", "common", "helper", "helpers", "misc", "mod"];

/// What is wrong with the file at `path` that holds `text`.
fn check(path: &str, text: &str) -> Vec<String> {
    let mut flaws = Vec::new();
    let mut flaw = |line: usize, problem: &str, remedy: &str| flaws.push(format!("{path}:{line}: {problem}; {remedy}"));

    let stem = path.rsplit('/').next().and_then(|name| name.strip_suffix(".rs")).unwrap_or_default();
    if VAGUE.contains(&stem) {
        flaw(1, "the name says nothing", "name the file after what it holds; the face of `foo/` is `foo.rs`");
    }
    if !text.starts_with("//!") {
        flaw(1, "no `//!` header", "begin with what this module guarantees, and why this way");
    }
    let length = text.lines().count();
    if length > LINES_MAX && !MAY_BE_LONG.contains(&path) {
        flaw(length, &format!("more than {LINES_MAX} lines"), "split it by subject into a folder beside it");
    }

    let pure = PURE.iter().any(|place| path == *place || place.ends_with('/') && path.starts_with(place)) && stem != "tests";
    let code = text.lines().zip(1..).take_while(|(line, _)| !line.starts_with("#[cfg(test)]"));
    for (line, number) in code.filter(|(line, _)| !line.trim_start().starts_with("//")) {
        for word in IMPURE.iter().filter(|word| pure && contains_word(line, word)) {
            flaw(number, &format!("`{word}` in a pure file"), "take the value as an argument, or move the code to where things happen");
        }
        if let Some(module) = module_of(path) {
            check_imports(module, line, |problem, remedy| flaw(number, problem, remedy));
        }
    }
    flaws
}

/// Reports what a line of `module` imports against the table, or so that this test cannot see it.
fn check_imports(module: &str, line: &str, mut flaw: impl FnMut(&str, &str)) {
    if line.contains("crate::{") {
        flaw("a grouped import of several modules", "write one `use crate::…` for each module");
    }
    if line.contains("super::super::") {
        flaw("a path that climbs", "write it from the top, as `crate::…`");
    }
    let row = |wanted: &str| MAY_IMPORT.iter().find(|(name, _)| *name == wanted);
    for imported in line.split("crate::").skip(1).map(identifier).filter(|name| *name != module && row(name).is_some()) {
        match row(module) {
            Some((_, allowed)) if allowed.contains(&imported) => {}
            Some(_) => flaw(
                &format!("`{module}` may not import `{imported}`"),
                "hand the value down as an argument, or move the shared type to a lower module",
            ),
            None => flaw(
                &format!("`{module}` is not in the import table"),
                "add it to MAY_IMPORT in tests/tidy.rs, at its layer, with what it may import",
            ),
        }
    }
}

/// The module of the library that a file belongs to; the crate's roots, tests and benches are outside the layers.
fn module_of(path: &str) -> Option<&str> {
    let name = identifier(path.strip_prefix("src/")?);
    (!["lib", "main"].contains(&name)).then_some(name)
}

fn identifier(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

fn contains_word(line: &str, word: &str) -> bool {
    let part_of_name = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    line.match_indices(word)
        .any(|(at, _)| !part_of_name(line[..at].chars().next_back()) && !part_of_name(line[at + word.len()..].chars().next()))
}

/// Hands every Rust file under `top/folder` to `file`, by its path from `top`.
fn visit(top: &Path, folder: &str, file: &mut impl FnMut(&str, &str)) {
    let Ok(entries) = fs::read_dir(top.join(folder)) else { return };
    for entry in entries.map(Result::unwrap) {
        let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() && !path.contains("/.") {
            visit(top, &path, file);
        } else if path.ends_with(".rs") {
            file(&path, &fs::read_to_string(entry.path()).unwrap());
        }
    }
}

#[test]
fn every_rule_can_be_broken() {
    let long = format!("//! Long.\n{}", "\n".repeat(LINES_MAX));
    let broken = [
        ("src/slot.rs", "use std::fmt;\n", "no `//!` header"),
        ("src/txn/utils.rs", "//! Things.\n", "the name says nothing"),
        ("tests/long.rs", &long, "more than 500 lines"),
        ("src/route/plan.rs", "//! Plans.\nuse std::time::Instant;\n", "`Instant` in a pure file"),
        ("src/route/plan.rs", "//! Plans.\nuse crate::upstream::Pool;\n", "`route` may not import `upstream`"),
        ("src/extra.rs", "//! New.\nuse crate::resp::Request;\n", "`extra` is not in the import table"),
        ("src/txn/state.rs", "//! States.\nuse crate::{resp, slot};\n", "a grouped import"),
        ("src/txn/lock.rs", "//! Locks.\nuse super::super::session;\n", "a path that climbs"),
    ];
    for (path, text, problem) in broken {
        let flaws = check(path, text);
        assert!(flaws.len() == 1 && flaws[0].contains(problem), "{path}: {flaws:?}");
    }
    let fine = "//! Fine.\n// Instant\nuse crate::slot::Slot;\nstruct InstantSlot;\n#[cfg(test)]\nuse tokio::time::Instant;\n";
    assert!(check("src/route/plan.rs", fine).is_empty());
}
