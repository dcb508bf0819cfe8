# The host's file system fills up under a disk that grows: the guest waits, a line says so, and work goes on when there is room again. Nothing is lost.
skip-unless "[ $(id -u) = 0 ] && mkdir -p $TMP/small && mount -t tmpfs -o size=24m t $TMP/small && umount $TMP/small"
sh "mount -t tmpfs -o size=24m lodge-full $TMP/small && truncate -s 64M $TMP/small/disk.raw"
vm --accel softkvm --kernel $KERNEL --initrd $INITRD --append "console=ttyS0 quiet" --memory 256M --net none --disk file=$TMP/small/disk.raw,format=raw,serial=full
expect 300 "~ # "
send "cat /sys/block/vda/serial; echo; dd if=/dev/urandom of=/run/data bs=1M count=40 2>/dev/null; dd if=/run/data of=/dev/vda bs=1M oflag=direct 2>/dev/null && echo wri''tten\n"
expect 300 "No space left on device; the guest is paused"
sh "sleep 1; mount -o remount,size=100m $TMP/small; kill -CONT $(pgrep -P \$PPID lodge-vm)"
expect 300 "written"
send "echo 3 > /proc/sys/vm/drop_caches; head -c 41943040 /dev/vda | cmp - /run/data && echo sa''me; dmesg | grep -c 'I/O error'\n"
expect 300 "same"
expect 300 "0"
send "poweroff -f\n"
wait 300 0
sh "umount $TMP/small"
