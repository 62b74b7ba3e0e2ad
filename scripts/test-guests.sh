#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
# Gets the guests that a system test needs: test-guests.sh ARCH GUEST…
# A guest is a folder of guests/; its images go where the VM files of configs/vms look for them.
# Called by the system tests with what a case names as its needs.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

arch=$1
shift
cd "$root"

# build GUEST IMAGE
build() {
    scripts/build.sh "$arch" release "guests/$1" "build/$arch/release/$2"
}

# flatten IMAGE: an ELF for x86_64 becomes what it loads at 1 MiB, whose first bytes, the multiboot
# header's magic number, become a jump to its entry.
flatten() {
    local entry distance
    entry=$(od -An -tu4 -j24 -N4 "$1.elf")
    distance=$((entry - 0x100005))
    llvm-objcopy -O binary "$1.elf" "$1"
    # shellcheck disable=SC2059 # the bytes are the format
    printf "$(printf '\\x%02x' 0xe9 $((distance & 255)) $((distance >> 8 & 255)) 0 0)" \
        | dd of="$1" bs=1 conv=notrunc status=none
}

for guest in "$@"; do
    case $guest in
        # The number of CPUs is built in.
        arceos-demo-smp*) SMP=${guest#arceos-demo-smp} build arceos-demo "$guest" ;;
        # Without the magic numbers of Linux's header nothing tells what it is.
        hello-flat)
            build hello "$guest"
            if [ "$arch" = x86_64 ]; then
                flatten "build/$arch/release/$guest"
            else
                dd if=/dev/zero of="build/$arch/release/$guest" bs=1 seek=48 count=12 conv=notrunc status=none
            fi
            ;;
        # Without a multiboot header, which is the first of its segment, only its note is left.
        hello-pvh)
            build hello "$guest"
            dd if=/dev/zero of="build/$arch/release/$guest" bs=1 seek=4096 count=4 conv=notrunc status=none
            ;;
        linux)
            guests/linux/fetch.sh "$arch"
            guests/linux/initramfs.sh "$arch"
            ;;
        *) build "$guest" "$guest" ;;
    esac
done
