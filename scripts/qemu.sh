#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
# Boots an image in QEMU: qemu.sh ARCH IMAGE [BUNDLE [ARGUMENT…]], the arguments being QEMU's.
# SMP, MEM, LOG, ONIDLE, OPTIONS, ACCEL and QEMU_ARGS come from the environment. Exits with 0 if the
# machine ended itself well and with something else if it did not. Ctrl-A X ends QEMU by hand.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

arch=$1 image=$2 bundle=${3:-}
shift $(($# < 3 ? $# : 3))

# KVM runs the machine on this one's CPUs, which lend it their virtualization only on x86_64.
check_kvm() {
    local nested
    [ "$arch/$(uname -m)" = x86_64/x86_64 ] \
        || die "ACCEL=kvm runs ARCH=x86_64 on an x86_64 machine only"
    [ -e /dev/kvm ] || die "ACCEL=kvm: this machine has no /dev/kvm; is kvm_intel or kvm_amd loaded?"
    [ -w /dev/kvm ] || die "ACCEL=kvm: you may not use /dev/kvm; join the group kvm"
    nested=$(cat /sys/module/kvm_{intel,amd}/parameters/nested 2>/dev/null || true)
    [[ $nested =~ [Y1] ]] \
        || die "ACCEL=kvm: KVM lends no virtualization; load kvm_intel or kvm_amd with nested=1"
}

accel=${ACCEL:-tcg}
case $accel in
    tcg) ;;
    kvm) check_kvm ;;
    *) die "ACCEL=$accel is not tcg or kvm" ;;
esac
case $arch in
    riscv64)
        machine=(-machine virt -cpu 'rv64,h=true' -bios default)
        ;;
    aarch64)
        # PSCI has no exit status: a failure is reported through pvpanic. Pointers are authenticated
        # by an algorithm that QEMU computes quickly: with Arm's, Linux takes four times as long.
        machine=(-machine 'virt,virtualization=on,gic-version=3' -cpu 'max,pauth-impdef=on'
            -device pvpanic-pci -action panic=exit-failure)
        ;;
    x86_64)
        # What TCG does not have of an EPYC is switched off, so that it does not warn. QEMU 7.2
        # damages the flags of a guest that is interrupted behind CMPXCHG16B, and with a thread
        # for each CPU runs code on that was patched: both end Linux (docs/guests.md).
        machine=(-machine q35 -vga none -device 'isa-debug-exit,iobase=0xf4,iosize=4')
        case $accel in
            tcg) machine+=(-accel 'tcg,thread=single'
                -cpu 'EPYC,+svm,-cx16,-rdseed,-sha-ni,-fxsr-opt,-misalignsse,-3dnowprefetch,-osvw,-topoext,-nrip-save,-xsavec') ;;
            # All of this machine's CPU, its invariant TSC included.
            kvm) machine+=(-accel kvm -cpu 'host,migratable=off') ;;
        esac
        ;;
esac
boot=(-kernel "$image" -append "log=${LOG:-warn} onidle=${ONIDLE:-shell}${OPTIONS:+ $OPTIONS}")
if [ -n "$bundle" ]; then
    boot+=(-initrd "$bundle")
fi
read -ra extra <<<"${QEMU_ARGS:-}"

# Whoever ends this script, in whatever way, ends QEMU.
status=0
setpriv --pdeathsig KILL "qemu-system-$arch" "${machine[@]}" -smp "${SMP:-2}" -m "${MEM:-1G}" -nic none \
    -display none -serial mon:stdio -no-reboot "${boot[@]}" "${extra[@]}" "$@" || status=$?

# isa-debug-exit ends QEMU with 2 v + 1; the image writes 0x10 for success, 0x11 for failure.
case $arch:$status in
    x86_64:33) status=0 ;;
    x86_64:35) status=1 ;;
esac
exit "$status"
