#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
# Runs cargo for the bare machine of an architecture: cargo.sh ARCH SUBCOMMAND [ARGUMENT…]
# Chooses the toolchain (see toolchain_of in lib.sh) and tells ArceOS's crates the platform.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

arch=$1 subcommand=$2
shift 2
target=$(target_of "$arch")
# LOG is obeyed at run time, from the command line; this is for what ArceOS says before it.
export AX_LOG=warn AX_CONFIG_PATH=${AX_CONFIG_PATH-$(config_of "$arch")}

case $(toolchain_of "$arch") in
    rustup)
        exec cargo "$subcommand" --target "$target" "$@"
        ;;
    debian)
        linker=CARGO_TARGET_$(echo "$target" | tr 'a-z-' 'A-Z_')_LINKER
        export "$linker=ld.lld" PATH=/usr/bin:$PATH RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1
        # A proxy of rustup would put its own rustc before Debian's.
        unset RUSTUP_TOOLCHAIN
        exec /usr/bin/cargo "$subcommand" --target "$target" \
            -Z build-std=core,alloc,compiler_builtins \
            -Z build-std-features=compiler-builtins-mem "$@"
        ;;
    *)
        die "no compiler for $target; run: make ARCH=$arch setup"
        ;;
esac
