# Ctrl-A h helps, Ctrl-A Ctrl-A types itself, and the terminal is as before when the guest ends, however it ends.
prog "stty -a > $TMP/before; $LODGE run --accel softkvm --kernel $KERNEL --initrd $INITRD --append 'console=ttyS0 quiet' --memory 256M; echo status $?; stty -a > $TMP/after; cmp $TMP/before $TMP/after && echo rest''ored"
expect 300 "~ # "
send "\x01h"
expect 300 "Ctrl-A x"
send "\x01x"
expect 300 "status 0"
expect 300 "restored"
wait 300 0
prog "stty -a > $TMP/before; $LODGE run --accel softkvm --kernel $KERNEL --initrd $INITRD --append 'console=ttyS0 quiet' --memory 256M </dev/tty & pid=$!; for i in $(seq 1200); do stty -a | cmp -s - $TMP/before || break; sleep 0.1; done; kill -9 $pid; wait $pid; echo status $?; for i in $(seq 1200); do stty -a | cmp -s - $TMP/before && echo rest''ored && break; sleep 0.1; done"
expect 300 "status 137"
expect 300 "restored"
wait 300 0
