# Debian's disk: SeaBIOS, GRUB, systemd, login; it is well, reboots, and switches off at the power button.
sh "flock $BUILD/tests/guest/image.lock tools/image.sh --prepare >/dev/null"
lodge 0 image create -q -f qcow2 -b $IMAGE/debian.qcow2 -F qcow2 $TMP/disk.qcow2
vm --accel softkvm --memory 1G --cpus $CPUS --disk $TMP/disk.qcow2
expect 300 "SeaBIOS"
expect 300 "GRUB"
expect 600 "login:"
send "root\n"
expect 300 "~#"
send "systemctl is-system-running --wait; systemctl --failed --no-legend; echo cpus $(nproc); echo net $(ip -br -4 addr show up scope global | grep -c 10.0.2.15)\n"
expect 300 "running"
expect 300 "cpus $CPUS"
expect 300 "net 1"
expect 300 "~#"
send "reboot\n"
expect 300 "SeaBIOS"
expect 600 "login:"
send "root\n"
expect 300 "~#"
send "\x01p"
wait 300 0
reject "Kernel panic"
reject "Call Trace"
