#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
#
# Boots hello on bare QEMU in every way that is promised, and looks at its console.
#
#   check-bare.sh <riscv64|aarch64|x86_64> [ELF]
#
# ELF defaults to what a release build leaves in the target directory. Exit
# status: 0 all passed, 1 a run went wrong (its console is shown), 2 cannot try.
# QEMU_DIR names a directory with another QEMU; TIMEOUT_S bounds each run.
set -u

arch=${1:-}
here=$(cd "$(dirname "$0")" && pwd)
target_dir=${CARGO_TARGET_DIR:-$here/../../target}
timeout_s=${TIMEOUT_S:-90}
passed=0
failed=0

cannot() {
    echo "check-bare.sh: $*" >&2
    exit 2
}

case $arch in
riscv64) triple=riscv64gc-unknown-none-elf ;;
aarch64) triple=aarch64-unknown-none-softfloat ;;
x86_64) triple=x86_64-unknown-none ;;
*) cannot "usage: check-bare.sh <riscv64|aarch64|x86_64> [ELF]" ;;
esac

elf=${2:-$target_dir/$triple/release/hello}
[ -f "$elf" ] || cannot "$elf is missing: build it first (guests/hello/README.md says how)"
qemu=${QEMU_DIR:+$QEMU_DIR/}qemu-system-$arch
command -v "$qemu" >/dev/null || cannot "$qemu is not installed"

work=$(mktemp -d) || cannot "no temporary directory"
trap 'rm -rf "$work"' EXIT
console=$work/console

# run NAME STATUS QEMU-ARGUMENTS...: boots once, input from $work/input; what is
# judged afterwards is the exit status and the console.
run() {
    name=$1
    wanted=$2
    shift 2
    timeout -k 5 "$timeout_s" "$qemu" -display none -monitor none -serial stdio \
        -nic none -m 128M "$@" <"$work/input" >"$console" 2>"$work/errors"
    status=$?
    problem=
    [ "$status" -eq "$wanted" ] || problem="exit status $status, not $wanted"
}

# has PATTERN COUNT: the console must have so many lines like this.
has() {
    count=$(tr -d '\r' <"$console" | grep -Ecx "$1")
    [ "$count" -eq "$2" ] || problem="${problem:+$problem; }$count lines like '$1', not $2"
}

judge() {
    if [ -z "$problem" ]; then
        passed=$((passed + 1))
        echo "ok   $arch $name"
        return
    fi
    failed=$((failed + 1))
    echo "FAIL $arch $name: $problem"
    sed 's/^/     | /' "$console" "$work/errors"
}

# boots NAME CPUS QEMU-ARGUMENTS...: one whole good run on so many CPUs.
boots() {
    cpus=$2
    label=$1
    shift 2
    : >"$work/input"
    run "$label, $cpus cpu(s)" 0 -no-reboot -smp "$cpus" "$@"
    has "hello: $arch, boot cpu 0x[0-9a-f]+, memory 128 MiB, cpus $cpus" 1
    has "hello: (no )?firmware console" 1
    has "hello: timer interrupt" 1
    has "hello: timer interrupt woke the halted cpu" 1
    has "hello: cpu [0-9]+ up, hardware id 0x[0-9a-f]+" $((cpus - 1))
    has "hello: cpu [0-9]+ timer interrupt" $((cpus - 1))
    has "hello: cpu [0-9]+ IPI from cpu 0" $((cpus - 1))
    has "hello: memory check: 8 pages good" 1
    has "hello: wall clock [0-9]+ s since 1970" 1
    has "hello: done" 1
    has "hello: FAIL.*" 0
    judge
}

# words QEMU-ARGUMENTS...: the words of the command line, with this machine.
words() {
    : >"$work/input"
    run "fault" 0 -no-reboot "$@" -append "fault"
    has "hello: (fault: .*|no fault, read .*)" 1
    has "hello: done" 1
    judge

    # The first byte is for firmware, which empties the receiver when it starts.
    printf '\none\ntwo words\nquit\n' >"$work/input"
    run "echo" 0 -no-reboot "$@" -append "console=none echo"
    has "hello: echo one" 1
    has "hello: echo two words" 1
    has "hello: done" 1
    judge

    # A machine that resets boots again and again, one that is off stays paused.
    : >"$work/input"
    run "reboot" 124 -action reboot=reset,shutdown=pause "$@" -append "reboot"
    [ "$(grep -c "hello: done" "$console")" -ge 2 ] || problem="did not boot again"
    judge

    run "spin" 124 -no-reboot "$@" -append "spin"
    has "hello: spinning with interrupts masked" 1
    has "hello: done" 0
    judge
}

# fails STATUS QEMU-ARGUMENTS...: a machine on which a step must fail.
fails() {
    wanted_status=$1
    shift
    : >"$work/input"
    run "failure" "$wanted_status" -no-reboot "$@"
    has "hello: FAIL .*" 1
    has "hello: done" 0
    judge
}

flat() {
    objcopy=$(command -v llvm-objcopy || command -v rust-objcopy) ||
        cannot "llvm-objcopy is not installed"
    "$objcopy" -O binary "$elf" "$work/hello.bin" || cannot "no flat binary"
}

# damaged_tree EDIT QEMU-ARGUMENTS...: a device tree of this machine in which
# something cannot be found any more. (QEMU mends RAM and PSCI on aarch64.)
damaged_tree() {
    edit=$1
    shift
    "$qemu" "$@" -m 128M -display none -machine dumpdtb="$work/tree" >/dev/null 2>&1
    LC_ALL=C sed "$edit" "$work/tree" >"$work/damaged"
}

check_riscv64() {
    flat
    for cpus in 1 2 4; do
        boots "ELF" "$cpus" -machine virt -kernel "$elf"
        boots "flat" "$cpus" -machine virt -kernel "$work/hello.bin"
    done
    damaged_tree 's/memory@/nemory@/' -machine virt
    fails 1 -machine virt -kernel "$elf" -dtb "$work/damaged"
    timeout_s=10
    words -machine virt -smp 2 -kernel "$work/hello.bin"
}

check_aarch64() {
    flat
    for cpus in 1 2 4; do
        for cpu in max neoverse-n1 cortex-a57; do
            for gic in 2 3; do
                boots "$cpu, GICv$gic, ELF" "$cpus" \
                    -machine virt,gic-version=$gic -cpu $cpu -kernel "$elf"
            done
        done
        boots "max, GICv2, flat" "$cpus" \
            -machine virt,gic-version=2 -cpu max -kernel "$work/hello.bin"
        boots "max, GICv3, flat, from EL2" "$cpus" \
            -machine virt,gic-version=3,virtualization=on -cpu max -kernel "$work/hello.bin"
    done
    damaged_tree 's/arm,cortex-a15-gic/arm,cortex-a15-gik/' -machine virt -cpu max
    fails 0 -machine virt -cpu max -kernel "$work/hello.bin" -dtb "$work/damaged"
    timeout_s=10
    words -machine virt,gic-version=3 -cpu cortex-a57 -smp 2 -kernel "$work/hello.bin"
}

# The same file without its multiboot magic, so that QEMU boots it by PVH.
pvh_only() {
    LC_ALL=C sed '0,/\x02\xb0\xad\x1b/s/\x02\xb0\xad\x1b/\x00\x00\x00\x00/' "$elf" >"$work/pvh"
}

check_x86_64() {
    pvh_only
    for cpus in 1 2 4; do
        boots "multiboot" "$cpus" -machine q35 -cpu EPYC -kernel "$elf"
        boots "PVH" "$cpus" -machine q35 -cpu EPYC -kernel "$work/pvh"
        boots "max, no ACPI" "$cpus" -machine q35,acpi=off -cpu max -kernel "$elf"
    done
    fails 3 -machine q35 -cpu EPYC,-apic -kernel "$elf" \
        -device isa-debug-exit,iobase=0xf4,iosize=4
    timeout_s=10
    words -machine q35 -cpu EPYC -smp 2 -kernel "$elf"
}

"check_$arch"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
