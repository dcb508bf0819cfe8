# A guest that asks for AVX-512 gets it; a program that uses it computes what others do, also while another one does.
vm --accel softkvm --kernel $KERNEL --initrd $INITRD --append "console=ttyS0 quiet" --memory 256M --cpu-feature avx512
expect 300 "~ # "
send "grep -c avx512bw /proc/cpuinfo\n"
expect 300 "\n1"
send "user512 >/tmp/a & user64 >/tmp/b; user512 >/tmp/c; wait; cmp /tmp/a /tmp/b && cmp /tmp/b /tmp/c && echo all sa''me\n"
expect 300 "all same"
send "cat /tmp/a\n"
expect 300 "user32: e8a4abf97c8292cf"
send "dmesg | grep -c -i -E 'BUG:|Oops|WARNING:|segfault|trap '\n"
expect 300 "\n0"
send "poweroff -f\n"
wait 300 0
