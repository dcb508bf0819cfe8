#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""daemon.py LODGED VM DEMO [--libvirtd PATH]: lodged beside libvirtd in one run, by the same client (libvirt's Python binding).

Both are started by this program in folders of their own. libvirtd needs Debian's libvirt-daemon and libvirt-daemon-driver-qemu, and is left out, which is said,
when it is not there."""
import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import libvirt

XML = """<domain type='qemu'><name>%s</name><memory unit='MiB'>64</memory><vcpu>1</vcpu><os><type arch='x86_64' machine='q35'>hvm</type><kernel>%s</kernel>
</os><features><acpi/><apic/></features><devices><console type='pty'/></devices></domain>"""


def rss_mib(pid):
    with open("/proc/%d/status" % pid) as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS")) / 1024


class Server:
    def __init__(self, name, command, path, folder, env=None):
        self.name, self.command, self.path, self.folder, self.env = name, command, path, folder, env
        self.uri = "qemu+unix:///%s?socket=%s" % ("session" if name == "libvirtd" else "system", path)

    def start(self):
        t = time.monotonic()
        self.p = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=self.env)
        while True:
            try:
                s = socket.socket(socket.AF_UNIX)
                s.connect(self.path)
                s.close()
                return (time.monotonic() - t) * 1e3
            except OSError:
                if self.p.poll() is not None:
                    raise SystemExit("%s ends with %d" % (self.name, self.p.returncode))
                time.sleep(0.0005)

    def stop(self):
        self.p.terminate()
        self.p.wait()


def timed(fn):
    t = time.monotonic()
    result = fn()
    return (time.monotonic() - t) * 1e3, result


def measure(server, count, kernel, out):
    out.setdefault("daemon ready, ms", []).append(server.start())
    try:
        def connect():
            c = libvirt.open(server.uri)
            c.getCapabilities()
            return c
        ms, c = timed(connect)
        out.setdefault("first connect with capabilities, ms", []).append(ms)
        before = cpu_ms(server.p.pid)
        ms, _ = timed(lambda: [c.defineXML(XML % ("g%04d" % i, kernel)) for i in range(count)])
        out.setdefault("%d defines, ms" % count, []).append(ms)
        out.setdefault("CPU time of the daemon for them, ms", []).append(cpu_ms(server.p.pid) - before)
        times = [timed(lambda: c.listAllDomains(0)) for _ in range(9)]
        assert len(times[0][1]) == count
        out.setdefault("list of %d, ms" % count, []).append(statistics.median(ms for ms, _ in times))
        out.setdefault("memory with %d guests defined, MiB" % count, []).append(rss_mib(server.p.pid))
        if server.name == "lodged":
            starts = []
            for i in range(9):
                dom = c.lookupByName("g%04d" % i)
                starts.append(timed(dom.create)[0])
                dom.destroy()
            out.setdefault("start of a guest, ms", []).append(statistics.median(starts))
        for dom in c.listAllDomains(0):
            dom.undefine()
        c.close()
    finally:
        server.stop()


def bare_start(vm, kernel, folder):
    """lodge-vm alone, from its start to its first answer over QMP."""
    path = folder + "/bare"
    with open(folder + "/bare.xml", "w") as f:
        f.write(XML.replace("type='pty'", "type='null'") % ("bare", kernel))
    t = time.monotonic()
    p = subprocess.Popen([vm, "--qmp", "unix:" + path, folder + "/bare.xml"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                s = socket.socket(socket.AF_UNIX)
                s.connect(path)
                break
            except OSError:
                time.sleep(0.0002)
        s.sendall(b'{"execute": "qmp_capabilities"}\n')
        text = b""
        while b"return" not in text:
            text += s.recv(4096)
        return (time.monotonic() - t) * 1e3
    finally:
        p.kill()
        p.wait()


def syncs(folder, count):
    """What durability costs by itself: as many small writes of a file whose blocks are there, each with its sync."""
    fd = os.open(folder + "/syncs", os.O_RDWR | os.O_CREAT, 0o600)
    os.write(fd, b"\0" * (1 << 20))
    os.fsync(fd)
    t = time.monotonic()
    for i in range(count):
        os.pwrite(fd, b"x" * 1024, i % 1000 * 1024)
        os.fdatasync(fd)
    os.close(fd)
    return (time.monotonic() - t) * 1e3


def cpu_ms(pid):
    with open("/proc/%d/stat" % pid) as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def libvirtd(path, folder):
    """A session daemon with its own folders, so that none of the host's guests is touched."""
    env = dict(os.environ, XDG_CONFIG_HOME=folder + "/c", XDG_RUNTIME_DIR=folder + "/r", XDG_CACHE_HOME=folder + "/h", XDG_DATA_HOME=folder + "/d", HOME=folder)
    for d in "crhd":
        os.makedirs(folder + "/" + d, exist_ok=True)
    with open(folder + "/libvirtd.conf", "w") as f:
        f.write('unix_sock_dir = "%s"\nauth_unix_ro = "none"\nauth_unix_rw = "none"\n' % folder)
    return Server("libvirtd", [path, "--config", folder + "/libvirtd.conf", "--pid-file", folder + "/pid"], folder + "/libvirt-sock", folder, env)


def main():
    ap = argparse.ArgumentParser(description="lodged beside libvirtd")
    ap.add_argument("lodged")
    ap.add_argument("vm")
    ap.add_argument("kernel")
    ap.add_argument("--libvirtd", default="/usr/sbin/libvirtd")
    ap.add_argument("--runs", type=int, default=3)
    ap.add_argument("--count", type=int, default=1000)
    a = ap.parse_args()
    libvirt.registerErrorHandler(lambda *_: None, None)
    if os.geteuid() == 0: # root's libvirtd has fixed places; an ordinary user's has its own
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    folder = tempfile.mkdtemp(prefix="bench-daemon-")
    results = {}
    try:
        for run in range(a.runs):
            servers = [Server("lodged", [a.lodged, "--root", "%s/l%d" % (folder, run)], "%s/l%d/run/libvirt/libvirt-sock" % (folder, run), folder)]
            if os.access(a.libvirtd, os.X_OK):
                sub = "%s/v%d" % (folder, run)
                os.makedirs(sub)
                servers.append(libvirtd(a.libvirtd, sub))
            for s in servers:
                measure(s, a.count, a.kernel, results.setdefault(s.name, {}))
            results["lodged"].setdefault("%d small writes with a sync each, ms" % a.count, []).append(syncs(folder, a.count))
            results["lodged"].setdefault("lodge-vm alone up to its first answer, ms", []).append(bare_start(a.vm, a.kernel, folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print("| figure | lodged | libvirtd |\n|---|---|---|")
    for key, ours in results["lodged"].items():
        theirs = results.get("libvirtd", {}).get(key)
        show = lambda v: "%.1f (%.1f..%.1f)" % (statistics.median(v), min(v), max(v)) if v else "-"
        print("| %s | %s | %s |" % (key, show(ours), show(theirs)))
    if "libvirtd" not in results:
        print("libvirtd is not there: install libvirt-daemon and libvirt-daemon-driver-qemu")


if __name__ == "__main__":
    sys.exit(main())
