#!/bin/sh
# Fetches the test suite of Redis 7.0.15 from Debian's source package into the folder named as argument; at once when it is there.
#
# Needs no root: apt works on lists and caches of its own inside the folder, which then holds the suite as redis-7.0.15/.
set -eu
mkdir -p "$1"
folder=$(cd "$1" && pwd)
[ -x "$folder/redis-7.0.15/runtest" ] && exit 0
if ! command -v apt-get >/dev/null; then
    echo "apt-get is missing: unpack Redis 7.0.15 as $folder/redis-7.0.15 yourself" >&2
    exit 1
fi

echo "fetching the suite of Redis 7.0.15"
apt=$folder/apt
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
signed=
if [ -e "$keyring" ]; then signed="[signed-by=$keyring] "; fi
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
echo "deb-src ${signed}http://deb.debian.org/debian bookworm main" >"$apt/sources.list"
quietly() {
    "$@" >"$apt/log" 2>&1 || { cat "$apt/log" >&2 && exit 1; }
}
private() {
    quietly apt-get -qq -o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null -o Dir::State::lists="$apt/lists" \
        -o Dir::Cache="$apt/cache" -o APT::Sandbox::User="$(id -un)" "$@"
}
cd "$apt"
private update
private source --download-only redis
quietly tar --extract --file redis_7.0.15.orig.tar.gz --directory "$folder" redis-7.0.15/runtest redis-7.0.15/tests
rm -r "$apt"
