#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
#
# Builds a guest's initramfs: busybox, and our own /init and /checks.
#
#   initramfs.sh <riscv64|aarch64|x86_64>
#
# Writes build/guests/ARCH/initramfs.cpio: the same bytes for the same input, and
# without root. It is not compressed: with gzip a guest takes up to 4 % more
# instructions until user space (docs/guests.md has the figures).
# Format: Linux, "initramfs buffer format", newc.
set -u

arch=${1:-}
here=$(cd "$(dirname "$0")" && pwd)

cannot() {
    echo "initramfs.sh: $*" >&2
    exit 2
}

# shellcheck source=machine.sh
. "$here/machine.sh"
archive=$guest/initramfs.cpio
inode=0

zeros() {
    head -c "$1" /dev/zero
}

# entry NAME MODE SIZE: a header. Fields: inode, mode, user, group, links, time,
# size, device and special device (2 each), length of the name, checksum.
entry() {
    inode=$((inode + 1))
    length=$((${#1} + 1))
    printf '070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\0' \
        $inode "0$2" 0 0 1 0 "$3" 0 0 0 0 $length 0 "$1"
    zeros $(((4 - (110 + length) % 4) % 4))
}

directory() {
    entry "$1" 40755 0
}

# file NAME SOURCE: an executable file.
file() {
    size=$(wc -c <"$2")
    entry "$1" 100755 "$size"
    cat "$2"
    zeros $(((4 - size % 4) % 4))
}

contents() {
    for name in bin dev proc sys tmp; do
        directory $name
    done
    file init "$here/init"
    file checks "$here/checks"
    file bin/busybox "$guest/busybox"
    entry 'TRAILER!!!' 0 0
}

[ -f "$guest/busybox" ] || cannot "$guest/busybox is missing: run fetch.sh $arch first"
contents >"$archive.new" || cannot "cannot write $archive"
mv "$archive.new" "$archive"
