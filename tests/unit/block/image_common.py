# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests of `lodge image` share: commands that must succeed, random data, servers that end with the test."""
import contextlib
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
import traceback

lodge = [os.path.abspath(sys.argv[1]), "image"]


def attempt(*cmd, **kw):
    """Runs it; qemu-img now and then fails to measure its own speed for LUKS, and is asked again."""
    for _ in range(50):
        p = subprocess.run(cmd, capture_output=True, text=True, **kw)
        if "Unable to get accurate CPU usage" not in p.stderr:
            break
    return p


def run(*cmd, status=0, **kw):
    p = attempt(*cmd, **kw)
    if p.returncode != status:
        raise AssertionError(f"{' '.join(cmd)}: status {p.returncode}: {p.stdout}{p.stderr}")
    return p.stdout


def image(*args, status=0):
    return run(*lodge, *args, status=status)


def refused(words, *args, status=1):
    """The command fails with one line that has these words."""
    p = subprocess.run([*lodge, *args], capture_output=True, text=True, timeout=120)
    assert p.returncode == status and words in p.stderr and p.stderr.count("\n") == 1, (args, words, p)


def fill(path, size, seed=1):
    """Pieces of random and of repeated bytes, holes between them."""
    r = random.Random(seed)
    with open(path, "wb") as f:
        f.truncate(size)
        for _ in range(14):
            f.seek(r.randrange(size // 512) * 512)
            n = min(r.choice((512, 4096, 70000, 400000)), size - f.tell())
            f.write(r.randbytes(n) if r.random() < 0.5 else bytes([r.randrange(256)]) * n)


def same(name, fmt, raw="raw", qemu=True, secret=()):
    """Both tools read the image as the raw file."""
    image("compare", "-q", *secret, "-f", fmt, "-F", "raw", name, raw)
    if qemu:
        run("qemu-img", "compare", "-q", "-f", {"vhd": "vpc"}.get(fmt, fmt), "-F", "raw", name, raw)


def listening(path):
    """Does a server listen at this socket? Connecting would be a client that it counts."""
    with open("/proc/net/unix") as f:
        return any(line.split()[3] == "00010000" and line.split()[-1] == path for line in f if "/" in line or path in line)


@contextlib.contextmanager
def server(*cmd, ready=None, env=None):
    """Runs a command until the block ends; `ready` is a socket or a function that says so."""
    p = subprocess.Popen(cmd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=env)
    try:
        end = time.monotonic() + 120
        while not (ready() if callable(ready) else listening(ready)):
            if p.poll() is not None:
                raise AssertionError(f"{cmd}: ended with {p.returncode}: {p.stderr.read()}")
            assert time.monotonic() < end, f"{cmd}: does not listen"
            time.sleep(0.05)
        yield p
    finally:
        p.terminate()
        try:
            p.wait(60)
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait(60)
        p.stderr.close()


def free_port():
    """Below those that the kernel gives to connections, so that none of them takes it before the server does."""
    while True:
        port = random.randrange(10000, 30000)
        with socket.socket() as s:
            try:
                s.bind(("localhost", port))
                return port
            except OSError:
                pass


def listens(port):
    with socket.socket() as c:
        return c.connect_ex(("127.0.0.1", port)) == 0


def sock(name="s.sock"):
    path = os.path.abspath(name)
    if os.path.exists(path):
        os.unlink(path)
    return path


def serve(path, *args, env=None):
    return server(*lodge, "serve", "-q", "--socket", path, *args, ready=path, env=env)


@contextlib.contextmanager
def iscsi_target(name, lun, *options):
    """tgtd, which needs a port and a control socket of its own, with the file `lun`: its process, and its port."""
    port, control = free_port(), str(random.randrange(1000, 30000))
    admin = lambda *a: run("tgtadm", "-C", control, "--lld", "iscsi", *a)
    with server("tgtd", "-f", "-C", control, "--iscsi", f"portal=127.0.0.1:{port}", ready=lambda: listens(port)) as p:
        try:
            admin("--op", "new", "--mode", "target", "--tid", "1", "-T", name)
            admin("--op", "new", "--mode", "logicalunit", "--tid", "1", "--lun", "1", *options, "-b", os.path.abspath(lun))
            admin("--op", "bind", "--mode", "target", "--tid", "1", "-I", "ALL")
            yield p, port
        finally:
            p.kill()  # it takes no notice of SIGTERM


def main(*tests):
    """Runs the tests in a folder of their own; arguments behind the program's choose some by name."""
    for need in ("qemu-img", "qemu-io"):
        if subprocess.run(["which", need], capture_output=True).returncode:
            print(f"skipped: {need} is not installed")
            sys.exit(77)
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for test in tests:
            if sys.argv[2:] and test.__name__ not in sys.argv[2:]:
                continue
            try:
                test()
                print(f"ok {test.__name__}")
            except Exception:
                failed += 1
                print(f"FAILED {test.__name__}: {traceback.format_exc()}")
        os.chdir("/")
    sys.exit(1 if failed else 0)
