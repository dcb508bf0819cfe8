# A tap device of the host's kernel: checksums and large segments pass both ways unharmed.
skip-unless "[ $(id -u) = 0 ] && [ -c /dev/net/tun ] && ip tuntap add lodge-t0 mode tap && ip tuntap del lodge-t0 mode tap"
sh "ip tuntap add lodge-t$PORT mode tap && ip addr add 192.168.177.1/24 dev lodge-t$PORT && ip link set lodge-t$PORT up; mkdir $TMP/www; head -c 20000000 /dev/urandom > $TMP/www/file; sha256sum < $TMP/www/file > $TMP/www/sum"
bg "cd $TMP/www && exec python3 -m http.server $PORT --bind 192.168.177.1 > $TMP/http.log 2>&1"
vm --accel softkvm --kernel $KERNEL --initrd $INITRD --append "console=ttyS0 quiet" --memory 256M --net tap,ifname=lodge-t$PORT
expect 300 "~ # "
send "ip addr add 192.168.177.2/24 dev eth0; a=http://192.168.177.1:$PORT; wget -q -O /run/sum $a/sum; wget -q -O /run/file $a/file && sha256sum < /run/file | cmp - /run/sum && echo sa''me; mkdir /www; mv /run/file /www; httpd -h /www; echo ser''ving\n"
expect 300 "same"
expect 300 "serving"
sh "wget -q -O - http://192.168.177.2/file | cmp - $TMP/www/file"
send "poweroff -f\n"
wait 300 0
sh "ip link del lodge-t$PORT"
