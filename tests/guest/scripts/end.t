# Each way in which a guest can end has its own status: reset, panic, triple fault, and the escape key.
vm --accel softkvm --kernel $KERNEL --initrd $INITRD --append "console=ttyS0 quiet" --memory 256M --no-reboot
expect 300 "~ # "
send "reboot -f\n"
wait 300 3
vm --accel softkvm --kernel $KERNEL --initrd $INITRD --append "console=ttyS0 quiet panic=-1" --memory 256M --no-reboot
expect 300 "~ # "
send "echo c > /proc/sysrq-trigger\n"
wait 300 4
vm --accel softkvm --kernel $KERNEL --initrd $INITRD --append "console=ttyS0 quiet reboot=t" --memory 256M --no-reboot
expect 300 "~ # "
send "reboot -f\n"
wait 300 5
vm --accel softkvm --kernel $KERNEL --initrd $INITRD --append "console=ttyS0 quiet" --memory 256M
expect 300 "~ # "
send "reboot -f\n"
expect 300 "~ # "
send "\x01x"
wait 300 0
