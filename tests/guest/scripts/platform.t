# Small devices of the board: the VM generation ID, at its place and with its value; the parallel port, by Linux's printer driver.
sh "tests/guest/with_modules.sh linux-image-amd64 $TMP parport_pc lp"
vm --accel softkvm --kernel $TMP/vmlinuz --initrd $TMP/initrd.gz --append "console=ttyS0 quiet iomem=relaxed" --memory 256M --net none --genid 00112233-4455-6677-8899-aabbccddeeff --parallel file:$TMP/paper
expect 300 "~ # "
send "cd /sys/bus/acpi/drivers/vmgenid; ls; echo LODG0001:00 >unbind; for a in 0 4 8 c; do devmem 0xfeffb00${a} 32; done; echo re''ad\n"
# Linux maps the page otherwise than devmem does, until its driver lets go.
expect 300 "LODG0001:00"
expect 300 "0x00112233"
expect 300 "0x66774455"
expect 300 "0xBBAA9988"
expect 300 "0xFFEEDDCC"
expect 300 "\nread"
send "devmem 0xfeffb000 32 0; devmem 0xfeffb000 32; echo ke''pt\n"
expect 300 "0x00112233"
expect 300 "\nkept"
send "dmesg | grep -i lp0; seq 500 >/run/page; cat /run/page >/dev/lp0 && echo pri''nted\n"
expect 300 "\nprinted"
send "poweroff -f\n"
wait 300 0
sh "seq 500 | cmp - $TMP/paper"
