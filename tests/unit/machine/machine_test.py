#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""machine_test.py LODGE FOLDER: boots the small guests of guest.S by every protocol and with every accelerator that is here, and looks at how
they end, what they print, and what becomes of the terminal. Each line of the tables is a test."""
import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import termios
import time

from checks import check, finish

lodge, folder = sys.argv[1:3]


def accels():
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR))
        return ["softkvm", "kvm"]
    except OSError:
        return ["softkvm"]


def run(*args, **kwargs):
    return subprocess.run([lodge, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, **kwargs)


# Command line, further options, exit status, text on standard error.
ENDS = [
    ("off", [], 0, None),
    ("reset", ["--no-reboot"], 3, "before it set up"),
    ("lapic reset", ["--no-reboot"], 3, None),
    ("keyboard reset", ["--no-reboot"], 3, "before it set up"),
    ("triple", [], 5, "triple fault"),
    ("debug", ["--debug-exit"], 11, None),
    ("vanish", [], 4, "panicked"),
    ("memory hole", [], 0, None),
]


def test_ends(accel):
    for kernel in ("linux.bin", "linux32.bin", "multiboot.elf", "pvh.elf"):
        for cmdline, options, status, text in ENDS:
            what = f"{accel} {kernel} '{cmdline}'"
            p = run("run", "--accel", accel, "--kernel", f"{folder}/{kernel}", "--append", cmdline, "--memory", "32M", "--net", "none", *options)
            check(what, p.returncode == status, f"ended with {p.returncode}: {p.stderr}")
            check(what, p.stdout == f"up: {cmdline}\n", f"printed {p.stdout!r}")
            check(what, text in p.stderr if text else p.stderr == "", f"said {p.stderr!r}")


class Guest:
    """lodge on a terminal of its own."""

    def __init__(self, accel, cmdline):
        self.master, slave = pty.openpty()
        self.slave = slave
        self.before = termios.tcgetattr(slave)

        def own_terminal():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.p = subprocess.Popen([lodge, "run", "--accel", accel, "--kernel", f"{folder}/linux.bin", "--append", cmdline, "--memory", "32M", "--net", "none"],
                                  stdin=slave, stdout=slave, stderr=slave, preexec_fn=own_terminal)
        self.out = b""

    def expect(self, text):
        end = time.monotonic() + 120
        while text not in self.out and time.monotonic() < end:
            if select.select([self.master], [], [], 0.2)[0]:
                self.out += os.read(self.master, 4096)
        check(f"'{text.decode()}' appears", text in self.out, repr(self.out))

    def type(self, data):
        os.write(self.master, data)

    def end(self, what, status):
        try:
            got = self.p.wait(120)
        except subprocess.TimeoutExpired:
            self.p.kill()
            got = "nothing: it hung"
        check(what, got == status, f"ended with {got}")
        end = time.monotonic() + 120
        while termios.tcgetattr(self.slave) != self.before and time.monotonic() < end:
            time.sleep(0.02)
        check(f"{what}: the terminal is restored", termios.tcgetattr(self.slave) == self.before)
        os.close(self.master)
        os.close(self.slave)


def test_terminal(accel):
    g = Guest(accel, "echo")
    g.expect(b"up: echo")
    check("the terminal is raw", termios.tcgetattr(g.slave) != g.before)
    g.type(b"a\x03\x1a\x01\x01z")  # Ctrl-C, Ctrl-Z and a doubled Ctrl-A go to the guest
    g.expect(b"a\x03\x1a\x01z")
    g.type(b"\x01h")
    g.expect(b"Ctrl-A x")
    g.type(b"q")
    g.end("echo", 0)
    g = Guest(accel, "wait")
    g.expect(b"up: wait")
    g.type(b"\x01x")
    g.end("Ctrl-A x", 0)
    g = Guest(accel, "button")
    g.expect(b"up: button")
    g.type(b"\x01p")
    g.end("the power button", 0)
    for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        g = Guest(accel, "wait")
        g.expect(b"up: wait")
        g.p.send_signal(sig)
        g.end(f"signal {sig}", 128 + sig)
    for i in range(10):  # at any moment of a guest that starts again and again
        g = Guest(accel, "lapic reset")
        g.expect(b"up: lapic reset")
        time.sleep(i * 0.005)
        g.p.send_signal(signal.SIGTERM)
        g.end("signal 15 while it resets", 128 + signal.SIGTERM)
    for sig in (signal.SIGKILL, signal.SIGBUS, signal.SIGABRT):
        g = Guest(accel, "wait")
        g.expect(b"up: wait")
        g.p.send_signal(sig)
        g.end(f"signal {sig}", -sig)


def test_slow_reader(accel):
    """A reader that pauses loses nothing of what the guest prints, and the guest is ended all the same."""
    p = subprocess.Popen([lodge, "run", "--accel", accel, "--kernel", f"{folder}/linux.bin", "--append", "echo", "--memory", "32M", "--net", "none"],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    data = b"0123456789abcdef" * 20000
    writer = subprocess.Popen(["sh", "-c", f"head -c {len(data)} /dev/zero | tr '\\0' x; printf q"], stdout=p.stdin)
    p.stdin.close()
    time.sleep(1)
    out = p.stdout.read()
    p.stdout.close()
    check("slow reader", p.wait(120) == 0)
    writer.wait()
    check("slow reader", out == b"up: echo\n" + b"x" * len(data) + b"q", f"got {len(out)} bytes")


# Arguments, words of the one line on standard error.
REFUSALS = [
    (["rum"], ["rum", "did you mean 'lodge run'"]),
    (["run", "--memroy", "1G"], ["--memroy", "--memory"]),
    (["run", "--kernel"], ["--kernel", "lacks its value"]),
    (["run", "--no-reboot=1"], ["--no-reboot", "takes no value"]),
    (["run", "extra"], ["extra"]),
    (["run", "--kernel", "/nonexistent"], ["/nonexistent", "No such file"]),
    (["run", "--kernel", "/tmp"], ["/tmp", "not a regular file"]),
    (["run", "--kernel", "@linux.bin", "--cpus", "999"], ["guest CPUs", "--cpus"]),
    (["run", "--kernel", "@linux.bin", "--cpus", "two"], ["two", "--cpus"]),
    (["run", "--kernel", "@linux.bin", "--memory", "3T"], ["guest memory", "--memory"]),
    (["run", "--kernel", "@linux.bin", "--memory", "32M", "--initrd", "@huge"], ["huge", "does not fit", "--memory"]),
    (["run", "--kernel", "@linux.bin", "--memory", "lots"], ["lots"]),
    (["run", "--kernel", "@linux.bin", "--append", "x" * 3000], ["command line", "2047"]),
    (["run", "--kernel", "@linux.bin", "--initrd", "/nonexistent"], ["initrd", "/nonexistent"]),
    (["run", "--kernel", "@linux.bin", "--disk", "file=/nonexistent,format=raw"], ["/nonexistent"]),
    (["run", "--kernel", "@linux.bin", "--disk", "file=/x,format=qed"], ["qed", "raw", "qcow2"]),
    (["run", "--kernel", "@linux.bin", "--disk", "file=/x"], ["format=raw"]),
    (["run", "--kernel", "@linux.bin", "--disk", "format=raw"], ["names no file"]),
    (["run", "--kernel", "@linux.bin", "--accel", "xen"], ["xen", "softkvm"]),
    (["run", "--kernel", "@linux.bin", "--net", "tape"], ["tape", "user"]),
    (["run", "--kernel", "@linux.bin", "--net", "tap,bridge=nobridge0"], ["nobridge0"]),
    (["run", "--kernel", "@linux.bin", "--debugcon", "/nonexistent/file"], ["/nonexistent/file"]),
    (["run", "--kernel", "@linux.bin", "--name", "a/b"], ["name"]),
]


def test_refusals():
    with open(f"{folder}/huge", "w") as f:
        f.truncate(64 << 20)
    for args, words in REFUSALS:
        args = [a.replace("@", folder + "/") if a.startswith("@") else a for a in args]
        extra = ["--accel", "softkvm"] if "--kernel" in args and "--accel" not in args else []
        if args[-1] == "--kernel":
            extra = []
        p = run(*args, *extra)
        what = " ".join(args)[:80]
        check(what, p.returncode == 1 and p.stdout == "", f"ended with {p.returncode}: {p.stdout}")
        check(what, p.stderr.count("\n") == 1 and p.stderr.startswith("lodge: "), repr(p.stderr))
        for word in words:
            check(what, word in p.stderr, f"says {p.stderr!r} without '{word}'")


def test_no_permission():
    """Without the right to open /dev/kvm, --accel kvm says so, and auto takes softkvm."""
    if os.geteuid() != 0 or not os.path.exists("/dev/kvm") or os.stat("/dev/kvm").st_mode & 0o006:
        return
    with tempfile.TemporaryDirectory() as place:
        subprocess.run(["cp", lodge, os.path.dirname(lodge) + "/../control/lodge-vm", f"{folder}/linux.bin", place], check=True)
        os.chmod(place, 0o755)
        args = [f"{place}/lodge", "run", "--kernel", f"{place}/linux.bin", "--append", "off", "--memory", "32M"]
        common = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "timeout": 60, "user": 65534, "group": 65534, "extra_groups": []}
        p = subprocess.run([*args, "--accel", "kvm"], **common)
        check("no permission", p.returncode == 1 and "group 'kvm'" in p.stderr and p.stderr.count("\n") == 1, repr(p.stderr))
        p = subprocess.run(args, **common)
        check("no permission, auto", p.returncode == 0 and "softkvm runs this guest" in p.stderr and p.stderr.count("\n") == 1, repr(p.stderr))


def test_xml():
    """What --print-xml prints runs; a file is as good as a descriptor; its errors name the line."""
    vm = os.path.join(os.path.dirname(lodge), "..", "control", "lodge-vm")
    p = run("run", "--accel", "softkvm", "--kernel", f"{folder}/linux.bin", "--append", "off <&>'\"", "--memory", "32M", "--print-xml")
    check("--print-xml", p.returncode == 0 and "<domain type='qemu'" in p.stdout, p.stderr)
    with tempfile.NamedTemporaryFile("w", suffix=".xml") as f:
        f.write(p.stdout)
        f.flush()
        q = subprocess.run([vm, f.name], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        check("lodge-vm FILE.xml", q.returncode == 0 and q.stdout == "up: off <&>'\"\n", q.stdout + q.stderr)
        f.seek(0)
        f.write(p.stdout.replace("<devices>", "<devices><sound model='ich9'/>"))
        f.flush()
        q = subprocess.run([vm, f.name], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        check("lodge-vm, sound", q.returncode == 1 and re.search(r"line \d+: <sound>", q.stderr), q.stderr)


test_refusals()
test_no_permission()
test_xml()
for name in accels():
    test_ends(name)
    test_terminal(name)
    test_slow_reader(name)
finish()
