#!/usr/bin/env bash
# Installs what is missing for `make build`, `make demo` or `make test`, and touches nothing that is there.
#
#   tests/setup.sh build|demo|test
#
# Asks nothing. Works as root and through sudo; where neither is at hand it says what to install.
set -euo pipefail

readonly purpose="${1:?usage: tests/setup.sh build|demo|test}"
cd "$(dirname "$0")/.."
# mosquitto lies where only root looks; rustup's folder is missing until the next login.
export PATH="$PATH:/usr/sbin:/sbin:${CARGO_HOME:-$HOME/.cargo}/bin"

fail() {
    printf 'setup: %s\n' "$@" >&2
    exit 1
}

has() { command -v "$1" >/dev/null 2>&1; }

# Prints the Debian packages that `purpose` needs and this machine lacks. Each is judged by what it is
# needed for, not by its name: a broker or a compiler from elsewhere will do.
missing_packages() {
    has make || echo make
    has cmake || echo cmake
    has cc || echo gcc
    has pkg-config || echo pkg-config
    [ -e /usr/include/stdio.h ] || echo libc6-dev
    if ! has pkg-config || ! pkg-config --exists openssl; then echo libssl-dev; fi
    case "$purpose" in
    demo | test)
        has mosquitto || echo mosquitto
        if ! has mosquitto_pub || ! has mosquitto_sub; then echo mosquitto-clients; fi
        ;;
    esac
    if [ "$purpose" = test ]; then
        # A Debian python3 comes without the means to make a venv.
        python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
        has systemd-analyze || echo systemd
        # A Modbus peer in C, that Python loads.
        python3 -c 'import ctypes; ctypes.CDLL("libmodbus.so.5")' 2>/dev/null || echo libmodbus5
        has node || echo nodejs
        has npm || echo npm
    fi
}

# Runs a command as root.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        env "$@"
    elif has sudo && sudo -n true 2>/dev/null; then
        sudo -n env "$@"
    elif has sudo && [ -t 2 ] && { : </dev/tty; } 2>/dev/null; then
        sudo env "$@"
    else
        return 1
    fi
}

install_packages() {
    local packages
    mapfile -t packages < <(missing_packages)
    [ "${#packages[@]}" -gt 0 ] || return 0
    has apt-get || fail "missing here: ${packages[*]} (Debian's names)." \
        "There is no apt-get: please install them with this system's package manager."
    echo "setup: installing ${packages[*]}" >&2
    as_root true || fail "missing here: ${packages[*]}." \
        "Neither root nor sudo without a terminal is possible; as root please run:" \
        "  apt-get update && apt-get install -y ${packages[*]}"
    # A background upgrade may hold the lock: wait for it. A stale list of one source is no reason to stop.
    local apt=(DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -q)
    as_root "${apt[@]}" update </dev/null >&2 || echo "setup: apt-get update failed; trying with the lists there are" >&2
    as_root "${apt[@]}" install -y --no-install-recommends "${packages[@]}" </dev/null >&2 ||
        fail "apt-get could not install ${packages[*]}."
    mapfile -t packages < <(missing_packages)
    [ "${#packages[@]}" -eq 0 ] || fail "still missing after the installation: ${packages[*]}."
}

check_rust() {
    local want have
    want=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    local how="Get it from https://rustup.rs (or the package rustup where Debian has it), then run this again."
    has cargo || fail "cargo is missing: Rust $want or later is needed." "$how"
    have=$(rustc --version 2>/dev/null | cut -d' ' -f2) || true
    [ -n "$have" ] || fail "cargo is there but rustc does not run: Rust $want or later is needed." \
        "With rustup: rustup default stable" "$how"
    [ "$(printf '%s\n' "$want" "$have" | sort -V | head -n1)" = "$want" ] ||
        fail "Rust $have is too old: $want or later is needed." "With rustup: rustup update stable" "$how"
}

# The Python peers of the tests live in a folder of their own, made again when their list changed.
install_peers() {
    local list=tests/peers/requirements.txt done=.venv/requirements.txt
    if cmp -s "$list" "$done" && .venv/bin/python -c 'import aiohttp, pymodbus, serial, prometheus_client' 2>/dev/null; then return 0; fi
    echo "setup: installing the Python peers into .venv" >&2
    python3 -m venv --clear .venv >&2 || fail "python3 could not make the folder .venv."
    .venv/bin/python -m pip install --disable-pip-version-check --no-input --quiet -r "$list" </dev/null >&2 ||
        fail "pip could not install the list $list."
    cp "$list" "$done"
}

# The peers in Node the same.
install_node_peers() {
    local list=tests/peers/package.json done=tests/peers/node_modules/package.json
    if cmp -s "$list" "$done"; then return 0; fi
    echo "setup: installing the Node peers into tests/peers/node_modules" >&2
    rm -rf tests/peers/node_modules
    (cd tests/peers && npm install --no-package-lock --no-audit --no-fund --ignore-scripts --loglevel=error </dev/null >&2) ||
        fail "npm could not install the list $list."
    cp "$list" "$done"
}

check_rust
install_packages
if [ "$purpose" = test ]; then
    install_peers
    install_node_peers
fi
