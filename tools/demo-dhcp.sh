#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# udhcpc's script in the demo's guest: gives the interface what the server said.
case $1 in
deconfig)
    ip addr flush dev "$interface"
    ;;
bound | renew)
    ip addr add "$ip/${mask:-24}" dev "$interface"
    for r in $router; do
        ip route add default via "$r" dev "$interface"
    done
    for d in $dns; do
        echo "nameserver $d"
    done >/etc/resolv.conf
    ;;
esac
