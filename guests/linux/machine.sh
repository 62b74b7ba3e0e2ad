#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
#
# What the other scripts here know of each architecture. Sourced, not run: the
# caller has set `arch` and defines `cannot MESSAGE`, which ends the script.
#
# Sets: debian (Debian's name of the architecture), flavours (kernels, the first
# is the one that tests and benchmarks mean), image (the kernel file's name),
# serial (the console), root, guest (where everything of ARCH is put),
# entry (where bare QEMU enters the kernel) and the function `machine`.

case ${arch:?} in
riscv64)
    debian=riscv64 flavours=riscv64 image=Image serial=ttyS0 entry=80200000
    ;;
aarch64)
    debian=arm64 flavours="cloud-arm64 arm64" image=Image serial=ttyAMA0 entry=40200000
    ;;
x86_64)
    debian=amd64 flavours="cloud-amd64 amd64" image=bzImage serial=ttyS0 entry=100000
    ;;
*) cannot "the architecture is riscv64, aarch64 or x86_64" ;;
esac

root=$(cd "$(dirname "$0")/../.." && pwd)
guest=$root/build/guests/$arch
qemu=${QEMU_DIR:+$QEMU_DIR/}qemu-system-$arch
: "$debian" "$flavours" "$image" "$serial" "$entry" "$guest" "$qemu"

# kernel_file FLAVOUR: the first flavour has the plain name.
kernel_file() {
    case $1 in
    "${flavours%% *}") echo "$guest/$image" ;;
    *) echo "$guest/$image-generic" ;;
    esac
}

# machine FUNCTION ARGUMENTS...: calls FUNCTION with the arguments and QEMU's
# for the machine that is a guest's model. MACHINE and CPU change it. Pointers are
# authenticated by an algorithm that QEMU computes quickly. There is no cx16: QEMU
# 7.2 damages the flags when an interrupt follows CMPXCHG16B.
machine() {
    case $arch in
    riscv64) "$@" -machine "${MACHINE:-virt}" -cpu "${CPU:-rv64}" ;;
    aarch64) "$@" -machine "${MACHINE:-virt,gic-version=3}" -cpu "${CPU:-max,pauth-impdef=on}" ;;
    x86_64) "$@" -machine "${MACHINE:-q35}" -cpu "${CPU:-EPYC,-cx16}" ;;
    esac
}
