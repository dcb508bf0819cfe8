#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Measures Lodge beside QEMU TCG in one run: start-up, boot to a shell, memory beyond guest RAM, and the programs of programs.py.

Runs are interleaved (Lodge, QEMU, Lodge, QEMU, ...), so that a noisy minute hits both. A figure is the median of its runs, with the lowest
and the highest behind it; a ratio is the quotient of the medians."""
import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

import programs
from vmm import PROMPT, Lodge, Qemu, beyond_ram_kib, cpu_seconds, spawn, until


def measure_first(vmm, out):
    t = time.monotonic()
    p, fd = spawn(vmm.first(), False)
    try:
        until(fd, rb"!", 20)
        out["first instruction, ms"].append((time.monotonic() - t) * 1e3)
    finally:
        p.kill()
        p.wait()
        os.close(fd)


def measure_boot(vmm, cpus, out):
    t = time.monotonic()
    p, fd = spawn(vmm.boot(cpus), True)
    try:
        until(fd, re.escape(PROMPT), 300)
        out["boot to shell, %d vCPU, s" % cpus].append(time.monotonic() - t)
        out["CPU time of the boot, %d vCPU, s" % cpus].append(cpu_seconds(p.pid))
        out["memory beyond guest RAM at the shell, %d vCPU, MiB" % cpus].append(beyond_ram_kib(p.pid, vmm.ram) / 1024)
    finally:
        p.kill()
        p.wait()
        os.close(fd)


def measure_disk(a, vmm, out):
    """Debian's disk by SeaBIOS and GRUB to its login prompt, each time from a fresh overlay."""
    with tempfile.TemporaryDirectory() as folder:
        overlay = folder + "/disk.qcow2"
        subprocess.run([a.lodge, "image", "create", "-q", "-f", "qcow2", "-b", a.image + "/debian.qcow2", "-F", "qcow2", overlay], check=True)
        t = time.monotonic()
        p, fd = spawn(vmm.disk(overlay), True)
        try:
            until(fd, rb"login: ", 600)
            out["Debian's disk to its login, s"].append(time.monotonic() - t)
            out["CPU time of that, s"].append(cpu_seconds(p.pid))
            out["memory beyond guest RAM at the login, MiB"].append(beyond_ram_kib(p.pid, vmm.ram) / 1024)
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


def measure_machines(a, vmms):
    """Start-up, boot and memory."""
    results = {v.name: Results() for v in vmms}
    for _ in range(0 if a.disk_only else a.runs * 5):
        for v in vmms:
            measure_first(v, results[v.name])
    for _ in range(0 if a.disk_only else a.runs):
        for cpus in (1, 2):
            for v in vmms:
                measure_boot(v, cpus, results[v.name])
    for _ in range(a.runs if a.image else 0):
        for v in vmms:
            measure_disk(a, v, results[v.name])
    print("| figure | lodge | qemu-tcg | lodge / qemu-tcg |\n|---|---|---|---|")
    for key in results["lodge"]:
        ours, theirs = results["lodge"][key], results["qemu-tcg"][key]
        print("| %s | %s | %s | %.2f |" % (key, show(ours), show(theirs), statistics.median(ours) / statistics.median(theirs)))


def main():
    ap = argparse.ArgumentParser(description="Lodge beside QEMU TCG and the host")
    ap.add_argument("--lodge", required=True, help="the executable")
    ap.add_argument("--demo", required=True, help="folder with vmlinuz and initrd.gz; auto: as tools/demo.sh makes it")
    ap.add_argument("--image", metavar="FOLDER", help="where `make image` put its disk, for the boot of that")
    ap.add_argument("--disk-only", action="store_true", help="the boot of the image's disk, and nothing else")
    ap.add_argument("--first", required=True, help="the build's tests/bench")
    ap.add_argument("--runs", type=int, default=3, help="repetitions (default 3)")
    ap.add_argument("--cpus", type=int, default=2, help="vCPUs of the guests that run programs (default 2)")
    ap.add_argument("--only", metavar="REGEX", help="only the programs whose whole name matches, and no start-up, boot or memory")
    ap.add_argument("--quick", action="store_true", help="a test: one repetition of a fiftieth of the work; only the checksums mean something")
    a = ap.parse_args()
    a.runs = 1 if a.quick else a.runs
    if a.demo == "auto":
        demo = os.path.dirname(os.path.abspath(__file__)) + "/../../tools/demo.sh"
        a.demo = subprocess.run([demo, "--prepare"], check=True, capture_output=True, text=True).stdout.strip()
    vmms = [Lodge(a), Qemu(a)]
    if a.disk_only:
        measure_machines(a, vmms)
        return 0
    if not a.quick and not a.only:
        measure_machines(a, vmms)
        print(flush=True)
    return 1 if programs.measure(a, vmms) else 0


if __name__ == "__main__":
    sys.exit(main())
