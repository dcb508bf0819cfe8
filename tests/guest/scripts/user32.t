# A 32-bit process on a 64-bit kernel computes what a 64-bit one does, and what the host did.
vm --accel softkvm --kernel $KERNEL --initrd $INITRD --append "console=ttyS0 quiet" --memory 256M
expect 300 "~ # "
send "user32 >/tmp/a & user64 >/tmp/b; user32 >/tmp/c; wait; cmp /tmp/a /tmp/b && cmp /tmp/b /tmp/c && echo all sa''me\n"
expect 300 "all same"
send "cat /tmp/a\n"
expect 300 "user32: e8a4abf97c8292cf"
send "dmesg | grep -c -i -E 'BUG:|Oops|WARNING:|segfault|trap '\n"
expect 300 "\n0"
send "poweroff -f\n"
wait 300 0
