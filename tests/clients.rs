//! The clients that people use, unchanged, each with the same list of checks: connect and shake hands, every type, MULTI and WATCH over
//! shards, pipelines, publish and subscribe, waiting for keys, scripts.
//!
//! Each has a program in `tests/clients` that gets the port of a weft and keys on three shards as its arguments, and ends with an error
//! if anything is not as it should be; `redis-rs` is a module there. `make test` installs what they need. None is skipped: a client
//! that is missing is a failure.

mod redis_rs;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Stage, on_each};

#[test]
fn redis_py_finds_one_redis() {
    on_each(|stage| must_run(stage, [&in_tests(".venv/bin/python"), &in_tests("clients/redis_py.py")]));
}

#[test]
fn redis_py_with_asyncio_finds_one_redis() {
    on_each(|stage| must_run(stage, [&in_tests(".venv/bin/python"), &in_tests("clients/redis_py_asyncio.py")]));
}

#[test]
fn node_redis_finds_one_redis() {
    on_each(|stage| must_run(stage, ["node".as_ref(), in_tests("clients/node/node_redis.js").as_os_str()]));
}

#[test]
fn ioredis_finds_one_redis() {
    on_each(|stage| must_run(stage, ["node".as_ref(), in_tests("clients/node/with_ioredis.js").as_os_str()]));
}

#[test]
fn phpredis_finds_one_redis() {
    on_each(|stage| must_run(stage, ["php".as_ref(), in_tests("clients/php_redis.php").as_os_str()]));
}

#[test]
fn redis_rb_finds_one_redis() {
    on_each(|stage| must_run(stage, ["ruby".as_ref(), in_tests("clients/ruby_redis.rb").as_os_str()]));
}

#[test]
fn hiredis_finds_one_redis() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("hiredis");
    let mut compiler = Command::new("cc");
    compiler.arg("-o").arg(&program).arg(in_tests("clients/hiredis.c")).arg("-lhiredis");
    must_succeed("cc", compiler);
    on_each(|stage| must_run(stage, [&program]));
}

fn in_tests(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(path)
}

/// The program of these words succeeds before weft; it is told keys on three shards.
#[track_caller]
fn must_run(stage: &Stage<'_>, words: impl IntoIterator<Item = impl AsRef<OsStr>>) {
    let mut command = Command::new("timeout");
    command.arg("60").args(words).arg(stage.weft().address().port().to_string()).args(stage.keys());
    must_succeed(&format!("{command:?}"), command);
}

#[track_caller]
fn must_succeed(name: &str, mut command: Command) {
    // Python leaves no compiled files among the sources.
    let output = command.env("PYTHONDONTWRITEBYTECODE", "1").output().unwrap_or_else(|error| panic!("{name}: {error}; {INSTALL}"));
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{name}: {}; {INSTALL}\n{}", output.status, said.join("\n"));
}

const INSTALL: &str = "what it needs comes with `make test`";
