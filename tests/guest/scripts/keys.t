# Ctrl-A h helps, Ctrl-A Ctrl-A types itself, and the terminal is as before when the guest ends, however it ends.
prog "stty -a > $TMP/before; $LODGE run --accel softkvm --kernel $KERNEL --initrd $INITRD --append 'console=ttyS0 quiet' --memory 256M; echo status $?; stty -a > $TMP/after; cmp $TMP/before $TMP/after && echo rest''ored"
expect 120 "~ # "
send "\x01h"
expect 20 "Ctrl-A x"
send "\x01x"
expect 30 "status 0"
expect 10 "restored"
wait 20 0
prog "stty -a > $TMP/before; $LODGE run --accel softkvm --kernel $KERNEL --initrd $INITRD --append 'console=ttyS0 quiet' --memory 256M & pid=$!; sleep 3; kill -9 $pid; wait $pid; echo status $?; sleep 1; stty -a > $TMP/after; cmp $TMP/before $TMP/after && echo rest''ored"
expect 30 "status 137"
expect 30 "restored"
wait 20 0
