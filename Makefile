# Cairn's habits, one target each. `make help` lists them.
#
# Everything is built in the release profile, so that RocksDB (20 minutes of
# C++ on two cores) is compiled once, and into one cache outside the clone, so
# that a second clone does not compile it again. CARGO_TARGET_DIR overrides it.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup setup-bench build run test lint bench soak docker-test

CACHE_HOME := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)
export CARGO_TARGET_DIR ?= $(CACHE_HOME)/cairn-target
# Tools that make builds for itself (cargo-deny), so that no one else's change.
export CAIRN_TOOLS ?= $(CACHE_HOME)/cairn-tools
# A fresh rustup puts cargo here and asks for a new shell; do without one.
export PATH := $(PATH):$(HOME)/.cargo/bin

BIN := $(CARGO_TARGET_DIR)/release
CARGO_BUILD := cargo build --release --locked --workspace --bins

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

setup: ## install what a build and the tests need and is missing (apt)
	@tests/scripts/setup.sh core

setup-bench:
	@tests/scripts/setup.sh core bench

build: setup ## build all programs (release)
	$(CARGO_BUILD)

run: setup ## a whole local cluster with a proxy; Ctrl-C stops it (PORT=6379)
	@$(CARGO_BUILD)
	@exec tests/scripts/run.sh "$(PORT)"

lint: setup ## formatting, clippy, docs and dependency rules, without tests
	@tests/scripts/check.sh lint

test: setup ## everything that must be green: lint and all tests; changes no file of the clone
	@tests/scripts/check.sh all

bench: setup-bench ## compare with redis-server and nutcracker (BENCH="--seconds 5 --rounds 1")
	@$(CARGO_BUILD)
	@exec $(BIN)/cairn-bench $(BENCH)

soak: setup ## the long form of the fault tests (hours; SOAK=name runs one)
	@$(CARGO_BUILD)
	@exec tests/scripts/soak.sh $(SOAK)

docker-test: ## build the images and drive the composition (needs docker and its compose)
	@tests/scripts/setup.sh core docker
	@exec tests/scripts/docker-test.sh
