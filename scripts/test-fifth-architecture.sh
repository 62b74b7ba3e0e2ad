#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
# Shows that an architecture plugs in: a copy of the repository gets a fifth one by a folder in
# modules/arch_vm and one line in app/Cargo.toml, and the application builds with it; two
# architectures at once, or none, are refused with a message that says what to do.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
(cd "$root" && git ls-files -z -co --exclude-standard | tar --null -T - -cf -) | tar -C "$copy" -xf -
cd "$copy"

# The fifth architecture is the software one under another name.
cp -r modules/arch_vm/host modules/arch_vm/fifth
sed -i 's/arch_vm_host/arch_vm_fifth/' modules/arch_vm/fifth/Cargo.toml
sed -i '/^arch_vm_fifth = { path/d' modules/arch_vm/fifth/Cargo.toml
line='fifth = { path = "../modules/arch_vm/fifth", package = "arch_vm_fifth", features = ["std"], optional = true }'
sed -i "s|^host = { path.*|&\n$line|" app/Cargo.toml

# The repository's own build results serve, so that little is built again.
export CARGO_TARGET_DIR=$root/target
check() {
    cargo check --quiet --offline -p axhive --features "$1" 2>&1
}

check fifth
for wrong in fifth,host ""; do
    if message=$(check "$wrong"); then
        die "features \"$wrong\" should be refused"
    fi
    grep -q 'select exactly one of: .*fifth' <<<"$message" || die "no clear message: $message"
done
echo "1 passed, 0 failed"
