# Linux with the HPET as its clock and its timer, without TSC, kvmclock and the local APIC's: time passes as on the host, and a sleep ends; and left to choose, it takes another.
vm --accel softkvm --hpet --kernel $KERNEL --initrd $INITRD --append "console=ttyS0 quiet clocksource=hpet no-kvmclock notsc nolapic_timer" --memory 256M --net none
expect 300 "~ # "
send "cat /sys/devices/system/clocksource/clocksource0/current_clocksource; dmesg | grep -i hpet; grep -E ' (0|2):|hpet|timer' /proc/interrupts\n"
expect 30 "\nhpet"
expect 30 "hpet0: 3 comparators, 64-bit 100.000000 MHz counter"
expect 30 "~ # "
send "a=$(date +%s); sleep 2; sleep 0.3; b=$(date +%s); [ $((b - a)) -ge 2 ] && echo time pa''sses; n=$(awk '/timer|hpet/ {s += $2} END {print s}' /proc/interrupts); sleep 1; m=$(awk '/timer|hpet/ {s += $2} END {print s}' /proc/interrupts); [ $m -gt $n ] && echo ticks co''me\n"
expect 120 "time passes"
expect 120 "ticks come"
send "dmesg | grep -c -i -E 'BUG:|Oops|WARNING:'\n"
expect 30 "\n0"
send "poweroff -f\n"
wait 60 0
