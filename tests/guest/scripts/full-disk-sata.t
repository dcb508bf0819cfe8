# The same as full-disk.t, of a disk on SATA: the guest pauses, and a command that failed is tried again, with nothing lost and no error in the guest.
skip-unless "[ $(id -u) = 0 ] && mkdir -p $TMP/small && mount -t tmpfs -o size=24m t $TMP/small && umount $TMP/small"
sh "mount -t tmpfs -o size=24m lodge-full $TMP/small && truncate -s 64M $TMP/small/disk.raw"
sh "tests/guest/with_modules.sh linux-image-amd64 $TMP ahci sd_mod"
vm --accel softkvm --kernel $TMP/vmlinuz --initrd $TMP/initrd.gz --append "console=ttyS0 quiet" --memory 256M --net none --disk file=$TMP/small/disk.raw,format=raw,bus=sata,werror=stop
expect 300 "~ # "
send "dd if=/dev/urandom of=/run/data bs=1M count=40 2>/dev/null; dd if=/run/data of=/dev/sda bs=1M oflag=direct 2>/dev/null && echo wri''tten\n"
expect 300 "No space left on device; the guest is paused"
sh "sleep 1; mount -o remount,size=100m $TMP/small; kill -CONT $(pgrep -P \$PPID lodge-vm)"
expect 300 "written"
send "echo 3 > /proc/sys/vm/drop_caches; head -c 41943040 /dev/sda | cmp - /run/data && echo sa''me; dmesg | grep -c 'I/O error'\n"
expect 300 "same"
expect 300 "0"
send "poweroff -f\n"
wait 300 0
sh "umount $TMP/small"
