#!/bin/bash
# The long forms of the fault tests. Sizes come from the environment, so that
# any of them can be set alone; what is listed here is the soak's default.
#
#   soak.sh [crash|ttl|differential|reshard|memory ...]
set -euo pipefail

export CAIRN_CRASH_ROUNDS=${CAIRN_CRASH_ROUNDS:-50}
export CAIRN_TTL_KEYS=${CAIRN_TTL_KEYS:-1000000}
export CAIRN_TTL_SECONDS=${CAIRN_TTL_SECONDS:-20}
export CAIRN_DIFFERENTIAL_COMMANDS=${CAIRN_DIFFERENTIAL_COMMANDS:-2000000}
export CAIRN_DIFFERENTIAL_FRESH=${CAIRN_DIFFERENTIAL_FRESH:-1}
export CAIRN_RESHARD_ROUNDS=${CAIRN_RESHARD_ROUNDS:-10}
export CAIRN_BAD_INPUT_STREAMS=${CAIRN_BAD_INPUT_STREAMS:-100000}
export CAIRN_LOAD_GB=${CAIRN_LOAD_GB:-20}

targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(crash ttl differential bad_input reshard memory)
arguments=()
for name in "${targets[@]}"; do arguments+=(--test "$name"); done
exec cargo test --release --locked -p cairn-tests "${arguments[@]}" -- --include-ignored --nocapture --test-threads 1
