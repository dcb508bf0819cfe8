#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""memory_test.py LODGE FOLDER: what --memory asks the host for, as the kernel shows it in /proc/PID/smaps and numa_maps of a guest that waits;
and what lodge says where the host refuses."""
import fcntl
import os
import resource
import select
import subprocess
import sys
import time

from checks import check, finish

lodge, folder = sys.argv[1:3]
KIB = 32 * 1024
HUGE = "/sys/kernel/mm/hugepages/hugepages-2048kB"


def command(memory, cmdline, more=()):
    return [lodge, "run", "--accel", "softkvm", "--kernel", f"{folder}/linux.bin", "--append", cmdline, "--net", "none", "--memory", memory, *more]


class Guest:
    """A guest that waits, and the part of smaps that is its memory."""

    def __init__(self, memory, kib=KIB):
        self.p = subprocess.Popen(command(memory, "wait"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, end = b"", time.monotonic() + 120
        while b"up: wait" not in out and time.monotonic() < end and select.select([self.p.stdout], [], [], 5)[0] != []:
            data = os.read(self.p.stdout.fileno(), 4096)
            if not data:
                break
            out += data
        self.fields, self.name = {}, ""
        if not out:
            check(memory, False, f"did not start: {self.p.stderr.read()!r}")
            return
        with open(f"/proc/{self.p.pid}/smaps") as f:
            blocks = f.read()
        self.read(blocks, kib)
        check(f"{memory}: guest memory is mapped", self.fields, blocks)

    def read(self, smaps, kib):
        name, fields = "", {}
        for line in smaps.splitlines() + ["0-0 - 0 0 0"]:
            first = line.split()[0]
            if not first.endswith(":"):
                # Anonymous neighbours may be one mapping, which is a little larger then.
                size = int(fields.get("Size", "0 kB").split()[0])
                if kib <= size < kib + 8192 and ("lodge-guest-ram" in name or not self.fields):
                    self.name, self.fields = name, fields
                name, fields = line, {}
            else:
                fields[first[:-1]] = line.split(":", 1)[1].strip()

    def kib(self, field):
        return int(self.fields.get(field, "0 kB").split()[0])

    def flags(self):
        return self.fields.get("VmFlags", "").split()

    def numa(self):
        with open(f"/proc/{self.p.pid}/numa_maps") as f:
            return f.read()

    def end(self):
        self.p.terminate()
        self.p.communicate()


def shown(memory, look):
    g = Guest(memory)
    for what, good in look(g):
        check(f"{memory}: {what}", good, f"{g.name} {g.fields}")
    g.end()


def set_huge_pages(count):
    """The number that the host has then; None: not ours to set."""
    try:
        with open(f"{HUGE}/nr_hugepages", "w") as f:
            f.write(str(count))
        with open(f"{HUGE}/nr_hugepages") as f:
            return int(f.read())
    except OSError:
        return None


def test_effects():
    shown("32M", lambda g: [("a memfd", "lodge-guest-ram" in g.name), ("shared", "sh" in g.flags()), ("not all there", g.kib("Rss") < KIB / 2)])
    shown("32M,access=private", lambda g: [("private", "sh" not in g.flags() and "lodge-guest-ram" in g.name), ("a writable copy", "wr" in g.flags())])
    shown("32M,source=anonymous,prealloc", lambda g: [("no file", "/" not in g.name), ("all there", g.kib("Rss") >= KIB)])
    shown("32M,source=file,prealloc=3", lambda g: [("a file", "/" in g.name and "memfd" not in g.name), ("all there", g.kib("Rss") >= KIB)])
    shown("32M,prealloc=64", lambda g: [("all there", g.kib("Rss") >= KIB)])


def test_merge():
    if not os.path.exists("/sys/kernel/mm/ksm"):
        return
    shown("32M,merge=on", lambda g: [("may be merged", "mg" in g.flags())])
    shown("32M,access=private", lambda g: [("may be merged", "mg" in g.flags())])
    shown("32M,source=anonymous,merge=off", lambda g: [("may not be merged", "mg" not in g.flags())])


def test_numa():
    p = subprocess.run(command("32M,host-nodes=0", "off"), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    if "Operation not permitted" in p.stderr or "Function not implemented" in p.stderr:
        print("this host does not let us bind memory to nodes")
    elif os.path.exists("/sys/devices/system/node/node0"):
        g = Guest("32M,host-nodes=0")
        check("bound to node 0", any("bind:0" in line and "lodge-guest-ram" in line for line in g.numa().splitlines()), g.numa())
        g.end()


def test_huge():
    """The host's huge pages are everybody's: one test at a time."""
    if not os.path.exists(HUGE):
        return
    lock = os.open(HUGE, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with open(f"{HUGE}/nr_hugepages") as f:
        before = f.read()
    try:
        if set_huge_pages(0) != 0:
            return
        refused("32M,hugepages=2M", "needs 16 huge pages of 2 MiB", "nr_hugepages")
        if set_huge_pages(16) == 16:
            shown("32M,hugepages=2M", lambda g: [("huge pages", g.fields.get("KernelPageSize") == "2048 kB"), ("of hugetlbfs", "ht" in g.flags())])
            shown("32M,hugepages=2M,source=anonymous,prealloc", lambda g: [("huge pages", g.fields.get("KernelPageSize") == "2048 kB")])
    finally:
        set_huge_pages(before)
        os.close(lock)


def may_lock():
    with open("/proc/self/status") as f:
        capabilities = int(next(line for line in f if line.startswith("CapEff")).split()[1], 16)
    soft = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    return capabilities >> 14 & 1 or soft == resource.RLIM_INFINITY or soft >= 64 << 20  # CAP_IPC_LOCK


def test_locked():
    if may_lock():
        shown("32M,locked", lambda g: [("locked", "lo" in g.flags() and g.kib("Locked") >= KIB)])


def refused(memory, *words, **kwargs):
    p = subprocess.run(command(memory, "off", kwargs.pop("more", ())), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, **kwargs)
    check(memory, p.returncode == 1 and p.stderr.count("\n") == 1, f"ended with {p.returncode}: {p.stderr}")
    for word in words:
        check(memory, word in p.stderr, f"says {p.stderr!r} without '{word}'")


def few_locked():
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (1 << 20, 1 << 20))
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)


def test_refusals():
    refused("32M,hugepages=4M", "no huge pages of 4 MiB")
    refused("32M,hugepages=3M", "no size of a page")
    refused("32M,host-nodes=63", "NUMA node 63", "numactl")
    refused("32M,host-nodes=64", "host-nodes=64", "below 64")
    refused("32M,thp=maybe", "thp=maybe", "on or off")
    refused("32M,source=memfd,merge=on", "KSM", "access=private")
    refused("32M,prealloc=65", "prealloc=65", "1 to 64")
    refused("32M,source=file", "/nonexistent", "TMPDIR", env={**os.environ, "TMPDIR": "/nonexistent"})
    refused("32M", "cells have 16384 KiB", "equal", more=["--numa", "cpus=0,memory=16M"])
    refused("32M", "--numa", "no memory", more=["--numa", "cpus=0"])
    refused("32M", "distances=10:9", more=["--numa", "cpus=0,memory=16M,distances=10:9"])


def test_no_right_to_lock():
    """As a user with a low limit, who may not be able to reach the programs by their paths."""
    if os.geteuid() != 0:
        return
    vm = os.path.realpath(os.path.join(os.path.dirname(lodge), "..", "control", "lodge-vm"))
    xml = subprocess.run(command("32M,locked", "off", ["--print-xml"]), capture_output=True, check=True).stdout
    read, write = os.pipe()
    os.write(write, xml)
    os.close(write)
    program = os.open(vm, os.O_RDONLY)
    p = subprocess.run([f"/proc/self/fd/{program}", "--domain-fd", str(read)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
                       pass_fds=[read, program], preexec_fn=few_locked)
    os.close(read)
    os.close(program)
    check("no right to lock", p.returncode == 1 and "cannot lock 32 MiB" in p.stderr and "LimitMEMLOCK" in p.stderr, p.stderr)


test_effects()
test_merge()
test_numa()
test_locked()
test_huge()
test_refusals()
test_no_right_to_lock()
finish()
