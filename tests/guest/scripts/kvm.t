# On real nested paging, which QEMU's TCG emulates, `lodge run --accel kvm` boots the same guest.
skip-unless "command -v qemu-system-x86_64"
sh "tools/kvm-host.sh $TMP/host"
prog "exec qemu-system-x86_64 -accel tcg -cpu EPYC,+svm -m 2048 -nographic -no-reboot -nodefaults -serial stdio -kernel $TMP/host/vmlinuz -initrd $TMP/host/initrd.gz -append 'console=ttyS0 panic=-1 quiet' 2>/dev/null"
expect 400 "kvm-host: ready"
send "lodge/lodge run --kernel demo/vmlinuz --initrd demo/initrd.gz --append 'console=ttyS0 quiet' --memory 256M; echo st''atus $?\n"
expect 300 "kvm"
expect 500 "BusyBox"
expect 300 "~ # "
send "dmesg | grep -c -E 'BUG:|Oops'; poweroff -f\n"
expect 300 "\n0"
expect 300 "status 0"
send "poweroff -f\n"
wait 300 0
