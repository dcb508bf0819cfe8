#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""access_test.py LODGED KERNEL [TEST…]: who reaches lodged and how: sockets, users, read-only connections, packets by hand."""
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

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lab import Wire, domain, run_tests, string, until

lodged, kernel = sys.argv[1:3]


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


run_tests(globals(), sys.argv[3:], lodged, slow=["test_keepalive"])
