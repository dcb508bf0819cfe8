#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Measures Lodge beside QEMU TCG in one run: start-up, boot to a shell, memory beyond guest RAM.

Runs are interleaved (Lodge, QEMU, Lodge, QEMU, ...), so that a noisy minute hits both. A figure is the median of its runs, with the lowest
and the highest behind it; a ratio is the quotient of the medians."""
import argparse
import os
import pty
import re
import select
import statistics
import subprocess
import sys
import time

PROMPT = b"~ # "


def spawn(argv, terminal):
    """Starts a program; returns (process, descriptor of its output)."""
    if terminal:
        master, slave = pty.openpty()
        p = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, close_fds=True)
        os.close(slave)
        return p, master
    r, w = os.pipe()
    p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=w, stderr=subprocess.DEVNULL, close_fds=True)
    os.close(w)
    return p, r


def until(fd, text, limit):
    """Reads until `text` appears; returns what was read, or raises when the output ends or `limit` seconds pass."""
    seen = b""
    end = time.monotonic() + limit
    while text not in seen:
        ready, _, _ = select.select([fd], [], [], max(0, end - time.monotonic()))
        data = os.read(fd, 65536) if ready else b""
        if not data:
            raise RuntimeError("%r did not appear; the output ended with %r" % (text, seen[-400:]))
        seen += data
    return seen


def beyond_ram_kib(pid, ram):
    """RSS of a process in KiB without the mappings whose name has one of `ram`: the guest's own memory."""
    total, skip = 0, False
    with open("/proc/%d/smaps" % pid) as f:
        for line in f:
            if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                skip = any(name in line for name in ram)
            elif line.startswith("Rss:") and not skip:
                total += int(line.split()[1])
    return total


def cpu_seconds(pid):
    fields = open("/proc/%d/stat" % pid).read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Lodge:
    name = "lodge"
    ram = ("lodge-guest-ram",)

    def __init__(self, a):
        self.a = a

    def first(self):
        return [self.a.lodge, "run", "--accel", "softkvm", "--kernel", self.a.first + "/first.elf", "--memory", "64M", "--debugcon", "-"]

    def boot(self, cpus):
        return [self.a.lodge, "run", "--accel", "softkvm", "--kernel", self.a.demo + "/vmlinuz", "--initrd", self.a.demo + "/initrd.gz",
                "--append", "console=ttyS0 quiet", "--cpus", str(cpus), "--memory", "512M", "--net", "user"]


class Qemu:
    name = "qemu-tcg"
    ram = ("memfd:guest-ram", "memfd:memory-backend-memfd")
    base = ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-M", "q35,memory-backend=guest-ram", "-nodefaults", "-display", "none"]

    def __init__(self, a):
        self.a = a

    def memory(self, size):
        return ["-m", size, "-object", "memory-backend-memfd,id=guest-ram,size=" + size]

    def first(self):
        return self.base + self.memory("64M") + ["-bios", self.a.first + "/first.rom", "-chardev", "stdio,id=c,signal=off",
                                                 "-device", "isa-debugcon,iobase=0xe9,chardev=c"]

    def boot(self, cpus):
        return self.base + self.memory("512M") + ["-smp", str(cpus), "-serial", "stdio", "-kernel", self.a.demo + "/vmlinuz", "-initrd", self.a.demo + "/initrd.gz",
                                                  "-append", "console=ttyS0 quiet", "-netdev", "user,id=n", "-device", "virtio-net-pci,netdev=n", "-no-reboot"]


def measure_first(vmm, out):
    t = time.monotonic()
    p, fd = spawn(vmm.first(), False)
    try:
        until(fd, b"!", 20)
        out["first instruction, ms"].append((time.monotonic() - t) * 1e3)
    finally:
        p.kill()
        p.wait()
        os.close(fd)


def measure_boot(vmm, cpus, out):
    t = time.monotonic()
    p, fd = spawn(vmm.boot(cpus), True)
    try:
        until(fd, PROMPT, 300)
        out["boot to shell, %d vCPU, s" % cpus].append(time.monotonic() - t)
        out["CPU time of the boot, %d vCPU, s" % cpus].append(cpu_seconds(p.pid))
        out["memory beyond guest RAM at the shell, %d vCPU, MiB" % cpus].append(beyond_ram_kib(p.pid, vmm.ram) / 1024)
    finally:
        p.kill()
        p.wait()
        os.close(fd)


class Results(dict):
    def __missing__(self, key):
        self[key] = []
        return self[key]


def show(values):
    return "%.1f (%.1f..%.1f)" % (statistics.median(values), min(values), max(values))


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--lodge", required=True)
    ap.add_argument("--demo", required=True)
    ap.add_argument("--first", required=True)
    ap.add_argument("--runs", type=int, default=3)
    a = ap.parse_args()
    vmms = [Lodge(a), Qemu(a)]
    results = {v.name: Results() for v in vmms}
    for _ in range(a.runs * 5):
        for v in vmms:
            measure_first(v, results[v.name])
    for _ in range(a.runs):
        for cpus in (1, 2):
            for v in vmms:
                measure_boot(v, cpus, results[v.name])
    print("| figure | lodge | qemu-tcg | lodge / qemu-tcg |\n|---|---|---|---|")
    for key in results["lodge"]:
        ours, theirs = results["lodge"][key], results["qemu-tcg"][key]
        print("| %s | %s | %s | %.2f |" % (key, show(ours), show(theirs), statistics.median(ours) / statistics.median(theirs)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
