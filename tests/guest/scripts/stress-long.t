# The stress program goes round for ten minutes on two CPUs.
vm --accel softkvm --kernel $KERNEL --initrd $INITRD --append "console=ttyS0 quiet" --memory 256M --cpus 2
expect 300 "~ # "
send "stress 200 600\n"
expect 1000 "stress: all ok"
send "dmesg | grep -c -i -E 'BUG:|Oops|WARNING:|soft lockup|rcu.*stall'\n"
expect 300 "\n0"
send "poweroff -f\n"
wait 300 0
