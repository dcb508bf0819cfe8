# A backing file that loses its end: with rerror=stop the guest waits, a line says so, and reads what was there when the file is whole again; with rerror=report
# it sees the error at once, and the disk works again later.
sh "dd if=/dev/urandom of=$TMP/base.raw bs=1M count=16 status=none; cp $TMP/base.raw $TMP/whole; cp $TMP/base.raw $TMP/other.raw"
lodge 0 image create -q -f qcow2 -b $TMP/base.raw -F raw $TMP/stop.qcow2
lodge 0 image create -q -f qcow2 -b $TMP/other.raw -F raw $TMP/report.qcow2
vm --accel softkvm --kernel $KERNEL --initrd $INITRD --append "console=ttyS0 quiet" --memory 256M --net none --disk $TMP/stop.qcow2,rerror=stop,serial=stop --disk $TMP/report.qcow2,rerror=report,serial=report --disk $TMP/whole,format=raw,readonly
expect 300 "~ # "
sh "truncate -s 4M $TMP/base.raw; truncate -s 4M $TMP/other.raw"
send "dd if=/dev/vdb of=/dev/null bs=1M skip=8 count=1 iflag=direct 2>&1 | grep -o 'I/O error'; echo seen by ''all\n"
expect 300 "I/O error"
expect 300 "seen by all"
send "echo kept > /run/kept; dd if=/run/kept of=/dev/vda bs=512 count=1 seek=2 conv=sync,notrunc oflag=direct 2>/dev/null; dd if=/dev/vda of=/run/a bs=1M iflag=direct 2>/dev/null && echo re''ad\n"
expect 300 "the guest is paused"
sh "cat $TMP/whole > $TMP/base.raw; cat $TMP/whole > $TMP/other.raw; kill -CONT $(pgrep -P \$PPID lodge-vm)"
expect 300 "\nread"
send "dd if=/run/a bs=512 skip=2 count=1 2>/dev/null | head -n 1; dd if=/run/a bs=512 skip=3 2>/dev/null > /run/b; dd if=/dev/vdc bs=512 skip=3 2>/dev/null | cmp - /run/b && cmp /dev/vdb /dev/vdc && echo all is as it w''as\n"
expect 300 "kept"
expect 300 "all is as it was"
send "dmesg | grep 'I/O error' | grep -c vda\n"
expect 300 "\n0"
send "poweroff -f\n"
wait 300 0
