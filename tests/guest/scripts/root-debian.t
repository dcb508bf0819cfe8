# Debian's systemd, bootstrapped into a folder, comes to its login with that folder as its root, and is well.
sh "mmdebstrap --quiet --variant=minbase --include=systemd-sysv,udev,kmod --dpkgopt='path-exclude=/usr/share/doc/*' --customize-hook='chroot \"$1\" passwd -q -d root' bookworm $TMP/tree"
skip-unless "python3 -c \"import os; os.setxattr('$TMP/tree/etc/passwd', 'user.lodge', b'1')\""
sh "cp $(tools/fetch.sh linux-image-amd64)/boot/vmlinuz-* $TMP/vmlinuz && mkdir -p $TMP/tree/usr/lib/modules && cp -a $(tools/fetch.sh linux-image-amd64)/lib/modules/* $TMP/tree/usr/lib/modules/ && depmod -b $TMP/tree $(ls $TMP/tree/usr/lib/modules)"
vm --accel softkvm --kernel $TMP/vmlinuz --root $TMP/tree --append "console=ttyS0 quiet" --memory 1G
expect 600 "login:"
send "root\n"
expect 300 "~#"
send "systemctl is-system-running --wait; systemctl --failed --no-legend; findmnt -n -o FSTYPE,OPTIONS / | cut -c1-5; dpkg --verify | grep -v /usr/share/doc; echo do''ne\n"
expect 300 "running"
expect 300 "9p"
expect 300 "done"
send "poweroff\n"
wait 300 0
reject "Kernel panic"
reject "Call Trace"
