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
# A kernel waits for ticks here and there, so that any small change moves its
# count by some ticks: the number is the median over initramfs files that differ
# only by zeros at their end (build/guests/ARCH/initramfs-<zeros>.cpio), and is to
# be compared with a median over the same files. MACHINE, CPU, QEMU_DIR and
# PADDINGS choose others; TIMEOUT_S bounds each run. Exit status: 0 measured, 1
# not, 2 cannot try.
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
read -r -a paddings <<<"${PADDINGS:-0 4096 8192 16384 65536}"
for file in "$kernel" "$guest/initramfs.cpio"; do
    [ -f "$file" ] || cannot "$file is missing: run fetch.sh $arch and initramfs.sh $arch first"
done

# The first instruction of user space: where the static busybox is entered.
user=$(od -An -tx8 -j24 -N8 "$guest/busybox" | tr -d ' ' | sed 's/^0*//')

# count PADDING ADDRESS
count() {
    local initrd=$guest/initramfs-$1.cpio
    { cat "$guest/initramfs.cpio" && head -c "$1" /dev/zero; } >"$initrd" || return
    machine "$here/count.sh" "$2" -- \
        "$qemu" -m 256M -smp 1 -kernel "$kernel" -initrd "$initrd" \
        -append "console=$serial nokaslr expect_cpus=1 expect_mem=256 bench"
}

name=linux-bare-$arch
[ "$flavour" = "${flavours%% *}" ] || name=$name-generic
echo "$name: linux-image-$flavour, $("$qemu" --version | head -n 1)"
sed "s/^/$name: /" "$guest/versions"
before=$(count "${paddings[0]}" "$entry") || exit 1
echo "$name: $before instructions before the kernel's entry"
counts=()
for padding in "${paddings[@]}"; do
    at=$(count "$padding" "$user") || exit 1
    echo "$name: initramfs-$padding.cpio $((at - before))"
    counts+=($((at - before)))
done
mapfile -t counts < <(printf '%s\n' "${counts[@]}" | sort -n)
echo "BENCH $name ${counts[${#counts[@]} / 2]} instructions"
