# lodged under a real systemd, of a guest: its units start it when a client comes, let everybody look and the administrator do, and leave its sockets as they
# are when it restarts.
sh "flock $BUILD/tests/guest/image.lock tools/image.sh --prepare >/dev/null"
lodge 0 image create -q -f qcow2 -b $IMAGE/debian.qcow2 -F qcow2 $TMP/disk.qcow2
sh "mkdir -p $TMP/lodge/lib && DESTDIR=$TMP/lodge/root meson install -C $BUILD --no-rebuild --quiet && cp $(ldd $BUILD/src/daemon/lodged $BUILD/src/control/lodge-vm $BUILD/src/cli/lodge | grep -o '/lib/[^ ]*' | sort -u) $TMP/lodge/lib/ && mke2fs -q -t ext4 -d $TMP/lodge $TMP/lodge.img 300M"
vm --accel softkvm --memory 1G --disk $TMP/disk.qcow2 --disk file=$TMP/lodge.img,format=raw --net none
expect 900 "login:"
send "root\n"
expect 240 "~#"
send "mkdir /l && mount -r /dev/vdb /l && cp -rn /l/lib/. /usr/lib/x86_64-linux-gnu/ && cp -r /l/root/. / && ldconfig && systemctl daemon-reload && systemd-analyze verify --man=no lodged.service lodged.socket lodged-ro.socket && echo inst''alled\n"
expect 600 "installed"
send "systemctl start lodged.socket lodged-ro.socket; systemctl is-active lodged.service; stat -c %a.%n /run/libvirt/libvirt-sock*\n"
expect 240 "inactive"
expect 240 "660./run/libvirt/libvirt-sock"
expect 240 "666./run/libvirt/libvirt-sock-ro"
send "lodge pool-list; systemctl is-active lodged.service && echo came''up\n"
expect 240 "default"
expect 240 "cameup"
send "su -s /bin/sh nobody -c 'lodge -c qemu:///system pool-list; lodge -c qemu:///system?socket=/run/libvirt/libvirt-sock-ro pool-list; lodge -c qemu:///system?socket=/run/libvirt/libvirt-sock-ro vol-create x 1M'\n"
expect 240 "you may not use"
expect 240 "default"
expect 240 "read only"
send "systemctl restart lodged; lodge pool-list && kill -9 $(systemctl show -P MainPID lodged); until lodge pool-list; do sleep 1; done; echo ba''ck\n"
expect 240 "back"
send "systemctl stop lodged lodged.socket lodged-ro.socket; ls /run/libvirt/ | wc -l; echo en''ded\n"
expect 240 "0"
expect 240 "ended"
send "poweroff\n"
wait 300 0
