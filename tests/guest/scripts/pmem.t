# A file of the host is /dev/pmem0: what the guest writes and flushes is in the file, a file system on it is mounted with DAX, disks read straight into it, and it stays over a reboot.
sh "truncate -s 64M $TMP/memory; seq 1 2000000 | head -c 8M > $TMP/disk.raw; tests/guest/with_modules.sh linux-image-cloud-amd64 $TMP virtio_pmem nd_pmem"
vm --accel softkvm --kernel $TMP/vmlinuz --initrd $TMP/initrd.gz --append "console=ttyS0 quiet" --memory 256M --net none --pmem $TMP/memory --disk $TMP/disk.raw
expect 200 "~ # "
send "cat /sys/block/pmem0/size; for i in /sys/bus/virtio/drivers/virtio_pmem/virtio*; do echo by $(basename $i); done\n"
expect 60 "\n131072"
expect 30 "by virtio"
send "mke2fs -b 4096 /dev/pmem0 >/dev/null 2>&1; mkdir -p /mnt; mount -t ext4 -o dax /dev/pmem0 /mnt && grep -c 'pmem0.*dax' /proc/mounts\n"
expect 60 "\n1"
send "dd if=/dev/vda of=/mnt/copy bs=1M iflag=direct 2>/dev/null; echo sum $(sha256sum < /mnt/copy)\n"
expect 120 "sum 072f5d86a449b865aabe65a533d7d9b9"
send "echo persistent-$((40 + 2)) > /mnt/note; sync; echo flu''shed\n"
expect 60 "flushed"
sh "grep -q -a persistent-42 $TMP/memory"
lodge 1 run --accel softkvm --kernel $KERNEL --memory 64M --net none --pmem $TMP/memory
output "locked"
send "umount /mnt; reboot -f\n"
expect 60 "Restarting"
expect 200 "~ # "
send "mount -t ext4 -o dax /dev/pmem0 /mnt; cat /mnt/note; echo sum $(sha256sum < /mnt/copy); dmesg | grep -c -i -E 'BUG:|Oops|WARNING:|I/O error'\n"
expect 60 "persistent-42"
expect 60 "sum 072f5d86a449b865aabe65a533d7d9b9"
expect 30 "\n0"
send "poweroff -f\n"
wait 60 0
lodge 1 run --accel softkvm --kernel $KERNEL --pmem $TMP/none
output "truncate"
sh "truncate -s 1M $TMP/small"
lodge 1 run --accel softkvm --kernel $KERNEL --pmem $TMP/small
output "2 MiB"
