# fio writes blocks with checksums to every kind of disk, reads them back, and again after the guest was started anew: virtio-blk raw, qcow2 and qcow2 past the page cache, virtio-scsi, AHCI.
sh "tests/guest/with_programs.py $TMP/add /usr/bin/fio && tests/guest/with_modules.sh linux-image-amd64 $TMP virtio_scsi ahci sd_mod"
sh "for d in blk scsi sata; do truncate -s 96M $TMP/$d.raw; done"
lodge 0 image create -q -f qcow2 $TMP/cow.qcow2 96M
lodge 0 image create -q -f qcow2 $TMP/none.qcow2 96M
vm --accel softkvm --kernel $TMP/vmlinuz --initrd $TMP/initrd.gz --append "console=ttyS0 quiet" --memory 512M --cpus 2 --net none --disk $TMP/blk.raw,queues=2,serial=blk --disk $TMP/cow.qcow2,serial=cow --disk $TMP/none.qcow2,serial=none,cache=none,io=native --disk $TMP/scsi.raw,bus=scsi,serial=scsi --disk $TMP/sata.raw,bus=sata,serial=sata
expect 300 "~ # "
send "export PATH=/bin:/usr/bin; until [ -b /dev/vda ] && [ -b /dev/vdb ] && [ -b /dev/vdc ] && [ -b /dev/sda ] && [ -b /dev/sdb ]; do sleep 0.2; done; v() { fio --name=x --filename=$1 --direct=1 --ioengine=libaio --iodepth=32 --rw=randwrite --bsrange=4k-256k --bs_unaligned=0 --blockalign=4k --size=90m --randseed=7 --verify=crc32c --verify_fatal=1 --do_verify=1 $2 >/run/log 2>&1 || { cat /run/log; return 1; }; }\n"
expect 300 "~ # "
send "for d in vda vdb vdc sda sdb; do v /dev/$d && echo $d wri''tten and verified; done\n"
expect 600 "vda written and verified"
expect 600 "vdb written and verified"
expect 600 "vdc written and verified"
expect 600 "sda written and verified"
expect 600 "sdb written and verified"
send "for d in vda vdb vdc sda sdb; do fio --name=m --filename=/dev/$d --direct=1 --ioengine=libaio --iodepth=16 --rw=randrw --bs=4k --size=90m --io_size=24m --fsync=64 >/run/log 2>&1 && v /dev/$d && echo $d mi''xed; done\n"
expect 600 "vda mixed"
expect 600 "vdb mixed"
expect 600 "vdc mixed"
expect 600 "sda mixed"
expect 600 "sdb mixed"
send "dmesg | grep -c -i -E 'I/O error|exception|failed command'; poweroff -f\n"
expect 300 "\n0"
wait 300 0
sh "qemu-img check -q $TMP/cow.qcow2 && qemu-img check -q $TMP/none.qcow2"
vm --accel softkvm --kernel $TMP/vmlinuz --initrd $TMP/initrd.gz --append "console=ttyS0 quiet" --memory 512M --net none --disk $TMP/blk.raw --disk $TMP/cow.qcow2 --disk $TMP/none.qcow2,discard=ignore,detect-zeroes=on --disk $TMP/scsi.raw,bus=scsi --disk $TMP/sata.raw,bus=sata
expect 300 "~ # "
send "export PATH=/bin:/usr/bin; until [ -b /dev/vda ] && [ -b /dev/vdb ] && [ -b /dev/vdc ] && [ -b /dev/sda ] && [ -b /dev/sdb ]; do sleep 0.2; done; v() { fio --name=x --filename=$1 --direct=1 --ioengine=libaio --iodepth=32 --rw=randwrite --bsrange=4k-256k --bs_unaligned=0 --blockalign=4k --size=90m --randseed=7 --verify=crc32c --verify_fatal=1 --verify_only >/run/log 2>&1 || { cat /run/log; return 1; }; }\n"
expect 300 "~ # "
send "for d in vda vdb vdc sda sdb; do v /dev/$d && echo $d still ver''ifies; done\n"
expect 600 "vda still verifies"
expect 600 "vdb still verifies"
expect 600 "vdc still verifies"
expect 600 "sda still verifies"
expect 600 "sdb still verifies"
send "dd if=/dev/urandom of=/dev/vda bs=4k seek=9000 count=9000 2>/dev/null; v /dev/vda || echo seen to be da''maged\n"
expect 600 "seen to be damaged"
send "poweroff -f\n"
wait 300 0
