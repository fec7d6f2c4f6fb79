# Everything that builds, runs and checks weft. `make` alone prints the targets.
#
# Each target installs what it needs and is missing, so that a fresh clone on a fresh machine is one command away from the result;
# where everything is there, that costs a fraction of a second.

TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
MINUTES := 4
SCRIPTS := .ci/run $(wildcard deploy/*.sh deploy/compose/*.sh tests/*.sh tests/redis_suite/*.sh fuzz/*.sh)

.DEFAULT_GOAL := help
.PHONY: help run test redis-suite model soak bench sweep cost fuzz lint clean

help: ## Print this list
	@sed -n 's/^\([a-z-]*\): ## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

run: ## Start three shards and weft before them, show a transfer across shards, serve until Ctrl-C
	@deploy/need.sh cargo cc redis-server redis-cli
	cargo build --release
	@exec $(TARGET_DIR)/release/weft dev --shards 3 --listen 127.0.0.1:6380 --demo

test: ## Run every test; ARGS='name -- --nocapture' goes to cargo test
	@deploy/need.sh cargo cc redis-server redis-cli php php-redis ruby ruby-redis libhiredis-dev
	@tests/setup.sh
	cargo test $(ARGS)

redis-suite: ## Run Redis's own test suite through weft; ARGS='--static --only sort' narrows it
	@deploy/need.sh cargo cc redis-server redis-cli python3 tclsh
	@tests/redis_suite/fetch.sh $(TARGET_DIR)/redis-suite
	cargo build
	@tests/redis_suite/run.py --weft $(TARGET_DIR)/debug/weft --suite $(TARGET_DIR)/redis-suite $(ARGS)

model: ## Explore the larger worlds of the models of the commit protocol; prints how many states each has
	@deploy/need.sh cargo cc
	cargo test --release --lib model -- --ignored --nocapture --test-threads 1

soak: ## Check histories while everything breaks, half of MINUTES=n on each kind of shards
	@deploy/need.sh cargo cc redis-server redis-cli
	WEFT_SOAK_MINUTES=$(MINUTES) cargo test --release --test main histories::run::soak -- --ignored --nocapture

bench: ## Compare weft with direct Redis, twemproxy and Envoy; ARGS='--only get-p1' narrows it
	@deploy/need.sh cargo cc redis-server redis-cli nutcracker python3 python3-venv
	cargo bench --bench compare -- $(ARGS)

sweep: ## The same from 1 to 1,000 clients, and so on for pipelines, values, shards, commands; ARGS='--only clients' narrows it
	@deploy/need.sh cargo cc redis-server redis-cli nutcracker python3 python3-venv
	cargo bench --bench compare -- sweep $(ARGS)

cost: ## Count weft's instructions for each operation and hold them against the record; ARGS=--record records them
	@deploy/need.sh cargo cc redis-server redis-cli valgrind
	cargo bench --profile cost --bench compare -- cost $(ARGS)

fuzz: ## Feed random bytes to what reads from clients, shards and files, each for SECONDS=60; ARGS='replies' narrows it
	@deploy/need.sh cargo cc
	@fuzz/run.sh $(or $(SECONDS),60) $(ARGS)

lint: ## Check formatting, clippy, the documentation's links and the shell scripts
	@deploy/need.sh cargo cc
	cargo fmt --check
	cargo clippy --all-targets -- --deny warnings
	RUSTDOCFLAGS='--deny warnings' cargo doc --no-deps --document-private-items
	@if command -v shellcheck >/dev/null; then echo shellcheck $(SCRIPTS); shellcheck $(SCRIPTS); else echo 'shellcheck is not installed: skipped'; fi

clean: ## Remove what was built and the tests' packages of Python and Node
	cargo clean
	rm -rf tests/.venv tests/clients/node/node_modules
