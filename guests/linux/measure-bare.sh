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
# MACHINE, CPU, QEMU_DIR and INITRD choose others; TIMEOUT_S bounds each run.
# Exit status: 0 measured, 1 not, 2 cannot try.
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
initrd=${INITRD:-$guest/initramfs.cpio}
for file in "$kernel" "$initrd"; do
    [ -f "$file" ] || cannot "$file is missing: run fetch.sh $arch and initramfs.sh $arch first"
done

# The first instruction of user space: where the static busybox is entered.
user=$(od -An -tx8 -j24 -N8 "$guest/busybox" | tr -d ' ' | sed 's/^0*//')

counts=$(machine "$here/count.sh" "$entry" "$user" -- \
    "$qemu" -m 256M -smp 1 -kernel "$kernel" -initrd "$initrd" \
    -append "console=$serial nokaslr expect_cpus=1 expect_mem=256 bench") || exit 1
name=linux-bare-$arch
[ "$flavour" = "${flavours%% *}" ] || name=$name-generic
echo "$name: linux-image-$flavour, $("$qemu" --version | head -n 1)"
sed "s/^/$name: /" "$guest/versions"
to_entry=${counts%%$'\n'*}
to_user=${counts##*$'\n'}
echo "$name: $to_entry instructions before the kernel's entry"
echo "BENCH $name $((to_user - to_entry)) instructions"
