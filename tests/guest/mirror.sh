#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# mirror.sh OUT PACKAGE...: makes OUT a small archive for apt ("deb [trusted=yes] URL ./") of Debian packages, or of the kernel's image that a metapackage depends on.
set -eu
out=$1
shift
cd "$(dirname "$0")/../.."
mkdir -p "$out"
for package in "$@"; do
    cp "$(tools/fetch.sh --file "$package")" "$out/"
done
cd "$out"
for deb in *.deb; do
    dpkg-deb -f "$deb"
    printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "$deb" "$(stat -c %s "$deb")" "$(sha256sum <"$deb" | cut -d ' ' -f 1)"
done >Packages
