#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# with_modules.sh PACKAGE OUT MODULE...: makes OUT/vmlinuz and OUT/initrd.gz: the kernel of a Debian package, and the demo's root file system with
# that kernel's modules of these names, and those that they need, loaded in this order. Files in OUT/add/ go into the root.
set -eu
package=$1
out=$2
shift 2
cd "$(dirname "$0")/../.."
PATH=$PATH:/usr/sbin:/sbin
demo=$(tools/demo.sh --prepare)
kernel=$(tools/fetch.sh "$package")
modules=$(echo "$kernel"/lib/modules/*/kernel)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out" "$work/modules"
[ ! -d "$out/add" ] || cp -a "$out/add/." "$work/"

module_files() {
    file=$(find "$modules" -name "$1.ko*" -o -name "$(echo "$1" | tr _ -).ko*" -o -name "$(echo "$1" | tr - _).ko*" | head -n 1)
    [ -n "$file" ] || return 0 # built in
    for dep in $(modinfo -F depends "$file" | tr ',' ' '); do
        (module_files "$dep")
    done
    echo "$file"
}

for name in virtio_pci virtio_blk virtio_net virtio_console virtio-rng button evdev "$@"; do
    module_files "$name"
done | awk '!seen[$0]++' >"$work/files"
while read -r file; do
    case $file in
    *.xz) xz -dc "$file" >"$work/modules/$(basename "$file" .xz)" ;;
    *) cp "$file" "$work/modules/" ;;
    esac
    basename "$file" .xz >>"$work/modules/order"
done <"$work/files"
rm "$work/files"
(cd "$work" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0) | gzip -n -1 | cat "$demo/initrd.gz" - >"$out/initrd.gz"
cp "$kernel"/boot/vmlinuz-* "$out/vmlinuz"
