# A kernel whose 9P and virtio are modules boots on a folder of the host as its root, started by a user without privileges: owners, modes and device nodes
# that the guest sets are there after a reboot, and nothing of the kind is on the host; read-only stays as it is.
sh "tests/guest/root_tree.sh $TMP"
skip-unless "python3 -c \"import os; os.setxattr('$TMP/tree/sbin/init', 'user.lodge', b'1')\""
prog "$TMP/user $TMP/bin/lodge run --accel softkvm --kernel $TMP/vmlinuz --root $TMP/tree --append 'console=ttyS0 quiet -- one' --memory 256M --net none --name root"
expect 300 "init one"
expect 300 "/ # "
send "stat -c %u:%g:%a /sbin/init; touch /new; chown 5:6 /new; chmod 4751 /new; mknod /node c 1 3; mkdir /in; echo te''xt > /in/file; mv /in/file /in/moved; ln -s moved /in/link; sync; echo se''t\n"
expect 300 "0:0:755"
expect 300 "set"
send "reboot -f\n"
expect 300 "init one"
expect 300 "/ # "
send "stat -c %u:%g:%a /new; stat -c %F /node; cat /in/link; ls /lib/modules/*/kernel/fs/9p; grep -c . /proc/modules; ls /modules /root.conf 2>&1 | grep -c 'No such'\n"
expect 300 "5:6:4751"
expect 300 "character special file"
expect 300 "text"
expect 300 "9p.ko.xz"
send "poweroff -f\n"
wait 300 0
reject "Kernel panic"
sh "[ $(stat -c %A $TMP/tree/new) = -rw------- ] && [ -f $TMP/tree/node ] && [ ! -c $TMP/tree/node ] && [ $(cat $TMP/tree/in/link) = text ]"
prog "$TMP/user $TMP/bin/lodge run --accel softkvm --kernel $TMP/vmlinuz --root $TMP/tree,readonly --append 'console=ttyS0 quiet init=/sbin/other' --memory 256M --net none"
expect 300 "other init"
expect 300 "/ # "
send "touch /more; cat /in/link\n"
expect 300 "Read-only file system"
expect 300 "text"
send "poweroff -f\n"
wait 300 0
sh "[ ! -e $TMP/tree/more ]"
# What cannot be says so: a kernel that is known to have no 9P, a link out of the tree in place of the modules, a folder that is none.
sh "rm $TMP/tree/usr/lib/modules/*/kernel/net/9p/9pnet_virtio.ko.xz"
lodge 1 run --kernel $TMP/vmlinuz --root $TMP/tree --net none
output "has no module '9pnet_virtio'"
sh "cp /etc/passwd $TMP/outside.ko; ln -s $TMP/outside.ko $TMP/tree/usr/lib/modules/$(ls $TMP/tree/usr/lib/modules)/kernel/net/9p/9pnet_virtio.ko"
lodge 1 run --kernel $TMP/vmlinuz --root $TMP/tree --net none
output "has no module '9pnet_virtio'"
sh "cd $TMP/tree/usr/lib/modules/*/kernel/net/9p && rm 9pnet_virtio.ko && echo noise > 9pnet_virtio.ko.xz"
lodge 1 run --kernel $TMP/vmlinuz --root $TMP/tree --net none
output "cannot unpack it"
lodge 1 run --kernel $TMP/vmlinuz --root $TMP/vmlinuz
output "not a folder"
lodge 1 run --root $TMP/tree
output "add --kernel FILE"
lodge 1 run --kernel $TMP/vmlinuz --initrd $INITRD --root $TMP/tree
output "leave out --initrd"
