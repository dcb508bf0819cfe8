#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""lodged_test.py LODGED KERNEL [TEST…]: the life of guests under lodged, by virsh and by packets. Guests are the smallest there are (tests/unit/machine/guest.S)."""
import json
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lab import QEMU, Wire, domain, run_tests, string, until

lodged, kernel = sys.argv[1:3]


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
    with open("/proc/%d/status" % d.guests()[0]) as f: # a disk that reaches a limit on files' sizes is an error of a request, not the guest's end
        assert int(re.search(r"SigIgn:\s+(\w+)", f.read()).group(1), 16) >> (signal.SIGXFSZ - 1) & 1
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


def open_console(d, name):
    """A connection with the guest's console as its stream, from here on: virsh says that it is connected before it is."""
    w = Wire(d.socket).open()
    assert w.call(201, w.call(23, string(name))[2] + struct.pack(">II", 0, 0)) == (201, 0, b"")
    return w


def await_lines(w, line, count=1):
    text = b""
    while text.count(line) < count:
        _, status, data = w.answer()
        assert status == 2, text # a console that ends here has not said it
        text += data


def test_ends(d):
    """What a guest's end or its reset comes to is what its XML says; the power button ends it, or starts it again."""
    off = lambda name, end: until(lambda: d.virsh("domstate", name, "--reason") == "shut off (%s)" % end, lambda: d.virsh("domstate", name, "--reason"))
    for name, cmdline, action, end in (("off", "off", "", "shutdown"), ("crash", "triple", "<on_crash>destroy</on_crash>", "crashed"),
                                       ("again", "off", "<on_poweroff>restart</on_poweroff>", None), ("back", "triple", "<on_crash>restart</on_crash>", None),
                                       ("last", "lapic reset", "<on_reboot>destroy</on_reboot>", "shutdown"), ("round", "lapic reset", "", None)):
        d.virsh("define", d.file("e.xml", domain(name, kernel, cmdline, more=action)))
        d.virsh("start", name, "--paused")
        w = open_console(d, name)
        d.virsh("resume", name)
        await_lines(w, b"up: " + cmdline.encode(), 1 if end else 3)
        if end:
            off(name, end)
        else:
            d.virsh("destroy", name)
        d.virsh("undefine", name)
    d.virsh("define", d.file("e.xml", domain("b", kernel, "button")))
    d.virsh("start", "b")
    w = open_console(d, "b")
    await_lines(w, b"up: button")
    d.virsh("reboot", "b")
    await_lines(w, b"up: button")
    assert d.virsh("domstate", "b") == "running"
    d.virsh("shutdown", "b")
    off("b", "shutdown")
    d.virsh("undefine", "b")


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


run_tests(globals(), sys.argv[3:], lodged)
