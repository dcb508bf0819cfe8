# A guest that does not ask for AVX-512 has none, and a program that uses it all the same gets SIGILL: in translated code and, with SOFTKVM_DIRECT, natively.
vm --accel softkvm --kernel $KERNEL --initrd $INITRD --append "console=ttyS0 quiet" --memory 256M
expect 300 "~ # "
send "grep -c avx512 /proc/cpuinfo\n"
expect 300 "\n0"
send "user512; echo status=$?\n"
expect 300 "status=132"
send "user64\n"
expect 300 "user32: e8a4abf97c8292cf"
send "poweroff -f\n"
wait 300 0
