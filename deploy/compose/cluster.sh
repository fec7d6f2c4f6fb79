#!/bin/sh
# Makes one cluster of the nodes named as arguments, unless they are one already, and waits until each of them says so.
set -eu

all_serve() {
    for node in "$@"; do
        redis-cli -h "$node" cluster info | grep -q '^cluster_state:ok' || return 1
    done
}

if ! all_serve "$@"; then
    # Nodes meet by address; they do not resolve names.
    addresses=$(for node in "$@"; do getent ahostsv4 "$node" | awk 'NR == 1 {print $1 ":6379"}'; done)
    # shellcheck disable=SC2086 # the addresses are words
    redis-cli --cluster create $addresses --cluster-yes
fi
tries=60
until all_serve "$@"; do
    tries=$((tries - 1))
    [ "$tries" -gt 0 ] || { echo "the nodes do not form a cluster" >&2; exit 1; }
    sleep 1
done
echo "the cluster serves"
