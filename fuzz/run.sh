#!/bin/sh
# Runs the fuzz targets named after the number of seconds that each gets, or all of them. Installs cargo-fuzz and a nightly compiler if
# they are missing. What a target finds is kept in fuzz/artifacts, what it has learnt in fuzz/corpus.
set -eu
cd "$(dirname "$0")/.."
seconds=$1
shift
command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz
rustup toolchain list | grep -q '^nightly' || rustup toolchain install nightly --profile minimal

if [ $# = 0 ]; then set -- requests replies answers config clients shards; fi
mkdir -p fuzz/corpus/config
cp proxy.yaml fuzz/corpus/config/
for target in "$@"; do
    # Without address sanitizer: weft has no unsafe code for it to find anything in.
    cargo +nightly fuzz run --sanitizer none "$target" -- -dict=fuzz/resp.dict -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -print_final_stats=1
done
