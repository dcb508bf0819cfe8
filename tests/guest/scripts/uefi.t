# OVMF comes to its shell on the serial line, with and without a file for its variables, which keep what is set. It starts GRUB from
# virtio, SATA and SCSI disks, the one with the first place also behind root ports, and GRUB a kernel, which finds UEFI and both CPUs.
vm --accel softkvm --memory 256M --firmware /usr/share/ovmf/OVMF.fd --net none
expect 300 "UEFI Interactive Shell"
expect 300 "Shell> "
send "ver\r"
expect 300 "UEFI Interactive Shell"
send "\x01x"
wait 300 0
vm --accel softkvm --memory 256M --firmware uefi --nvram $TMP/vars --net none
expect 300 "Shell> "
send "setvar LodgeMark -guid 77fa9abd-0359-4d32-bd60-28f4e78f784b -nv -bs =0badcafe\r"
expect 300 "Shell> "
lodge 1 run --accel softkvm --memory 256M --firmware uefi --nvram $TMP/vars --net none
output "another process has locked them"
send "reset -s\r"
wait 300 0
vm --accel softkvm --memory 256M --firmware uefi --nvram $TMP/vars --net none
expect 300 "Shell> "
send "setvar LodgeMark -guid 77fa9abd-0359-4d32-bd60-28f4e78f784b\r"
expect 300 "0B AD CA FE"
send "reset\r"
expect 300 "UEFI Interactive Shell"
expect 300 "Shell> "
send "\x01x"
wait 300 0
lodge 1 run --accel softkvm --memory 256M --firmware bios --nvram $TMP/none --net none
output "no firmware that keeps them"
lodge 1 run --accel softkvm --memory 256M --firmware /usr/share/ovmf/OVMF.fd --nvram $TMP/none --net none
output "none to begin with"
sh "for n in one two; do printf 'serial --unit=0\nterminal_output serial\necho grub-%s\nhalt\n' $n > $TMP/$n.cfg && grub-mkstandalone -O x86_64-efi -o $TMP/$n.efi boot/grub/grub.cfg=$TMP/$n.cfg && truncate -s 64M $TMP/$n.raw && mformat -F -i $TMP/$n.raw :: && mmd -i $TMP/$n.raw ::/EFI ::/EFI/BOOT && mcopy -i $TMP/$n.raw $TMP/$n.efi ::/EFI/BOOT/BOOTX64.EFI || exit 1; done"
vm --accel softkvm --memory 256M --firmware uefi --disk $TMP/one.raw,format=raw,pci=2:0 --disk $TMP/two.raw,format=raw,pci=3:0,bootindex=1 --net none
expect 300 "grub-two"
wait 300 0
vm --accel softkvm --memory 256M --firmware uefi --disk $TMP/one.raw,format=raw,bus=scsi --net none
expect 300 "grub-one"
wait 300 0
sh "LODGE_DEMO=$TMP/demo tools/demo.sh --prepare >/dev/null"
sh "printf 'serial --unit=0\nterminal_input serial\nterminal_output serial\necho grub-mark\nsearch --file --set=root /vmlinuz\nlinux /vmlinuz console=ttyS0 quiet\ninitrd /initrd.gz\nboot\n' > $TMP/grub.cfg"
sh "grub-mkstandalone -O x86_64-efi -o $TMP/boot.efi boot/grub/grub.cfg=$TMP/grub.cfg"
sh "truncate -s 64M $TMP/esp.raw && mformat -F -i $TMP/esp.raw :: && mmd -i $TMP/esp.raw ::/EFI ::/EFI/BOOT && mcopy -i $TMP/esp.raw $TMP/boot.efi ::/EFI/BOOT/BOOTX64.EFI && mcopy -i $TMP/esp.raw $TMP/demo/vmlinuz $TMP/demo/initrd.gz ::/"
vm --accel softkvm --memory 512M --cpus 2 --firmware /usr/share/ovmf/OVMF.fd --disk $TMP/esp.raw,format=raw --net user
expect 300 "grub-mark"
expect 300 "~ # "
send "echo cpus $(nproc) bits $(cat /sys/firmware/efi/fw_platform_size) net $(ls /sys/class/net | grep -c eth0) bad $(dmesg | grep -c -i -E 'BUG:|Oops|WARNING:|not CPU addressable')\n"
expect 300 "cpus 2 bits 64 net 1 bad 0"
send "poweroff -f\n"
wait 300 0
vm --accel softkvm --memory 512M --firmware /usr/share/ovmf/OVMF.fd --disk $TMP/esp.raw,format=raw,bus=sata --net none
expect 300 "grub-mark"
expect 300 "~ # "
send "reboot -f\n"
expect 300 "grub-mark"
expect 300 "~ # "
send "poweroff -f\n"
wait 300 0
