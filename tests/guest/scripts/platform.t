# What ACPI tells of the board: the VM generation ID, at its place and with its value.
vm --accel softkvm --kernel $KERNEL --initrd $INITRD --append "console=ttyS0 quiet iomem=relaxed" --memory 256M --net none --genid 00112233-4455-6677-8899-aabbccddeeff
expect 120 "~ # "
send "ls /sys/bus/acpi/drivers/vmgenid/; for a in 0 4 8 c; do devmem 0xfeffb00${a} 32; done; echo re''ad\n"
expect 30 "QEMUVGID:00"
expect 30 "0x00112233"
expect 10 "0x66774455"
expect 10 "0xBBAA9988"
expect 10 "0xFFEEDDCC"
expect 10 "\nread"
send "devmem 0xfeffb000 32 0; devmem 0xfeffb000 32; echo kept\n"
expect 30 "0x00112233"
expect 10 "\nkept"
send "poweroff -f\n"
wait 60 0
