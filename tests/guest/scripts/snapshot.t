# With --snapshot a guest finds its writes again after it has reset its machine, and the images are as they were when it has ended; also a qcow2 image, and
# after an end by SIGKILL, which leaves no overlay behind.
sh "dd if=/dev/urandom of=$TMP/a.raw bs=1M count=8 status=none; mkdir $TMP/tmp; cksum < $TMP/a.raw > $TMP/a.sum"
lodge 0 image create -q -f qcow2 $TMP/b.qcow2 64M
sh "cksum < $TMP/b.qcow2 > $TMP/b.sum"
prog "TMPDIR=$TMP/tmp exec $LODGE run --accel softkvm --kernel $KERNEL --initrd $INITRD --append 'console=ttyS0 quiet' --memory 192M --net none --snapshot --disk $TMP/a.raw --disk $TMP/b.qcow2"
expect 300 "~ # "
send "for d in vda vdb; do dd if=/dev/zero of=/dev/$d bs=1k count=64 2>/dev/null; echo $d wri''tten | dd of=/dev/$d bs=1k seek=64 conv=sync 2>/dev/null; done; sync; reboot -f\n"
expect 300 "Restarting system"
expect 300 "~ # "
send "for d in vda vdb; do dd if=/dev/$d bs=1k count=64 2>/dev/null | tr -d '\\0' | wc -c; dd if=/dev/$d bs=1k skip=64 count=1 2>/dev/null | tr -d '\\0'; done; echo do''ne\n"
expect 300 "vda written"
expect 300 "vdb written"
expect 300 "done"
send "reboot -f\n"
expect 300 "Restarting system"
expect 300 "~ # "
send "dd if=/dev/vdb bs=1k skip=64 count=1 2>/dev/null | tr -d '\\0'; echo do''ne\n"
expect 300 "vdb written"
expect 300 "done"
kill 9
wait 300 137
sh "cksum < $TMP/a.raw | cmp - $TMP/a.sum; cksum < $TMP/b.qcow2 | cmp - $TMP/b.sum; [ -z \"$(ls $TMP/tmp)\" ]"
