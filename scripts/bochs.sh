#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
# Boots an image in Bochs, which has the VMX that QEMU lacks: bochs.sh x86_64 IMAGE [BUNDLE]
# SMP, LOG, ONIDLE and BOCHS_CPU come from the environment. Prints what the first serial port
# gets; there is no input. Exits with 0 if the machine switched itself off.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

arch=$1 image=$2 bundle=${3:-}
[ "$arch" = x86_64 ] || die "Bochs has no $arch"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# GRUB on a CD hands the bundle over as QEMU does.
mkdir -p "$work/cd/boot/grub"
cp "$image" "$work/cd/boot/image"
module=
if [ -n "$bundle" ]; then
    cp "$bundle" "$work/cd/boot/bundle"
    module='module /boot/bundle'
fi
cat >"$work/cd/boot/grub/grub.cfg" <<END
set timeout=0
serial --unit=0
terminal_output serial
multiboot /boot/image log=${LOG:-warn} onidle=${ONIDLE:-shell}
$module
boot
END
grub-mkrescue -o "$work/cd.iso" "$work/cd" >"$work/grub" 2>&1 || die "$(tail -n 3 "$work/grub")"

mkfifo "$work/serial"
cat >"$work/bochsrc" <<END
config_interface: textconfig
display_library: rfb, options="timeout=0"
plugin_ctrl: unmapped=1, biosdev=1, serial=1, speaker=0, parallel=0, extfpuirq=0, gameport=0
megs: 512
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
cpu: model=${BOCHS_CPU:-corei7_haswell_4770}, count=${SMP:-1}, ips=50000000, reset_on_triple_fault=0
clock: sync=none, time0=local
boot: cdrom
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=cdrom, path=$work/cd.iso, status=inserted
com1: enabled=1, mode=file, dev=$work/serial
log: $work/log
panic: action=fatal
error: action=report
info: action=report
END
echo c >"$work/commands"

# Its own output is of no use; its log says how it ended. Whoever ends this script ends it, too.
cat "$work/serial" &
setpriv --pdeathsig KILL bochs -q -f "$work/bochsrc" -rc "$work/commands" </dev/null >"$work/output" 2>&1 || true
wait
if ! grep -qE 'shutdown requested|soft power off' "$work/log"; then
    grep -v 'CPU.*] |' "$work/log" | tail -n 12 >&2
    exit 1
fi
