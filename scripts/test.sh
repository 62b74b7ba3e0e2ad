#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
# Runs everything that must hold, and ends with the line `N passed, N failed`.
# Each step counts the tests that it ran; a step that counts none counts as one itself.
# A failing step does not keep the next from running.
set -uo pipefail
. "$(dirname "$0")/lib.sh"
cd "$root" || exit 2

passed=0 failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# Adds up what a step's output says: cargo's result lines and plain `N passed, N failed`.
count() {
    awk '/^test result: / { p += $4; f += $6 }
         /^[0-9]+ passed, [0-9]+ failed$/ { p += $1; f += $3 }
         END { print p + 0, f + 0 }' "$log"
}

# step NAME COMMAND…
step() {
    local name=$1 begin=$SECONDS status=0 p f
    shift
    echo "== $name"
    "$@" >"$log" 2>&1 || status=$?
    read -r p f <<<"$(count)"
    if [ $((p + f)) = 0 ] || { [ "$status" != 0 ] && [ "$f" = 0 ]; }; then
        if [ "$status" = 0 ]; then p=$((p + 1)); else f=$((f + 1)); fi
    fi
    if [ "$status" != 0 ]; then
        cat "$log"
    else
        grep -E '^(ok|FAILED|FAIL) ' "$log"
    fi
    passed=$((passed + p)) failed=$((failed + f))
    echo "   $name: $p passed, $f failed ($((SECONDS - begin)) s)"
}

make=(make --no-print-directory)
for arch in riscv64 aarch64 x86_64; do
    step "setup for $arch" scripts/setup.sh "$arch" test
done
step "formatting" "${make[@]}" fmt-check
step "lints" "${make[@]}" clippy
step "host tests" "${make[@]}" test-host
step "documentation" "${make[@]}" doc
step "a fifth architecture" scripts/test-fifth-architecture.sh
step "boots" "${make[@]}" test-boot
step "system tests" "${make[@]}" test-qemu
for arch in riscv64 aarch64 x86_64; do
    step "unit costs of $arch" "${make[@]}" bench ARCH="$arch" BENCH=--check
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
