#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
# Makes the bundle that is embedded into AxHive: default-bundle.sh ARCH
# It holds the VM files configs/vms/ARCH/hello*.toml and our own smallest guest.
# Without such files (an architecture that runs no guests yet) there is none.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

arch=$1
bundle=$root/build/$arch/default.bundle
shopt -s nullglob
files=("$root/configs/vms/$arch"/hello*.toml)
if [ ${#files[@]} = 0 ]; then
    rm -f "$bundle"
    exit 0
fi
"$root/scripts/build.sh" "$arch" release guests/hello "build/$arch/release/hello"
(cd "$root" && cargo run --quiet --package axhive-tools -- bundle --strict -o "$bundle.new" "${files[@]#"$root"/}")
# An unchanged bundle keeps its time, so that nothing is built again for it.
cmp -s "$bundle.new" "$bundle" || mv "$bundle.new" "$bundle"
rm -f "$bundle.new"
