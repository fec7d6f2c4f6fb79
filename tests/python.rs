//! Clients that people use, unchanged: redis-py, through its own tests' kind of programs in `tests/python`, and `redis-cli`.
//!
//! Each program runs in the interpreter that `tests/setup.sh` makes, gets the port of a weft as its argument, and ends with an error if
//! anything is not as it should be.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::{Stage, on_each};

/// Where `tests/setup.sh` installs Python's packages.
fn interpreter() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/.venv/bin/python")
}

/// The program `name` of `tests/python` succeeds before every kind of weft; it is told keys on three shards.
#[track_caller]
fn must_run(name: &str) {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python").join(name);
    on_each(|stage| {
        let port = stage.weft().address().port().to_string();
        let output = Command::new("timeout").arg("60").arg(interpreter()).arg(&program).arg(port).args(stage.keys()).output().unwrap();
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        assert!(output.status.success(), "{name}: {} (the packages come with `make test`)\n{}", output.status, said.join("\n"));
    });
}

#[test]
fn redis_py_pipelines_are_transactions_over_shards() {
    must_run("pipelines.py");
}

#[test]
fn redis_py_watch_loops_of_two_threads_lose_no_update() {
    must_run("watch_loops.py");
}

#[test]
fn redis_py_asyncio_shares_a_pool_of_connections() {
    must_run("with_asyncio.py");
}

#[test]
fn redis_py_locks_exclude_each_other() {
    must_run("locks.py");
}

#[test]
fn redis_cli_reads_commands_from_a_pipe() {
    on_each(|stage| {
        let [x, y, z] = stage.keys();
        let script = format!("MSET {x} 1 {y} 2\nMULTI\nINCR {x}\nINCR {y}\nLPUSH {x} a\nEXEC\nMGET {x} {y} {z}\nNOSUCH\nPING\n");
        let said = redis_cli(stage, &[], script.as_bytes());
        let wrong = "WRONGTYPE Operation against a key holding the wrong kind of value";
        let expected = format!(
            "OK\nOK\nQUEUED\nQUEUED\nQUEUED\n2\n3\n{wrong}\n\n2\n3\n\nERR unknown command 'NOSUCH', with args beginning with: \n\nPONG\n"
        );
        assert_eq!(said, expected);
    });
}

#[test]
fn redis_cli_loads_a_mass_of_commands_with_pipe() {
    on_each(|stage| {
        let [x, y, z] = stage.keys();
        let commands: String = (0..3_000).map(|n| format!("INCR {}\r\n", [&x, &y, &z][n % 3])).collect();
        let said = redis_cli(stage, &["--pipe"], commands.as_bytes());
        assert!(said.contains("errors: 0, replies: 3000"), "{said}");
        stage.client().must_bulk(&format!("GET {z}"), "1000");
    });
}

#[track_caller]
fn redis_cli(stage: &Stage<'_>, options: &[&str], input: &[u8]) -> String {
    let port = stage.weft().address().port().to_string();
    let mut command = Command::new("timeout");
    command.args(["60", "redis-cli", "-p", &port]).args(options).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}: {said}{}", output.status, String::from_utf8_lossy(&output.stderr));
    said
}
