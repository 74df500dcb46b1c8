#!/bin/bash
# Installs what is missing, and says nothing when nothing is.
#
#   setup.sh [core] [bench] [docker]
#
# Debian starts the services of redis-server, etcd-server and nutcracker when it
# installs them. Cairn needs their programs only, so the services are kept from
# starting while this script installs, and are left disabled where systemd runs.
# A service that was there before is not touched.
set -euo pipefail

readonly RUST_MINIMUM=1.88

# command or file that must exist : Debian package that brings it
readonly CORE=(
    "g++:g++"
    "protoc:protobuf-compiler"
    "/usr/include/google/protobuf/empty.proto:libprotobuf-dev"
    "libclang:libclang-dev"
    "mold:mold"
    "etcd:etcd-server"
    "etcdctl:etcd-client"
    "redis-cli:redis-tools"
    "redis-server:redis-server"
    "tclsh:tcl"
)
readonly BENCH=("nutcracker:nutcracker")
readonly DOCKER=("debootstrap:debootstrap")
readonly SERVICES=(redis-server etcd nutcracker)

present() {
    case $1 in
        /*) [ -e "$1" ] ;;
        # Not libclang-cpp, a library of another kind that LLVM's tools bring.
        libclang) compgen -G '/usr/lib/llvm-*/lib/libclang[-.][0-9s]*' >/dev/null \
            || ldconfig -p 2>/dev/null | grep -Eq 'libclang(-[0-9.]+)?\.so' ;;
        *) PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v "$1" >/dev/null ;;
    esac
}

missing_packages() {
    local entry
    for entry in "$@"; do
        present "${entry%%:*}" || printf '%s\n' "${entry##*:}"
    done
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# Debian asks this file before it starts a service; 101 means "do not".
policy_made=
forbid_service_start() {
    [ -e /usr/sbin/policy-rc.d ] && return
    printf '#!/bin/sh\nexit 101\n' | as_root tee /usr/sbin/policy-rc.d >/dev/null
    as_root chmod +x /usr/sbin/policy-rc.d
    policy_made=yes
}
allow_service_start() {
    [ -z "$policy_made" ] || as_root rm -f /usr/sbin/policy-rc.d
}

known_services() {
    local service
    [ -d /run/systemd/system ] || return 0
    for service in "${SERVICES[@]}"; do
        systemctl cat "$service" >/dev/null 2>&1 && printf '%s\n' "$service"
    done
    return 0
}

install_packages() {
    local log before service
    if ! command -v apt-get >/dev/null; then
        echo "setup: please install what Debian calls: $*" >&2
        exit 1
    fi
    if [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null; then
        echo "setup: as root, run: apt-get install --no-install-recommends $*" >&2
        exit 1
    fi
    echo "setup: installing $*"
    log=$(mktemp)
    before=$(known_services)
    forbid_service_start
    trap allow_service_start EXIT
    # The package lists are often new enough; fetching them is the fallback.
    if ! apt_install "$@" >"$log" 2>&1; then
        as_root apt-get update -qq >>"$log" 2>&1 || true
        if ! apt_install "$@" >>"$log" 2>&1; then
            tail -20 "$log" >&2
            echo "setup: apt-get could not install: $*" >&2
            exit 1
        fi
    fi
    rm -f "$log"
    allow_service_start
    trap - EXIT
    for service in $(known_services); do
        grep -qx "$service" <<<"$before" && continue
        as_root systemctl disable --quiet --now "$service" >/dev/null 2>&1 || true
        echo "setup: the service $service was installed with its program and left disabled"
    done
}

apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "$@"
}

check_rust() {
    local version
    if ! command -v cargo >/dev/null; then
        echo "setup: cargo is missing. Install Rust from https://rustup.rs and run make again." >&2
        exit 1
    fi
    version=$(rustc --version | awk '{print $2}')
    if [ "$(printf '%s\n' "$RUST_MINIMUM" "${version%%-*}" | sort -V | head -1)" != "$RUST_MINIMUM" ]; then
        echo "setup: rustc $version is too old, $RUST_MINIMUM is the minimum: rustup update" >&2
        exit 1
    fi
}

wanted=()
for part in "${@:-core}"; do
    case $part in
        core) wanted+=("${CORE[@]}") ;;
        bench) wanted+=("${BENCH[@]}") ;;
        docker) wanted+=("${DOCKER[@]}") ;;
        *) echo "setup: unknown part: $part" >&2; exit 2 ;;
    esac
done
mapfile -t packages < <(missing_packages "${wanted[@]}")
[ ${#packages[@]} -eq 0 ] || install_packages "${packages[@]}"
check_rust
