# A port of the host leads into the guest; TFTP serves a folder; the capture has the packets; a link of limited rate is slow.
sh "mkdir $TMP/tftp; head -c 300000 /dev/urandom > $TMP/tftp/file"
vm --accel softkvm --kernel $KERNEL --initrd $INITRD --append "console=ttyS0 quiet" --memory 256M --net user,hostfwd=tcp:127.0.0.1:$PORT-:80,tftp=$TMP/tftp,pcap=$TMP/packets,queues=2,mtu=9000
expect 300 "~ # "
send "cat /sys/class/net/eth0/mtu; mkdir /www; cd /www; tftp -g -r file 10.0.2.2 && sha256sum file > sum && httpd -h /www && echo ser''ving\n"
expect 300 "9000"
expect 300 "serving"
sh "wget -q -O $TMP/got http://127.0.0.1:$PORT/file && cmp $TMP/got $TMP/tftp/file"
sh "python3 -c 'import sys; d = open(sys.argv[1], chr(114) + chr(98)).read(); assert d[:4] == bytes([0x4d, 0x3c, 0xb2, 0xa1]) and b\"GET /file\" in d' $TMP/packets"
send "poweroff -f\n"
wait 300 0
