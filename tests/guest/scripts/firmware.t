# SeaBIOS starts a boot sector from a virtio disk, whose services it uses; and the second disk, where that has the first place.
sh "cp $BUILD/tests/guest/bootsector.bin $TMP/boot.raw && truncate -s 4M $TMP/boot.raw && truncate -s 4M $TMP/empty.raw"
vm --accel softkvm --disk $TMP/boot.raw --net none --memory 32M --debug-exit
expect 300 "SeaBIOS"
expect 300 "boot sector: here"
expect 300 "second sector: here"
wait 300 11
sh "dd if=$TMP/boot.raw of=$TMP/second bs=512 skip=1 count=1 status=none && dd if=$TMP/boot.raw bs=512 skip=2 count=1 status=none | cmp - $TMP/second"
# A disk that does not boot comes first only where nothing says otherwise.
vm --accel softkvm --disk $TMP/empty.raw --disk $TMP/boot.raw,bootindex=1 --net none --memory 32M --cpus 2 --debug-exit --firmware-log $TMP/log
expect 300 "second sector: here"
wait 300 11
sh "grep -q \"Found 2 cpu\" $TMP/log"
# The same from a SCSI disk, and from a SATA disk.
vm --accel softkvm --disk $TMP/boot.raw,bus=scsi --net none --memory 32M --debug-exit
expect 300 "second sector: here"
wait 300 11
vm --accel softkvm --disk $TMP/boot.raw,bus=sata --net none --memory 32M --debug-exit
expect 300 "second sector: here"
wait 300 11
