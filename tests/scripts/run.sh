#!/bin/bash
# Starts the playground on PORT, or on the first free port from 6379 on: a
# newcomer's redis-server often has that one already.
set -euo pipefail

port=${1:-}
taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
if [ -z "$port" ]; then
    port=6379
    while taken "$port"; do port=$((port + 1)); done
    [ "$port" = 6379 ] || echo "port 6379 is taken; the proxy will listen on $port (PORT=... chooses)"
fi
exec "$CARGO_TARGET_DIR/release/cluster-admin" playground --proxy-port "$port"
