# SPDX-License-Identifier: GPL-2.0-or-later
"""A lodged in a folder of its own, virsh in front of it, packets by hand, and programs on terminals."""
import os
import pty
import re
import select
import shutil
import socket
import struct
import subprocess
import tempfile
import time

REMOTE = 0x20008086
QEMU = 0x20008087


def until(condition, what=lambda: "", seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what()
        time.sleep(0.02)


def string(s):
    b = s.encode()
    return struct.pack(">I", len(b)) + b + b"\0" * (-len(b) % 4)


class Wire:
    """A connection without a library."""

    def __init__(self, path):
        self.s = socket.socket(socket.AF_UNIX)
        self.s.connect(path) # waits while the daemon's queue is full
        self.s.settimeout(60)
        self.serial = 0

    def packet(self, proc, body=b"", kind=0, status=0, prog=REMOTE, vers=1):
        self.s.sendall(struct.pack(">IIIiIII", 28 + len(body), prog, vers, proc, kind, self.serial, status) + body)
        self.serial += 1

    def exactly(self, n):
        data = b""
        while len(data) < n:
            part = self.s.recv(n - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def answer(self):
        """(procedure, status, body) of the next packet that is no keepalive."""
        while True:
            length, prog, _, proc, _, _, status = struct.unpack(">IIIiIII", self.exactly(28))
            body = self.exactly(length - 28)
            if prog in (REMOTE, QEMU):
                return proc, status, body

    def call(self, proc, body=b""):
        self.packet(proc, body)
        return self.answer()

    def open(self, name="qemu:///system", flags=0):
        assert self.call(1, struct.pack(">I", 1) + string(name) + struct.pack(">I", flags))[1] == 0
        return self

    def refused(self, code, proc, body=b""):
        _, status, answer = self.call(proc, body)
        assert status == 1 and struct.unpack(">i", answer[:4])[0] == code, (proc, answer)

    def closed(self):
        try:
            while self.s.recv(65536):
                pass
        except ConnectionError:
            pass
        return True


class Daemon:
    def __init__(self, lodged, root=None, options=()):
        self.options = options
        self.lodged = lodged
        self.root = root or tempfile.mkdtemp(prefix="lodged-")
        self.socket = self.root + "/run/libvirt/libvirt-sock"
        self.p = None
        self.start()

    def start(self):
        self.p = subprocess.Popen([self.lodged, "--root", self.root, *self.options], stdin=subprocess.DEVNULL)
        while not os.path.exists(self.socket) or not self.answers():
            assert self.p.poll() is None, "lodged ends with %d" % self.p.returncode
            time.sleep(0.01)

    def answers(self):
        try:
            Wire(self.socket).open().s.close()
            return True
        except OSError:
            return False

    def kill(self):
        self.p.kill()
        self.p.wait()

    def guests(self):
        """Processes that this daemon started: they hold its log open."""
        found = []
        for pid in os.listdir("/proc"):
            try:
                if pid.isdigit() and os.readlink("/proc/%s/fd/2" % pid).startswith(self.root + "/var/log/lodge/"):
                    found.append(int(pid))
            except OSError:
                pass
        return found

    def end(self):
        if self.p.poll() is None:
            self.p.terminate()
            self.p.wait()
        for pid in self.guests():
            os.kill(pid, 9)
        shutil.rmtree(self.root, ignore_errors=True)

    def uri(self, readonly=False, test=False):
        return "qemu+unix:///system?socket=%s%s%s" % (self.socket, "-ro" if readonly else "", "&name=test:///default" if test else "")

    def virsh(self, *args, status=0, readonly=False, test=False, **kwargs):
        p = subprocess.run(["virsh", "-q", *(["-r"] if readonly else []), "-c", self.uri(readonly, test), *args], capture_output=True, text=True, timeout=120,
                           stdin=kwargs.pop("stdin", subprocess.DEVNULL), **kwargs)
        assert p.returncode == status, "virsh %s: %d\n%s%s" % (" ".join(args), p.returncode, p.stdout, p.stderr)
        return (p.stdout + p.stderr).strip()

    def file(self, name, text):
        path = self.root + "/" + name
        with open(path, "w") as f:
            f.write(text)
        return path


class Terminal:
    """A program on a terminal of its own. `seconds`: that it may take to say what is waited for, unless until() is given others."""

    def __init__(self, *args, env=None, seconds=240):
        self.text = b""
        self.seconds = seconds
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvpe(args[0], args, dict(os.environ, **(env or {})))

    def until(self, pattern, seconds=None):
        end = time.monotonic() + (seconds or self.seconds)
        while not re.search(pattern, self.text):
            assert time.monotonic() < end, self.text.decode(errors="replace")
            if select.select([self.fd], [], [], 1)[0]:
                self.text += os.read(self.fd, 65536)
        self.text = self.text[re.search(pattern, self.text).end():]

    def type(self, text):
        os.write(self.fd, text)

    def wait(self):
        """Its exit status, when it ends by itself."""
        try:
            while os.read(self.fd, 65536):
                pass
        except OSError: # the terminal's end
            pass
        return self.end()

    def end(self):
        """Hangs up."""
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def domain(name, kernel, cmdline="echo", more="", devices="", memory=32):
    return """<domain type='qemu'><name>%s</name>%s<memory unit='MiB'>%d</memory><os><type machine='q35'>hvm</type><kernel>%s</kernel><cmdline>%s</cmdline></os>
<features><acpi/><apic/></features><devices><console type='pty'/>%s</devices></domain>""" % (name, more, memory, kernel, cmdline, devices)


def run_tests(tests, wanted, lodged, slow=()):
    """Runs test_… of a module's globals, all but the slow ones, or those wanted (NAME or NAME=NUMBER), each with a daemon of its own."""
    for arg in wanted or [n for n in tests if n.startswith("test_") and n not in slow]:
        name, _, number = arg.partition("=")
        d = Daemon(lodged)
        try:
            tests[name](d, *([int(number)] if number else []))
        except AssertionError:
            print("not so: " + name)
            raise
        finally:
            d.end()
