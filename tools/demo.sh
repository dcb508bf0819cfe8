#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# demo.sh [--prepare]: makes the demo's files, and lands at a root shell of an unmodified Debian kernel.
#
# The files are vmlinuz (of the package that linux-image-cloud-amd64 depends on) and initrd.gz (busybox, the kernel's modules for Lodge's devices, and
# tools/demo-init.sh as /init). They go where `lodge run` without options looks for them: $LODGE_DEMO, or lodge/demo in the user's data folder.
# With --prepare it only makes them, when they are not up to date, and prints the folder. LODGE_CACHE moves the downloads (tools/fetch.sh).
#
# Tests make other guests with it: LODGE_DEMO_KERNEL is the kernel's package, LODGE_DEMO_MODULES are more modules, LODGE_DEMO the folder.
set -eu
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin # modinfo, for users
build=${BUILD:-build}
out=${LODGE_DEMO:-${XDG_DATA_HOME:-${HOME:-/root}/.local/share}/lodge/demo}

kernel=$(tools/fetch.sh "${LODGE_DEMO_KERNEL:-linux-image-cloud-amd64}")
busybox=$(tools/fetch.sh busybox-static)
version=$(basename "$kernel"/lib/modules/*)
modules=$kernel/lib/modules/$version/kernel

# What the guest needs of modules; a name that is built in has no file and is passed over.
wanted='virtio_pci virtio_blk virtio_net virtio_console virtio-rng button evdev pvpanic-mmio'
wanted="$wanted ${LODGE_DEMO_MODULES:-}"

# module_files NAME: the module's file behind those that it depends on, one a line, duplicates included.
module_files() {
    file=$(find "$modules" -name "$1.ko" -o -name "$1.ko.xz" -o -name "$(echo "$1" | tr _ -).ko" -o -name "$(echo "$1" | tr - _).ko" | head -n 1)
    [ -n "$file" ] || return 0
    deps=$(modinfo -F depends "$file") || exit 1
    for dep in $(echo "$deps" | tr ',' ' '); do
        (module_files "$dep")
    done
    echo "$file"
}

make_root() {
    mkdir -p "$root/bin" "$root/dev" "$root/etc" "$root/mnt" "$root/modules" "$root/proc" "$root/root" "$root/run" "$root/sys" "$root/tmp" "$root/usr/bin"
    cp "$busybox/bin/busybox" "$root/bin/busybox"
    "$busybox/bin/busybox" --list | while read -r applet; do
        [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
    done
    for name in $wanted; do
        module_files "$name"
    done >"$root/modules/files"
    awk '!seen[$0]++' "$root/modules/files" | while read -r file; do
        case $file in
        *.xz) xz -dc "$file" >"$root/modules/$(basename "$file" .xz)" ;;
        *) cp "$file" "$root/modules/" ;;
        esac
        basename "$file" .xz >>"$root/modules/order"
    done
    rm "$root/modules/files"
    cp tools/demo-init.sh "$root/init"
    cp tools/demo-dhcp.sh "$root/etc/dhcp"
    cp tools/demo-shell.sh "$root/etc/shell"
    chmod 755 "$root/init" "$root/etc/dhcp" "$root/etc/shell"
    echo '::respawn:/etc/shell' >"$root/etc/inittab"
    echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
    echo 'root:x:0:' >"$root/etc/group"
    mkdir -p "$root/etc/acpi/PWRF"
    printf '#!/bin/sh\nexec poweroff -f\n' >"$root/etc/acpi/PWRF/00000080"
    chmod 755 "$root/etc/acpi/PWRF/00000080"
}

# Files are put in place by renaming, so that a guest that starts meanwhile finds the old ones or the new ones.
prepare() {
    stamp="$kernel $busybox $wanted $(cat tools/demo*.sh | cksum)"
    [ "$(cat "$out/stamp" 2>/dev/null || true)" = "$stamp" ] && return 0
    mkdir -p "$out"
    root=$(mktemp -d "$out/root.XXXXXX")
    trap 'rm -rf "$root" "$out"/*.new' EXIT
    make_root
    (cd "$root" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0) | gzip -n -9 >"$out/initrd.gz.new"
    cp "$kernel/boot/vmlinuz-$version" "$out/vmlinuz.new"
    mv "$out/initrd.gz.new" "$out/initrd.gz"
    mv "$out/vmlinuz.new" "$out/vmlinuz"
    echo "$stamp" >"$out/stamp"
    rm -rf "$root"
    trap - EXIT
}

prepare
case ${1:-} in
--prepare) echo "$out" ;;
'') exec "$build/src/cli/lodge" run ;;
*) echo "demo.sh: unknown option '$1'; write demo.sh or demo.sh --prepare" >&2; exit 1 ;;
esac
