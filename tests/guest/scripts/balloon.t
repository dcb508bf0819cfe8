# The balloon takes half of the memory at the start and gives it back when the guest would run out; what the guest frees is the host's again.
sh "tests/guest/with_modules.sh linux-image-cloud-amd64 $TMP virtio_balloon"
vm --accel softkvm --kernel $TMP/vmlinuz --initrd $TMP/initrd.gz --append "console=ttyS0 quiet" --memory 512M,current=256M --net none
expect 300 "~ # "
send "i=0; while [ $i -lt 100 ] && [ $(awk '/MemFree/ {print $2}' /proc/meminfo) -gt 240000 ]; do sleep 0.2; i=$((i + 1)); done; [ $i -lt 100 ] && echo infl''ated\n"
expect 300 "inflated"
sh "tests/guest/resident.sh below 200 20"
send "mount -t tmpfs -o size=400m t /mnt; dd if=/dev/zero of=/mnt/a bs=1M count=320 2>/dev/null && echo defl''ated\n"
expect 300 "deflated"
sh "tests/guest/resident.sh above 350 20"
send "rm /mnt/a; echo fr''eed\n"
expect 300 "freed"
sh "tests/guest/resident.sh below 200 20"
send "dd if=/dev/urandom of=/mnt/b bs=1M count=100 2>/dev/null; sha256sum /mnt/b > /run/a; sleep 3; sha256sum /mnt/b | cmp - /run/a && echo sa''me\n"
expect 300 "same"
send "poweroff -f\n"
wait 300 0
