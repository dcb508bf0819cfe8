#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# fetch.sh [--file] PACKAGE: downloads a Debian package (or, for a metapackage of the kernel, the image package that it depends on) without installing
# it, unpacks it into the cache, and prints the folder; with --file it prints the package's file instead. Cached: a second call costs nothing.
# LODGE_CACHE moves the cache.
set -eu
file=
[ "$1" != --file ] || { file=.deb; shift; }
package=$1
cache=${LODGE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lodge}
mkdir -p "$cache"
lists=

# The package, or the image package that a metapackage of the kernel depends on; nothing when apt does not know it.
resolve() {
    case $package in
    linux-image-cloud-amd64 | linux-image-amd64)
        # shellcheck disable=SC2086
        apt-cache $lists depends "$package" 2>/dev/null | sed -n 's/^ *Depends: *\(linux-image-[0-9].*\)/\1/p' | head -n 1
        ;;
    *) echo "$package" ;;
    esac
}

# Prints the folder of the unpacked package, or its file; what went wrong is in $cache/log.
fetch() {
    real=$(resolve)
    [ -n "$real" ] || { echo "$package is not known to apt" >"$cache/log"; return 1; }
    got=$cache/$real$file
    if [ ! -e "$got" ]; then
        work=$(mktemp -d "$cache/fetch.XXXXXX")
        # shellcheck disable=SC2086
        if (cd "$work" && apt-get $lists download -qq "$real") >/dev/null 2>"$cache/log" &&
            { [ -n "$file" ] && mv "$work"/*.deb "$work/tree" || dpkg -x "$work"/*.deb "$work/tree"; }; then
            mv -T "$work/tree" "$got" 2>/dev/null || [ -e "$got" ]
        fi
        rm -rf "$work"
    fi
    [ -e "$got" ] && echo "$got"
}

# Where apt's lists are missing (images of Debian come without) or old, a set of one's own serves; it takes no root.
fetch && exit 0
lists="-o Dir::State::lists=$cache/lists -o Dir::Cache=$cache/apt"
fetch && exit 0
mkdir -p "$cache/lists/partial" "$cache/apt/archives/partial"
# shellcheck disable=SC2086
apt-get $lists update -qq >/dev/null 2>&1 || true
fetch && exit 0
cat "$cache/log" >&2
echo "fetch.sh: package '$package': download failed; check the network and /etc/apt/sources.list" >&2
exit 1
