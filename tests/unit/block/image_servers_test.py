#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""image_servers_test.py LODGE [TEST...]: disks on servers with many requests under way: servers that answer in another order, hang up in the middle, do not
answer at all, or want whole blocks. NBD and web servers are made here; iSCSI's is tgtd, behind a relay that holds answers back."""
import http.server
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import threading

from image_common import fill, image, iscsi_target, lodge, main, run, serve, sock

WAIT = 120  # seconds: nothing here takes that long, whatever else the machine does
PATIENCE = "10"  # seconds that a silent server is given: a live one must answer within it, on a loaded machine too
READ, WRITE, DISC, FLUSH, TRIM, ZERO = 0, 1, 2, 3, 4, 6


class Nbd:
    """An NBD server for the file `path`. `plan(self, requests)` is given those that have come, (kind, handle, offset, data or length), and answers them."""

    def __init__(self, path, plan, block=1):
        self.data = bytearray(open(path, "rb").read())
        self.plan, self.block = plan, block
        self.name = sock("fake.sock")
        self.most, self.seen, self.unaligned = 0, [], False
        self.s = socket.socket(socket.AF_UNIX)
        self.s.bind(self.name)
        self.s.listen(16)
        threading.Thread(target=self.accept, daemon=True).start()
        self.uri = f"nbd+unix:///?socket={self.name}"

    def accept(self):
        while True:
            try:
                self.c, _ = self.s.accept()
            except OSError:
                return
            try:
                self.hello()
                self.serve()
            except (OSError, EOFError):
                pass
            self.c.close()

    def close(self):
        self.s.shutdown(socket.SHUT_RDWR)
        self.s.close()

    def get(self, n):
        out = b""
        while len(out) < n:
            part = self.c.recv(n - len(out))
            if not part:
                raise EOFError
            out += part
        return out

    def reply(self, option, kind, data=b""):
        self.c.sendall(struct.pack(">QIII", 0x3e889045565a9, option, kind, len(data)) + data)

    def hello(self):
        self.c.sendall(b"NBDMAGICIHAVEOPT" + struct.pack(">H", 3))
        self.get(4)
        while True:
            _, option, n = struct.unpack(">QII", self.get(16))
            self.get(n)
            if option != 7:
                self.reply(option, 0x80000001)
                continue
            self.reply(7, 3, struct.pack(">HQH", 0, len(self.data), 1 | 4 | 64))
            self.reply(7, 3, struct.pack(">HIII", 3, self.block, 4096, 32 << 20))
            self.reply(7, 1)
            return

    def request(self):
        _, _, kind, handle, offset, length = struct.unpack(">IHHQQI", self.get(28))
        if kind == DISC:
            raise EOFError
        self.unaligned |= bool(offset % self.block or length % self.block)
        r = (kind, handle, offset, self.get(length) if kind == WRITE else length)
        self.seen.append(r)
        return r

    def more(self):
        """Has the client sent something else already?"""
        self.c.setblocking(False)
        try:
            return bool(self.c.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return False
        finally:
            self.c.setblocking(True)

    def serve(self):
        while True:
            batch = [self.request()]
            while self.more():
                batch.append(self.request())
            self.most = max(self.most, len(batch))
            self.plan(self, batch)

    def answer(self, r, error=0):
        kind, handle, offset, data = r
        out = b""
        if not error and kind == READ:
            out = bytes(self.data[offset:offset + data])
        elif not error and kind == WRITE:
            self.data[offset:offset + len(data)] = data
        elif not error and kind == ZERO:
            self.data[offset:offset + data] = bytes(data)
        self.c.sendall(struct.pack(">IIQ", 0x67446698, error, handle) + out)


def fails(words, *args, env=None):
    """The command ends by itself, with status 1 and these words in what it says."""
    p = subprocess.run([*lodge, *args], capture_output=True, text=True, timeout=WAIT, env={**os.environ, **(env or {})})
    assert p.returncode == 1 and all(w in p.stderr for w in words), (args, words, p)


def nbd_other_order():
    """The first answers come when four reads have, last one first; from then on those that are there are answered in any order."""
    fill("raw", 32 << 20)
    r = random.Random(3)
    held = []
    def plan(s, batch):
        held.extend(batch)
        if len(s.seen) < 4:
            return
        if len(s.seen) > 8:
            r.shuffle(held)
        else:
            held.reverse()
        for q in held:
            s.answer(q)
        held.clear()
    s = Nbd("raw", plan)
    image("convert", "-f", "raw", "-O", "raw", s.uri, "back")
    run("cmp", "raw", "back")
    assert len(s.seen) >= 16
    s.close()


def nbd_writes():
    """Writes and flushes of many requests at a time, answered in any order; an error belongs to its own request and ends nothing else."""
    fill("raw", 4 << 20)
    r = random.Random(5)
    def plan(s, batch):
        r.shuffle(batch)
        for q in batch:
            s.answer(q, 28 if q[0] == WRITE and q[2] >= 3 << 20 else 0)
    s = Nbd("raw", plan)
    relay = sock("relay.sock")
    with serve(relay, "-f", "raw", s.uri):
        cmds = [x for n in range(40) for x in ("-c", f"aio_write -q -P {n + 1} {n * 50000} 50000")] + ["-c", "aio_flush"]
        run("qemu-io", "-f", "raw", *cmds, *[x for n in range(40) for x in ("-c", f"read -P {n + 1} {n * 50000} 50000")], f"nbd:unix:{relay}")
        p = subprocess.run(["qemu-io", "-f", "raw", "-c", "write 3M 64k", "-c", "read -P 1 0 50000", f"nbd:unix:{relay}"], capture_output=True, text=True, timeout=WAIT)
        assert "No space left" in p.stdout + p.stderr and "read 50000/50000" in p.stdout, p
    assert any(q[0] == FLUSH for q in s.seen)
    s.close()


def nbd_blocks():
    """A server that takes whole blocks of 4096 bytes only: what writers of other bytes of the same block write stays."""
    fill("raw", 1 << 20)
    want = bytearray(open("raw", "rb").read())
    r = random.Random(7)
    def plan(s, batch):
        r.shuffle(batch)
        for q in batch:
            s.answer(q, 22 if q[2] % 4096 or (q[0] != FLUSH and (len(q[3]) if q[0] == WRITE else q[3]) % 4096) else 0)
    s = Nbd("raw", plan, block=4096)
    relay = sock("relay.sock")
    args = []
    for _ in range(20):  # twelve at a time that do not overlap
        group = []
        while len(group) < 12:
            at, size = 512 * r.randrange(96), 512 * r.choice((1, 1, 2, 3, 8, 9, 16))
            if all(at + size <= a or a + n <= at for a, n in group):
                group.append((at, size))
                byte = r.randrange(1, 256)
                want[at:at + size] = bytes([byte]) * size
                args += ["-c", f"aio_write -q -P {byte} {at} {size}"]
        args += ["-c", "aio_flush"]
    with serve(relay, "-f", "raw", s.uri):
        run("qemu-io", "-f", "raw", *args, f"nbd:unix:{relay}")
    assert not s.unaligned and bytes(s.data) == bytes(want)
    s.close()


def nbd_hangs_up():
    """Before, within and behind an answer: what is under way fails, and the command ends and says so."""
    fill("raw", 32 << 20)
    for how in ("before", "within", "behind"):
        def plan(s, batch):
            for q in batch:
                if len(s.seen) < 4:
                    s.answer(q)
                    continue
                if how == "within":
                    s.c.sendall(struct.pack(">IIQ", 0x67446698, 0, q[1]) + b"x" * 1000)
                elif how == "behind":
                    s.answer(q)
                s.c.shutdown(socket.SHUT_RDWR)
                raise EOFError
        s = Nbd("raw", plan)
        fails(("is gone", "cannot be copied"), "convert", "-f", "raw", "-O", "raw", s.uri, "back")
        s.close()


def nbd_does_not_answer():
    """With requests under way, and at the handshake."""
    fill("raw", 8 << 20)
    short = {"LODGE_SERVER_TIMEOUT": PATIENCE}
    s = Nbd("raw", lambda s, batch: [s.answer(q) for q in batch if len(s.seen) < 3])
    fails(("does not answer any more", "cannot be copied"), "convert", "-f", "raw", "-O", "raw", s.uri, "back", env=short)
    s.close()
    path = os.path.abspath("deaf.sock")
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(path)
        deaf.listen(4)
        fails(("does not answer", "check that the server runs"), "info", "-f", "raw", f"nbd:unix:{path}", env=short)


# ---- web servers ----

class Web(http.server.BaseHTTPRequestHandler):
    """What it is to do is in the server: `hold` the first GETs until two have come, `cut` so many answers in the middle, be `deaf` from the second on."""
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.data)))
        self.end_headers()

    def do_GET(self):
        s = self.server
        first, last = (int(x) for x in self.headers["Range"].removeprefix("bytes=").split("-"))
        data = s.data[first:last + 1]
        with s.lock:
            s.gets += 1
            large = len(data) > 1
            s.now += large
            s.most = max(s.most, s.now)
            if s.now >= 2:
                s.two.set()
            cut = large and s.cut > 0
            s.cut -= cut
        if s.deaf and large:
            s.over.wait(WAIT)
        if s.hold and large:
            s.two.wait(WAIT)
        try:
            self.send_response(206)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[:len(data) // 2] if cut else data)
            self.close_connection = cut
        except OSError:
            self.close_connection = True
        with s.lock:
            s.now -= large


def web(path, hold=False, cut=0, deaf=False):
    s = http.server.ThreadingHTTPServer(("localhost", 0), Web)
    s.handle_error = lambda *args: None
    s.data = open(path, "rb").read()
    s.lock, s.two, s.over = threading.Lock(), threading.Event(), threading.Event()
    s.gets = s.now = s.most = 0
    s.hold, s.cut, s.deaf = hold, cut, deaf
    threading.Thread(target=s.serve_forever, daemon=True).start()
    s.url = f"http://localhost:{s.server_port}/disk"
    return s


def http_many():
    """No answer comes before a second window is asked for; small reads side by side share a window."""
    fill("raw", 12 << 20)
    s = web("raw", hold=True)
    image("convert", "-f", "raw", "-O", "raw", s.url, "back")
    run("cmp", "raw", "back")
    assert 2 <= s.most <= 6, s.most
    s.shutdown()
    image("convert", "-f", "raw", "-O", "qcow2", "-o", "cluster_size=4k", "raw", "q")
    s = web("q")
    image("compare", "-q", "-f", "qcow2", "-F", "raw", s.url, "raw")
    assert s.gets < 200, s.gets
    s.shutdown()


def http_breaks():
    """An answer that ends in the middle is asked for again; a server that always does so, or says nothing, is an error."""
    fill("raw", 4 << 20)
    s = web("raw", cut=2)
    image("convert", "-f", "raw", "-O", "raw", s.url, "back")
    run("cmp", "raw", "back")
    s.cut = 1 << 30
    fails(("cannot be copied",), "convert", "-f", "raw", "-O", "raw", s.url, "back")
    s.cut, s.deaf = 0, True
    fails(("cannot be copied", "timed out"), "convert", "-f", "raw", "-O", "raw", s.url, "back", env={"LODGE_SERVER_TIMEOUT": PATIENCE})
    s.over.set()
    s.shutdown()


# ---- iSCSI ----

class Holding:
    """Passes iSCSI on, and holds the target's answers back from the first READ(16) on until `want` of them have been sent."""

    def __init__(self, port, want):
        self.want, self.reads, self.enough = want, 0, threading.Event()
        self.s = socket.socket()
        self.s.bind(("127.0.0.1", 0))
        self.s.listen(4)
        self.target, self.port = port, self.s.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.s.accept()
            except OSError:
                return
            target = socket.create_connection(("127.0.0.1", self.target))
            threading.Thread(target=self.up, args=(client, target), daemon=True).start()
            threading.Thread(target=self.down, args=(target, client), daemon=True).start()

    def up(self, client, target):
        f = client.makefile("rb")
        while len(head := f.read(48)) == 48:
            rest = head[4] * 4 + (int.from_bytes(head[5:8], "big") + 3) // 4 * 4
            if head[0] & 0x3f == 1 and head[32] == 0x88:
                self.reads += 1
            if self.reads >= self.want:
                self.enough.set()
            target.sendall(head + f.read(rest))
        target.close()

    def down(self, target, client):
        try:
            while data := target.recv(1 << 16):
                if self.reads and not self.enough.wait(WAIT):
                    break
                client.sendall(data)
        except OSError:
            pass
        client.close()


def iscsi():
    if not shutil.which("tgtd"):
        print("   (tgt is not installed)")
        return
    fill("raw", 16 << 20)
    shutil.copy("raw", "lun")
    name = "iqn.2026-11.test:many"
    relay = sock("relay.sock")
    with iscsi_target(name, "lun", "--blocksize", "4096") as (tgtd, port):
        url = f"iscsi://127.0.0.1:{port}/{name}/1"
        holding = Holding(port, 4)
        image("convert", "-f", "raw", "-O", "raw", f"iscsi://127.0.0.1:{holding.port}/{name}/1", "back")
        run("cmp", "raw", "back")
        assert holding.reads >= 16, holding.reads
        holding.s.close()
        with serve(relay, "-f", "raw", url):
            # writers of parts of the same blocks, all at the same time
            cmds = [x for n in range(64) for x in ("-c", f"aio_write -q -P {n + 1} {n * 1536} 1536")] + ["-c", "aio_flush"]
            run("qemu-io", "-f", "raw", *cmds, *[x for n in range(64) for x in ("-c", f"read -P {n + 1} {n * 1536} 1536")], f"nbd:unix:{relay}")
        with serve(relay, "-f", "raw", url, env={**os.environ, "LODGE_SERVER_TIMEOUT": PATIENCE}) as p:
            try:
                stopped(relay, tgtd)
                assert p.poll() is None
            finally:
                tgtd.send_signal(signal.SIGCONT)


def stopped(relay, tgtd):
    """A target that does not answer: what is under way fails, and what comes later does."""
    run("qemu-io", "-f", "raw", "-c", "read 1M 64k", f"nbd:unix:{relay}")
    tgtd.send_signal(signal.SIGSTOP)
    for at in ("2M", "3M"):
        got = subprocess.run(["qemu-io", "-f", "raw", "-c", f"read {at} 64k", f"nbd:unix:{relay}"], capture_output=True, text=True, timeout=WAIT)
        assert "read failed" in got.stdout + got.stderr, got


main(nbd_other_order, nbd_writes, nbd_blocks, nbd_hangs_up, nbd_does_not_answer, http_many, http_breaks, iscsi)
