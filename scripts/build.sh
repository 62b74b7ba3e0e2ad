#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
# Builds a crate for the bare machine: build.sh ARCH MODE CRATE IMAGE
# CRATE is a folder, in this repository or not. One that uses axstd is linked as an ArceOS
# application; any other says in its own build.rs how it is linked. An ArceOS application that
# has configs/ARCH.toml brings its platform: that is its configuration, for SMP CPUs.
# IMAGE becomes the file that QEMU boots, IMAGE.elf the file with symbols.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

arch=$1 mode=$2 crate=$3 image=$4
manifest=$crate/Cargo.toml
[ -f "$manifest" ] || die "A=$crate has no Cargo.toml"
target=$(target_of "$arch")

case $mode in
    release) arguments=(--release) folder=release ;;
    debug) arguments=() folder=debug ;;
    *) die "MODE=$mode is not release or debug" ;;
esac

# Its linker script may have the name of AxHive's, so it has a folder of its own.
config=$(config_of "$arch") output=$root/target
if [ -f "$crate/configs/$arch.toml" ]; then
    config=$(realpath -m "$image.toml") output=$root/target/guests/$(basename "$(realpath "$crate")")
    mkdir -p "$(dirname "$config")"
    sed "s/^\(max-cpu-num *= *\)[0-9]*/\1${SMP:-2}/" "$crate/configs/$arch.toml" >"$config.new"
    # An unchanged configuration keeps its time, so that nothing is built again for it.
    cmp -s "$config.new" "$config" || cp "$config.new" "$config"
    rm "$config.new"
    export AX_CONFIG_PATH=$config
fi
arguments+=(--manifest-path "$manifest" --target-dir "$output")
if grep -q '^ *'"$arch"' *=.*optional' "$manifest"; then
    arguments+=(--features "$arch")
fi

link=()
if grep -qE '^ *axstd\b' "$manifest"; then
    script=$output/$target/$folder/linker_$(platform_of "$config").lds
    for argument in "-T$script" -no-pie -znostart-stop-gc; do
        link+=(-C "link-arg=$argument")
    done
fi

# What AxHive runs when no VMs are handed to it.
bundle=$root/build/$arch/default.bundle
if [ -f "$bundle" ]; then
    export AXHIVE_BUNDLE=$bundle
fi

# Nobody else may build this crate, for other CPUs, until its binary is copied.
mkdir -p "$output"
exec 9>"$output/image.lock"
flock 9

name=$(sed -n '/^\[package\]/,/^\[/s/^name *= *"\(.*\)".*/\1/p' "$manifest")
"$root/scripts/cargo.sh" "$arch" rustc "${arguments[@]}" --bin "$name" -- "${link[@]}"
mkdir -p "$(dirname "$image")"
cp "$output/$target/$folder/$name" "$image.elf"
# A multiboot header may count on the file's being an ELF; that of our platform does not.
if [ "$arch" = x86_64 ] && { [ ${#link[@]} = 0 ] || [ "$config" != "$(config_of x86_64)" ]; }; then
    cp "$image.elf" "$image"
else
    llvm-objcopy -O binary "$image.elf" "$image"
fi
