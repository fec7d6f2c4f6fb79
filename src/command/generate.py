#!/usr/bin/env python3
"""Writes table.rs from what running servers say of their own commands: generate.py PORT [PORT...] > table.rs

Name the ports from the oldest server to the newest. A row admits what any of the servers admits: the wider arity and the
union of the flags; key specs, categories and tips are those of the newest server that has any. The one command of weft's own
is OWN; weft's own columns are not here but in columns.rs.
"""

import socket
import sys

HEADER = """\
//! Every command of Redis 7.0 and Valkey 9, one row each, in their own words, and WEFT. Written by `generate.py`: do not edit.
//!
//! A row: name, arity, flags, ACL categories beyond those that follow from the flags, key specs, tips. weft's own columns are in
//! `columns.rs`.

use super::row::*;
use super::spec::Output::{Deterministic, Nondeterministic, NondeterministicOrder};
use super::spec::{CommandSpec, RequestPolicy as Req, ResponsePolicy as Resp};

/// The table, sorted by name.
#[rustfmt::skip]
pub(super) static COMMANDS: &[CommandSpec] = &["""

# Words that Valkey renamed.
SYNONYMS = {"skip_commandlog": "skip_slowlog"}

# Name, arity, flags and subcommands.
OWN = ("weft", -2, "", [("weft|help", 2, "loading stale", []), ("weft|txn", -3, "admin loading no_multi noscript stale", [])])


def main():
    merged = {OWN[0]: own(OWN)}
    for port in sys.argv[1:]:
        merge(merged, commands(int(port)))
    print(HEADER)
    for name in sorted(merged):
        print_row(merged[name], "    ")
    print("];")


def own(command):
    name, arity, flags, subcommands = command
    flags, subcommands = set(flags.split()), {row[0]: own(row) for row in subcommands}
    return {
        "name": name,
        "arity": arity,
        "flags": flags,
        "categories": implied(flags),
        "keys": [],
        "tips": [],
        "subcommands": subcommands,
    }


def commands(port):
    """The answer to COMMAND as a dictionary of rows by name."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"*1\r\n$7\r\nCOMMAND\r\n")
        return rows(read(connection.makefile("rb")))


def rows(reply):
    found = {}
    for name, arity, flags, _first, _last, _step, categories, tips, keys, subcommands in reply:
        found[name] = {
            "name": name,
            "arity": arity,
            "flags": {SYNONYMS.get(flag, flag) for flag in flags},
            "categories": {category.lstrip("@") for category in categories},
            "keys": [pairs(key) for key in keys],
            "tips": tips,
            "subcommands": rows(subcommands),
        }
    return found


def merge(old, new):
    for name, row in new.items():
        if name not in old:
            old[name] = row
            continue
        known = old[name]
        known["arity"] = wider(known["arity"], row["arity"])
        known["flags"] |= row["flags"]
        known["categories"] = row["categories"] or known["categories"]
        known["keys"] = row["keys"] or known["keys"]
        known["tips"] = row["tips"] or known["tips"]
        merge(known["subcommands"], row["subcommands"])


def wider(one, other):
    return one if one == other else -min(abs(one), abs(other))


def print_row(row, indent):
    categories = {"in_" + category for category in row["categories"] - implied(row["flags"])}
    keys = ", ".join(key(spec) for spec in row["keys"])
    columns = f'"{row["name"]}", {row["arity"]}, {words(row["flags"])}, {words(categories)}, &[{keys}], {tips(row["tips"])}'
    if not row["subcommands"]:
        print(f"{indent}row({columns}),")
        return
    print(f"{indent}container({columns}, &[")
    for name in sorted(row["subcommands"]):
        print_row(row["subcommands"][name], indent + "    ")
    print(f"{indent}]),")


def words(names):
    return " | ".join(name.upper().replace("-", "_") for name in sorted(names)) or "NONE"


def implied(flags):
    """The categories that follow from the flags; `CommandSpec::categories` does the same."""
    found = {flag for flag in ("write", "pubsub", "blocking", "admin", "fast") if flag in flags}
    if "readonly" in flags:
        found.add("read")
    if "admin" in flags:
        found.add("dangerous")
    if "fast" not in flags:
        found.add("slow")
    return found


def key(spec):
    flags = words(spec["flags"])
    begin, find = pairs(spec["begin_search"]), pairs(spec["find_keys"])
    start, found = pairs(begin["spec"]), pairs(find["spec"])
    match begin["type"], find["type"]:
        case "index", "range":
            shape = (found["lastkey"], found["keystep"], found["limit"])
            if shape == (0, 1, 0):
                return f'one({start["index"]}, {flags})'
            return f'range({start["index"]}, {shape[0]}, {shape[1]}, {flags})'
        case "index", "keynum":
            shape = (found["keynumidx"], found["firstkey"], found["keystep"])
            if shape == (0, 1, 1):
                return f'counted({start["index"]}, {flags})'
            return f'keynum({start["index"]}, {shape[0]}, {shape[1]}, {shape[2]}, {flags})'
        case "keyword", "range":
            shape = (found["lastkey"], found["keystep"], found["limit"])
            return f'keyword("{start["keyword"]}", {start["startfrom"]}, {shape[0]}, {shape[1]}, {shape[2]}, {flags})'
    return f"unknown({flags})"


def tips(names):
    if not names:
        return "NO_TIPS"
    policies = dict(name.split(":") for name in names if ":" in name)
    request = camel(policies.get("request_policy", "none"))
    response = camel(policies.get("response_policy", "none"))
    output = next((name.replace("_output", "") for name in names if ":" not in name), "deterministic")
    return f"tips(Req::{request}, Resp::{response}, {camel(output)})"


def camel(name):
    return "".join(word.capitalize() for word in name.split("_"))


def pairs(flat):
    return dict(zip(flat[::2], flat[1::2]))


def read(stream):
    line = stream.readline()
    kind, rest = line[:1], line[1:-2].decode()
    if kind == b"+":
        return rest
    if kind == b":":
        return int(rest)
    if kind == b"$":
        return stream.read(int(rest) + 2)[:-2].decode() if int(rest) >= 0 else None
    if kind == b"*":
        return [read(stream) for _ in range(max(int(rest), 0))]
    raise ValueError(f"unexpected reply: {line!r}")


if __name__ == "__main__":
    main()
