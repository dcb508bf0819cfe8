# iperf3 both ways, TCP with several streams and UDP, over the user network by a virtio card and by an e1000e.
sh "tests/guest/with_programs.py $TMP/add /usr/bin/iperf3 && tests/guest/with_modules.sh linux-image-amd64 $TMP e1000e"
bg "exec iperf3 -s -p $PORT > $TMP/server.log 2>&1"
vm --accel softkvm --kernel $TMP/vmlinuz --initrd $TMP/initrd.gz --append "console=ttyS0 quiet" --memory 256M --cpus 2 --net user,queues=2 --net user,model=e1000e
expect 300 "~ # "
send "export PATH=/bin:/usr/bin; for i in eth0 eth1; do echo $i by $(basename $(readlink /sys/class/net/$i/device/driver)); ip addr flush dev $i; ip link set $i up; done; use() { ip addr flush dev eth0; ip addr flush dev eth1; ip addr add 10.0.2.15/24 dev $1; }\n"
# The server may still be at its last test, or not be there yet; anything else is a failure.
send "p() { for k in `seq 120`; do iperf3 -c 10.0.2.2 -p $PORT \"$@\" >/run/log 2>&1 && { grep receiver /run/log | tail -n 1; return 0; }; grep -q -E 'busy|refused|unable to connect|control message' /run/log || break; sleep 1; done; cat /run/log; return 1; }\n"
expect 300 "by virtio"
expect 300 "by e1000e"
send "for i in eth0 eth1; do use $i; p -n 60M && p -n 60M -R && p -n 40M -P 4 && p -n 40M -P 4 -R && p -u -b 20M -n 4M && p -u -b 20M -n 4M -R && echo $i do''ne; done\n"
expect 900 "eth0 done"
expect 900 "eth1 done"
send "dmesg | grep -c -E 'Unit Hang|WATCHDOG|BUG:|WARNING:'\n"
expect 300 "\n0"
send "poweroff -f\n"
wait 300 0
