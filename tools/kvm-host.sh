#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# kvm-host.sh OUT: makes OUT/vmlinuz and OUT/initrd.gz, a Linux with kvm-amd that holds this build's lodge, and inside it the demo's kernel and
# initramfs. `qemu-system-x86_64 -accel tcg -cpu EPYC,+svm` runs it: KVM with real nested paging, on a machine without VT-x.
set -eu
out=$1
build=${BUILD:-build}
kernel=$(tools/fetch.sh linux-image-amd64)
busybox=$(tools/fetch.sh busybox-static)
demo=$(tools/demo.sh --prepare)
version=$(basename "$kernel"/lib/modules/*)
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

mkdir -p "$out" "$root/bin" "$root/proc" "$root/sys" "$root/dev" "$root/tmp" "$root/lodge" "$root/modules" "$root/demo"
cp "$busybox/bin/busybox" "$root/bin/busybox"
for m in virt/lib/irqbypass drivers/crypto/ccp/ccp arch/x86/kvm/kvm arch/x86/kvm/kvm-amd; do
    [ -f "$kernel/lib/modules/$version/kernel/$m.ko" ] && cp "$kernel/lib/modules/$version/kernel/$m.ko" "$root/modules/"
done
cp "$build/src/cli/lodge" "$build/src/control/lodge-vm" "$root/lodge/"
for program in "$root/lodge/lodge" "$root/lodge/lodge-vm"; do
    ldd "$program" | sed -n -e 's/.*=> \(\/[^ ]*\) .*/\1/p' -e 's/^[[:space:]]*\(\/[^ ]*\) (.*/\1/p'
done | sort -u | while read -r lib; do
    mkdir -p "$root$(dirname "$lib")"
    cp -L "$lib" "$root$lib"
done
cp "$demo/vmlinuz" "$demo/initrd.gz" "$root/demo/"
cat >"$root/init" <<'INIT'
#!/bin/sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for m in irqbypass ccp kvm kvm-amd; do
    [ -f /modules/$m.ko ] && insmod /modules/$m.ko
done
ls -l /dev/kvm && echo "kvm-host: ready"
exec setsid cttyhack sh
INIT
chmod +x "$root/init"
ln -s busybox "$root/bin/sh"
(cd "$root" && find . | cpio --quiet -o -H newc | gzip -1) >"$out/initrd.gz"
cp "$kernel"/boot/vmlinuz-* "$out/vmlinuz"
