#!/bin/bash
# SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
#
# Counts the instructions that the Linux guest takes on bare QEMU, with one CPU,
# from the kernel's entry to user space ("linux: user space").
#
#   measure-bare.sh <riscv64|aarch64|x86_64> [FLAVOUR]
#
# Prints `BENCH linux-bare-<arch> <number> instructions`, the same each time. User
# space is the first instruction of init's shell, which prints the line at once.
# A kernel shares its CPU by ticks: its own tests go on while it boots, and how many
# of them end before user space depends on where in a tick it is, which any small
# change moves. The number is therefore the mean over initramfs files that differ
# by the size of one more file (build/guests/ARCH/initramfs-<KiB>.cpio), and is to
# be compared with a mean over the same files. MACHINE, CPU, QEMU_DIR and SIZES
# choose others; TIMEOUT_S bounds each run. Exit status: 0 measured, 1 not, 2
# cannot try.
set -u

arch=${1:-}
here=$(cd "$(dirname "$0")" && pwd)

cannot() {
    echo "measure-bare.sh: $*" >&2
    exit 2
}

# shellcheck source=machine.sh
. "$here/machine.sh"
flavour=${2:-${flavours%% *}}
kernel=$(kernel_file "$flavour")
read -r -a sizes <<<"${SIZES:-$(seq -s " " 100 250 5100)}"
for file in "$kernel" "$guest/initramfs.cpio"; do
    [ -f "$file" ] || cannot "$file is missing: run fetch.sh $arch and initramfs.sh $arch first"
done

# The first instruction of user space: where the static busybox is entered.
user=$(od -An -tx8 -j24 -N8 "$guest/busybox" | tr -d ' ' | sed 's/^0*//')

# header NAME MODE SIZE: begins an entry of a cpio archive.
header() {
    printf '070701%08x%08x%08x%08x%08x' 0 "$2" 0 0 1
    printf '%08x%08x%08x%08x%08x%08x' 0 "$3" 0 0 0 0
    printf '%08x%08x%s\0' $((${#1} + 1)) 0 "$1"
}

# count KIB ADDRESS
count() {
    local initrd=$guest/initramfs-$1.cpio
    {
        cat "$guest/initramfs.cpio" && header extra 0100644 $(($1 * 1024)) &&
            head -c $(($1 * 1024)) /dev/zero && header 'TRAILER!!!' 0 0
    } >"$initrd" || return
    machine "$here/count.sh" "$2" -- \
        "$qemu" -m 256M -smp 1 -kernel "$kernel" -initrd "$initrd" \
        -append "console=$serial nokaslr expect_cpus=1 expect_mem=256 bench"
}

name=linux-bare-$arch
[ "$flavour" = "${flavours%% *}" ] || name=$name-generic
echo "$name: linux-image-$flavour, $("$qemu" --version | head -n 1)"
sed "s/^/$name: /" "$guest/versions"
rm -f "$guest"/initramfs-*.cpio
before=$(count "${sizes[0]}" "$entry") || exit 1
echo "$name: $before instructions before the kernel's entry"
sum=0
for size in "${sizes[@]}"; do
    at=$(count "$size" "$user") || exit 1
    echo "$name: initramfs-$size.cpio $((at - before))"
    sum=$((sum + at - before))
done
echo "BENCH $name $((sum / ${#sizes[@]})) instructions"
