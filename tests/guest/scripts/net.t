# Files go to the guest and come back over TCP through the user network, byte for byte.
sh "dd if=/dev/urandom of=$TMP/down bs=1M count=32 status=none"
bg "python3 $SRC/tests/guest/peer.py $TMP $PORT 2>/dev/null"
vm --accel softkvm --kernel $KERNEL --initrd $INITRD --append "console=ttyS0 quiet" --memory 256M --net user
expect 300 "~ # "
send "for i in `seq 100`; do ip addr show eth0 | grep -q 10.0.2 && break; sleep 1; done; ip addr show eth0\n"
expect 300 "inet 10.0.2.15"
send "wget -q -O /tmp/f http://10.0.2.2:$PORT/down && echo lo''aded\n"
expect 300 "loaded"
send "nc 10.0.2.2 $PORT2 < /tmp/f && echo se''nt\n"
expect 300 "sent"
send "poweroff -f\n"
wait 300 0
sh "for i in `seq 1200`; do [ -f $TMP/up ] && break; sleep 0.1; done; cmp $TMP/down $TMP/up"
