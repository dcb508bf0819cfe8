# cloud-init finds the seed that lodge makes of a user-data file, and does what that says.
sh "flock $BUILD/tests/guest/image.lock tools/image.sh --prepare >/dev/null"
lodge 0 image create -q -f qcow2 -b $IMAGE/debian.qcow2 -F qcow2 $TMP/disk.qcow2
sh "printf '#cloud-config\nhostname: seeded\nruncmd:\n  - [ sh, -c, \"echo seed-$((40+2))-done >/dev/ttyS0\" ]\n' >$TMP/user-data"
vm --accel softkvm --memory 1G --cpus 2 --name cloudy --disk $TMP/disk.qcow2 --cloud-init $TMP/user-data
expect 900 "seed-42-done"
send "\nroot\n"
expect 300 "root@seeded:~#"
send "cloud-init status; blkid -t LABEL=cidata\n"
expect 300 "status: done"
expect 300 "/dev/vdb"
send "\x01p"
wait 300 0
