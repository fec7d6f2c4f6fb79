//! The clients that people use, unchanged, each with the same list of [checks](CHECKS): connect and shake hands, every type, MULTI and WATCH
//! over shards, pipelines, publish and subscribe, waiting for keys, scripts.
//!
//! Each has a program in `tests/clients` that gets the port of a weft and keys on three shards as its arguments, prints each check that
//! it has made, and ends with an error if anything is not as it should be; `redis-rs` is a module there, with a test for each check.
//! `make test` installs what they need. None is skipped: a client or a check that is missing is a failure.

mod redis_rs;

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use crate::support::{Process, Stage, in_tests, on_each, venv};

/// What each client is seen to do, in each version of the protocol that it speaks.
const CHECKS: [&str; 6] = ["handshake", "types", "transactions", "pubsub", "blocking", "scripts"];

/// The clients' versions of the protocol.
const RESP2: &[&str] = &["resp2"];
const BOTH: &[&str] = &["resp2", "resp3"];

#[test]
fn redis_py_finds_one_redis() {
    on_each(|stage| must_run(stage, BOTH, of(venv("python"), "clients/redis_py.py")));
}

#[test]
fn redis_py_with_asyncio_finds_one_redis() {
    on_each(|stage| must_run(stage, BOTH, of(venv("python"), "clients/redis_py_asyncio.py")));
}

#[test]
fn node_redis_finds_one_redis() {
    on_each(|stage| must_run(stage, BOTH, of(Command::new("node"), "clients/node/node_redis.js")));
}

#[test]
fn ioredis_finds_one_redis() {
    on_each(|stage| must_run(stage, RESP2, of(Command::new("node"), "clients/node/with_ioredis.js")));
}

#[test]
fn phpredis_finds_one_redis() {
    on_each(|stage| must_run(stage, RESP2, of(Command::new("php"), "clients/php_redis.php")));
}

#[test]
fn redis_rb_finds_one_redis() {
    on_each(|stage| must_run(stage, RESP2, of(Command::new("ruby"), "clients/ruby_redis.rb")));
}

#[test]
fn hiredis_finds_one_redis() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("hiredis");
    let mut compiler = Command::new("cc");
    compiler.args(["-Wall", "-Wextra", "-Werror", "-o"]).arg(&program).arg(in_tests("clients/hiredis.c")).arg("-lhiredis");
    must_succeed(compiler);
    on_each(|stage| must_run(stage, RESP2, Command::new(&program)));
}

/// A program in the folder of the tests, run by `interpreter`.
fn of(mut interpreter: Command, path: &str) -> Command {
    interpreter.arg(in_tests(path));
    interpreter
}

/// The program succeeds before weft, and has made each check in each of `protocols`; it is told keys on three shards.
#[track_caller]
fn must_run(stage: &Stage<'_>, protocols: &[&str], mut program: Command) {
    program.arg(stage.weft().address().port().to_string()).args(stage.keys());
    let said = must_succeed(program);
    // Some languages write `pub_sub`, others `pubSub`.
    let made: BTreeSet<String> = said.lines().map(|line| line.replace('_', "").to_lowercase()).collect();
    let all = protocols.iter().flat_map(|protocol| CHECKS.map(|check| format!("{check} {protocol}"))).collect();
    assert_eq!(made, all);
}

/// The program succeeds; gives what it has printed.
#[track_caller]
fn must_succeed(command: Command) -> String {
    let (folder, name) = (tempfile::tempdir().unwrap(), format!("{command:?}; `make test` installs what it needs"));
    let mut process = Process::start(&name, command, folder.path().join("log"));
    process.must_succeed(Duration::from_secs(60));
    process.log()
}
