#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# /init of the demo's guest: file systems, drivers, network; then busybox's init keeps a root shell on the console (demo-shell.sh).
export PATH=/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
while read -r module; do
    insmod "/modules/$module"
done </modules/order
hostname lodge
ip link set lo up
if [ -d /sys/class/net/eth0 ]; then
    ip link set eth0 up
    udhcpc -q -n -f -t 5 -T 2 -s /etc/dhcp -i eth0 >/dev/null 2>&1 || echo "init: no address by DHCP"
fi
[ -e /dev/input/event0 ] && acpid -c /etc/acpi -l /dev/null -p /run/acpid.pid
exec init
