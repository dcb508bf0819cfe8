# A boot and the stress program translate many times what the code cache holds; two CPUs work while pieces of it are thrown away.
vm --accel softkvm --kernel $KERNEL --initrd $INITRD --append "console=ttyS0 quiet" --memory 256M --cpus 2
expect 300 "~ # "
send "stress 5\n"
expect 300 "stress: all ok"
send "poweroff -f\n"
wait 300 0
