#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# image.sh [--prepare | --where]: makes a Debian 12 disk, debian.raw and debian.qcow2, and says how to run it. With --prepare it prints the folder
# instead; --where prints it and makes nothing.
#
# The disk has an MBR, GRUB, and one ext4 partition with systemd, a login on the serial line (root, no password), an SSH server (keys only),
# qemu-guest-agent, and cloud-init, which does nothing unless it finds a NoCloud seed. It is built as root or, where the kernel permits user
# namespaces, as any user; nothing is mounted and no loop device is used: mke2fs copies the tree into the file system.
#
# The files go to $LODGE_IMAGE, else beside the demo's. They are made anew when this script changes.
set -eu
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin
build=${BUILD:-build}
out=${LODGE_IMAGE:-${XDG_DATA_HOME:-${HOME:-/root}/.local/share}/lodge/image}

packages=systemd-sysv,udev,dbus,kmod,iproute2,e2fsprogs,linux-image-cloud-amd64,initramfs-tools,zstd,openssh-server,qemu-guest-agent,cloud-init
first=2048      # the partition's first sector; GRUB's core lies before it
size_mib=2048   # of the partition; blocks that nothing uses are holes
# What GRUB needs to find, show and start the kernel; all of it is in its core, and no module is read from the disk.
grub_modules='biosdisk part_msdos ext2 normal configfile linux search search_label echo test reboot halt ls cat boot'

# Files that the packages' own scripts read while they are installed.
essential_hook() {
    root=$1
    mkdir -p "$root/etc/initramfs-tools/conf.d" "$root/etc/kernel" "$root/etc/default"
    # A small initramfs: the disk drivers of Lodge's machines, and no more.
    printf 'MODULES=list\nCOMPRESS=zstd\nFSTYPE=ext4\nRESUME=none\n' >"$root/etc/initramfs-tools/conf.d/lodge"
    printf 'do_symlinks = yes\nlink_in_boot = yes\n' >"$root/etc/kernel-img.conf"
    printf '%s\n' virtio_pci virtio_blk virtio_scsi ahci sd_mod sr_mod ext4 9pnet_virtio 9p >"$root/etc/initramfs-tools-modules"
    mkdir -p "$root/etc/initramfs-tools"
    cp "$root/etc/initramfs-tools-modules" "$root/etc/initramfs-tools/modules"
    rm "$root/etc/initramfs-tools-modules"
}

# The system's settings; then the file system is made of the tree.
customize_hook() {
    root=$1 partition=$2
    echo debian >"$root/etc/hostname"
    printf '127.0.0.1 localhost debian\n::1 localhost ip6-localhost\n' >"$root/etc/hosts"
    echo 'LABEL=root / ext4 errors=remount-ro 0 1' >"$root/etc/fstab"
    # The user network's name server; DHCP's is taken where systemd-resolved is installed.
    echo 'nameserver 10.0.2.3' >"$root/etc/resolv.conf"
    printf '[Match]\nName=en* eth*\n[Network]\nDHCP=yes\n' >"$root/etc/systemd/network/90-dhcp.network"
    chroot "$root" passwd -q -d root
    chroot "$root" systemctl -q enable systemd-networkd ssh serial-getty@ttyS0
    chroot "$root" systemctl -q disable apt-daily.timer apt-daily-upgrade.timer e2scrub_reap.service
    # Host keys are each guest's own.
    rm -f "$root"/etc/ssh/ssh_host_*
    mkdir -p "$root/etc/systemd/system/ssh.service.d"
    echo 'HostKey /etc/ssh/ssh_host_ed25519_key' >"$root/etc/ssh/sshd_config.d/lodge.conf"
    cat >"$root/etc/systemd/system/ssh.service.d/keys.conf" <<'CONF'
[Service]
ExecStartPre=
ExecStartPre=/bin/sh -c '[ -f /etc/ssh/ssh_host_ed25519_key ] || ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key'
ExecStartPre=/usr/sbin/sshd -t
CONF
    # There is no locale to set but C.UTF-8.
    printf 'locale: false\nssh_genkeytypes: [ed25519]\n' >>"$root/etc/cloud/cloud.cfg.d/90_lodge.cfg"
    # Two sources, so that cloud-init looks for them, and stays off where it finds none.
    echo 'datasource_list: [ NoCloud, ConfigDrive ]' >>"$root/etc/cloud/cloud.cfg.d/90_lodge.cfg"
    mkdir -p "$root/boot/grub"
    cat >"$root/boot/grub/grub.cfg" <<'CFG'
set timeout=0
menuentry Debian {
    linux /boot/vmlinuz root=LABEL=root ro console=ttyS0 quiet
    initrd /boot/initrd.img
}
CFG
    : >"$root/etc/machine-id"
    rm -rf "$root"/var/cache/apt/*.bin "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/tmp/* "$root"/run/*
    # mmdebstrap has /proc and its kin mounted in the tree: they are taken off in a mount namespace of this command's own.
    export root partition size_mib
    # shellcheck disable=SC2016
    unshare --mount --propagation private sh -eu -c '
        awk -v root="$root/" "index(\$5, root) == 1 { print \$5 }" /proc/self/mountinfo | sort -r | while read -r mount; do
            umount -l "$mount"
        done
        mke2fs -q -t ext4 -L root -E lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0 -d "$root" "$partition" "${size_mib}M"'
}

case ${1:-} in
--essential-hook) essential_hook "$2"; exit ;;
--customize-hook) customize_hook "$3" "$2"; exit ;;
--where) echo "$out"; exit ;;
'' | --prepare) ;;
*) echo "image.sh: unknown option '$1'; write image.sh, image.sh --prepare or image.sh --where" >&2; exit 1 ;;
esac

make_disk() {
    work=$1
    partition=$work/partition
    self=$PWD/tools/image.sh
    # With user namespaces, the hooks run under another user ID, which must reach and write the partition.
    : >"$partition"
    chmod 666 "$partition"
    chmod 711 "$work"
    mmdebstrap --quiet --variant=apt --format=null --include="$packages" \
        --aptopt='Acquire::Languages "none"' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        --essential-hook="sh '$self' --essential-hook \"\$1\"" --customize-hook="sh '$self' --customize-hook '$partition' \"\$1\"" \
        bookworm /dev/null >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; echo "image.sh: mmdebstrap fails; its last words are above" >&2; return 1; }
    # The first disk is not always the one that was booted from: the file system's label finds it.
    printf 'search --no-floppy --label --set=root root\nconfigfile /boot/grub/grub.cfg\n' >"$work/grub.cfg"
    # shellcheck disable=SC2086
    grub-mkimage -O i386-pc -o "$work/core.img" -p /boot/grub -c "$work/grub.cfg" $grub_modules
    [ "$(stat -c %s "$work/core.img")" -lt $(((first - 1) * 512)) ] || { echo "image.sh: GRUB's core does not fit before the partition" >&2; return 1; }
    truncate -s $((first * 512 + size_mib * 1048576)) "$work/debian.raw"
    echo "start=$first, type=83, bootable" | sfdisk -q "$work/debian.raw"
    dd if=/usr/lib/grub/i386-pc/boot.img of="$work/debian.raw" bs=440 count=1 conv=notrunc status=none
    dd if="$work/core.img" of="$work/debian.raw" bs=512 seek=1 conv=notrunc status=none
    dd if="$partition" of="$work/debian.raw" bs=1M seek=$((first / 2048)) conv=notrunc,sparse status=none
    rm -f "$work/debian.qcow2"
    "$build/src/cli/lodge" image convert -f raw -O qcow2 "$work/debian.raw" "$work/debian.qcow2"
}

stamp=$(cksum <tools/image.sh)
if [ "$(cat "$out/stamp" 2>/dev/null || true)" != "$stamp" ]; then
    mkdir -p "$out"
    work=$(mktemp -d "${TMPDIR:-/tmp}/lodge-image.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    make_disk "$work"
    for f in debian.raw debian.qcow2; do
        cp --sparse=always "$work/$f" "$out/$f.new"
        mv "$out/$f.new" "$out/$f"
    done
    echo "$stamp" >"$out/stamp"
    rm -rf "$work"
    trap - EXIT
fi
if [ "${1:-}" = --prepare ]; then
    echo "$out"
else
    echo "The disk is there. Run it with: $build/src/cli/lodge run --memory 1G --disk $out/debian.qcow2"
fi
