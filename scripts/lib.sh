# SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
# shellcheck shell=bash disable=SC2034 # used by the scripts that source this
# What the other scripts share: names of an architecture, and which toolchain serves it.
# Sourced with the repository as $root.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# A toolchain named in the environment keeps rustup from fetching what rust-toolchain.toml lists.
export RUSTUP_TOOLCHAIN=${RUSTUP_TOOLCHAIN:-stable}
# The oldest compiler and emulator that AxHive is built and run with.
min_rust=1.91
min_qemu=7.0

die() {
    echo "error: $*" >&2
    exit 1
}

target_of() {
    case $1 in
        riscv64) echo riscv64gc-unknown-none-elf ;;
        aarch64) echo aarch64-unknown-none-softfloat ;;
        x86_64) echo x86_64-unknown-none ;;
        *) die "ARCH=$1 is not one of riscv64, aarch64, x86_64" ;;
    esac
}

config_of() {
    echo "$root/configs/platforms/$1.toml"
}

# platform_of CONFIG
platform_of() {
    sed -n 's/^platform *= *"\(.*\)".*/\1/p' "$1"
}

# at_least VERSION MINIMUM
at_least() {
    [ "$(printf '%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

version_of() {
    "$@" --version 2>/dev/null | grep -oE '[0-9]+\.[0-9]+(\.[0-9]+)?' | head -n 1
}

# Prints `rustup` where the rustc on PATH has the target's libraries, `debian` where /usr/bin's
# can build them from source, nothing where neither does.
toolchain_of() {
    local target
    target=$(target_of "$1")
    if at_least "$(version_of rustc)" "$min_rust" \
        && [ -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ]; then
        echo rustup
    elif [ -x /usr/bin/cargo ] && at_least "$(version_of /usr/bin/rustc)" "$min_rust" \
        && [ -d "$(/usr/bin/rustc --print sysroot)/lib/rustlib/src/rust/library/core" ]; then
        echo debian
    fi
}
