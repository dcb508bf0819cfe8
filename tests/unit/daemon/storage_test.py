#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""storage_test.py LODGED KERNEL [TEST…]: pools and volumes, and their way to and from clients."""
import os
import random
import re
import struct
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lab import Wire, domain, run_tests, string, until

lodged, kernel = sys.argv[1:3]


def test_storage(d):
    assert re.search(r"default +active +yes", d.virsh("pool-list"))
    for name, format in (("a", "raw"), ("b.qcow2", "qcow2")):
        d.virsh("vol-create-as", "default", name, "16M", "--format", format)
        assert re.search(r"Capacity: +16.00 MiB", d.virsh("vol-info", name, "default"))
    assert "a" in d.virsh("vol-list", "default")
    d.virsh("vol-clone", "b.qcow2", "c.qcow2", "--pool", "default")
    path = d.virsh("vol-path", "c.qcow2", "default")
    assert os.path.exists(path)
    d.virsh("vol-delete", path)
    for name in ("../x", ".x", "a/b"):
        d.virsh("vol-create-as", "default", name, "1M", status=1)
    d.virsh("vol-info", "../../../../etc/passwd", "default", status=1)
    os.mkdir(d.root + "/p2")
    d.virsh("pool-define-as", "p2", "dir", "--target", d.root + "/p2")
    d.virsh("pool-start", "p2")
    d.virsh("pool-autostart", "p2")
    d.kill()
    d.start()
    assert re.search(r"p2 +active +yes", d.virsh("pool-list"))
    d.virsh("pool-destroy", "p2")
    d.virsh("pool-undefine", "p2")
    for name in ("a", "b.qcow2"):
        d.virsh("vol-delete", name, "default")
    assert d.virsh("net-list", "--all") == d.virsh("nodedev-list") == d.virsh("secret-list") == ""


def stream_end(w, proc, serial, status=0):
    w.serial = serial
    w.packet(proc, kind=3, status=status)
    w.serial = serial + 1


def test_transfer(d):
    """Volumes to and from clients."""
    v = d.virsh
    r = random.Random(3)
    data = r.randbytes(9 << 20)
    with open(d.root + "/from", "wb") as f:
        f.write(data)
    v("vol-create-as", "default", "t", "9M", "--format", "raw")
    path = v("vol-path", "t", "default")
    v("vol-upload", "t", d.root + "/from", "--pool", "default")
    with open(path, "rb") as f:
        assert f.read() == data
    v("vol-download", "t", d.root + "/to", "--pool", "default")
    with open(d.root + "/to", "rb") as f:
        assert f.read() == data
    v("vol-download", "t", d.root + "/to", "--pool", "default", "--offset", "4097", "--length", "12345")
    with open(d.root + "/to", "rb") as f:
        assert f.read() == data[4097:4097 + 12345]
    with open(d.root + "/from", "wb") as f:
        f.write(b"middle")
    v("vol-upload", "t", d.root + "/from", "--pool", "default", "--offset", "100")
    with open(path, "rb") as f:
        assert f.read() == data[:100] + b"middle" + data[106:]
    assert "--sparse" in v("vol-upload", "t", d.root + "/from", "--pool", "default", "--sparse", status=1)
    assert "within them" in v("vol-upload", "t", d.root + "/from", "--pool", "default", "--offset", "9437185", status=1)
    assert "more was sent" in v("vol-upload", "t", d.root + "/from", "--pool", "default", "--offset", "9437180", status=1)
    # By packets: an upload that is longer than announced, one that is given up, and clients that vanish.
    w = Wire(d.socket).open()
    vol = string("default") + string("t") + string(path)
    ask = lambda length: vol + struct.pack(">QQI", 0, length, 0)
    serial = w.serial
    assert w.call(208, ask(1 << 20)) == (208, 0, b"")
    for _ in range(40): # ten times as much, while it is refused
        w.serial = serial
        w.packet(208, b"x" * 262144, kind=3, status=2)
    _, status, body = w.answer()
    assert status == 1 and b"more was sent" in body
    w.serial = serial + 1
    assert w.call(59)[1] == 0
    serial = w.serial
    assert w.call(208, ask(0)) == (208, 0, b"")
    w.serial = serial
    w.packet(208, data[:262144], kind=3, status=2)
    stream_end(w, 208, serial, status=1)
    assert w.answer() == (208, 0, b"")
    serial = w.serial
    until(lambda: w.call(209, ask(0))[1] == 0) # the upload's thread may hold its lock a moment longer
    serial = w.serial - 1
    got = b""
    while True:
        _, status, body = w.answer()
        if not body:
            break
        got += body
    with open(path, "rb") as f:
        assert status == 2 and got == f.read()
    stream_end(w, 209, serial)
    assert w.answer() == (209, 0, b"")
    for proc in (208, 209):
        for _ in range(30): # more than may be under way at a time
            gone = Wire(d.socket).open()
            until(lambda: gone.call(proc, ask(0))[1] == 0)
            gone.s.close()
    many, body = [], b""
    while b"others are being copied" not in body: # copies that nobody reads take all places
        many.append(Wire(d.socket).open())
        body = many[-1].call(209, ask(0))[2]
        assert len(many) <= 17
    for m in many:
        m.s.close()
    # Sizes.
    size = lambda name: re.search(r"Capacity: +(\S+ \S+)", v("vol-info", name, "default")).group(1)
    until(lambda: subprocess.run(["virsh", "-q", "-c", d.uri(), "vol-resize", "t", "12M", "default"], capture_output=True).returncode == 0)
    assert size("t") == "12.00 MiB"
    assert "--shrink" in v("vol-resize", "t", "1M", "default", status=1)
    v("vol-resize", "t", "1M", "default", "--shrink")
    v("vol-resize", "t", "1M", "default", "--delta")
    assert size("t") == "2.00 MiB"
    v("vol-resize", "t", "-1M", "default", "--delta", "--shrink")
    v("vol-resize", "t", "3M", "default", "--allocate")
    assert size("t") == "3.00 MiB" and os.stat(path).st_blocks * 512 >= 3 << 20
    assert "cannot be changed" in v("vol-resize", "t", "-5M", "default", "--delta", "--shrink", status=1)
    v("vol-create-as", "default", "q.qcow2", "16M", "--format", "qcow2")
    v("vol-resize", "q.qcow2", "32M", "default")
    assert size("q.qcow2") == "32.00 MiB" and "--allocate out" in v("vol-resize", "q.qcow2", "64M", "default", "--allocate", status=1)
    # An image that a guest uses stays as it is.
    disk = "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='%s'/><target dev='vda' bus='virtio'/></disk>" % path
    v("create", d.file("u.xml", domain("u", kernel, devices=disk)))
    for command in (["vol-upload", "t", d.root + "/from", "--pool", "default"], ["vol-download", "t", d.root + "/to", "--pool", "default"],
                    ["vol-resize", "t", "8M", "default"]):
        assert "lock" in v(*command, status=1) or "use" in v(*command, status=1), command
    v("destroy", "u")
    assert "read only" in v("vol-upload", "t", d.root + "/from", "--pool", "default", readonly=True, status=1)
    for name in ("t", "q.qcow2"):
        v("vol-delete", name, "default")


run_tests(globals(), sys.argv[3:], lodged)
