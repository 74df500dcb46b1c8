#!/bin/bash
# Builds the image and drives the composition: talks to the proxy, reshards under
# writes, kills a container, and tears all down.
#
# No image is pulled: the bases are made by debootstrap. The builder base gets this
# machine's Rust toolchain, its downloaded crates, and the librocksdb.a of its
# target folder, so that the Dockerfile runs as it is, compiles all of Cairn in the
# container, and leaves out only RocksDB's 20 minutes of C++.
#   FULL=1          compiles RocksDB in the container as well
#   KEEP_IMAGES=1   keeps the images (the base images are kept anyway, in Docker)
set -euo pipefail

readonly SUITE=bookworm
readonly MIRROR=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
readonly BASE=cairn-test/base:$SUITE
readonly BUILDER=cairn-test/builder:$SUITE
readonly ETCD=cairn-test/etcd:$SUITE
readonly BUILD_PACKAGES=g++,make,libclang-dev,protobuf-compiler,libprotobuf-dev,mold,ca-certificates
export CAIRN_IMAGE=cairn-test/cairn BASE BUILDER_BASE=$BUILDER RUNTIME_BASE=$BASE ETCD_IMAGE=$ETCD
export COMPOSE_PROJECT_NAME=cairn-test

cd "$(dirname "$0")/../.."
work=$(mktemp -d)

say() { printf '\n== %s\n' "$*"; }
fail() { printf 'docker-test: %s\n' "$*" >&2; exit 1; }
as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi; }
compose() {
    if docker compose version >/dev/null 2>&1; then docker compose "$@"; else docker-compose "$@"; fi
}

clean_up() {
    local status=$?
    if [ "$status" -ne 0 ]; then
        compose ps || true
        compose logs --tail 30 || true
    fi
    compose down --volumes --remove-orphans --timeout 5 >/dev/null 2>&1 || true
    [ -n "${KEEP_IMAGES:-}" ] || docker image rm -f "$CAIRN_IMAGE" >/dev/null 2>&1 || true
    as_root rm -rf "$work"
    [ "$status" -ne 0 ] || echo "docker-test passed"
}

# A Debian of its own, once: `docker image rm` the base to make it again.
make_base() {
    local tag=$1 packages=$2
    docker image inspect "$tag" >/dev/null 2>&1 && return
    say "debootstrap $tag"
    as_root debootstrap --variant=minbase --include="$packages" "$SUITE" "$work/root" "$MIRROR" \
        >"$work/debootstrap.log" 2>&1 || { tail -5 "$work/debootstrap.log"; fail "debootstrap failed"; }
    as_root rm -rf "$work/root/var/cache/apt/archives" "$work/root/var/lib/apt/lists"
    as_root mkdir -p "$work/root/var/cache/apt/archives/partial" "$work/root/var/lib/apt/lists/partial"
    as_root tar -C "$work/root" -c . | docker import --change 'CMD ["bash"]' - "$tag" >/dev/null
    as_root rm -rf "$work/root"
}

make_etcd() {
    say "image of etcd from this machine's programs"
    mkdir -p "$work/etcd"
    cp "$(command -v etcd)" "$(command -v etcdctl)" "$work/etcd/"
    printf 'FROM %s\nCOPY etcd etcdctl /usr/local/bin/\n' "$BASE" >"$work/etcd/Dockerfile"
    docker build -q -t "$ETCD" "$work/etcd" >/dev/null
}

# The toolchain, the crates and, unless FULL, RocksDB, on top of the packages.
make_builder() {
    local context=$work/builder toolchain registry library
    say "builder image with this machine's Rust toolchain"
    make_base "$BUILDER-packages" "$BUILD_PACKAGES"
    toolchain=$(rustc --print sysroot)
    registry=${CARGO_HOME:-$HOME/.cargo}/registry
    mkdir -p "$context/rust" "$context/cargo/registry" "$context/rocksdb"
    cp -a "$toolchain/." "$context/rust/"
    rm -rf "$context/rust/share" "$context/rust/lib/rustlib/src"
    cp -a "$registry/index" "$registry/cache" "$context/cargo/registry/"
    {
        printf 'FROM %s-packages\n' "$BUILDER"
        printf 'COPY rust /usr/local/rust\nCOPY cargo /usr/local/cargo\nCOPY rocksdb /usr/local/rocksdb\n'
        printf 'ENV PATH=/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n'
        printf 'ENV CARGO_HOME=/usr/local/cargo CARGO_NET_OFFLINE=true\n'
    } >"$context/Dockerfile"
    if [ -z "${FULL:-}" ]; then
        library=$(newest_rocksdb)
        [ -n "$library" ] || fail "no librocksdb.a in $CARGO_TARGET_DIR: run make build first, or FULL=1"
        strip --strip-debug -o "$context/rocksdb/librocksdb.a" "$library"
        printf 'ENV ROCKSDB_LIB_DIR=/usr/local/rocksdb ROCKSDB_STATIC=1\n' >>"$context/Dockerfile"
    fi
    docker build -q -t "$BUILDER" "$context" >/dev/null
    rm -rf "$context"
}

newest_rocksdb() {
    # shellcheck disable=SC2012 # cargo's names hold no surprises
    ls -t "$CARGO_TARGET_DIR"/release/build/librocksdb-sys-*/out/librocksdb.a 2>/dev/null | head -1
}

free_port() {
    local port=16379
    while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done
    echo "$port"
}

# Waits until a command succeeds: wait_for SECONDS WHAT COMMAND...
wait_for() {
    local limit=$1 what=$2 deadline=$((SECONDS + $1))
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $deadline ] || fail "waited $limit s in vain for $what"
        sleep 0.2
    done
}

cli() { redis-cli -p "$PROXY_PORT" "$@"; }
admin() { compose run --rm -T admin "$@"; }
set_works() { [ "$(cli set probe 1)" = OK ]; }
all_healthy() {
    local service
    for service in n1 n2 n3 proxy; do
        [ "$(docker inspect -f '{{.State.Health.Status}}' "$(compose ps -q "$service")")" = healthy ] || return 1
    done
}

write_keys() {
    seq "$1" "$2" | awk '{ printf "SET key:%d value-%d\r\n", $1, $1 }' \
        | cli --pipe >"$work/pipe.log" 2>&1 || { cat "$work/pipe.log"; fail "writing keys $1 to $2"; }
    grep -q 'errors: 0' "$work/pipe.log" || { cat "$work/pipe.log"; fail "errors while writing"; }
}

check_keys() {
    local wrong
    wrong=$(seq "$1" "$2" | awk '{ print "GET key:" $1 }' | cli \
        | awk -v first="$1" '$0 != "value-" (first + NR - 1)' | wc -l)
    [ "$wrong" -eq 0 ] || fail "$wrong of the keys $1 to $2 are wrong"
}

main() {
    for tool in docker debootstrap redis-cli etcd etcdctl; do
        command -v "$tool" >/dev/null || fail "$tool is missing"
    done
    make_base "$BASE" ca-certificates
    make_etcd
    make_builder
    say "docker build (the Dockerfile as it is)"
    docker build -t "$CAIRN_IMAGE" \
        --build-arg BUILDER_BASE="$BUILDER" --build-arg RUNTIME_BASE="$BASE" .
    [ "$(docker run --rm "$CAIRN_IMAGE" id -un)" = cairn ] || fail "the image runs as root"

    say "the composition comes up"
    PROXY_PORT=$(free_port)
    export PROXY_PORT
    compose up -d --no-build
    wait_for 120 "a proxy that takes writes" set_works
    wait_for 60 "healthy containers" all_healthy

    say "writes, an expiring key, and a reshard"
    write_keys 1 20000
    [ "$(cli set brief x px 300)" = OK ] || fail "SET PX"
    admin reshard --from 1 --to 2 --slots 0-8191 --yes &
    local mover=$!
    write_keys 20001 40000
    wait "$mover" || fail "the reshard failed"
    check_keys 1 40000
    [ -z "$(cli get brief)" ] || fail "an expired key is still there"

    say "a killed container comes back with everything"
    compose kill -s KILL n2
    compose up -d --no-build n2
    wait_for 60 "writes after the kill" set_works
    write_keys 40001 50000
    check_keys 1 50000
    wait_for 60 "healthy containers after the kill" all_healthy
    admin status
}

trap clean_up EXIT
main
