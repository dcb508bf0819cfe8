#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""lodged_test.py LODGED KERNEL [TEST…]: lodged by virsh and by packets. Guests are the smallest there are (tests/unit/machine/guest.S)."""
import json
import os
import random
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lab import QEMU, Terminal, Wire, domain, run_tests, string

lodged, kernel = sys.argv[1:3]


def until(condition, what=lambda: "", seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what()
        time.sleep(0.02)


def test_memory_driver(d):
    xml = d.file("t.xml", domain("t", "/k"))
    v = lambda *args, **kwargs: d.virsh(*args, test=True, **kwargs)
    assert v("list", "--all") == ""
    v("define", xml)
    v("start", "t")
    assert v("domstate", "t") == "running"
    assert "already active" in v("start", "t", status=1)
    v("suspend", "t")
    assert v("domstate", "t", "--reason") == "paused (user)"
    v("resume", "t")
    v("reboot", "t")
    v("shutdown", "t")
    assert v("domstate", "t", "--reason") == "shut off (shutdown)"
    v("setmem", "t", "16M", "--config")
    v("setmaxmem", "t", "64M", "--config")
    v("setvcpus", "t", "3", "--config")
    assert v("vcpucount", "t", "--maximum", "--config") == "3"
    assert v("list", "--all", "--name") == "t"
    assert d.virsh("list", "--all", "--name") == ""
    v("create", d.file("u.xml", domain("u", "/k")))
    v("destroy", "u")
    assert "not found" in v("domstate", "u", status=1) or "failed to get domain" in v("domstate", "u", status=1)
    v("undefine", "t")


def test_life(d):
    xml = d.file("g.xml", domain("g", kernel))
    d.virsh("define", xml)
    first = d.virsh("dumpxml", "g")
    d.virsh("define", d.file("again.xml", first))
    assert d.virsh("dumpxml", "g") == first
    d.virsh("start", "g")
    assert re.match(r"1\s+g\s+running", d.virsh("list"))
    assert "id='1'" in d.virsh("dumpxml", "g") and d.virsh("dumpxml", "g", "--inactive") == first
    d.virsh("define", d.file("running.xml", d.virsh("dumpxml", "g")))
    assert d.virsh("dumpxml", "g", "--inactive") == first
    assert "running (booted)" == d.virsh("domstate", "g", "--reason")
    assert re.search(r"Used memory: +32768 KiB", d.virsh("dominfo", "g"))
    assert "vcpu.current=1" in d.virsh("domstats", "g")
    assert re.search(r"State: +running", d.virsh("vcpuinfo", "g"))
    assert "rss" in d.virsh("dommemstat", "g")
    d.virsh("suspend", "g")
    assert d.virsh("domstate", "g") == "paused"
    d.virsh("resume", "g")
    d.virsh("reset", "g")
    d.virsh("autostart", "g")
    assert re.search(r"Autostart: +enable", d.virsh("dominfo", "g"))
    assert "not supported" in d.virsh("managedsave", "g", status=1)
    d.virsh("desc", "g", "--title", "--config", "a <title>")
    assert d.virsh("desc", "g", "--title", "--config") == "a <title>"
    disk = d.file("disk.img", "\0" * 4096)
    d.virsh("attach-disk", "g", disk, "vdb", "--config", "--driver", "qemu", "--subdriver", "raw", "--targetbus", "virtio")
    assert "vdb" in d.virsh("domblklist", "g", "--inactive") and "vdb" not in d.virsh("domblklist", "g")
    assert "no root port is free" in d.virsh("attach-disk", "g", disk, "vdc", "--live", "--driver", "qemu", "--subdriver", "raw", status=1)
    assert "balloon" in d.virsh("setmem", "g", "16M", status=1)
    d.virsh("undefine", "g")
    assert re.search(r"Persistent: +no", d.virsh("dominfo", "g"))
    d.virsh("destroy", "g")
    assert d.virsh("list", "--all") == "" and d.guests() == []
    assert "boom" in d.virsh("create", d.file("b.xml", domain("boom", "/nonexistent")), status=1)
    assert "/nonexistent" in d.virsh("create", d.root + "/b.xml", status=1)


def test_cpus(d):
    """A guest's CPUs are known as soon as it runs; where they may run is told as it is, and their times grow with the guest's."""
    v = d.virsh
    v("define", d.file("c.xml", domain("c", kernel, more="<vcpu>2</vcpu>")))
    cpu = max(os.sched_getaffinity(0))
    p = subprocess.run(["virsh", "-q", "-c", d.uri(), "; ".join(["start c; vcpupin c 1 %d; destroy c" % cpu] * 20)], capture_output=True, text=True, timeout=300)
    assert p.returncode == 0 and not p.stderr, p.stderr
    pins = lambda *args: dict(line.split() for line in v("vcpupin", "c", *args).splitlines())
    free = pins()
    v("vcpupin", "c", "--live", status=1) # virsh itself refuses that, as it is the first to look
    w = Wire(d.socket).open()
    ref = w.call(23, string("c"))[2]
    w.refused(55, 230, ref + struct.pack(">iiI", 2, 1, 1))
    w.refused(55, 20, ref + struct.pack(">ii", 2, 1))
    v("start", "c")
    assert list(pins()) == ["0", "1"]
    v("vcpupin", "c", "1", str(cpu))
    assert pins()["1"] == str(cpu) and pins("--config") == free, pins()
    maps = re.findall(r"CPU Affinity: +(\S+)", v("vcpuinfo", "c"))
    assert len(maps) == 2 and maps[1].count("y") == 1 and maps[1][cpu] == "y", maps
    assert "no CPU 7" in v("vcpupin", "c", "7", "0", status=1) and "--live" in v("vcpupin", "c", "0", "0", "--config", status=1)
    w.refused(38, 26, ref + struct.pack(">III", 0, 1, 0)) # to no CPU at all
    for counts in ((-1, 1), (1, -1), (1 << 30, 9000)):
        w.refused(8, 20, ref + struct.pack(">ii", *counts))
    stats = v("domstats", "c")
    assert "vcpu.current=2" in stats and "vcpu.1.state=1" in stats and "vcpu.1.time=" in stats and "cpu.time=" in stats, stats
    assert "cpu_time" in v("cpu-stats", "c", "--total") and "--total" in v("cpu-stats", "c", status=1)
    v("destroy", "c")
    v("undefine", "c")


def test_lodge(d):
    """The command line over the same protocol."""
    lodge = os.environ.get("LODGE", os.path.dirname(os.path.abspath(lodged)) + "/../cli/lodge")

    def run(verb, *args, status=0):
        p = subprocess.run([lodge, verb, "-c", d.uri(), *args], capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
        assert p.returncode == status, p.stdout + p.stderr
        return p.stdout + p.stderr

    assert "defined" in run("define", d.file("l.xml", domain("l", kernel)))
    assert re.search(r"- +l +shut off", run("list", "--all")) and " l " not in run("list")
    run("start", "l")
    assert re.search(r"1 +l +running", run("list"))
    assert re.search(r"maximum +32 MiB", run("dominfo", "l"))
    run("suspend", "l")
    assert re.search(r"state +paused", run("dominfo", "l"))
    run("resume", "l")
    run("reset", "l")
    run("autostart", "l", "on")
    assert re.search(r"autostart +yes", run("dominfo", "l"))
    assert run("dumpxml", "l") == d.virsh("dumpxml", "l") + "\n"
    p = subprocess.Popen([lodge, "console", "-c", d.uri(), "l"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    p.stdin.write(b"echoed")
    p.stdin.flush()
    text = b""
    while b"echoed" not in text:
        text += p.stdout.read1(4096)
    p.stdin.write(b"\x1d")
    p.stdin.close()
    assert p.wait(60) == 0
    run("destroy", "l")
    assert "not running" in run("destroy", "l", status=1)
    assert "none" in run("start", "none", status=1)
    run("undefine", "l")
    assert "is unknown" in run("list", "-x", status=1)
    bad = subprocess.run([lodge, "list", "-c", "xen:///"], capture_output=True, text=True)
    assert bad.returncode == 1 and "xen:///" in bad.stderr


def test_crash(d):
    d.virsh("define", d.file("c.xml", domain("c", kernel, "triple", more="<on_crash>destroy</on_crash>")))
    d.virsh("start", "c", "--paused")
    d.virsh("resume", "c")
    until(lambda: d.virsh("domstate", "c", "--reason") == "shut off (crashed)")
    d.virsh("define", d.file("k.xml", domain("k", kernel)))
    d.virsh("start", "k")
    os.kill(d.guests()[0], 9)
    until(lambda: d.virsh("domstate", "k", "--reason") == "shut off (crashed)")
    d.virsh("start", "k")
    os.kill(d.guests()[0], 19) # a process that does not answer harms nobody but its own calls
    assert re.search(r"\bk\b", d.virsh("list", "--all"))
    assert "state.state=1" in d.virsh("domstats") and "balloon.rss" in d.virsh("domstats", "k") and "vcpu.0.time" not in d.virsh("domstats", "k")
    os.kill(d.guests()[0], 18) # late is better than never
    until(lambda: "vcpu.0.time" in d.virsh("domstats", "k"))
    os.kill(d.guests()[0], 19)
    d.virsh("destroy", "k")
    until(lambda: d.virsh("domstate", "k", "--reason") == "shut off (destroyed)")
    d.virsh("undefine", "c")
    d.virsh("undefine", "k")


def test_ends(d):
    """What a guest's end comes to is what its XML says; the power button ends it, or starts it again."""
    for name, cmdline, action, end in (("off", "off", "", "shutdown"), ("crash", "triple", "<on_crash>destroy</on_crash>", "crashed"),
                                       ("again", "off", "<on_poweroff>restart</on_poweroff>", None), ("back", "triple", "<on_crash>restart</on_crash>", None)):
        d.virsh("define", d.file("e.xml", domain(name, kernel, cmdline, more=action)))
        d.virsh("start", name, "--paused")
        t = Terminal("virsh", "-c", d.uri(), "console", name)
        t.until(rb"Escape character")
        d.virsh("resume", name)
        for _ in range(1 if end else 3):
            t.until(b"up: " + cmdline.encode())
        if end:
            until(lambda: d.virsh("domstate", name, "--reason") == "shut off (%s)" % end, lambda: d.virsh("domstate", name, "--reason"))
        else:
            d.virsh("destroy", name)
        t.end()
        d.virsh("undefine", name)
    d.virsh("define", d.file("e.xml", domain("b", kernel, "button")))
    d.virsh("start", "b")
    t = Terminal("virsh", "-c", d.uri(), "console", "b")
    t.until(rb"up: button")
    d.virsh("reboot", "b")
    t.until(rb"up: button")
    assert d.virsh("domstate", "b") == "running"
    d.virsh("shutdown", "b")
    until(lambda: d.virsh("domstate", "b", "--reason") == "shut off (shutdown)")
    t.end()
    d.virsh("undefine", "b")


def test_second(d):
    """A second daemon takes nothing from the first, and says what stands in its way."""
    for args, words in ((["--root", d.root], "another lodged holds it"), (["--root", d.root + "/second", "--socket", d.socket], "another daemon listens there")):
        p = subprocess.run([lodged, *args], capture_output=True, text=True, timeout=120)
        assert p.returncode == 1 and words in p.stderr and p.stderr.count("\n") == 1, p.stderr
    assert d.virsh("list", "--all") == ""


KEEPALIVE = 0x6b656570


def test_keepalive(d):
    """A client that asks for it is asked whether it lives, and disconnected when it does not say so; one that does stays."""
    mute, lively = Wire(d.socket).open(), Wire(d.socket).open()
    for w in (mute, lively):
        assert w.call(60, struct.pack(">i", 10)) == (60, 0, struct.pack(">i", 1))
    gone = []
    threading.Thread(target=lambda: gone.append(mute.closed()), daemon=True).start()
    while not gone: # lives as long as the other one does, and a ping longer
        _, prog, _, proc, _, _, _ = struct.unpack(">IIIiIII", lively.exactly(28))
        assert (prog, proc) == (KEEPALIVE, 1)
        lively.packet(2, prog=KEEPALIVE, kind=2)
    assert lively.call(59)[1] == 0


def test_console(d):
    d.virsh("create", d.file("e.xml", domain("e", kernel)))
    w = Wire(d.socket).open()
    _, status, body = w.call(23, string("e"))
    assert status == 0
    dom = body
    for i in range(20): # each attachment sees what those before it saw
        word = b"word%d." % i
        serial = w.serial
        answer = w.call(201, dom + struct.pack(">II", 0, 0))
        assert answer == (201, 0, b""), answer # the answer comes before the data
        text = b""
        while b"up: echo" not in text:
            text += w.answer()[2]
        w.serial = serial
        w.packet(201, word, kind=3, status=2)
        while word not in text:
            text += w.answer()[2]
        w.serial = serial
        w.packet(201, kind=3, status=0)
        assert w.answer() == (201, 0, b"")
        w.serial = serial + 10
    d.virsh("destroy", "e")


def test_terminal(d):
    """A console's terminal in /dev/pts: it is in the live XML, replays to who opens it, and outlives the daemon."""
    d.virsh("define", d.file("y.xml", domain("y", kernel)))
    d.virsh("start", "y")
    xml = d.virsh("dumpxml", "y")
    path = d.virsh("ttyconsole", "y")
    assert re.fullmatch(r"/dev/pts/\d+", path) and xml.count("<source path='%s'/>" % path) == 2 and "<console type='pty' tty='%s'>" % path in xml
    assert "/dev/pts" not in d.virsh("dumpxml", "y", "--inactive")
    d.virsh("define", d.file("y.xml", xml))
    assert "/dev/pts" not in d.virsh("dumpxml", "y", "--inactive")
    d.kill()
    d.start()
    until(lambda: d.virsh("dumpxml", "y").count(path) == 3)
    for i in range(20): # each opening sees what those before it saw
        fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
        text, word, typed = b"", b"word%d." % i, False
        while word not in text:
            text += os.read(fd, 4096)
            if b"up: echo" in text and not typed:
                os.write(fd, word)
                typed = True
        os.close(fd)
    d.virsh("destroy", "y")
    d.virsh("ttyconsole", "y", status=1)
    d.virsh("undefine", "y")


def test_events(d):
    p = subprocess.Popen(["virsh", "-c", d.uri(), "event", "--all", "--loop"], stdout=subprocess.PIPE, text=True)
    lines = []
    threading.Thread(target=lambda: lines.extend(iter(p.stdout.readline, "")), daemon=True).start()
    seen = lambda word, name: any(word in line and "'%s'" % name in line for line in lines)
    # virsh asks for one kind of event after the other; it is known to have asked for these two when it tells of the second.
    d.virsh("define", d.file("first.xml", domain("first", kernel)))
    d.virsh("start", "first")
    while not seen("reboot", "first"):
        d.virsh("reset", "first")
    d.virsh("destroy", "first")
    d.virsh("define", d.file("v.xml", domain("v", kernel)))
    for step, word in (("start", "Started"), ("suspend", "Suspended"), ("resume", "Resumed"), ("reset", "reboot"), ("destroy", "Stopped"), ("undefine", "Undefined")):
        d.virsh(step, "v")
        until(lambda: seen(word, "v"), lambda: (word, lines))
    assert seen("Defined", "v"), lines
    p.kill()
    p.wait()


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


def test_interfaces(d):
    """What network cards have carried, of a guest that sends nothing."""
    mac = "52:54:00:00:00:01"
    d.virsh("define", d.file("i.xml", domain("i", kernel, devices="<interface type='user'><mac address='%s'/><model type='virtio'/></interface>" % mac)))
    assert "not running" in d.virsh("domifstat", "i", mac, status=1)
    d.virsh("start", "i")
    for key in ("rx_bytes", "rx_packets", "rx_errs", "rx_drop", "tx_bytes", "tx_packets", "tx_errs", "tx_drop"):
        assert re.search(r"%s %s \d+" % (mac, key), d.virsh("domifstat", "i", mac)), key
    assert "tx_bytes 0" in d.virsh("domifstat", "i", mac.upper())
    assert "no interface 'vnet0'" in d.virsh("domifstat", "i", "vnet0", status=1)
    stats = d.virsh("domstats", "i", "--interface")
    assert "net.count=1" in stats and "net.0.name=" + mac in stats and "net.0.tx.pkts=0" in stats and "net.0.rx.drop=" in stats, stats
    d.virsh("destroy", "i")
    d.virsh("undefine", "i")


def test_two_askers(d):
    """Calls at the same time about one domain, each of which asks its process, get the answers to their own questions."""
    d.virsh("create", d.file("q.xml", domain("q", kernel, devices="<memballoon model='virtio'/>")))
    one, two = Wire(d.socket).open(), Wire(d.socket).open()
    ref = one.call(23, string("q"))[2]
    stop, wrong = [], []

    def ask_info():
        while not stop:
            _, status, body = two.call(16, ref) # asks for the balloon
            if status or struct.unpack(">QQ", body[4:20]) != (32768, 32768):
                wrong.append(body)

    t = threading.Thread(target=ask_info)
    t.start()
    for _ in range(400):
        one.packet(1, ref + string('{"execute": "query-name"}') + struct.pack(">I", 0), prog=QEMU)
        _, status, body = one.answer()
        if status or json.loads(body[4:4 + struct.unpack(">I", body[:4])[0]])["return"] != {"name": "q"}:
            wrong.append(body)
    stop.append(True)
    t.join()
    assert not wrong, wrong[:3]
    d.virsh("destroy", "q")


def test_journal(d):
    """A power cut that took the files' last changes: the journal does them again, in another boot only, and believes nothing that is not whole."""
    folder = d.root + "/etc/lodge/domains/"
    uuids = ["00000000-0000-4000-8000-%012d" % i for i in range(6)]
    for i in range(4):
        d.virsh("define", d.file("j.xml", domain("j%d" % i, kernel, more="<uuid>%s</uuid>" % uuids[i])))
    d.virsh("autostart", "j0")
    d.virsh("autostart", "j0", "--disable")
    d.virsh("undefine", "j1")
    d.virsh("define", d.file("j.xml", domain("j2", kernel, more="<uuid>%s</uuid><title>new</title>" % uuids[2])))

    def cut(change=lambda journal: journal, boot=b"another boot"):
        """The daemon's end with the files as a power cut may leave them."""
        d.kill()
        with open(folder + "journal", "rb") as f:
            journal = f.read()
        body = journal[8:16] + boot.ljust(40, b"\0")
        with open(folder + "journal", "wb") as f:
            f.write(change(journal[:4] + struct.pack("<I", zlib.crc32(body)) + body + journal[56:]))
        open(folder + uuids[0] + ".xml", "w").close()
        if os.path.exists(folder + uuids[3] + ".xml"):
            os.unlink(folder + uuids[3] + ".xml")
        with open(folder + uuids[1] + ".xml", "w") as f:
            f.write(domain("j1", kernel, more="<uuid>%s</uuid>" % uuids[1]))
        with open(folder + uuids[2] + ".xml", "w") as f:
            f.write(domain("j2", kernel, more="<uuid>%s</uuid>" % uuids[2]))
        with open(folder + uuids[0] + ".autostart", "w") as f:
            f.write("")

    names = lambda: sorted(d.virsh("list", "--all", "--name").split())
    cut()
    d.start()
    assert names() == ["j0", "j2", "j3"] and "<title>new</title>" in d.virsh("dumpxml", "j2")
    assert re.search(r"Autostart: +disable", d.virsh("dominfo", "j0"))
    first = open(folder + "journal", "rb").read()
    with open("/proc/sys/kernel/random/boot_id", "rb") as f:
        boot = f.read().strip()
    cut(boot=boot) # somebody has changed the files since
    d.start()
    assert names() == ["j1", "j2"]
    # A record of another epoch, a damaged one, a short journal, a name that leads elsewhere: what comes before them holds.
    with open(folder + "journal", "wb") as f:
        f.write(first)
    cut(lambda j: j[:4096])
    d.start()
    assert names() == ["j1", "j2"]
    with open(folder + "journal", "wb") as f:
        f.write(first)
    cut(lambda j: j[:4200] + b"X" + j[4201:])
    d.start()
    assert names() == ["j1", "j2"]
    name = b"../../../escaped"
    payload = name + b"text"
    epoch = first[8:16]
    rest = epoch + struct.pack("<IIII", 0, len(name), 4, 0)
    evil = struct.pack("<II", 0x4c4a5243, zlib.crc32(rest + payload)) + rest + payload
    with open(folder + "journal", "wb") as f:
        f.write(first)
    cut(lambda j: j[:4096] + evil + j[4096 + len(evil):])
    d.start()
    assert not os.path.exists(d.root + "/escaped") and names() == ["j1", "j2"]
    # More than the journal holds, and a domain that is too large for it.
    for i, size in enumerate((200000, 200000, 200000, 200000, 200000, 400000, 100)):
        d.virsh("define", d.file("j.xml", domain("j4", kernel, more="<uuid>%s</uuid><description>%s</description>" % (uuids[4], "%d" % i * size))))
    d.kill()
    d.start()
    assert "6" * 100 in d.virsh("dumpxml", "j4")
    for name in names():
        d.virsh("undefine", name)


def test_addresses(d):
    """Defining gives PCI addresses as libvirt does, which stay over dumpxml and define, and which the started guest's process takes."""
    v = d.virsh
    iface = "<interface type='user'><mac address='52:54:00:00:00:01'/><model type='virtio'/>%s</interface>"
    v("define", d.file("p.xml", domain("p", kernel, devices=iface % "")))
    first = v("dumpxml", "p")
    assert "<address type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x0'/>" in first
    assert first.count("model='pcie-root-port'") == 2 and "<target chassis='1' port='0x8'/>" in first
    v("define", d.file("again.xml", first))
    assert v("dumpxml", "p") == first
    v("start", "p")
    assert re.sub(" id='[0-9]+'", "", v("dumpxml", "p")).count("<address type='pci'") == first.count("<address type='pci'")
    v("destroy", "p")
    at = "<address type='pci' bus='0x05' slot='0x00' function='0x0'/>"
    v("define", d.file("q.xml", domain("q", kernel, devices=iface % at)))
    assert v("dumpxml", "q").count("model='pcie-root-port'") == 5
    both = iface % at + iface.replace("00:01", "00:02") % at
    error = v("define", d.file("r.xml", domain("r", kernel, devices=both)), status=1)
    assert "0000:05:00.0 is that of network interface" in error, error
    for name in "pq":
        v("undefine", name)


def test_hotplug(d):
    """A disk and a card come to a running guest and stay in its XML, over the daemon's restart too; what cannot come says why. The guest has no driver, so
    nothing goes again."""
    v = d.virsh
    disk = d.file("plug.img", "\0" * 4096)
    iface = "<interface type='user'><mac address='52:54:00:00:00:0%d'/><model type='virtio'/></interface>"
    ports = "<controller type='pci' model='pcie-root-port'/>" * 3
    v("define", d.file("h.xml", domain("h", kernel, devices=ports + iface % 1)))
    v("start", "h")
    raw = ("--live", "--driver", "qemu", "--subdriver", "raw", "--targetbus", "virtio")
    v("attach-disk", "h", disk, "vda", *raw)
    assert "vda" in v("domblklist", "h") and "vda" not in v("domblklist", "h", "--inactive")
    assert "<address type='pci' domain='0x0000' bus='0x02' slot='0x00' function='0x0'/>" in v("dumpxml", "h")
    assert "vda" in v("attach-disk", "h", disk, "vda", *raw, status=1)
    assert "plug.img" in v("attach-disk", "h", disk, "vdb", *raw, status=1) # locked
    v("attach-device", "h", d.file("i.xml", iface % 2), "--live")
    assert "no root port is free" in v("attach-device", "h", d.file("i.xml", iface % 3), "--live", status=1)
    assert "only disks" in v("attach-device", "h", d.file("r.xml", "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>"), "--live", status=1)
    assert "no device <interface>" in v("detach-device", "h", d.file("i.xml", iface % 3), "--live", status=1)
    assert "cannot be changed" in v("update-device", "h", d.file("i.xml", iface % 1), "--live", status=1)
    v("attach-device", "h", d.file("f.xml", "<disk type='file'><driver name='qemu' type='raw'/><source file='%s'/><target dev='vdf' bus='virtio'/><alias name='ua-f'/></disk>"
                                   % d.file("f.img", "\0" * 4096)), "--config")
    v("detach-device-alias", "h", "ua-f", "--config")
    assert "no device has the alias 'ua-f'" in v("detach-device-alias", "h", "ua-f", "--live", status=1)
    d.kill()
    d.start()
    until(lambda: "running" in v("domstate", "h"))
    assert "vda" in v("domblklist", "h") and "52:54:00:00:00:02" in v("domiflist", "h")
    v("attach-disk", "h", disk, "vda", "--config", *raw[1:])
    v("destroy", "h")
    assert "vda" in v("domblklist", "h") and "52:54:00:00:00:02" not in v("domiflist", "h")
    v("undefine", "h")


def test_config(d):
    """Devices, metadata and actions of the configuration, one by one."""
    mac = "52:54:00:00:00:0%d"
    ifaces = "".join("<interface type='user'><mac address='%s'/><model type='virtio'/></interface>" % (mac % i) for i in (1, 2))
    # Kept metadata may hold anything, what looks like the domain's own tags too.
    tricky = "<metadata><a:a xmlns:a='urn:a'>\n  <devices>\n  </devices>\n</a:a></metadata>"
    d.virsh("define", d.file("c.xml", domain("c", kernel, more=tricky, devices=ifaces)))
    v = d.virsh
    rest = lambda: re.sub(r" *<controller (.*/>|(.|\n)*?</controller>)\n", "", v("dumpxml", "c")) # root ports stay when their devices go
    first = rest()
    assert first.count("<address type='pci'") == 2
    disk = d.file("c.img", "\0" * 4096)
    for target in ("vda", "vdb"):
        v("attach-disk", "c", disk, target, "--config", "--driver", "qemu", "--subdriver", "raw", "--targetbus", "virtio")
    assert "vdb" in v("attach-disk", "c", disk, "vdb", "--config", "--targetbus", "virtio", status=1)
    v("attach-disk", "c", "", "sda", "--config", "--type", "cdrom", "--targetbus", "sata")
    v("change-media", "c", "sda", disk, "--config", "--insert")
    assert re.search("sda +" + disk, v("domblklist", "c"))
    places = re.findall("<address type='pci'.*bus='(0x..)' slot='0x00'", v("dumpxml", "c"))
    assert sorted(places) == ["0x01", "0x02", "0x03", "0x04"], places
    v("change-media", "c", "sda", "--config", "--eject")
    assert re.search("sda +-", v("domblklist", "c"))
    for target in ("vda", "sda", "vdb"):
        v("detach-disk", "c", target, "--config")
    v("detach-interface", "c", "user", "--mac", mac % 1, "--config")
    assert mac % 2 in v("domiflist", "c") and mac % 1 not in v("domiflist", "c")
    gone = d.file("gone.xml", "<interface type='user'><mac address='52:54:00:00:00:09'/></interface>")
    assert "no device <interface> with 52:54:00:00:00:09" in v("detach-device", "c", gone, "--config", status=1)
    v("attach-device", "c", d.file("i.xml", "<interface type='user'><mac address='%s'/><model type='virtio'/></interface>" % (mac % 1)), "--config")
    assert "more than one" in v("detach-device", "c", d.file("any.xml", "<interface type='user'/>"), "--config", status=1)
    assert "<serial> cannot" in v("detach-device", "c", d.file("s.xml", "<serial type='pty'/>"), "--config", status=1)
    for hostile in ("</devices><title>x</title><devices>", "<disk", "<!DOCTYPE a><disk/>", "<nosuch/>"):
        v("attach-device", "c", d.file("h.xml", hostile), "--config", status=1)
    for i in (1, 2):
        v("detach-interface", "c", "user", "--mac", mac % i, "--config")
    for i in (1, 2):
        v("attach-device", "c", d.file("i.xml", "<interface type='user'><mac address='%s'/><model type='virtio'/></interface>" % (mac % i)), "--config")
    assert rest() == first
    # By a user's own name; a daemon's are dropped.
    named = "<interface type='user'><mac address='%s'/><model type='virtio'/><alias name='%%s'/></interface>" % (mac % 3)
    v("attach-device", "c", d.file("n.xml", named % "ua-third"), "--config")
    assert "<alias name='ua-third'/>" in v("dumpxml", "c")
    assert "no device has the alias 'ua-other'" in v("detach-device-alias", "c", "ua-other", "--config", status=1)
    assert "not running" in v("detach-device-alias", "c", "ua-third", "--live", status=1)
    twice = "<channel type='unix'><target type='virtio' name='n'/><alias name='ua-third'/></channel>"
    assert "two devices have it" in v("attach-device", "c", d.file("n.xml", twice), "--config", status=1)
    v("detach-device-alias", "c", "ua-third", "--config")
    assert rest() == first
    v("attach-device", "c", d.file("n.xml", named % "net2"), "--config")
    assert "<alias" not in v("dumpxml", "c")
    v("detach-interface", "c", "user", "--mac", mac % 3, "--config")
    for wrong in (named % "ua-a b", named % ("ua-" + "x" * 70), "<rng model='virtio'><backend model='random'>/dev/urandom</backend><alias name='ua-rng'/></rng>"):
        said = v("attach-device", "c", d.file("n.xml", wrong), "--config", status=1)
        assert "<alias>" in said, said
    # Metadata.
    assert "not found" in v("metadata", "c", "urn:x", status=1)
    v("metadata", "c", "urn:x", "--config", "--key", "x", "--set", "<data n='1'><more/></data>")
    assert v("metadata", "c", "urn:x") == '<data n="1"><more/></data>'
    assert '<x:data xmlns:x="urn:x" n="1">' in v("dumpxml", "c")
    v("metadata", "c", "urn:x", "--config", "--key", "y", "--set", "<data/>")
    assert v("metadata", "c", "urn:x") == "<data/>" and "<devices>" in v("metadata", "c", "urn:a")
    for key, text in (("a b", "<d/>"), ("k", "<d>"), ("k", "<!DOCTYPE a [<!ENTITY b 'c'>]><d>&b;</d>")):
        v("metadata", "c", "urn:x", "--config", "--key", key, "--set", text, status=1)
    v("metadata", "c", "urn:x", "--config", "--remove")
    assert rest() == first
    v("desc", "c", "--config", "a <description>")
    assert v("desc", "c") == "a <description>"
    v("set-lifecycle-action", "c", "crash", "restart", "--config")
    assert "<on_crash>restart</on_crash>" in v("dumpxml", "c")
    assert "not supported" in v("set-lifecycle-action", "c", "crash", "preserve", "--config", status=1)
    d.kill()
    d.start()
    assert "<on_crash>restart</on_crash>" in v("dumpxml", "c") and v("desc", "c") == "a <description>"
    w = Wire(d.socket).open()
    assert w.call(21, struct.pack(">i", 10)) == (21, 0, struct.pack(">I", 1) + string("c"))
    assert w.call(37, struct.pack(">i", 10)) == (37, 0, struct.pack(">I", 0))
    assert w.call(21, struct.pack(">i", -1)) == (21, 0, struct.pack(">I", 0))
    w.refused(39, 21, b"")
    v("undefine", "c")


def test_memtune(d):
    """Limits of memory are kept and checked everywhere; where the host's cgroups are not lodged's, a start is refused. A folder of plain files
    stands for the cgroups: it shows what is written, not what a kernel does with it."""
    uuid = "11111111-2222-3333-4444-66666666666a"
    limits = "<memtune><hard_limit unit='MiB'>%s</hard_limit><swap_hard_limit unit='MiB'>%s</swap_hard_limit></memtune>"
    xml = lambda hard, swap: d.file("t.xml", domain("t", kernel, more="<uuid>%s</uuid>" % uuid + limits % (hard, swap)))
    assert "at least the hard_limit" in d.virsh("define", xml(200, 100), status=1)
    assert "not a limit" in d.virsh("define", xml(0, 100), status=1)
    d.virsh("define", xml(200, 300))
    values = lambda *args: [line.split()[-1] for line in d.virsh("memtune", "t", *args).splitlines() if ":" in line]
    assert values() == ["204800", "unlimited", "307200"], values()
    assert "--cgroup DIR" in d.virsh("start", "t", status=1)
    assert "not running" in d.virsh("memtune", "t", "--live", "--hard-limit", "1000", status=1)
    assert "at least the hard_limit" in d.virsh("memtune", "t", "--config", "--hard-limit", "400000", status=1)
    assert "0 KiB" in d.virsh("memtune", "t", "--config", "--soft-limit", "0", status=1)
    assert "min_guarantee" in d.virsh("memtune", "t", "--config", "--min-guarantee", "1000", status=1)
    d.virsh("memtune", "t", "--config", "--soft-limit", "150000", "--swap-hard-limit", "-1")
    assert values() == ["204800", "150000", "unlimited"]
    assert "<soft_limit unit='KiB'>150000</soft_limit>" in d.virsh("dumpxml", "t")
    folder = d.root + "/groups"
    os.makedirs(folder + "/" + uuid)
    refused = subprocess.run([d.lodged, "--root", d.root + "/other", "--cgroup", folder], capture_output=True, text=True, timeout=120)
    assert refused.returncode == 1 and "memory controller" in refused.stderr and refused.stderr.count("\n") == 1, refused
    for name in ("cgroup.controllers", "cgroup.subtree_control", *(uuid + "/" + n for n in ("cgroup.procs", "memory.max", "memory.high", "memory.swap.max"))):
        d.file("groups/" + name, "cpu memory\n" if name == "cgroup.controllers" else "")
    d.kill()
    d.options = ("--cgroup", folder)
    d.start()
    group = lambda: [open(folder + "/" + uuid + "/" + n).read() for n in ("memory.max", "memory.high", "memory.swap.max", "cgroup.procs")]
    assert open(folder + "/cgroup.subtree_control").read() == "+memory"
    d.virsh("start", "t")
    assert group() == ["209715200", "153600000", "max", "0"], group()
    d.virsh("memtune", "t", "--live", "--hard-limit", "100000", "--swap-hard-limit", "150000", "--soft-limit", "-1")
    assert group() == ["102400000", "max", "51200000", "0"], group()
    assert values() == ["100000", "unlimited", "150000"] and values("--config") == ["204800", "150000", "unlimited"]
    assert "at least the hard_limit" in d.virsh("memtune", "t", "--live", "--hard-limit", "200000", status=1)
    os.unlink(folder + "/" + uuid + "/memory.high")
    assert "memory.high" in d.virsh("memtune", "t", "--live", "--soft-limit", "50000", status=1)
    d.virsh("destroy", "t")
    d.virsh("undefine", "t")


def test_agent(d):
    """The guest agent's calls, against agents of all kinds at the channel's socket."""
    channel = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
    d.virsh("create", d.file("a.xml", domain("a", kernel, more="<uuid>11111111-2222-3333-4444-666666666666</uuid>", devices=channel)))
    path = d.root + "/run/lodge/11111111-2222-3333-4444-666666666666-0.channel"
    assert "does not answer" in d.virsh("domifaddr", "a", "--source", "agent", status=1) # nothing in the guest listens
    os.unlink(path)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(8)
    asked = []

    def serve(answer, before=b""):
        """One conversation, in which `answer` is the agent's word to the second question."""
        def run():
            s = listener.accept()[0]
            f = s.makefile("rb")
            hello = json.loads(f.readline().lstrip(b"\xff"))
            try:
                s.sendall(before + b"\xff" + json.dumps({"return": hello["arguments"]["id"]}).encode() + b"\n")
                asked.append(json.loads(f.readline()))
                if answer is not None:
                    s.sendall(answer + b"\n")
                f.read()
            except (OSError, ValueError):
                pass
            s.close()
        t = threading.Thread(target=run)
        t.start()
        return t

    net = json.dumps({"return": [{"name": "eth0", "hardware-address": "52:54:00:00:00:01",
                                  "ip-addresses": [{"ip-address": "10.0.2.15", "ip-address-type": "ipv4", "prefix": 24}, {"prefix": 1}, 7]}, 3, {"name": 5}]})
    t = serve(net.encode(), before=b'{"return": {}}\n{"half": ')
    assert re.search(r"eth0 +52:54:00:00:00:01 +ipv4 +10.0.2.15/24", d.virsh("domifaddr", "a", "--source", "agent"))
    t.join()
    for answer in (b"no JSON", b"x" * 2000000, b"[" * 100000):
        t = serve(answer)
        assert "does not answer" in d.virsh("domifaddr", "a", "--source", "agent", status=1)
        t.join()
    t = serve(b'{"error": {"class": "GenericError", "desc": "not today"}}')
    assert "not today" in d.virsh("shutdown", "a", "--mode", "agent", status=1)
    t.join()
    for verb, mode in (("shutdown", "powerdown"), ("reboot", "reboot")):
        t = serve(None)
        d.virsh(verb, "a", "--mode", "agent")
        t.join()
        assert asked[-1] == {"execute": "guest-shutdown", "arguments": {"mode": mode}}
    # Any command, as one line whatever the client's text looks like; the answer is given back as it is.
    v = lambda *args, **kwargs: d.virsh(*args, **kwargs)
    t = serve(b'{"return": {"n": [1, "\\u00e9"]}}')
    assert json.loads(v("qemu-agent-command", "a", '{"execute":\n"guest-ping"}')) == {"return": {"n": [1, "\u00e9"]}}
    t.join()
    assert asked[-1] == {"execute": "guest-ping"}
    t = serve(b'{"return": 1}')
    assert v("qemu-agent-command", "a", '{"execute": "guest-set-time"}', "--timeout", "30") == '{"return":1}'
    t.join()
    t = serve(None)
    v("qemu-agent-command", "a", '{"execute": "guest-suspend-ram"}', "--async")
    t.join()
    assert asked[-1] == {"execute": "guest-suspend-ram"}
    t = serve(b'{"error": {"class": "CommandNotFound", "desc": "no such command"}}')
    assert "no such command" in v("qemu-agent-command", "a", '{"execute": "nonsense"}', status=1)
    t.join()
    for text in ("guest-ping", "[]", "{}", '{"execute": 1}', '{"execute": "a"} {"execute": "b"}'):
        assert "not a command" in v("qemu-agent-command", "a", text, status=1), text
    # What the guest says of itself.
    t = serve(b'{"return": {"host-name": "debian"}}')
    assert v("domhostname", "a", "--source", "agent") == "debian"
    t.join()
    t = serve(b'{"return": 1700000000123456789}')
    assert v("domtime", "a") == "Time: 1700000000"
    t.join()
    t = serve(b'{"return": {}}')
    v("domtime", "a", "--time", "1700000001")
    t.join()
    assert asked[-1] == {"execute": "guest-set-time", "arguments": {"time": 1700000001 * 10**9}}
    assert "after 1970" in v("domtime", "a", "--time", "99999999999999", status=1)
    t = serve(b'{"return": [{"user": "root", "login-time": 1700000000.5}, 4, {"user": 5}]}')
    assert re.sub(r"\s+", " ", v("guestinfo", "a", "--user")) == "user.count : 3 user.0.name : root user.0.login-time : 1700000000500"
    t.join()
    answers = [b'{"return": []}', b'{"return": {"id": "debian", "version-id": "12", "machine": {}}}', b'{"error": {"desc": "unknown"}}', b'{"return": {"host-name": 3}}',
               b'{"return": [{"mountpoint": "/", "name": "vda1", "type": "ext4", "total-bytes": 5, "used-bytes": 3}]}', net.encode()]

    def all_of_it():
        for answer in answers:
            serve(answer).join()

    t = threading.Thread(target=all_of_it)
    t.start()
    info = dict(re.split(r"\s*: ", line, maxsplit=1) for line in v("guestinfo", "a").splitlines())
    t.join()
    assert info["os.id"] == "debian" and "os.machine" not in info and "timezone.name" not in info and info["user.count"] == "0", info
    assert info["fs.0.mountpoint"] == "/" and info["if.0.addr.0.addr"] == "10.0.2.15" and info["if.count"] == "3" and info["fs.0.total-bytes"] == "5", info
    assert "0x20" in v("guestinfo", "a", "--disk", status=1)
    # An agent that exaggerates is cut short.
    address = {"ip-address": "fe80::1", "ip-address-type": "ipv6", "prefix": 64}
    answers = [json.dumps({"return": r}).encode() for r in (
        [{"user": "u", "domain": "d", "login-time": 1}] * 1000, dict.fromkeys(("id", "name", "version", "kernel-release"), "x"), {"zone": "UTC", "offset": 0},
        {"host-name": "h"}, [{"mountpoint": "/", "name": "n", "type": "t", "total-bytes": 1, "used-bytes": 1}] * 1000,
        [{"name": "eth", "hardware-address": "52:54:00:00:00:01", "ip-addresses": [address] * 20}] * 100)]
    t = threading.Thread(target=all_of_it)
    t.start()
    info = dict(re.split(r"\s*: ", line, maxsplit=1) for line in v("guestinfo", "a").splitlines())
    t.join()
    assert [info[k + ".count"] for k in ("user", "fs", "if", "if.63.addr")] == ["64", "128", "64", "5"], info
    for call in (3, 1): # the agent's and the monitor's commands change guests
        w = Wire(d.socket + "-ro").open(flags=1)
        w.packet(call, b"", prog=QEMU)
        _, status, body = w.answer()
        assert status == 1 and struct.unpack(">i", body[:4])[0] == 29
    listener.close()
    # Past the daemon to the guest's process.
    assert json.loads(v("qemu-monitor-command", "a", '{"execute": "query-name"}'))["return"] == {"name": "a"}
    assert "not a QMP command" in v("qemu-monitor-command", "a", "--hmp", "info status", status=1)
    for text in ("info status", '{"execute": "a\\", \\"b"}', '{"execute": ""}'):
        v("qemu-monitor-command", "a", text, status=1)
    d.virsh("destroy", "a")
    d.virsh("create", d.file("b.xml", domain("b", kernel)))
    assert "add <channel>" in d.virsh("shutdown", "b", "--mode", "agent", status=1)
    d.virsh("destroy", "b")


def unit(name):
    """A unit of systemd's: the last value of each key."""
    with open(os.path.dirname(os.path.abspath(__file__)) + "/../../../systemd/" + name) as f:
        return dict(line.strip().split("=", 1) for line in f if "=" in line and not line.startswith("#"))


def as_user(uid, fn):
    """The small number that fn comes to as this user; 99 when it does not."""
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            status = fn()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def opens(path):
    """Do the rights of a socket let this user in?"""
    try:
        socket.socket(socket.AF_UNIX).connect(path)
        return 1
    except PermissionError:
        return 0


def test_activation(d):
    """systemd's protocol (sd_listen_fds(3)) with the sockets of lodged's units: they are handed over listening, and clients may have connected before the daemon
    runs. Everybody may look; who may do more, the full socket's rights say."""
    root = d.root + "/second"
    os.mkdir(root)
    os.chmod(d.root, 0o755)
    service, units = unit("lodged.service"), [unit("lodged.socket"), unit("lodged-ro.socket")]
    assert os.path.basename(service["ExecStart"].split()[0]) == os.path.basename(lodged) and service["KillMode"] == "process"
    assert [u["ListenStream"] for u in units] == ["/run/libvirt/libvirt-sock", "/run/libvirt/libvirt-sock-ro"]
    assert [u["Service"] for u in units] == ["lodged.service"] * 2
    paths = [root + "/" + os.path.basename(u["ListenStream"]) for u in units]
    listeners = []
    for path, u in zip(paths, units):
        s = socket.socket(socket.AF_UNIX)
        s.bind(path)
        os.chmod(path, int(u["SocketMode"], 8))
        s.listen(16)
        listeners.append(s)
    early = Wire(paths[0])
    early.packet(1, struct.pack(">I", 1) + string("qemu:///system") + struct.pack(">I", 0))
    script = 'exec 3<&%d 4<&%d; export LISTEN_PID=$$ LISTEN_FDS=2; exec "$0" --root "$1"' % tuple(s.fileno() for s in listeners)
    p = subprocess.Popen(["bash", "-c", script, lodged, root], pass_fds=[s.fileno() for s in listeners], stdin=subprocess.DEVNULL)
    try:
        assert early.answer()[1] == 0
        d.file("act.xml", domain("act", kernel))
        virsh = lambda path, *args: subprocess.run(["virsh", "-q", "-c", "qemu+unix:///system?socket=" + path, *args], capture_output=True, text=True, timeout=120)
        assert virsh(paths[0], "define", d.root + "/act.xml").returncode == 0
        assert virsh(paths[1], "list", "--all", "--name").stdout.strip() == "act"
        assert "read only" in virsh(paths[1], "undefine", "act").stderr
        if os.geteuid() == 0:
            assert [as_user(65534, lambda: opens(path)) for path in paths] == [0, 1]
        assert not os.path.exists(root + "/run/libvirt") # it made none of its own
    finally:
        p.kill()
        p.wait()


def answers(path):
    """Does the daemon answer this user, or does it end the connection?"""
    try:
        w = Wire(path)
        w.packet(66)
        w.answer()
        return 1
    except (EOFError, ConnectionError):
        return 0


def test_session(d):
    """An ordinary user's daemon: folders of its own, and nobody but the user and root reaches it or its guests."""
    home = d.root + "/home"
    os.mkdir(home)
    user = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    if user:
        os.chmod(d.root, 0o755)
        os.chown(home, 65534, 65534)
        # Where an ordinary user can run it, whatever the rights of the build's folder are.
        for path in (lodged, os.path.dirname(os.path.abspath(lodged)) + "/../control/lodge-vm", kernel):
            shutil.copy(path, d.root)
    program = d.root + "/lodged" if user else lodged
    env = {"PATH": os.environ["PATH"], "HOME": home, "XDG_RUNTIME_DIR": home + "/run", "XDG_CONFIG_HOME": home + "/config", "LC_ALL": "C"}
    path = home + "/run/libvirt/libvirt-sock"
    p = subprocess.Popen([program, "--session"], env=env, stdin=subprocess.DEVNULL, **user)
    try:
        until(lambda: p.poll() is not None or os.path.exists(path))
        assert p.poll() is None, p.returncode
        xml = d.file("s.xml", domain("s", d.root + "/" + os.path.basename(kernel) if user else kernel))
        os.chmod(xml, 0o644)
        uri = "qemu+unix:///session?socket=" + path
        virsh = lambda *args: subprocess.run(["virsh", "-q", "-c", uri, *args], capture_output=True, text=True, timeout=120, env=env, **user)
        until(lambda: virsh("uri").returncode == 0)
        assert virsh("define", xml).returncode == 0
        assert virsh("list", "--all", "--name").stdout.strip() == "s" and d.virsh("list", "--all") == ""
        assert len([n for n in os.listdir(home + "/config/lodge/domains") if n.endswith(".xml")]) == 1
        assert os.stat(path).st_mode & 0o777 == 0o600
        started = virsh("start", "s")
        assert started.returncode == 0, started.stderr
        run = home + "/run/lodge/run"
        guest = [run + "/" + n for n in os.listdir(run) if n.endswith((".qmp", ".console"))]
        assert len(guest) == 2 and all(os.stat(s).st_mode & 0o077 == 0 for s in guest), guest
        assert all(os.stat(f).st_mode & 0o077 == 0 for f in (run, home + "/config/lodge/domains", home + "/.cache/lodge/log")), home
        if user: # others, even if the rights of the folders and of the daemon's socket let them in
            os.chmod(path, 0o666)
            for folder in (home, home + "/run", home + "/run/libvirt", home + "/run/lodge", run):
                os.chmod(folder, 0o755)
            assert [as_user(uid, lambda: answers(path)) for uid in (0, 65534, 65533)] == [1, 1, 0]
            assert [as_user(uid, lambda: opens(s)) for s in guest for uid in (65534, 65533)] == [1, 0] * 2
            assert as_user(65533, lambda: opens(d.socket)) == 0 and as_user(65533, lambda: answers(d.socket + "-ro")) == 1
        assert virsh("destroy", "s").returncode == 0
        assert virsh("undefine", "s").returncode == 0
    finally:
        subprocess.run(["virsh", "-c", uri, "destroy", "s"], capture_output=True, env=env, **user)
        p.kill()
        p.wait()


def test_restart(d, count=4):
    for i in range(count):
        d.virsh("create" if i % 2 else "define", d.file("r.xml", domain("r%d" % i, kernel)))
        if i % 2 == 0:
            d.virsh("start", "r%d" % i)
    d.virsh("suspend", "r0")
    before, guests = d.virsh("list"), sorted(d.guests())
    assert len(guests) == count
    for _ in range(3):
        d.kill()
        d.start()
        until(lambda: d.virsh("list") == before)
    assert sorted(d.guests()) == guests
    d.virsh("define", d.file("auto.xml", domain("auto", kernel)))
    d.virsh("autostart", "auto")
    d.kill()
    os.kill(guests[0], 9)
    d.start()
    until(lambda: d.virsh("domstate", "auto") == "running")
    d.virsh("destroy", "auto")
    until(lambda: len(d.virsh("list", "--name").split()) == count - 1)
    for name in d.virsh("list", "--name").split():
        d.virsh("destroy", name)
    for name in d.virsh("list", "--all", "--name").split():
        d.virsh("undefine", name)


def test_readonly(d):
    d.virsh("define", d.file("o.xml", domain("o", kernel)))
    assert d.virsh("list", "--all", "--name", readonly=True) == "o"
    d.virsh("dumpxml", "o", readonly=True)
    for command in (["start", "o"], ["undefine", "o"], ["define", d.root + "/o.xml"], ["autostart", "o"], ["setmem", "o", "1M", "--config"],
                    ["vol-create-as", "default", "x", "1M"], ["pool-destroy", "default"]):
        assert "read only" in d.virsh(*command, readonly=True, status=1), command
    assert d.virsh("list", "--all", "--name") == "o"
    # Each procedure that changes something is refused, and noise in the others changes nothing.
    with open(os.path.dirname(os.path.abspath(__file__)) + "/../../../src/rpc/libvirt-rpc.json") as f:
        calls = [p for p in json.load(f)["procedures"] if p["program"] == "remote" and p["kind"] == "call"]
    harmless = {"getattr", "read", "search_domains", "search_networks", "search_storage_pools", "search_interfaces", "search_node_devices", "search_secrets",
                "search_storage_vols", "search_nwfilters", "search_nwfilter_bindings", "search_ports"}
    rights = lambda p: {a.split(":")[1] for a in p.get("acl", [])}
    d.virsh("vol-create-as", "default", "kept", "1M")
    d.virsh("start", "o")
    state = lambda: ([d.virsh(*c) for c in (("list", "--all"), ("domstate", "o"), ("dumpxml", "o"), ("dumpxml", "o", "--inactive"), ("vol-list", "default", "--details"),
                                            ("pool-list", "--all"))], d.guests(), sorted(os.listdir(d.root + "/etc/lodge/domains")))
    before, ref = state(), Wire(d.socket + "-ro").open(flags=1).call(23, string("o"))[2]
    w, r = Wire(d.socket + "-ro").open(), random.Random(4)
    for p in calls:
        if p.get("rw_only") == "always":
            w.refused(29, p["number"])
            w.refused(29, p["number"], ref)
        elif rights(p) - harmless and p["name"] not in ("connect_open", "connect_set_identity"):
            assert w.call(p["number"], ref)[1] == 1, p # such as have no word in the table, and are not there
    quiet = [p["number"] for p in calls if p.get("rw_only") != "always" and p["number"] != 2]
    for _ in range(2000):
        w.call(r.choice(quiet), r.choice((b"", ref)) + bytes(r.choice(b"\0\0\0\1\2") for _ in range(4 * r.randrange(12))))
    assert state() == before, (before, state())
    d.virsh("destroy", "o")
    d.virsh("vol-delete", "kept", "default")
    d.virsh("undefine", "o")


def test_packets(d):
    good = Wire(d.socket).open()
    good.packet(1, prog=KEEPALIVE, kind=2)
    assert struct.unpack(">IIIiIII", good.exactly(28))[1:5] == (KEEPALIVE, 1, 2, 2) # a ping's answer
    early = Wire(d.socket)
    early.refused(5, 23, string("x"))
    early.refused(5, 1, struct.pack(">I", 1) + string("xen:///") + struct.pack(">I", 0))
    w = Wire(d.socket).open()
    w.refused(39, 9999)
    w.refused(39, 318)
    w.refused(3, 302)
    w.refused(39, 23, b"\0\0")
    w.refused(39, 23, struct.pack(">I", 0xffffffff) + b"abcd")
    w.refused(39, 23, string("x") + b"\0\0\0\0")
    w.refused(39, 344, struct.pack(">I", 16384))
    w.refused(42, 23, string("../../etc/passwd"))
    w.refused(27, 11, string("<domain type='qemu'><name>a/b</name></domain>"))
    w.refused(27, 11, string("<!DOCTYPE a [<!ENTITY b 'c'>]><domain/>"))
    w.refused(27, 11, string("<a>" * 100000))
    w.refused(27, 11, string("<domain type='qemu'>" + " " * (1 << 20) + "</domain>"))
    w.refused(27, 11, string(domain("a\nb", kernel)))
    for flood in (struct.pack(">I", 0) * 10, struct.pack(">I", 27) + b"x" * 100, struct.pack(">I", 0x7fffffff) + b"x" * 100,
                  struct.pack(">I", 70000) + b"x" * 100, struct.pack(">IIIiIII", 28, 0x20008086, 1, 1, 77, 0, 0)):
        bad = Wire(d.socket)
        try:
            bad.s.sendall(flood)
        except ConnectionError:
            pass
        assert bad.closed()
    endless = Wire(d.socket).open()
    endless.s.sendall(struct.pack(">I", 33554436)) # promised, never sent
    for _ in range(20):
        endless.s.sendall(b"\0" * 65536)
    rss = int(re.search(r"VmRSS:\s+(\d+)", open("/proc/%d/status" % d.p.pid).read()).group(1))
    assert rss < 60000, rss
    w.packet(201, b"x", kind=3, status=2) # data of no stream
    for _ in range(200):
        w.packet(59)
    for _ in range(200):
        assert w.answer()[1] == 0
    idle = []
    for _ in range(1000):
        idle.append(Wire(d.socket))
    assert good.call(59)[1] == 0
    good.refused(42, 23, string("none"))
    assert d.virsh("list", "--all") == ""
    rss = int(re.search(r"VmRSS:\s+(\d+)", open("/proc/%d/status" % d.p.pid).read()).group(1))
    assert rss < 60000, rss
    r = random.Random(1)
    for _ in range(2000):
        body = bytes(r.choice(b"\0\0\0\1\2") for _ in range(4 * r.randrange(20)))
        proc = r.randrange(1, 444)
        if proc not in (2, 201): # closing, and a stream's packets
            w.packet(proc, body)
            w.answer()
    assert good.call(59)[1] == 0


def test_kills(d, rounds=25):
    """kill -9 anywhere in define, start and undefine: a guest is defined or not, and runs or not."""
    r = random.Random(2)
    xml = d.file("kk.xml", domain("kk", kernel, more="<uuid>11111111-2222-3333-4444-555555555555</uuid>"))
    script = "define %s; start kk; destroy kk; undefine kk" % xml
    for _ in range(rounds):
        p = subprocess.Popen(["virsh", "-q", "-k0", "-c", d.uri(), script], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(r.random() * 0.25)
        d.kill()
        p.kill()
        p.wait()
        d.start()
        defined = d.virsh("list", "--all", "--persistent", "--name").split()
        running = lambda: d.virsh("list", "--name").split()
        assert defined in ([], ["kk"]) and running() in ([], ["kk"])
        # The killed daemon may have told the guest to end: it may run now, but not for ever with one of list and process alone.
        until(lambda: len(d.guests()) == len(running()), lambda: (d.guests(), running()))
        if running():
            end = subprocess.run(["virsh", "-q", "-c", d.uri(), "destroy", "kk"], capture_output=True, text=True, timeout=120)
            assert end.returncode == 0 or "not running" in end.stderr or "failed to get domain" in end.stderr, end.stderr
        until(lambda: not d.guests() and not running())
        if defined:
            assert "<name>kk</name>" in d.virsh("dumpxml", "kk")
            d.virsh("undefine", "kk")
        leftovers = [f for f in os.listdir(d.root + "/etc/lodge/domains") if f.endswith(".xml")]
        assert leftovers == [], leftovers


run_tests(globals(), sys.argv[3:], lodged, slow=["test_keepalive"])
