# Another process is the network card's data path: it answers ARP and ping, on two pairs of queues.
sh "tests/guest/with_modules.sh linux-image-cloud-amd64 $TMP"
bg "exec $BUILD/tests/unit/devices/vhostback $TMP/back > $TMP/back.log 2>&1"
sh "i=0; while [ ! -S $TMP/back ] && [ \$i -lt 600 ]; do sleep 0.1; i=\$((i + 1)); done; [ -S $TMP/back ]"
vm --accel softkvm --kernel $TMP/vmlinuz --initrd $TMP/initrd.gz --append "console=ttyS0 quiet" --memory 256M --cpus 2 --net vhost-user,path=$TMP/back,mtu=1400,queues=2
expect 180 "~ # "
send "echo queues $(ls /sys/class/net/eth0/queues | wc -l); cat /sys/class/net/eth0/mtu; ip addr add 10.9.0.2/24 dev eth0; ip link set eth0 up; for n in 56 1000 1372; do ping -c 20 -i 0.05 -s $n -q 10.9.0.1; done\n"
expect 60 "queues 4"
expect 60 "\n1400"
expect 60 "20 packets received"
expect 60 "20 packets received"
expect 60 "20 packets received"
send "poweroff -f\n"
wait 60 0
