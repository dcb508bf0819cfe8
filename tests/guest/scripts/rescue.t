# A GRUB rescue CD starts from a CD-ROM drive, shows what is on the disc, and starts Memtest86+ from there, which finds no error in the guest's memory; Memtest86+
# started directly finds none either.
sh "mkdir -p $TMP/cd/boot/grub && cp /boot/memtest86+x64.bin $TMP/cd/boot/memtest && echo lodge-mark > $TMP/cd/mark && printf 'serial --unit=0 --speed=115200\nterminal_input serial\nterminal_output serial\nset timeout=-1\n' > $TMP/cd/boot/grub/grub.cfg"
sh "grub-mkrescue -o $TMP/rescue.iso $TMP/cd >/dev/null 2>&1"
vm --accel softkvm --memory 48M --cdrom $TMP/rescue.iso --net none
expect 300 "SeaBIOS"
expect 300 "grub> "
send "ls /boot/\r"
expect 300 "memtest"
send "cat /mark\r"
expect 300 "lodge-mark"
expect 300 "grub> "
send "linux /boot/memtest console=ttyS0,115200\r"
expect 300 "grub> "
send "boot\r"
expect 300 "Memtest86+"
expect 1800 "Pass:  1        Errors: 0"
send "\x01x"
wait 300 0
vm --accel softkvm --memory 48M --kernel /boot/memtest86+x64.bin --append "console=ttyS0,115200" --net none
expect 300 "Memtest86+"
expect 1800 "Pass:  1        Errors: 0"
send "\x01x"
wait 300 0
