# Two NUMA nodes: Linux finds the CPUs, the memory and the distances of each.
vm --accel softkvm --kernel $KERNEL --initrd $INITRD --append "console=ttyS0 quiet" --memory 256M,prealloc=2 --cpus 2 --net none --numa cpus=0,memory=96M,distances=10:31 --numa cpus=1,memory=160M
expect 300 "~ # "
send "cd /sys/devices/system/node; cat online node0/cpulist node1/cpulist node0/distance node1/distance\n"
expect 300 "\n0-1"
expect 300 "\n0"
expect 300 "\n1"
expect 300 "\n10 31"
expect 300 "\n20 10"
# The kernel keeps some of the 96 and of the 160 MiB for itself.
send "for n in 0 1; do awk -v n=$n '/MemTotal/ {print \"no\" \"de\", n, ($4 > 50000 && $4 <= 98304) ? \"small\" : ($4 > 120000 && $4 <= 163840) ? \"large\" : $4}' node$n/meminfo; done\n"
expect 300 "\nnode 0 small"
expect 300 "\nnode 1 large"
send "dmesg | grep -c -i -E 'BUG:|Oops|WARNING:|not on the same node'\n"
expect 300 "\n0"
send "poweroff -f\n"
wait 300 0
