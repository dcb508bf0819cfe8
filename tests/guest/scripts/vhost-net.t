# A guest is the host of another one, whose frames its kernel moves by vhost-net: a file goes there and comes back, also after the driver has started anew.
sh "tests/guest/with_programs.py $TMP/add $BUILD/src/cli/lodge $BUILD/src/control/lodge-vm && mkdir $TMP/add/inner && cp $KERNEL $TMP/add/inner/vmlinuz && cp $INITRD $TMP/add/inner/initrd.gz && cp tests/guest/vhost_net.sh $TMP/add/"
sh "tests/guest/with_modules.sh linux-image-cloud-amd64 $TMP tun vhost_net"
vm --accel softkvm --kernel $TMP/vmlinuz --initrd $TMP/initrd.gz --append "console=ttyS0 quiet" --memory 1G --cpus 2 --net none
expect 300 "~ # "
send "sh /vhost_net.sh $BUILD/src/cli/lodge /inner/vmlinuz /inner/initrd.gz\n"
expect 900 "no address by DHCP"
expect 300 "~ # "
send "a=http://192.168.177.1; ip addr add 192.168.177.2/24 dev eth0; mkdir /www; wget -q -O /www/file $a/file; wget -q -O /sum $a/sum; sha256sum < /www/file | cmp - /sum && echo queues $(ls /sys/class/net/eth0/queues | wc -l) sa''me; httpd -h /www; mv /www/file /www/file1\n"
expect 300 "queues 4 same"
expect 300 "file1 came back, served by 2 threads"
send "d=$(basename $(realpath /sys/class/net/eth0/device)); cd /sys/bus/virtio/drivers/virtio_net; echo $d > unbind; echo $d > bind; cd /; ip addr add 192.168.177.2/24 dev eth0; ip link set eth0 up; wget -q -O /www/file $a/file; sha256sum < /www/file | cmp - /sum && echo again sa''me; mv /www/file /www/file2\n"
expect 300 "again same"
expect 300 "file2 came back, served by 2 threads"
send "poweroff -f\n"
expect 300 "inner guest: status 0"
send "dmesg | grep -c -E 'BUG|Oops|WARNING'; poweroff -f\n"
expect 300 "\n0"
wait 300 0
