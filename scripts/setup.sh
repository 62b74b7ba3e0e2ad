#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
# Finds out what is missing to build and run AxHive, and gets it: setup.sh ARCH [run|test]
# As root it installs Debian packages; otherwise it prints the command and fails.
# Silent when nothing is missing, unless VERBOSE is set.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

arch=$1 purpose=${2:-run}
packages=()
reasons=()

# need REASON PACKAGE…
need() {
    reasons+=("$1")
    shift
    packages+=("$@")
}

say() {
    if [ -n "${VERBOSE:-}" ]; then
        echo "$*"
    fi
}

has() {
    command -v "$1" >/dev/null
}

# Uses rustup's own way to add the targets of rust-toolchain.toml, where its user allows that.
add_rustup_target() {
    [ -z "$(toolchain_of "$arch")" ] && has rustup && [ "${RUSTUP_AUTO_INSTALL:-1}" != 0 ] \
        || return 0
    echo "setup: rustup adds the target $(target_of "$arch")"
    rustup target add "$(target_of "$arch")" || echo "setup: rustup could not; trying Debian's compiler"
}

check_compiler() {
    add_rustup_target
    case $(toolchain_of "$arch") in
        rustup) say "compiler: $(rustc --version), which has $(target_of "$arch")" ;;
        debian)
            say "compiler: $(/usr/bin/rustc --version), building core from source," \
                "because rustup has no $(target_of "$arch")"
            ;;
        *) need "a Rust compiler for $(target_of "$arch")" rustc-web cargo-web rust-web-src ;;
    esac
    if [ "$(toolchain_of "$arch")" != rustup ] && ! has ld.lld; then
        need "a linker for $arch" lld
    fi
    has llvm-objcopy || need "llvm-objcopy" llvm
    [ -d /etc/ssl/certs ] || need "certificates to fetch crates" ca-certificates
}

# Beside QEMU's other firmware, wherever that was installed.
has_opensbi() {
    compgen -G "$(dirname "$(command -v qemu-system-riscv64 || echo /usr/bin/x)")/../share/qemu/opensbi-riscv64-*" >/dev/null
}

check_qemu() {
    local package qemu=qemu-system-$arch
    case $arch in
        riscv64) package='qemu-system-misc' ;;
        aarch64) package='qemu-system-arm' ;;
        x86_64) package='qemu-system-x86' ;;
    esac
    if ! has "$qemu"; then
        need "$qemu" "$package"
    elif ! at_least "$(version_of "$qemu")" "$min_qemu"; then
        die "$qemu $(version_of "$qemu") cannot virtualize; $min_qemu or later is needed"
    else
        say "emulator: $("$qemu" --version | head -n 1)"
    fi
    if [ "$arch" = riscv64 ] && ! has_opensbi; then
        need "firmware for riscv64" opensbi
    fi
}

check_host_tools() {
    has cargo || need "a Rust compiler for this machine" rustc-web cargo-web
    cargo fmt --version &>/dev/null || need "a formatter" rustfmt-web
    # Debian's also lints for the bare machines, where its compiler builds for them.
    if [ "$(toolchain_of "$arch")" = debian ] && [ ! -x /usr/bin/cargo-clippy ]; then
        need "a linter" rust-web-clippy
    elif ! cargo clippy --version &>/dev/null; then
        need "a linter" rust-web-clippy
    fi
    has cc || need "a C linker for this machine" gcc libc6-dev
    has shellcheck || need "a linter for the scripts" shellcheck
}

# Bochs has the VMX that QEMU lacks; it boots from a CD with GRUB.
check_bochs() {
    [ "$arch" = x86_64 ] || return 0
    if ! has bochs || [ ! -d /usr/share/bochs ]; then
        need "an emulator of VMX" bochs bochs-term bochsbios vgabios
    fi
    if ! has grub-mkrescue || ! has xorriso || ! has mformat || [ ! -d /usr/lib/grub/i386-pc ]; then
        need "a boot loader on a CD" grub-pc-bin grub-common xorriso mtools
    fi
}

install() {
    local why command
    mapfile -t packages < <(printf '%s\n' "${packages[@]}" | sort -u)
    command=(apt-get install -y --no-install-recommends "${packages[@]}")
    why=$(printf '%s, ' "${reasons[@]}")
    if [ "$(id -u)" != 0 ]; then
        echo "AxHive needs ${why%, }. Run this, then try again:" >&2
        echo "    sudo apt-get update && sudo ${command[*]}" >&2
        exit 1
    fi
    echo "setup: installing ${packages[*]} (for ${why%, })"
    DEBIAN_FRONTEND=noninteractive "${command[@]}" >/dev/null 2>&1 \
        || { apt-get update -q && DEBIAN_FRONTEND=noninteractive "${command[@]}"; }
}

check_compiler
check_qemu
if [ "$purpose" = test ]; then
    check_host_tools
    check_bochs
fi
if [ ${#packages[@]} -gt 0 ]; then
    install
    [ -n "$(toolchain_of "$arch")" ] \
        || die "Debian's rustc is older than $min_rust; install rustup and run: rustup target add $(target_of "$arch")"
fi
