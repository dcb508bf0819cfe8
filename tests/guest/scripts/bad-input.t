# Bad input ends with status 1 and one line that names the object, the cause and the remedy.
sh "head -c 100000 /dev/urandom > $TMP/noise; head -c 4096 $KERNEL > $TMP/cut; truncate -s 300M $TMP/huge.initrd; truncate -s 100 $TMP/short.img; truncate -s 1M $TMP/disk.img; : > $TMP/empty"
lodge 1 run --accel softkvm --kernel $TMP/none
lines 1
output "No such file"
lodge 1 run --accel softkvm --kernel $TMP/noise
lines 1
output "noise"
lodge 1 run --accel softkvm --kernel $TMP/empty
lines 1
lodge 1 run --accel softkvm --kernel $TMP/cut
lines 1
output "cut"
lodge 1 run --accel softkvm --kernel $KERNEL --initrd $TMP/huge.initrd --memory 256M
lines 1
output "huge.initrd"
lodge 1 run --accel softkvm --kernel $KERNEL --initrd $TMP/none
lines 1
lodge 1 run --accel softkvm --kernel $KERNEL --memory 900T
lines 1
output "memory"
lodge 1 run --accel softkvm --kernel $KERNEL --memory 12Q
lines 1
lodge 1 run --accel softkvm --kernel $KERNEL --cpus 10000
lines 1
output "cpus"
lodge 1 run --accel softkvm --kernel $KERNEL --cpus 0
lines 1
lodge 1 run --accel softkvm --kernel $KERNEL --disk file=$TMP/none,format=raw
lines 1
output "none"
lodge 1 run --accel softkvm --kernel $KERNEL --disk file=$TMP/short.img,format=raw
lines 1
output "short.img"
lodge 1 run --accel softkvm --kernel $KERNEL --disk file=$TMP/disk.img
lines 1
output "format"
lodge 1 run --accel softkvm --kernel $KERNEL --net bridge
lines 1
lodge 1 run --accel softkvm --kernel $KERNEL --net user,vhost=on
lines 1
output "tap device only"
lodge 1 run --accel softkvm --kernel $KERNEL --net tap,vhost=maybe
lines 1
output "on, off or auto"
lodge 1 run --kernl $KERNEL
lines 1
output "--kernel"
bg "$LODGE run --accel softkvm --kernel $KERNEL --initrd $INITRD --memory 128M --disk file=$TMP/disk.img,format=raw </dev/null >/dev/null 2>&1"
sh "sleep 2"
lodge 1 run --accel softkvm --kernel $KERNEL --disk file=$TMP/disk.img,format=raw
lines 1
output "disk.img"
lodge 1 run --accel softkvm --firmware $TMP/none
output "cannot open"
lodge 1 run --accel softkvm --firmware $TMP/noise
output "64 KiB"
lodge 1 run --accel softkvm --kernel $KERNEL --firmware bios
output "leave out one"
lodge 1 run --accel softkvm --disk $TMP/disk.img,format=raw,bootindex=0
output "boot order"
lodge 1 run --accel softkvm --disk $TMP/disk.img,format=raw,bus=scsy
output "bus 'scsy'"
