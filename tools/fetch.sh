#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# fetch.sh PACKAGE: downloads a Debian package (or, for a metapackage of the kernel, the image package that it depends on) without installing
# it, unpacks it into the cache, and prints the folder. Cached: a second call costs nothing. LODGE_CACHE moves the cache.
set -eu
package=$1
cache=${LODGE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lodge}
mkdir -p "$cache"
case $package in
linux-image-cloud-amd64 | linux-image-amd64)
    real=$(apt-cache depends "$package" 2>/dev/null | sed -n 's/^ *Depends: *\(linux-image-[0-9].*\)/\1/p' | head -n 1)
    ;;
*) real=$package ;;
esac
[ -n "$real" ] || { echo "fetch.sh: package '$package': not known to apt; run 'apt-get update' and try again" >&2; exit 1; }
dir=$cache/$real
if [ ! -d "$dir" ]; then
    work=$(mktemp -d "$cache/fetch.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    (cd "$work" && apt-get download -qq "$real" >/dev/null 2>"$work/log") || { cat "$work/log" >&2; echo "fetch.sh: package '$real': download failed; check the network and /etc/apt/sources.list" >&2; exit 1; }
    mkdir "$work/tree"
    dpkg -x "$work"/*.deb "$work/tree"
    mv "$work/tree" "$dir" 2>/dev/null || [ -d "$dir" ]
fi
echo "$dir"
