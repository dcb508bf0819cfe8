# An unmodified Debian kernel comes to its shell, runs programs, and switches itself off with status 0; then the engine tells what it has counted.
vm --accel softkvm --stats --kernel $KERNEL --initrd $INITRD --append "console=ttyS0 quiet" --memory 256M
expect 1200 "~ # "
send "uname -r\n"
expect 300 "cloud-amd64"
expect 300 "~ # "
send "for i in 1 2 3 4 5 6 7 8 9 10; do /bin/busybox true || echo bad; done; echo fork''ed\n"
expect 300 "forked"
send "echo hello > /tmp/a; cp /tmp/a /tmp/b; cmp /tmp/a /tmp/b && echo co''pied\n"
expect 300 "copied"
send "dmesg | grep -c -i -E 'BUG:|Oops|WARNING:|unsynchronized'\n"
expect 300 "\n0"
send "poweroff -f\n"
expect 300 "lodge: statistics of softkvm"
expect 300 "bt_code_bytes "
expect 300 "io_exits "
expect 300 "bt_translations "
wait 300 0
