#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The data paths of Lodge beside those of QEMU TCG: fio on a virtio disk, iperf3 over the networks user and tap, in guests of the same kernel and initrd.

Each measurement is made in Lodge's guest, then in QEMU's, then the next one; the whole is repeated. The disk is a raw file in the host's page cache,
with each VMM's usual cache mode; the network's peer is iperf3 on the host. tap needs root, and is left out where it cannot be made."""
import argparse
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import image
import vmm

DISK_MIB = 512
LIBAIO = "/usr/lib/x86_64-linux-gnu/fio/fio-libaio.so" # an engine that fio loads
TAP_NET = "10.98.%d"
# name, fio's arguments, the unit of the result
DISK = [
    ("4k random read, depth 1, IOPS", "--rw=randread --bs=4k --iodepth=1", "iops"),
    ("4k random read, depth 32, IOPS", "--rw=randread --bs=4k --iodepth=32", "iops"),
    ("1M sequential read, MB/s", "--rw=read --bs=1M --iodepth=4", "bw"),
    ("1M sequential write, MB/s", "--rw=write --bs=1M --iodepth=4", "bw"),
]
NET = [("from the guest", ""), ("to the guest", "-R")]


def make_initrd(work, demo):
    """The demo's initrd with fio and iperf3 behind it."""
    root = image.Root(work + "/root")
    for path in ("/usr/bin/fio", "/usr/bin/iperf3"):
        root.program(path)
    if os.path.exists(LIBAIO):
        root.program(LIBAIO)
    os.makedirs(root.top + "/bench")
    root.archive(work + "/tools.cpio")
    image.add_archive(demo, work)
    return work + "/initrd"


def make_disk(folder, name):
    disk = "%s/%s.raw" % (folder, name)
    subprocess.run(["dd", "if=/dev/urandom", "of=" + disk, "bs=1M", "count=%d" % DISK_MIB, "status=none"], check=True)
    return disk


class Taps:
    """A tap interface for each VMM, with the host's address .1; none where they cannot be made."""

    def __init__(self, names):
        self.made = {}
        for i, name in enumerate(names):
            ifname = "lb%d-%d" % (os.getpid() % 100000, i)
            steps = ["tuntap add %s mode tap" % ifname, "addr add %s.1/24 dev %s" % (TAP_NET % i, ifname), "link set %s up" % ifname]
            if any(subprocess.run(["ip"] + s.split(), capture_output=True).returncode for s in steps):
                print("tap is left out: no interface can be made", file=sys.stderr)
                self.remove()
                return
            self.made[name] = (ifname, TAP_NET % i)

    def remove(self):
        for ifname, _ in self.made.values():
            subprocess.run(["ip", "link", "del", ifname], capture_output=True)
        self.made = {}


def with_devices(v, disk, tap):
    """The VMM's arguments for a disk and a second network behind those of its boot."""
    boot = v.boot

    def more(cpus, initrd=None, memory="512M"):
        argv = boot(cpus, initrd, memory)
        if v.name == "lodge":
            return argv + ["--disk", disk + ",format=raw"] + (["--net", "tap,ifname=" + tap] if tap else [])
        return argv + ["-drive", "file=%s,format=raw,if=virtio" % disk] + \
            (["-netdev", "tap,id=t,ifname=%s,script=no,downscript=no" % tap, "-device", "virtio-net-pci,netdev=t"] if tap else [])
    v.boot = more
    return v


def parse(text):
    """The JSON object in a command's output."""
    found = re.search(r"^\{.*^\}", text, re.M | re.S)
    if not found:
        raise vmm.Failure("no result: %s" % text[-500:])
    return json.loads(found.group(0))


def fio(guest, arguments, unit, seconds):
    target = "host.raw --direct=0 --invalidate=0" if guest.name == "native" else "/dev/vda --direct=1"
    text = guest.run("fio --name=x --filename=" + target + " --ioengine=libaio --time_based --runtime=%d --randseed=1 --norandommap "
                     "--output-format=json %s" % (seconds, arguments), 120 + 10 * seconds)
    job = parse(text.replace("\r", ""))["jobs"][0]
    side = job["write" if "rw=write" in arguments else "read"]
    if job["error"] or not side["io_bytes"]:
        raise vmm.Failure("fio: error %s" % job["error"])
    return side["iops"] if unit == "iops" else side["bw_bytes"] / 1e6


def iperf(guest, address, port, arguments, seconds):
    text = guest.run("iperf3 -c %s -p %d -t %d -J %s" % (address, port, seconds, arguments), 120 + 10 * seconds)
    end = parse(text.replace("\r", ""))["end"]
    return end["sum_received"]["bits_per_second"] / 1e6


def start_server():
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
    server = subprocess.Popen(["iperf3", "-s", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return server, port
        except OSError:
            time.sleep(0.1)
    server.kill()
    raise SystemExit("iperf3 -s does not listen")


def measure(a, guests, host, taps, port):
    results = {}

    def note(key, guest, value):
        results.setdefault(key, {}).setdefault(guest.name, []).append(value)
    for _ in range(a.runs):
        for name, arguments, unit in DISK:
            for g in guests + [host] if re.search(a.only, "disk: " + name) else ():
                note("disk: " + name, g, fio(g, arguments, unit, a.seconds))
        for where in ["user"] + (["tap"] if taps.made else []):
            for name, arguments in NET:
                for g in guests if re.search(a.only, "%s: %s" % (where, name)) else ():
                    address = "10.0.2.2" if where == "user" else taps.made[g.name][1] + ".1"
                    note("%s: %s, Mbit/s" % (where, name), g, iperf(g, address, port, arguments, a.seconds))
    return results


def show(values):
    return "%.4g (%.4g..%.4g)" % (statistics.median(values), min(values), max(values)) if values else "-"


def main():
    ap = argparse.ArgumentParser(description="fio and iperf3 in guests of Lodge and QEMU TCG")
    ap.add_argument("--lodge", required=True)
    ap.add_argument("--demo", required=True, help="folder with vmlinuz and initrd.gz")
    ap.add_argument("--only", metavar="REGEX", default="", help="only the paths whose name it is found in")
    ap.add_argument("--runs", type=int, default=3)
    ap.add_argument("--seconds", type=int, default=5, help="of each measurement")
    ap.add_argument("--cpus", type=int, default=1)
    a = ap.parse_args()
    for tool in ("fio", "iperf3"):
        if not os.access("/usr/bin/" + tool, os.X_OK):
            raise SystemExit("%s is not installed; 'tools/deps.sh bench' installs it" % tool)
    vmms = [vmm.Lodge(a), vmm.Qemu(a)]
    taps = Taps([v.name for v in vmms])
    server, port = start_server()
    guests = []
    try:
        with tempfile.TemporaryDirectory(prefix="lodge-paths-") as work:
            initrd = make_initrd(work, a.demo)
            for v in vmms:
                guests.append(vmm.Guest(with_devices(v, make_disk(work, v.name), taps.made[v.name][0] if taps.made else None), a.cpus, initrd))
            make_disk(work, "host")
            for g in guests:
                if taps.made:
                    g.run("ip addr add %s.2/24 dev eth1; ip link set eth1 up" % taps.made[g.name][1], 60)
            results = measure(a, guests, vmm.Host(work, work), taps, port)
    finally:
        for g in guests:
            g.stop()
        server.kill()
        server.wait()
        taps.remove()
    print("| path | lodge | qemu-tcg | lodge / qemu-tcg | host |\n|---|---|---|---|---|")
    for key, sides in results.items():
        ours, theirs = sides["lodge"], sides["qemu-tcg"]
        print("| %s | %s | %s | %.2f | %s |" % (key, show(ours), show(theirs), statistics.median(ours) / statistics.median(theirs), show(sides.get("native", []))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
