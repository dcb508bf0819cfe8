# The virtio console carries a shell as the serial line does.
vm --accel softkvm --console virtio --kernel $KERNEL --initrd $INITRD --append "console=hvc0 quiet" --memory 256M
expect 120 "~ # "
send "tty; echo vir''tio\n"
expect 120 "virtio"
send "poweroff -f\n"
wait 120 0
