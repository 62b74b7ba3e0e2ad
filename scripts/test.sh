#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
# Runs everything that must hold, and ends with the line `N passed, N failed`.
# Each step counts the tests that it ran; a step that counts none counts as one itself.
# A failing step does not keep the next from running. What is built for this machine is tested beside
# what is built for the others: each half has its own profile, so that cargo hardly ever lets one
# wait for the other. The system tests have the CPUs to themselves.
set -uo pipefail
. "$(dirname "$0")/lib.sh"
cd "$root" || exit 2

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Whatever still runs in this process group ends, too.
trap 'trap "" TERM; kill 0; exit 1' INT TERM

# Adds up what a step's output says: cargo's result lines and plain `N passed, N failed`.
count() {
    awk '/^test result: / { p += $4; f += $6 }
         /^[0-9]+ passed, [0-9]+ failed$/ { p += $1; f += $3 }
         END { print p + 0, f + 0 }' "$1"
}

# step NAME COMMAND…: tells of itself when it ends, in one piece.
step() {
    local name=$1 log begin=$SECONDS status=0 p f
    shift
    log=$(mktemp -p "$work")
    "$@" >"$log" 2>&1 || status=$?
    read -r p f <<<"$(count "$log")"
    if [ $((p + f)) = 0 ] || { [ "$status" != 0 ] && [ "$f" = 0 ]; }; then
        if [ "$status" = 0 ]; then p=$((p + 1)); else f=$((f + 1)); fi
    fi
    {
        flock 9
        echo "== $name"
        if [ "$status" != 0 ]; then
            cat "$log"
        else
            grep -E '^(ok|FAILED|FAIL) ' "$log"
        fi
        echo "   $name: $p passed, $f failed ($((SECONDS - begin)) s)"
        echo "$p $f" >>"$work/results"
    } 9>"$work/lock"
}

make=(make --no-print-directory)

of_this_machine() {
    step "formatting" "${make[@]}" fmt-check
    step "lints" "${make[@]}" clippy-host
    step "host tests" "${make[@]}" test-host
    step "documentation" "${make[@]}" doc
    step "a fifth architecture" scripts/test-fifth-architecture.sh
}

of_the_others() {
    step "lints of what runs on other machines" "${make[@]}" clippy-machines
    step "boots" "${make[@]}" test-boot
}

for arch in riscv64 aarch64 x86_64; do
    step "setup for $arch" scripts/setup.sh "$arch" test
done
of_this_machine &
of_the_others &
wait
step "system tests" "${make[@]}" test-qemu
# They count instructions, so that it does not matter how many run at once.
for arch in riscv64 aarch64 x86_64; do
    step "unit costs of $arch" "${make[@]}" bench ARCH="$arch" BENCH=--check &
done
wait
awk '{ p += $1; f += $2 } END { print p " passed, " f " failed"; exit f > 0 }' "$work/results"
