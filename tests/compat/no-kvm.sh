#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# no-kvm.sh COMMAND...: runs COMMAND where there is no /dev/kvm. Where the machine has one, in a mount namespace with another /dev.
set -eu
[ -e /dev/kvm ] || exec "$@"
if [ "${1:-}" != --inside ]; then
    [ "$(id -u)" = 0 ] && user= || user=-Ur
    exec unshare -m $user "$0" --inside "$@"
fi
shift
dev=$(mktemp -d)
mount -t tmpfs -o mode=755 none "$dev"
for node in null zero full random urandom; do
    touch "$dev/$node"
    mount --bind "/dev/$node" "$dev/$node"
done
mkdir -m 1777 "$dev/shm"
ln -s /proc/self/fd "$dev/fd"
mount --rbind "$dev" /dev
umount -l "$dev"
rmdir "$dev"
[ ! -e /dev/kvm ] || { echo "no-kvm.sh: /dev/kvm: still there" >&2; exit 1; }
exec "$@"
