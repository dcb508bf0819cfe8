# Two guests on a wire of their own.
sh "mkdir -p $TMP/add/etc; printf '#!/bin/sh\nexport PATH=/bin\nip addr add 192.168.7.1/24 dev eth0\nmkdir /www; head -c 3000000 /dev/urandom > /www/file; sha256sum < /www/file > /www/sum; exec httpd -f -h /www\n' > $TMP/add/etc/shell; chmod 755 $TMP/add/etc/shell; tests/guest/with_modules.sh linux-image-cloud-amd64 $TMP"
bg "exec $LODGE run --accel softkvm --kernel $TMP/vmlinuz --initrd $TMP/initrd.gz --append 'console=ttyS0 quiet' --memory 256M --net socket,listen=$TMP/wire < /dev/null > $TMP/peer.log 2>&1"
sh "i=0; while [ ! -S $TMP/wire ] && [ \$i -lt 100 ]; do sleep 0.1; i=\$((i + 1)); done; [ -S $TMP/wire ]"
vm --accel softkvm --kernel $KERNEL --initrd $INITRD --append "console=ttyS0 quiet" --memory 256M --net socket,connect=$TMP/wire
expect 300 "~ # "
send "ip addr add 192.168.7.2/24 dev eth0; i=0; while ! wget -q -O /run/sum http://192.168.7.1/sum && [ $i -lt 60 ]; do sleep 1; i=$((i + 1)); done; wget -q -O /run/file http://192.168.7.1/file && sha256sum < /run/file | cmp - /run/sum && echo sa''me\n"
expect 300 "same"
send "poweroff -f\n"
wait 300 0
