# Two named ports: each program of the host's gets back what it sends, one after the other as well.
vm --accel softkvm --kernel $KERNEL --initrd $INITRD --append "console=ttyS0 quiet" --memory 256M --net none --channel org.qemu.guest_agent.0,path=$TMP/agent --channel two,path=$TMP/two
expect 300 "~ # "
send "cat /sys/class/virtio-ports/*/name; for p in /dev/vport*p1 /dev/vport*p2; do (while :; do cat 0<>$p >&0 2>/dev/null; sleep 0.1; done) & done; echo co''pying\n"
expect 300 "org.qemu.guest_agent.0"
expect 300 "two"
expect 300 "copying"
sh "timeout 200 python3 tests/guest/channelpeer.py $TMP/agent 300000"
sh "timeout 200 python3 tests/guest/channelpeer.py $TMP/two 5000 && timeout 200 python3 tests/guest/channelpeer.py $TMP/two 5000"
send "poweroff -f\n"
wait 300 0
sh "[ ! -e $TMP/agent ]"
