# Two CPUs come up, share work, and keep the TSC as their clock.
vm --accel softkvm --kernel $KERNEL --initrd $INITRD --append "console=ttyS0 quiet" --memory 256M --cpus 2
expect 300 "~ # "
send "grep -c ^processor /proc/cpuinfo\n"
expect 300 "\n2"
send "cat /sys/devices/system/clocksource/clocksource0/current_clocksource\n"
expect 300 "\ntsc"
send "(for i in 1 2 3 4 5; do busybox true; done; echo fi''rst) & for i in 1 2 3 4 5; do busybox true; done; wait; echo se''cond\n"
expect 300 "second"
send "dmesg | grep -c -i -E 'BUG:|Oops|WARNING:|unsynchronized|soft lockup|rcu.*stall'\n"
expect 300 "\n0"
send "poweroff -f\n"
wait 300 0
