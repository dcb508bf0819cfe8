#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""boot_times.py SOFTKVM KERNEL INITRD: the time that QEMU takes from its start to the guest's shell, on softkvm and on its own TCG, side by side.

Runs are interleaved, so that a noisy minute hits both. Only a boot that fails makes this fail: the figures depend on the machine."""
import os
import select
import statistics
import subprocess
import sys
import time

RUNS = 3
LIMIT = 120
softkvm, kernel, initrd = sys.argv[1:4]


def boot(accel, cpus):
    qemu = ["qemu-system-x86_64", "-accel", accel, "-M", "q35", "-m", "256M", "-smp", str(cpus), "-nographic", "-no-reboot", "-nic", "none",
            "-kernel", kernel, "-initrd", initrd, "-append", "console=ttyS0 panic=-1 quiet"]
    if accel == "kvm":
        qemu.insert(0, softkvm)
    start = time.monotonic()
    p = subprocess.Popen(qemu, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    seen = b""
    while b"~ # " not in seen:
        ready, _, _ = select.select([p.stdout], [], [], max(0, start + LIMIT - time.monotonic()))
        data = os.read(p.stdout.fileno(), 65536) if ready else b""
        if not data:
            p.kill()
            sys.exit("boot_times.py: accel %s, %d vCPUs: no shell within %d s; the output ends with %r" % (accel, cpus, LIMIT, seen[-400:]))
        seen += data
    took = time.monotonic() - start
    p.kill()
    p.wait()
    return took


for cpus in 1, 2:
    times = {"kvm": [], "tcg": []}
    for _ in range(RUNS):
        for accel, took in times.items():
            took.append(boot(accel, cpus))
    kvm, tcg = (statistics.median(times[accel]) for accel in ("kvm", "tcg"))
    print("boot to shell, %d vCPU: softkvm %.2f s, TCG %.2f s, ratio %.2f" % (cpus, kvm, tcg, tcg / kvm), flush=True)
