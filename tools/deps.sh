#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# deps.sh GROUP...: installs what is missing of Debian's packages for these groups. Asks first, unless YES=1 or there is no terminal.
# docs/dependencies.md gives the reason for each package.
set -eu

packages() {
    case $1 in
    build) echo gcc libc6-dev make meson ninja-build pkg-config libslirp-dev liburing-dev libxml2-dev libjansson-dev zlib1g-dev libdeflate-dev libzstd-dev liblzma-dev libbz2-dev nettle-dev \
        libgnutls28-dev libreadline-dev libnbd-dev libiscsi-dev libcurl4-gnutls-dev ;;
    image) echo mmdebstrap grub-pc-bin grub-common fdisk e2fsprogs seabios ;;
    demo) echo busybox-static cpio gzip xz-utils kmod ;;
    test) echo seabios libzydis-dev libzycore-dev clang acpica-tools qemu-system-x86 qemu-system-common qemu-utils binutils python3 wget e2fsprogs iproute2 procps \
        libnbd-bin gnutls-bin tgt libvirt-clients virtinst python3-libvirt zsh ;;
    long) echo memtest86+ ovmf grub-efi-amd64-bin grub-pc-bin grub-common xorriso mtools fio iperf3 btrfs-progs xfsprogs ;;
    bench) echo lua5.4 sqlite3 libvirt-daemon libvirt-daemon-driver-qemu fio iperf3 iproute2 ;;
    kvm) echo qemu-system-x86 cpio gzip xz-utils kmod ;;
    fuzz) echo clang libclang-rt-14-dev ;;
    *) echo "deps.sh: no such group: $1; groups are build, image, demo, test, long, bench, kvm, fuzz" >&2; exit 1 ;;
    esac
}

missing=
for group in "$@"; do
    for p in $(packages "$group"); do
        status=$(dpkg-query -W -f '${Status}' "$p" 2>/dev/null || true)
        case $status in *"ok installed"*) ;; *) case " $missing " in *" $p "*) ;; *) missing="$missing $p" ;; esac ;; esac
    done
done
[ -n "$missing" ] || exit 0

if [ "${YES:-0}" != 1 ] && [ -t 0 ]; then
    printf 'Lodge needs these Debian packages:%s\nInstall them now? [Y/n] ' "$missing"
    read -r answer
    case $answer in n* | N*) echo "deps.sh: nothing installed; install them yourself and try again" >&2; exit 1 ;; esac
fi
if [ "$(id -u)" = 0 ]; then
    as_root=
elif command -v sudo >/dev/null; then
    as_root=sudo
else
    echo "deps.sh: missing packages:$missing; become root or install sudo, and try again" >&2
    exit 1
fi
$as_root apt-get update -qq
# shellcheck disable=SC2086
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
