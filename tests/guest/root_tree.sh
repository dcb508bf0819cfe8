#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# root_tree.sh OUT: makes OUT/tree, a small root file system with busybox and the modules of Debian's generic kernel that it boots with, packed with xz;
# OUT/vmlinuz, that kernel; OUT/bin, Lodge; and OUT/user, which runs a command as a user without privileges who owns the tree.
set -eu
out=$1
tree=$out/tree
kernel=$(tools/fetch.sh linux-image-amd64)
busybox=$(tools/fetch.sh busybox-static)/bin/busybox
version=$(basename "$kernel"/lib/modules/*)
modules=$kernel/lib/modules/$version
mkdir -p "$tree/bin" "$tree/dev" "$tree/proc" "$tree/sbin" "$tree/usr/lib/modules/$version" "$out/bin"
cp "$kernel"/boot/vmlinuz-* "$out/vmlinuz"
cp "$BUILD/src/cli/lodge" "$BUILD/src/control/lodge-vm" "$out/bin/"
cp "$busybox" "$tree/bin/busybox"
"$busybox" --list | while read -r applet; do
    [ "$applet" = busybox ] || ln -s busybox "$tree/bin/$applet"
done
ln -s /usr/lib "$tree/lib" # absolute: right in the guest, not on the host
cp "$modules/modules.builtin" "$tree/usr/lib/modules/$version/"
(cd "$modules" && find kernel/fs/9p kernel/net/9p kernel/drivers/virtio kernel/fs/netfs kernel/fs/fscache -name '*.ko' | cpio --quiet -pdm "$tree/usr/lib/modules/$version")
find "$tree/usr/lib/modules" -name '*.ko' -exec xz -0 {} +
cat >"$tree/sbin/init" <<'INIT'
#!/bin/sh
export PATH=/bin
mount -t proc proc /proc
echo "init $*"
exec setsid cttyhack sh
INIT
sed 's/init \$\*/other init/' "$tree/sbin/init" >"$tree/sbin/other"
chmod 755 "$tree/sbin/init" "$tree/sbin/other" "$out"
if [ "$(id -u)" = 0 ]; then
    chown -R 65534:65534 "$tree"
    printf '#!/bin/sh\nexec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"\n' >"$out/user"
else
    printf '#!/bin/sh\nexec "$@"\n' >"$out/user"
fi
chmod 755 "$out/user"
