# The virtio console carries a shell as the serial line does.
vm --accel softkvm --console virtio --kernel $KERNEL --initrd $INITRD --append "console=hvc0 quiet" --memory 256M
expect 300 "~ # "
send "tty; echo vir''tio\n"
expect 300 "virtio"
send "poweroff -f\n"
wait 300 0
