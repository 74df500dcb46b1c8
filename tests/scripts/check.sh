#!/bin/bash
# The one check of everything. Changes no file of the clone.
#
#   check.sh lint     formatting, dependency rules, clippy, docs
#   check.sh all      the same, then every test of the workspace
#
# Every step runs, also after one has failed, so that one run shows everything.
# The last line of `all` is "N passed, N failed" over all test programs; a test
# program that did not build, crashed or timed out counts as one failure.
set -uo pipefail

cargo_flags=(--release --locked --workspace)
failed_steps=()

# Runs one step; on failure remembers its name.
step() {
    local name=$1 started=$SECONDS
    shift
    echo "== $name"
    if "$@"; then
        echo "== $name: ok ($((SECONDS - started)) s)"
    else
        echo "== $name: FAILED ($((SECONDS - started)) s)"
        failed_steps+=("$name")
    fi
}

# cargo-deny is built once into a folder of our own, without optimisation: it
# runs for a second. Set CAIRN_SKIP_DENY=1 to do without it.
find_cargo_deny() {
    command -v cargo-deny && return
    if [ ! -x "$CAIRN_TOOLS/bin/cargo-deny" ]; then
        echo "building cargo-deny into $CAIRN_TOOLS (once)" >&2
        CARGO_TARGET_DIR=$CAIRN_TOOLS/target cargo install --quiet --debug --locked \
            --root "$CAIRN_TOOLS" cargo-deny@0.20.2 >&2 || return 1
        rm -rf "$CAIRN_TOOLS/target"
    fi
    echo "$CAIRN_TOOLS/bin/cargo-deny"
}

# Licences, sources and bans come from Cargo.lock alone. Advisories change from
# day to day and need the network: `cargo deny check advisories` by hand.
check_dependencies() {
    local deny
    if [ -n "${CAIRN_SKIP_DENY:-}" ]; then echo "skipped by CAIRN_SKIP_DENY"; return 0; fi
    deny=$(find_cargo_deny) || return 1
    "$deny" --log-level error check --hide-inclusion-graph bans licenses sources
}

check_docs() {
    RUSTDOCFLAGS="-D warnings" cargo doc "${cargo_flags[@]}" --no-deps --quiet
}

# The programs first: tests of other crates start them from the target folder.
run_tests() {
    local status
    cargo build "${cargo_flags[@]}" --bins || return 1
    timeout "${CAIRN_TEST_LIMIT:-50m}" \
        cargo test --color never "${cargo_flags[@]}" --no-fail-fast 2>&1 | tee "$test_log"
    status=${PIPESTATUS[0]}
    return "$status"
}

# "test result: ok. 12 passed; 0 failed; ..." of each test program; one that cargo
# started and that ended without such a line has crashed or was killed.
count_tests() {
    awk '
        /^ +(Running|Doc-tests) / { programs++ }
        /^test result:/ { programs--; passed += $4; failed += $6 }
        END {
            failed += programs
            if (status != 0 && failed == 0) failed = 1
            printf "%d passed, %d failed\n", passed, failed
        }' status="$1" "$test_log"
}

mode=${1:-all}
test_status=0
test_log=$(mktemp)
trap 'rm -f "$test_log"' EXIT

step "cargo fmt --check" cargo fmt --all --check
step "cargo clippy" cargo clippy "${cargo_flags[@]}" --all-targets --quiet -- -D warnings
step "cargo doc" check_docs
step "cargo deny" check_dependencies
if [ "$mode" = all ]; then
    steps_before=${#failed_steps[@]}
    step "tests" run_tests
    [ "${#failed_steps[@]}" -eq "$steps_before" ] || test_status=1
fi

[ ${#failed_steps[@]} -eq 0 ] || printf 'failed step: %s\n' "${failed_steps[@]}"
[ "$mode" = all ] && count_tests "$test_status"
[ ${#failed_steps[@]} -eq 0 ]
