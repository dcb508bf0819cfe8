#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# prepare.sh OUT PROGRAM...: makes OUT/vmlinuz and OUT/initrd.gz for the guest tests: the demo's, with the programs in it.
set -eu
out=$1
shift
demo=$(tools/demo.sh --prepare)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out" "$work/bin"
cp "$@" "$work/bin"
(cd "$work" && find bin | cpio --quiet -o -H newc -R 0:0 | gzip -n -1) >"$out/extra.gz"
cat "$demo/initrd.gz" "$out/extra.gz" >"$out/initrd.gz.new"
cp "$demo/vmlinuz" "$out/vmlinuz.new"
mv "$out/initrd.gz.new" "$out/initrd.gz"
mv "$out/vmlinuz.new" "$out/vmlinuz"
