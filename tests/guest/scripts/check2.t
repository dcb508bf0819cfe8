# A kernel on two CPUs comes to its shell while each block that it runs is compared with the interpreter.
vm --accel softkvm --kernel $KERNEL --initrd $INITRD --append "console=ttyS0 quiet" --memory 256M --cpus 2
expect 2400 "~ # "
send "for i in 1 2 3; do busybox true; done; echo al''ive\n"
expect 300 "alive"
send "poweroff -f\n"
wait 300 0
