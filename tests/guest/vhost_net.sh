#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# vhost_net.sh LODGE KERNEL INITRD: for a guest with the modules tun and vhost_net. A guest in it is on a tap device that the kernel serves, and its shell is
# on this terminal. It finds a file at http://192.168.177.1/file, and once it has that as http://192.168.177.2/file1, and later as file2, it is compared here.
set -eu
lodge=$1
kernel=$2
initrd=$3
mkdir /www
head -c 8000000 /dev/urandom >/www/file
sha256sum </www/file >/www/sum
httpd -h /www
(
    until ip addr add 192.168.177.1/24 dev lodge0 2>/dev/null; do sleep 1; done
    for name in file1 file2; do
        until wget -q -O /back http://192.168.177.2/$name 2>/dev/null; do sleep 1; done
        cmp /back /www/file && echo "$name came back, served by $(ps | grep -c '\[vhost-[0-9]') threads"
    done
) &
"$lodge" run --accel softkvm --kernel "$kernel" --initrd "$initrd" --append "console=ttyS0 quiet" --memory 192M --cpus 2 --net tap,vhost=on,queues=2
echo "inner guest: status $?"
