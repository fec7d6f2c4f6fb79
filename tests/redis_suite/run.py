#!/usr/bin/env python3
"""Runs the test suite of Redis 7.0.15 through weft and compares what passes with what passes against one plain server.

    run.py --weft PROGRAM --suite FOLDER [--static] [--cluster] [--only UNIT]... [--write]

FOLDER is what `fetch.sh` filled; logs go there too, one for each target and unit. A *target* is what the suite talks to: `direct`, a
plain redis-server; `static`, weft before three single servers; `cluster`, weft before a Redis Cluster of three nodes. The direct run
tells which tests there are, so that those lost when a unit stops early are counted as failed; it is done once and kept.

`known.tsv` lists the failures there are, each with its reason. Any other is new and makes this exit with 1; so nothing that has once
passed fails unnoticed. One that is listed and passes is told, to be taken out; `--write` does that, and adds the new ones with `?` as
their reason.

Much of the suite sends commands on several connections without waiting between them, and relies on a server that takes them in the
order in which they were sent. That is a server with one thread, so weft has one worker here; with more, two clients that race are free to
come in either order.

Each unit has weft and servers of its own: what a unit leaves behind harms no other, and a failure shows again with `--only`.
"""

import argparse
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter, namedtuple
from pathlib import Path

UNITS = """protocol keyspace scan type/string type/incr type/list type/list-2 type/set type/zset type/hash type/stream
    type/stream-cgroups sort expire other multi quit pubsub scripting functions bitops bitfield geo hyperloglog dump info-command
    querybuf violations introspection introspection-2 tracking""".split()
TARGETS = ("direct", "static", "cluster")
TAGS = "-needs:debug -needs:repl -needs:reset -needs:config-maxmemory -slow -large-memory"
KNOWN = Path(__file__).parent / "known.tsv"
HEADER = "target\tunit\thow\ttest\treason\n"

# A single test may take half a minute, on a busy machine more.
HUNG_AFTER_S = 240
START_S = 60

# A failure that is known. `target` may be `both`. `how` is `fails`; `flaky`, which may pass too; or `hangs`, which is not run.
Known = namedtuple("Known", "target unit how test reason")


def main():
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    known = read_known()
    targets = [target for target in TARGETS[1:] if target in options.targets]
    units = [unit.removeprefix("unit/") for unit in options.only] or UNITS
    table, told, new = [], [], []
    for unit in units:
        expected = direct(options, unit)
        row = [sum(expected.values())]
        for target in targets:
            listed = [failure for failure in known if failure.unit == unit and failure.target in (target, "both")]
            hangs = [failure.test for failure in listed if failure.how == "hangs"]
            passed = run(options, target, unit, hangs)
            failed = {test for test, times in expected.items() if passed[test] < times}
            new += [Known(target, unit, "fails", test, "?") for test in sorted(failed - {failure.test for failure in listed})]
            told += [Known(target, *failure[1:]) for failure in listed if failure.test not in failed and failure.how != "flaky"]
            row.append(sum((passed & expected).values()))
        table.append(row)
        print(line(unit, row), flush=True)
    print(line("total", [sum(column) for column in zip(*table)]))
    if options.write:
        write_known(known, new, told)
    for failure in told:
        print(f"known to fail, and passes: {failure.target} {failure.unit}: {failure.test}")
    for failure in new:
        print(f"fails: {failure.target} {failure.unit}: {failure.test}")
    if new:
        sys.exit(f"{len(new)} tests fail that are not in {KNOWN.name}; the logs are in {options.suite}/log")


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--weft", type=Path, required=True)
    parser.add_argument("--suite", type=Path, required=True)
    for target in TARGETS[1:]:
        parser.add_argument(f"--{target}", dest="targets", action="append_const", const=target)
    parser.add_argument("--only", action="append", default=[], metavar="UNIT")
    parser.add_argument("--timeout", type=int, default=HUNG_AFTER_S, metavar="SECONDS", help="without progress the unit is given up")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    options.targets = options.targets or TARGETS[1:]
    options.weft = options.weft.resolve()
    options.suite = options.suite.resolve()
    return options


def line(unit, row):
    """A line of the table: what passes against a plain server, then for each target what passes and what does not."""
    return f"{unit:20} {row[0]:5}" + "".join(f"  {passed:5} passed {row[0] - passed:4} failed" for passed in row[1:])


def read_known():
    with KNOWN.open() as file:
        if file.readline() != HEADER:
            sys.exit(f"{KNOWN} does not begin with {HEADER!r}")
        return [Known(*row.rstrip("\n").split("\t")) for row in file]


def write_known(known, new, told):
    """Takes out of the table what passes, and adds what is new."""
    single = [Known(target, *failure[1:]) for failure in known for target in TARGETS[1:] if failure.target in (target, "both")]
    reasons = {failure[1:4]: failure.reason for failure in single}
    left = {failure[:4]: failure.reason for failure in single if failure not in told}
    for failure in new:
        left[failure[:4]] = reasons.get(failure[1:4], failure.reason)
    failures = set()
    for (target, *what), reason in left.items():
        both = all(left.get((other, *what)) == reason for other in TARGETS[1:])
        failures.add(Known("both" if both else target, *what, reason))
    order = {unit: place for place, unit in enumerate(UNITS)}
    with KNOWN.open("w") as file:
        file.write(HEADER)
        for failure in sorted(failures, key=lambda failure: (order.get(failure.unit, 0), failure.test, failure.target)):
            file.write("\t".join(failure) + "\n")


def direct(options, unit):
    """The tests of `unit` that pass against a plain server, from the log of the first time."""
    log = log_of(options, "direct", unit)
    return passed_in(log.read_text(errors="replace")) if log.exists() else run(options, "direct", unit, [])


def run(options, target, unit, skipped):
    """Runs `unit`, and answers how often each test has passed."""
    log = log_of(options, target, unit)
    log.parent.mkdir(parents=True, exist_ok=True)
    partial = log.with_suffix(".partial")
    with server(options, target) as port, partial.open("wb") as output:
        command = ["./runtest", "--host", "127.0.0.1", "--port", str(port), "--singledb", "--clients", "1", "--single", f"unit/{unit}"]
        command += ["--tags", TAGS, "--ignore-encoding", "--ignore-digest"]
        # The suite's own server takes the first free one of the 32 ports before this; so runs do not disturb each other.
        command += ["--baseport", str(free_port() + 32)]
        # An unexpected error fails the test it happens in, and ends no more than the block that it happens outside of a test.
        command += ["--durable", "--timeout", str(options.timeout)]
        for test in skipped:
            command += ["--skiptest", test]
        with process(command, cwd=options.suite / "redis-7.0.15", stdout=output, stderr=output) as suite:
            suite.wait()
    partial.rename(log)
    return passed_in(log.read_text(errors="replace"))


def log_of(options, target, unit):
    return options.suite / "log" / target / (unit.replace("/", "-") + ".log")


def passed_in(log):
    plain = re.sub(r"\x1b\[[0-9;]*m", "", log)
    return Counter(re.findall(r"^\[ok\]: (.*) \(\d+ ms\)$", plain, re.MULTILINE))


@contextlib.contextmanager
def server(options, target):
    """What the suite talks to, on a free port."""
    port = free_port()
    if target == "direct":
        command = ["redis-server", "--port", str(port), "--save", "", "--appendonly", "no", "--dir", str(options.suite)]
    else:
        command = [str(options.weft), "dev", "--shards", "3", "--mode", target, "--workers", "1", "--listen", f"127.0.0.1:{port}"]
    log = options.suite / f"{target}.server.log"
    with log.open("wb") as output, process(command, stdout=output, stderr=output) as serving:
        until(lambda: answers(port), serving, log)
        yield port


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@contextlib.contextmanager
def process(command, **streams):
    """A process, and at the end neither it nor any of its children."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **streams)
    try:
        yield child
    finally:
        for word, patience in ((signal.SIGTERM, 10), (signal.SIGKILL, None)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, word)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(patience)


def answers(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(7) == b"+PONG\r\n"
    except OSError:
        return False


def until(condition, serving, log):
    end = time.monotonic() + START_S
    while not condition():
        if serving.poll() is not None or time.monotonic() > end:
            sys.exit(f"the server does not serve:\n{log.read_text()}")
        time.sleep(0.05)


main()
