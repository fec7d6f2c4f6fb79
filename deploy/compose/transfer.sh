#!/bin/sh
# Moves money between accounts on different nodes, through the proxy named first; the nodes named after it show where each account is.
set -eu
proxy=$1
shift

weft() { redis-cli -h "$proxy" -p 6380 "$@"; }

# AUTH is for the proxy; the nodes have no password.
where() {
    for node in "$@"; do
        for key in alice bob erin; do
            balance=$(env -u REDISCLI_AUTH redis-cli -h "$node" get "$key")
            case $balance in MOVED*) ;; *) echo "  $key on $node: $balance" ;; esac
        done
    done
}

weft mset alice 100 bob 100 erin 100 >/dev/null
echo "before"
where "$@"

echo "alice pays 30 to bob and 10 to erin: WATCH, MULTI, EXEC over three nodes"
weft <<END
watch alice bob erin
multi
decrby alice 40
incrby bob 30
incrby erin 10
exec
END

echo "after"
where "$@"
total=0
for balance in $(weft mget alice bob erin); do total=$((total + balance)); done
echo "total $total"
[ "$total" = 300 ] && [ "$(weft get alice)" = 60 ]
