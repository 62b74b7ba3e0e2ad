#!/bin/bash
# SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
#
# Runs a QEMU under -icount and prints how many instructions it has executed
# when it reaches an address.
#
#   count.sh ADDRESS... -- QEMU ARGUMENTS...
#
# ADDRESS is virtual, in hexadecimal, and meant in whatever mode it is executed
# first. QEMU is stopped there by a breakpoint (GDB remote serial protocol) and
# asked for its count (QMP, query-replay): nothing depends on the host's speed,
# and counts repeat exactly. Each address has a run of its own, since a QEMU that
# was stopped by a breakpoint does not go on as if it had not been.
# SERIAL names a file for the console, TIMEOUT_S bounds each run. Exit status: 0
# all reached, 1 not.
set -u

timeout_s=${TIMEOUT_S:-300}
addresses=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    addresses+=("$1")
    shift
done
shift

fail() {
    echo "count.sh: $*" >&2
    exit 1
}

work=$(mktemp -d) || fail "no temporary directory"
process=
stop() {
    [ -z "$process" ] || kill "$process" 2>/dev/null
    wait
    process=
}
trap 'stop; rm -rf "$work"' EXIT

# New pipes each time: what an earlier QEMU said last is not this one's.
start() {
    rm -f "$work"/*.in "$work"/*.out
    mkfifo "$work"/{gdb,qmp}.{in,out} || fail "no pipes"
    timeout -k 5 "$timeout_s" "$@" \
        -icount shift=0,sleep=off -seed 1 -rtc clock=vm,base=2026-01-01 -nic none \
        -display none -monitor none -serial "file:${SERIAL:-/dev/null}" -S \
        -no-reboot \
        -chardev pipe,id=gdb,path="$work/gdb" -gdb chardev:gdb \
        -chardev pipe,id=qmp,path="$work/qmp" -mon chardev=qmp,mode=control \
        </dev/null >"$work/output" 2>&1 &
    process=$!
    exec {gdb_in}<>"$work/gdb.in" {gdb_out}<>"$work/gdb.out"
    exec {qmp_in}<>"$work/qmp.in" {qmp_out}<>"$work/qmp.out"
    qmp qmp_capabilities '"return": \{\}'
}

# gdb PACKET SECONDS: sends a packet; leaves the answer in $answer.
gdb() {
    local sum=0 at code
    for ((at = 0; at < ${#1}; at++)); do
        printf -v code %d "'${1:at:1}"
        sum=$(((sum + code) % 256))
    done
    printf '$%s#%02x' "$1" $sum >&"$gdb_in"
    read -r -t "$2" -d '#' -u "$gdb_out" answer ||
        fail "no answer to $1 within $2 s: $(cat "$work/output")"
    read -r -t "$2" -N 2 -u "$gdb_out" _ || fail "half an answer to $1"
    printf + >&"$gdb_in"
    answer=${answer#*\$}
}

# qmp COMMAND PATTERN: sends a command and reads lines until one answers it.
qmp() {
    local line
    printf '{"execute":"%s"}' "$1" >&"$qmp_in"
    while read -r -t 30 -u "$qmp_out" line; do
        [[ $line =~ $2 ]] && return
    done
    fail "QEMU does not answer $1: $(cat "$work/output")"
}

run_to_address() {
    gdb "Z0,$1,1" 30
    [ "$answer" = OK ] || fail "no breakpoint at $1: $answer"
    gdb c "$timeout_s"
    [[ $answer == T05* ]] || fail "stopped before $1: $answer $(cat "$work/output")"
}

for address in "${addresses[@]}"; do
    start "$@"
    run_to_address "$address"
    qmp query-replay '"icount": ([0-9]+)'
    echo "${BASH_REMATCH[1]}"
    stop
done
