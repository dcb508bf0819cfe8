# 256 MiB go through virtio-blk both ways and come back the same; discard and a read-only disk behave.
sh "dd if=/dev/urandom of=$TMP/in.img bs=1M count=256 status=none; truncate -s 256M $TMP/out.img; dd if=/dev/urandom of=$TMP/ro.img bs=1M count=1 status=none; cksum < $TMP/ro.img > $TMP/ro.sum"
vm --accel softkvm --kernel $KERNEL --initrd $INITRD --append "console=ttyS0 quiet" --memory 256M --disk file=$TMP/in.img,format=raw --disk file=$TMP/out.img,format=raw --disk file=$TMP/ro.img,format=raw,readonly
expect 300 "~ # "
send "ls /dev/vd?; cat /sys/block/vda/size\n"
expect 300 "524288"
send "dd if=/dev/vda of=/dev/vdb bs=1M && sync && echo co''pied\n"
expect 300 "copied"
send "echo 3 > /proc/sys/vm/drop_caches; cmp /dev/vda /dev/vdb && echo sa''me\n"
expect 300 "same"
send "cat /sys/block/vdc/ro; dd if=/dev/zero of=/dev/vdc bs=512 count=1 2>&1 | tail -n 1; echo do''ne\n"
expect 300 "1"
expect 300 "done"
send "poweroff -f\n"
wait 300 0
sh "cmp $TMP/in.img $TMP/out.img"
sh "cksum < $TMP/ro.img | cmp - $TMP/ro.sum"
