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

for guest in "$@"; do
    case $guest in
        # The number of CPUs is built in.
        arceos-demo-smp*) SMP=${guest#arceos-demo-smp} build arceos-demo "$guest" ;;
        # Without the magic numbers of Linux's header nothing tells what it is.
        hello-flat)
            build hello "$guest"
            dd if=/dev/zero of="build/$arch/release/$guest" bs=1 seek=48 count=12 conv=notrunc status=none
            ;;
        linux)
            guests/linux/fetch.sh "$arch"
            guests/linux/initramfs.sh "$arch"
            ;;
        *) build "$guest" "$guest" ;;
    esac
done
