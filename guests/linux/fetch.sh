#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
#
# Brings Debian's kernel and busybox for a guest into build/guests/ARCH.
#
#   fetch.sh <riscv64|aarch64|x86_64> [--fresh]
#
# apt fetches and verifies them with a configuration of its own: the machine's
# state and sources stay as they are, only its mirror and keys are used. What is
# there already is kept; --fresh looks for newer packages. Needs no root.
# GUEST_MIRROR, GUEST_KEYRING and GUEST_SUITE override what the machine's
# sources say. Exit status: 0 done, 2 cannot.
set -u

arch=${1:-}
fresh=${2:-}
here=$(cd "$(dirname "$0")" && pwd)
debian_keys=/usr/share/keyrings/debian-archive-keyring

cannot() {
    echo "fetch.sh: $*" >&2
    exit 2
}

# shellcheck source=machine.sh
. "$here/machine.sh"
suite=${GUEST_SUITE:-trixie}
apt=$guest/apt

# The machine's sources as lines "URI SUITE COMPONENTS|KEYS", of both formats.
machine_sources() {
    directory=${APT_DIRECTORY:-/etc/apt}
    cat "$directory/sources.list" "$directory"/sources.list.d/*.list 2>/dev/null |
        awk -f "$here/one-line.awk"
    for file in "$directory"/sources.list.d/*.sources; do
        [ -f "$file" ] && awk -f "$here/deb822.awk" "$file"
    done
}

# The first source that is a Debian archive: main, and a suite of Debian's own.
find_mirror() {
    suites='(trixie|bookworm|bullseye|forky|sid|(old)?stable|testing|unstable)'
    source=$(machine_sources | grep -E "^[^ ]+ (.* )?$suites (.* )?main( |\||\$)" | head -n 1)
    mirror=${GUEST_MIRROR:-${source%% *}}
    [ -n "$mirror" ] ||
        cannot "no Debian archive among this machine's apt sources; set GUEST_MIRROR to one's URI"
    keys=${GUEST_KEYRING:-}
    [ -n "$keys" ] || keys=$(keyrings "${source#*|}")
}

# keyrings NAMED: the keyring files that the source names, and Debian's own,
# which knows the keys of suites newer than the machine's.
keyrings() {
    for file in $1 "$debian_keys.gpg" "$debian_keys.pgp"; do
        [ -f "$file" ] && echo "$file"
    done | sort -u | tr '\n' ' '
}

write_apt_configuration() {
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$guest/packages" ||
        cannot "cannot write to $guest"
    : >"$apt/status"
    cat >"$apt/guest.sources" <<END
Types: deb
URIs: $mirror
Suites: $suite
Components: main
Architectures: $debian
Targets: Packages
${keys:+Signed-By: $keys}
END
    # Read after the machine's own configuration, whose proxy and login it keeps.
    cat >"$apt/apt.conf" <<END
#clear APT::Architectures;
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
APT::Architecture "$debian";
APT::Architectures { "$debian"; };
APT::Update::Error-Mode "any";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
Dir::State "$apt";
Dir::State::lists "$apt/lists";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
Dir::Etc::sourcelist "$apt/guest.sources";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
END
}

# quietly COMMAND...: its first complaint becomes ours.
quietly() {
    "$@" >"$apt/log" 2>&1 && return
    reason=$(sed -n '/^Err/{n;s/^ *//p;q}' "$apt/log")
    [ -n "$reason" ] || reason=$(grep -m 1 '^E:' "$apt/log" || tail -n 1 "$apt/log")
    cannot "cannot get packages from $mirror ($suite): $reason"
}

field() {
    apt-cache -c "$apt/apt.conf" show --no-all-versions "$2" 2>/dev/null |
        sed -n "s/^$1: //p" | head -n 1
}

# package FLAVOUR: the package that the metapackage of this flavour needs now.
package() {
    field Depends "linux-image-$1" | tr ',' '\n' |
        sed -n 's/^ *\(linux-image-[^ ]*\).*/\1/p' | head -n 1
}

# take NAME: makes sure that the package is there, as packages/$file.
take() {
    version=$(field Version "$1")
    [ -n "$version" ] || cannot "$mirror ($suite) has no package $1 for $debian"
    file=${1}_$(echo "$version" | sed 's/:/%3a/')_$debian.deb
    echo "$1 $version" >>"$guest/versions.new"
    echo "$file" >>"$guest/packages.new"
    [ -f "$guest/packages/$file" ] && return
    (cd "$guest/packages" && quietly apt-get -q -c "$apt/apt.conf" download "$1") || exit
    [ -f "$guest/packages/$file" ] || cannot "apt did not leave $file"
}

# unpack PATTERN TARGET: writes the only file of that name in packages/$file.
unpack() {
    dpkg-deb --fsys-tarfile "$guest/packages/$file" |
        tar -xO --wildcards "$1" >"$2.new" || cannot "$file holds no $1"
    mv "$2.new" "$2"
}

number_at() {
    od -An -tu4 -j"$2" -N4 "$1" | tr -d ' '
}

# plain FILE: makes a kernel a plain one that is gzip or an EFI zboot image,
# which is a header, the compressed kernel and a decompressor.
plain() {
    if [ "$(head -c 8 "$1" | tail -c 4)" = zimg ]; then
        method=$(tail -c +25 "$1" | head -c 4)
        tail -c "+$(($(number_at "$1" 8) + 1))" "$1" | head -c "$(number_at "$1" 12)" >"$1.part"
    elif [ "$(od -An -tx1 -N2 "$1" | tr -d ' ')" = 1f8b ]; then
        method=gzip
        cp "$1" "$1.part"
    else
        return
    fi
    case $method in
    gzip) gzip -dc <"$1.part" ;;
    zstd) zstd -dcq <"$1.part" ;;
    *) cannot "$1 is compressed by $method, which is unknown here" ;;
    esac >"$1.new" || cannot "$1 does not decompress"
    rm "$1.part"
    mv "$1.new" "$1"
}

forget_old_packages() {
    for path in "$guest/packages"/*; do
        grep -qxF "${path##*/}" "$guest/packages.new" || rm -f "$path"
    done
    rm "$guest/packages.new"
}

fetch() {
    find_mirror
    write_apt_configuration
    quietly apt-get -q -c "$apt/apt.conf" update
    rm -f "$guest/versions" "$guest/versions.new" "$guest/packages.new"
    take busybox-static
    unpack '*/bin/busybox' "$guest/busybox"
    for flavour in $flavours; do
        name=$(package "$flavour")
        [ -n "$name" ] || cannot "$mirror ($suite) has no kernel linux-image-$flavour"
        take "$name"
        kernel=$(kernel_file "$flavour")
        unpack './boot/vmlinu*' "$kernel"
        plain "$kernel"
    done
    forget_old_packages
    mv "$guest/versions.new" "$guest/versions"
}

for tool in apt-get apt-cache dpkg-deb tar; do
    command -v "$tool" >/dev/null || cannot "$tool is missing: this needs Debian or a kin of it"
done
if [ ! -f "$guest/versions" ] || [ "$fresh" = --fresh ]; then
    fetch
fi
sed "s|^|guest $arch: |" "$guest/versions"
