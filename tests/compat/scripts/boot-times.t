# QEMU boots to the shell on softkvm and on its own TCG; the times are printed side by side.
sh "python3 $SRC/tests/compat/boot_times.py $BUILD/src/softkvm/preload/softkvm $KERNEL $INITRD"
