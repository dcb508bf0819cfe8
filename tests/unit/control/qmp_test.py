#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""qmp_test.py LODGE-VM KERNEL: the QMP server of lodge-vm, with the smallest guest: a life by commands and events, and clients that misbehave."""
import json
import os
import socket
import subprocess
import sys
import tempfile
import time

lodge_vm, kernel = sys.argv[1:3]
guests = []
XML = """<domain type='qemu'><name>q&quot;1</name><uuid>11112222333344445555666677778888</uuid><memory unit='MiB'>32</memory><vcpu>2</vcpu>
<os><type machine='q35'>hvm</type><kernel>%s</kernel><cmdline>%s</cmdline></os><features><acpi/><apic/></features>%s
<devices><memballoon model='virtio'/><disk type='file'><source file='%s'/><target dev='vda'/></disk>
<interface type='user'><mac address='52:54:00:00:00:07'/><model type='virtio'/></interface><serial type='null'/></devices></domain>"""


class Client:
    def __init__(self, path):
        self.s = socket.socket(socket.AF_UNIX)
        self.s.settimeout(60)
        self.s.connect(path)
        self.f = self.s.makefile("rb")
        self.events = []
        assert "QMP" in self.read()

    def read(self):
        line = self.f.readline()
        if not line:
            raise EOFError
        return json.loads(line)

    def send(self, text):
        self.s.sendall(text)

    def answer(self):
        while True:
            m = self.read()
            if "event" not in m:
                return m
            self.events.append(m["event"])

    def ask(self, command, **args):
        self.send(json.dumps({"execute": command, "arguments": args, "id": [command, 1]}).encode())
        m = self.answer()
        assert m["id"] == [command, 1], m
        return m

    def get(self, command, **args):
        m = self.ask(command, **args)
        assert "return" in m, m
        return m["return"]

    def refused(self, word, command, **args):
        m = self.ask(command, **args)
        assert word in m["error"]["desc"], m

    def event(self, name):
        while name not in self.events:
            m = self.read()
            assert "event" in m, m
            self.events.append(m["event"])
        self.events.clear()


class Guest:
    def __init__(self, folder, *options, cmdline="echo", more=""):
        self.path = folder + "/qmp"
        disk = folder + "/disk"
        with open(disk, "wb") as f:
            f.truncate(1 << 20)
        with open(folder + "/g.xml", "w") as f:
            f.write(XML % (kernel, cmdline, more, disk))
        guests.append(self)
        self.p = subprocess.Popen([lodge_vm, "--qmp", "unix:" + self.path, *options, folder + "/g.xml"], stdin=subprocess.DEVNULL)
        while not os.path.exists(self.path):
            assert self.p.poll() is None
            time.sleep(0.01)

    def kill(self):
        if self.p.poll() is None:
            self.p.kill()
            self.p.wait()

    def client(self):
        while True:
            try:
                return Client(self.path)
            except (ConnectionRefusedError, FileNotFoundError):
                assert self.p.poll() is None
                time.sleep(0.01)

    def end(self):
        status = self.p.wait(60)
        assert not os.path.exists(self.path)
        return status


def test_life(folder):
    g = Guest(folder, "--paused")
    c = g.client()
    c.refused("negotiation", "query-status")
    c.get("qmp_capabilities")
    c.refused("already", "qmp_capabilities")
    assert c.get("query-status") == {"running": False, "singlestep": False, "status": "paused"}
    c.get("cont")
    c.event("RESUME")
    assert c.get("query-status")["running"]
    assert c.get("query-version")["qemu"]["major"] == 7
    assert c.get("query-name")["name"] == 'q"1'
    assert c.get("query-uuid")["UUID"] == "11112222-3333-4444-5555-666677778888"
    cpus = c.get("query-cpus-fast")
    assert len(cpus) == 2 and os.path.exists("/proc/%d/task/%d" % (g.p.pid, cpus[1]["thread-id"])), cpus
    names = [row["name"] for row in c.get("query-commands")]
    assert "stop" in names and "query-commands" in names
    block = c.get("query-block")
    assert block[0]["device"] == "vda" and block[0]["inserted"]["image"]["virtual-size"] == 1 << 20, block
    assert c.get("query-blockstats")[0]["stats"]["rd_bytes"] == 0
    nic, = c.get("x-query-interfaces")
    assert nic["mac"] == "52:54:00:00:00:07" and nic["tx_packets"] == nic["tx_bytes"] == nic["rx_bytes"] == 0, nic
    assert c.get("query-memory-size-summary")["base-memory"] == 32 << 20
    assert c.get("query-balloon")["actual"] == 32 << 20
    c.get("balloon", value=16 << 20)
    assert c.get("x-query-balloon-stats") == {}
    c.refused("value", "balloon")
    c.refused("value", "balloon", value=-1)
    for _ in range(20):
        c.get("stop")
        c.event("STOP")
        assert not c.get("query-status")["running"]
        c.get("cont")
        c.event("RESUME")
    c.get("stop")
    c.get("stop")
    c.get("system_powerdown")
    c.event("POWERDOWN")
    c.get("system_reset")
    c.event("RESET")
    assert c.get("query-status")["running"]
    c.get("quit")
    c.event("SHUTDOWN")
    assert g.end() == 0


def test_events(folder):
    g = Guest(folder, "--paused", cmdline="triple")
    c = g.client()
    c.get("qmp_capabilities")
    c.get("cont")
    c.event("GUEST_PANICKED")
    c.event("SHUTDOWN")
    assert g.end() == 5


def test_bad_clients(folder):
    g = Guest(folder)
    good = g.client()
    good.get("qmp_capabilities")
    c = g.client()
    for text, word in ((b"x\n", "JSON"), (b"{}\n", "execute"), (b'{"execute": 1}\n', "execute"), (b'[{"execute": "quit"}]', "execute"),
                       (b'{"execute": "qmp_capabilities", "arguments": []}', "object"), (b'{"execute": "none"}', "negotiation")):
        c.send(text)
        assert word in c.answer()["error"]["desc"], text
    c.get("qmp_capabilities")
    c.refused("none", "none")
    c.refused("unexpected", "stop", now=True)
    c.send(b'{"execute": "query-name"}{"execute": "query-uuid"}\n\n{"execute":')
    assert "name" in c.answer()["return"] and "UUID" in c.answer()["return"]
    c.send(b' "query-status", "id": "\\"}{"}')
    assert c.answer()["id"] == '"}{'
    c.send(b"{" * 1000 + b"\n" + b"}" * 1000)
    assert "JSON" in c.answer()["error"]["desc"]
    for flood in (b"{" * 70000, b'{"execute": "query-commands"}' * 20000):
        bad = g.client()
        bad.get("qmp_capabilities")
        bad.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        try:
            bad.send(flood)
            while bad.f.read(65536):
                pass
        except OSError:
            pass
    many = []
    try:
        for _ in range(20):
            many.append(Client(g.path))
    except (EOFError, ConnectionError):
        pass
    assert 0 < len(many) < 10, len(many)
    assert good.get("query-status")["running"]
    good.get("quit")
    assert g.end() == 0


def test_places(folder):
    """A socket in use, a file, and a place that does not exist are refused; a socket that was left behind is not."""
    def refused(address, word):
        p = subprocess.run([lodge_vm, "--qmp", address, folder + "/g.xml"], capture_output=True, text=True, timeout=120)
        assert p.returncode == 1 and word in p.stderr and p.stderr.count("\n") == 1, (p.returncode, p.stderr)

    g = Guest(folder)
    g.client().ask("qmp_capabilities")
    refused("unix:" + g.path, "another process listens there")
    good = Client(g.path)
    good.ask("qmp_capabilities")
    assert good.get("query-status")["running"]
    g.p.kill()
    g.p.wait()
    assert os.path.exists(g.path)
    refused("unix:" + folder + "/g.xml", "a file of that name exists")
    refused("unix:/nonexistent/q", "cannot listen")
    refused("tcp:1", "is no address")
    assert os.path.exists(folder + "/g.xml")
    g = Guest(folder)
    g.client().get("qmp_capabilities")
    g.kill()


def main():
    for test in (test_life, test_events, test_bad_clients, test_places):
        with tempfile.TemporaryDirectory(prefix="lodge-qmp-") as folder:
            try:
                test(folder)
            finally:
                for g in guests:
                    g.kill()


main()
