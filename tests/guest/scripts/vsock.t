# vsock both ways: a program of the host's reaches one in the guest and gets 20 MB back; one of the guest's reaches the host's.
sh "mkdir -p $TMP/add/bin && cp $BUILD/tests/guest/vsockecho $TMP/add/bin/ && tests/guest/with_modules.sh linux-image-cloud-amd64 $TMP vmw_vsock_virtio_transport"
bg "exec python3 tests/guest/vsockpeer.py serve $TMP/v_99"
vm --accel softkvm --kernel $TMP/vmlinuz --initrd $TMP/initrd.gz --append "console=ttyS0 quiet" --memory 256M --net none --vsock $TMP/v,cid=42
expect 300 "~ # "
send "vsockecho 1234 &\n"
expect 300 "listening"
sh "python3 tests/guest/vsockpeer.py dial $TMP/v 1234 20000000"
send "vsockecho 99 send 4096000\n"
expect 300 "all came back"
send "vsockecho 98 send 1\n"
expect 300 "vsockecho: Connection reset by peer"
send "poweroff -f\n"
wait 300 0
sh "[ ! -e $TMP/v ]"
