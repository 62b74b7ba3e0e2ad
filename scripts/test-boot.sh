#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
# Boots AxHive on each machine and CPU it must run on, and expects it to end well.
# Called by `make test-boot`; ends with the line `N passed, N failed`.
set -uo pipefail
. "$(dirname "$0")/lib.sh"

limit_s=60
passed=0 failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# boots NAME ARCH SMP [QEMU_ARGS]; in the foreground, so that Ctrl-C ends it, too.
boots() {
    if ONIDLE=poweroff SMP=$3 QEMU_ARGS=${4:-} timeout --foreground "$limit_s" \
        "$root/scripts/qemu.sh" "$2" "$root/build/$2/release/app" </dev/null >"$log" 2>&1 \
        && grep -q "AxHive .* on $2" "$log"; then
        echo "ok    $1"
        passed=$((passed + 1))
    else
        echo "FAIL  $1"
        sed 's/^/    /' "$log"
        failed=$((failed + 1))
    fi
}

for arch in riscv64 aarch64 x86_64; do
    boots "$arch, 1 CPU" "$arch" 1
    boots "$arch, 2 CPUs" "$arch" 2
    boots "$arch, 1 CPU, counted instructions" "$arch" 1 "-icount shift=0,sleep=off"
done
boots "riscv64, 8 CPUs" riscv64 8
boots "riscv64, AIA" riscv64 2 "-machine aia=aplic-imsic,aia-guests=4"
boots "aarch64, neoverse-n1" aarch64 2 "-cpu neoverse-n1"
boots "aarch64, GICv2" aarch64 4 "-machine gic-version=2"
boots "x86_64, max" x86_64 4 "-cpu max"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
