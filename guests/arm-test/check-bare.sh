#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
#
# Boots arm-test on bare QEMU, on GICv2 and GICv3 and CPUs old and new.
#
#   check-bare.sh [ELF]
#
# ELF defaults to what a release build leaves in the target directory.
set -u

here=$(cd "$(dirname "$0")" && pwd)
elf=${1:-${CARGO_TARGET_DIR:-$here/../../target}/aarch64-unknown-none-softfloat/release/arm-test}
[ -f "$elf" ] || { echo "check-bare.sh: $elf is missing: build it first" >&2; exit 2; }
failed=0
for cpu in max neoverse-n1 cortex-a72 cortex-a57; do
    for gic in 2 3; do
        console=$(timeout -k 5 "${TIMEOUT_S:-90}" qemu-system-aarch64 -machine virt,gic-version=$gic -cpu $cpu \
            -smp 2 -m 128M -display none -monitor none -serial stdio -nic none -no-reboot -kernel "$elf" </dev/null 2>&1)
        case $console in
            *FAIL*) result=FAIL ;;
            *"arm-test: done"*) result=ok ;;
            *) result=FAIL ;;
        esac
        echo "$result $cpu, GICv$gic"
        [ $result = ok ] || { failed=1; echo "$console"; }
    done
done
exit $failed
