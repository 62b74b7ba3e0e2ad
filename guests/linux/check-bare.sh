#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
#
# Boots the Linux guest on bare QEMU and looks at its console: what it sees there
# is what it must see in a VM.
#
#   check-bare.sh <riscv64|aarch64|x86_64> [CPUS...]
#
# CPUS defaults to 1 2 4. With each number the first kernel is booted; every other
# way of starting and ending is tried once. Exit status: 0 all passed, 1 a run went
# wrong (the end of its console is shown), 2 cannot try. QEMU_DIR names a
# directory with another QEMU; MACHINE, CPU and ACCEL choose another machine;
# TIMEOUT_S bounds each run.
set -u

arch=${1:-}
here=$(cd "$(dirname "$0")" && pwd)
timeout_s=${TIMEOUT_S:-300}
memory_mib=256
passed=0
failed=0

cannot() {
    echo "check-bare.sh: $*" >&2
    exit 2
}

# shellcheck source=machine.sh
. "$here/machine.sh"
shift
[ -n "${*:-}" ] || set -- 1 2 4
[ -f "$guest/initramfs.cpio" ] || cannot "run fetch.sh $arch and initramfs.sh $arch first"
command -v "$qemu" >/dev/null || cannot "$qemu is not installed"
work=$(mktemp -d) || cannot "no temporary directory"
trap 'rm -rf "$work"' EXIT
console=$work/console

# One thread runs all CPUs: QEMU 7.2 with a thread each may keep translated code
# that a guest kernel has patched meanwhile, and the kernel crashes or hangs.
qemu_boots() {
    timeout -k 5 "$timeout_s" "$qemu" "$@" -m ${memory_mib}M -smp "$cpus" -no-reboot \
        -accel "${ACCEL:-tcg,thread=single}" \
        -nic none -display none -monitor none -serial stdio -kernel "$kernel" \
        -initrd "$guest/initramfs.cpio" -append "console=$serial \
expect_cpus=$cpus expect_mem=$memory_mib $words" >"$console" 2>"$work/errors"
}

# has PATTERN COUNT: the console must have so many lines like this.
has() {
    count=$(tr -d '\r' <"$console" | grep -Ecx "$1")
    [ "$count" -eq "$2" ] || problem="${problem:+$problem; }$count lines like '$1', not $2"
}

judge() {
    took=$(($(date +%s) - started))
    if [ -z "$problem" ]; then
        passed=$((passed + 1))
        echo "ok   $arch $flavour, $cpus cpu(s), '$words', $took s"
        return
    fi
    failed=$((failed + 1))
    echo "FAIL $arch $flavour, $cpus cpu(s), '$words': $problem"
    tail -n 60 "$console" | cat - "$work/errors" | sed 's/^/     | /'
}

# type_lines WORDS: what is typed when the guest listens, if it will.
type_lines() {
    [ "$1" = echo ] || return
    while ! grep -q "linux: listening" "$console"; do
        [ $(($(date +%s) - started)) -lt "$timeout_s" ] || return
        sleep 1
    done
    printf 'one\ntwo words\nquit\n'
}

# boots FLAVOUR CPUS WORDS: one whole good run.
boots() {
    flavour=$1 cpus=$2 words=$3
    kernel=$(kernel_file "$flavour")
    problem=
    started=$(date +%s)
    : >"$console"
    type_lines "$words" | machine qemu_boots
    status=$?
    [ $status -eq 0 ] || problem="exit status $status"
    has "linux: user space" 1
    has "linux: FAIL.*" 0
    for check in cpus pinned timers clock memory float fork signals interrupts log; do
        has "linux: ok $check: .*" 1
    done
    has "linux: done" 1
}

for number in "$@"; do
    boots "${flavours%% *}" "$number" ""
    judge
done

boots "${flavours%% *}" 2 "hotplug reboot"
has "linux: ok hotplug: .*" 1
judge

boots "${flavours##* }" 1 "echo"
has "linux: echo one" 1
has "linux: echo two words" 1
has "linux: ok echo" 1
judge

if [ "$arch" = x86_64 ]; then
    boots "${flavours%% *}" 1 "nolapic"
    judge
fi

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
