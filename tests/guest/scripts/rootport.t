# Devices behind PCIe root ports: SeaBIOS boots from one, and Linux finds them where the command line put them, and uses them.
sh "cp $BUILD/tests/guest/bootsector.bin $TMP/boot.raw && truncate -s 4M $TMP/boot.raw"
vm --accel softkvm --disk $TMP/boot.raw,bus=virtio,pci=2:0,bootindex=1 --net none --memory 32M --debug-exit
expect 300 "second sector: here"
wait 300 11
sh "head -c 8M /dev/urandom > $TMP/disk.raw && sha256sum < $TMP/disk.raw > $TMP/sums && truncate -s 4096 $TMP/sums"
vm --accel softkvm --kernel $KERNEL --initrd $INITRD --append "console=ttyS0 quiet" --memory 256M --disk $TMP/disk.raw,pci=1:0 --disk $TMP/sums,format=raw,pci=0:1e --net user,pci=3:0
expect 300 "~ # "
send "cd /sys/bus/pci/devices; for d in 0000:01:00.0 0000:03:00.0 0000:00:1e.0; do echo $d is $(cat $d/device) by $(basename $(readlink $d/driver)); done\n"
expect 300 "0000:01:00.0 is 0x1042 by virtio-pci"
expect 300 "0000:03:00.0 is 0x1041 by virtio-pci"
expect 300 "0000:00:1e.0 is 0x1042 by virtio-pci"
send "ls -d */ | grep -c . ; for d in *; do [ $(cat $d/class) = 0x060400 ] && echo port $d; done; [ ! -e 0000:02:00.0 ] && echo no''ne\n"
expect 300 "port 0000:00:"
expect 300 "none"
send "for d in vda vdb; do [ $(cat /sys/block/$d/size) = 8 ] && s=/dev/$d || b=/dev/$d; done; [ \"$(head -c 64 $s)\" = \"$(sha256sum < $b | head -c 64)\" ] && echo sa''me\n"
expect 300 "same"
send "ping -c 1 10.0.2.2 | grep -c ' 0% packet loss'\n"
expect 300 "1"
send "dmesg | grep -i -E 'pciehp|_OSC'; grep PCIe /proc/interrupts; dmesg | grep -c -i -E 'BUG:|Oops|WARNING:|BAR.*failed'\n"
expect 300 "\n0"
send "poweroff -f\n"
wait 300 0
