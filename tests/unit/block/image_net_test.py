#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""image_net_test.py LODGE [TEST...]: disks that come over a network, and those that are exported by `lodge image serve`: qemu-img, qemu-io and libnbd's
programs are the other side, and clients that break the protocol."""
import http.server
import json
import os
import random
import shutil
import socket
import struct
import subprocess
import threading

from image_common import fill, free_port, image, iscsi_target, listens, lodge, main, refused, run, serve, server, sock


# ---- the server ----

def export_reads():
    """Every format and tool reads the same bytes; the allocation is that of the image."""
    fill("raw", 6 << 20)
    image("convert", "-f", "raw", "-O", "qcow2", "raw", "q")
    for fmt, name in (("raw", "raw"), ("qcow2", "q")):
        s = sock()
        with serve(s, "-f", fmt, "--read-only", name):
            run("qemu-img", "compare", "-q", "-f", "raw", "-F", "raw", f"nbd:unix:{s}", "raw")
            info = json.loads(run("nbdinfo", "--json", f"nbd+unix:///?socket={s}"))["exports"][0]
            assert info["export-size"] == 6 << 20 and info["is_read_only"] and info["can_multi_conn"] and info["can_df"], info
            ours = [(e["offset"], e["length"], e["type"]) for e in json.loads(run("nbdinfo", "--map", "--json", f"nbd+unix:///?socket={s}"))]
            theirs = json.loads(run("qemu-img", "map", "--output=json", "-f", fmt, name))
            zero = lambda at: next(e["zero"] for e in theirs if e["start"] <= at < e["start"] + e["length"])
            assert sum(n for _, n, _ in ours) == 6 << 20 and all((t == 3) == zero(at) for at, _, t in ours), (ours, theirs)
            run("nbdcopy", f"nbd+unix:///?socket={s}", "copy")
            run("cmp", "raw", "copy")
            p = subprocess.run(["qemu-io", "-f", "raw", "-c", "write 0 64k", f"nbd:unix:{s}"], capture_output=True, text=True)
            assert p.returncode, "a read-only export was written to"


def export_writes():
    """Writes, zeroes and discards of one client are seen by the others, and stay."""
    image("create", "-f", "qcow2", "w", "8M")
    s = sock()
    with serve(s, "-f", "qcow2", "--name", "disk", "w"):
        uri = f"nbd+unix:///disk?socket={s}"
        run("qemu-io", "-f", "raw", "-c", "write -P 7 1000 3000", "-c", "write -P 8 1M 2M", "-c", "write -z 1500k 100k", "-c", "discard 2M 64k", "-c", "write -f -P 9 5M 1", uri)
        run("qemu-io", "-r", "-f", "raw", "-c", "read -P 7 1000 3000", "-c", "read -P 0 0 1000", "-c", "read -P 0 1500k 100k", "-c", "read -P 8 1M 400k", "-c", "read -P 9 5M 1",
            "-c", "read -P 0 5242881 1000", uri)
        clients = [subprocess.Popen(["qemu-io", "-f", "raw", "-c", f"write -P {n + 1} {3 + n % 4}M 256k", "-c", f"read -P {n + 1} {3 + n % 4}M 256k", uri], stdout=subprocess.DEVNULL)
                   for n in range(4)]
        assert all(c.wait(120) == 0 for c in clients)
        p = subprocess.run(["nbdinfo", f"nbd+unix:///other?socket={s}"], capture_output=True, text=True)
        assert p.returncode, "an export of another name was found"
        assert "disk" in run("nbdinfo", "--list", f"nbd+unix:///?socket={s}")
        refused("another", "check", "-f", "qcow2", "-r", "all", "w")
    run("qemu-img", "check", "-q", "w")
    run("qemu-io", "-r", "-f", "qcow2", *[x for n in range(4) for x in ("-c", f"read -P {n + 1} {3 + n}M 256k")], "w")


def export_tcp_tls():
    fill("raw", 2 << 20)
    port = free_port()
    with server(*lodge, "serve", "-q", "-f", "raw", "--read-only", "--tcp", f"localhost:{port}", "raw", ready=lambda: listens(port)):
        run("qemu-img", "compare", "-q", "-f", "raw", "-F", "raw", f"nbd://localhost:{port}", "raw")
        image("compare", "-q", "-f", "raw", "-F", "raw", f"nbd:localhost:{port}", "raw")
    with open("psk", "w") as f:
        f.write("me:" + "ab" * 32 + "\n")
    s = sock()
    with serve(s, "-f", "raw", "--read-only", "--tls-psk", "psk", "raw"):
        run("nbdcopy", f"nbds+unix://me@/?socket={s}&tls-psk-file=psk", "copy")
        run("cmp", "raw", "copy")
        p = subprocess.run(["nbdinfo", f"nbd+unix:///?socket={s}"], capture_output=True, text=True)
        assert p.returncode, "a client without TLS was served"
        with open("wrong", "w") as f:
            f.write("me:" + "cd" * 32 + "\n")
        p = subprocess.run(["nbdinfo", f"nbds+unix://me@/?socket={s}&tls-psk-file=wrong"], capture_output=True, text=True)
        assert p.returncode, "a client with another key was served"
        os.makedirs("keys", exist_ok=True)
        shutil.copy("psk", "keys/keys.psk")
        run("qemu-img", "convert", "-O", "raw", "--object", f"tls-creds-psk,id=t,endpoint=client,dir={os.getcwd()}/keys,username=me", "--image-opts",
            f"driver=nbd,server.type=unix,server.path={s},tls-creds=t", "copy")
        run("cmp", "raw", "copy")
    certificates()
    s = sock()
    with serve(s, "-f", "raw", "--read-only", "--tls-certificates", "pki", "raw"):
        run("nbdcopy", f"nbds+unix:///?socket={s}&tls-certificates={os.getcwd()}/client&tls-verify-peer=false", "copy")
        run("cmp", "raw", "copy")
        p = subprocess.run(["nbdinfo", f"nbds+unix:///?socket={s}&tls-verify-peer=false"], capture_output=True, text=True)
        assert p.returncode, "a client without a certificate was served"
    refused("certtool", "serve", "-f", "raw", "--socket", "x", "--tls-certificates", "nowhere", "raw")


def certificates():
    os.makedirs("pki", exist_ok=True)
    os.makedirs("client", exist_ok=True)
    for name, template in (("ca", "cn=ca\nca\ncert_signing_key\n"), ("server", "cn=localhost\ndns_name=localhost\ntls_www_server\nencryption_key\nsigning_key\n"),
                           ("client", "cn=client\ntls_www_client\nencryption_key\nsigning_key\n")):
        with open("template", "w") as f:
            f.write(template)
        run("certtool", "--generate-privkey", "--key-type=ecdsa", "--outfile", f"pki/{name}-key.pem")
        sign = ["--generate-self-signed"] if name == "ca" else ["--generate-certificate", "--load-ca-certificate", "pki/ca-cert.pem", "--load-ca-privkey", "pki/ca-key.pem"]
        run("certtool", *sign, "--load-privkey", f"pki/{name}-key.pem", "--template", "template", "--outfile", f"pki/{name}-cert.pem")
    for name in ("ca-cert.pem", "client-cert.pem", "client-key.pem"):
        shutil.copy("pki/" + name, "client")


# ---- clients that break the protocol ----

class Client:
    def __init__(self, path):
        self.s = socket.socket(socket.AF_UNIX)
        self.s.settimeout(60)
        self.s.connect(path)

    def get(self, n):
        out = b""
        while len(out) < n:
            part = self.s.recv(n - len(out))
            if not part:
                raise EOFError
            out += part
        return out

    def hello(self):
        assert self.get(18)[:8] == b"NBDMAGIC"
        self.s.sendall(struct.pack(">I", 3))

    def option(self, number, data):
        self.s.sendall(struct.pack(">8sII", b"IHAVEOPT", number, len(data)) + data)

    def reply(self):
        magic, option, kind, n = struct.unpack(">QIII", self.get(20))
        return kind, self.get(n)

    def go(self):
        self.hello()
        self.option(8, b"")
        self.reply()
        self.option(7, struct.pack(">IH", 0, 0))
        while self.reply()[0] != 1:
            pass

    def command(self, kind, offset, length, data=b"", flags=0):
        self.s.sendall(struct.pack(">IHHQQI", 0x25609513, flags, kind, 7, offset, length) + data)

    def error(self):
        """The error number of a structured answer, 0 for success."""
        _, _, kind, _, n = struct.unpack(">IHHQI", self.get(20))
        data = self.get(n)
        return struct.unpack(">I", data[:4])[0] if kind == 32769 else 0


def hostile_clients():
    """Nothing that a client sends ends the server or reaches behind the disk."""
    fill("raw", 1 << 20)
    s = sock()
    r = random.Random(11)
    with serve(s, "-f", "raw", "raw") as p:
        c = Client(s)
        c.go()
        for kind, offset, length, want in ((0, 1 << 20, 1, 22), (0, (1 << 64) - 512, 1024, 22), (0, 0, (1 << 32) - 1, 22), (1, (1 << 20) - 1, 2, 28), (4, 1 << 40, 512, 28),
                                           (6, 0, (1 << 32) - 1, 28), (7, 0, 0, 22), (7, 0, 512, 22), (99, 0, 0, 22), (5, 0, 512, 22)):
            c.command(kind, offset, length, b"x" * length if kind == 1 else b"")
            got = c.error()
            assert got == want, (kind, offset, length, got, want)
        c.command(1, 0, 1 << 30)  # a write that nobody could hold: the connection ends
        try:
            c.get(1)
            assert False
        except (EOFError, ConnectionError):
            pass
        c = Client(s)
        c.hello()
        for number, data in ((7, b""), (7, struct.pack(">I", 0xffffffff)), (7, struct.pack(">IHH", 0, 9, 0)), (6, struct.pack(">I5sH", 5, b"other", 0)), (3, b"x"),
                             (10, struct.pack(">IIII", 0, 0, 1, 4)), (77, b"abc"), (5, b""), (10, struct.pack(">II", 0xfffffff0, 1)), (6, b"x" * 20000)):
            c.option(number, data)
            kind, _ = c.reply()
            assert kind >> 31, (number, data, kind)
        c.option(8, b"")
        assert c.reply()[0] == 1
        for data in (struct.pack(">III", 0, 1, 0xffffffff), struct.pack(">II", 0, 1), struct.pack(">IIIB", 0, 0xffffffff, 1, 65)):
            c.option(10, data)
            kind, _ = c.reply()
            assert kind >> 31, (data, kind)
        for n in range(60):  # noise at each stage; half of the connections end in the middle
            c = Client(s)
            if r.random() < 0.7:
                c.hello()
            if r.random() < 0.5:
                c.option(r.choice((1, 3, 6, 7, 8, 9, 10)), r.randbytes(r.randrange(40)))
            try:
                c.s.sendall(r.randbytes(r.randrange(400)))
            except OSError:
                pass
            c.s.close()
        pending = Client(s)  # answers that nobody fetches
        pending.go()
        for n in range(40):
            pending.command(0, 0, 1 << 20)
        pending.s.close()
        assert p.poll() is None
        run("qemu-img", "compare", "-q", "-f", "raw", "-F", "raw", f"nbd:unix:{s}", "raw")


# ---- clients of servers ----

def nbd_client():
    """Lodge reads and writes what qemu-nbd exports."""
    fill("raw", 4 << 20)
    run("qemu-img", "create", "-q", "-f", "raw", "t", "4M")
    s = sock()
    with server("qemu-nbd", "-t", "-e", "4", "--discard=unmap", "-f", "raw", "-k", s, "t", ready=s):
        info = json.loads(image("info", "--json", "-f", "raw", f"nbd:unix:{s}"))
        assert info["virtual-size"] == 4 << 20, info
        relay = sock("relay.sock")
        with serve(relay, "-f", "raw", f"nbd+unix:///?socket={s}"):
            run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", "raw", f"nbd:unix:{relay}")
            run("qemu-io", "-f", "raw", "-c", "write -z 1M 64k", "-c", "discard 3M 64k", "-c", "read -P 0 1M 64k", f"nbd:unix:{relay}")
        image("convert", "-f", "raw", "-O", "raw", f"nbd:unix:{s}", "back")
        refused("check that the server runs", "info", "-f", "raw", "nbd:unix:/nonexistent")
        fill("other", 3 << 20, 2)
        image("convert", "-f", "raw", "-O", "raw", "raw", f"nbd:unix:{s}")
        image("convert", "-f", "raw", "-O", "raw", "other", f"nbd:unix:{s}")  # zeroes among them replace what was there
        image("dd", "-f", "raw", "-O", "raw", "if=other", f"of=nbd:unix:{s}", "bs=1M", "count=1")
        image("convert", "-f", "raw", "-O", "raw", f"nbd:unix:{s}", "written")
        image("create", "-f", "raw", "large", "5M")
        refused("which it keeps", "convert", "-f", "raw", "-O", "raw", "large", f"nbd:unix:{s}")
        refused("which it keeps", "create", "-f", "raw", "-o", "preallocation=falloc", f"nbd:unix:{s}", "1M")
        refused("keeps its size", "resize", "-f", "raw", f"nbd:unix:{s}", "5M")
        refused("no new image of format qcow2", "convert", "-f", "raw", "-O", "qcow2", "raw", f"nbd:unix:{s}")
    run("cmp", "raw", "back")
    with open("written", "rb") as f, open("other", "rb") as other, open("raw", "rb") as raw:
        assert f.read() == other.read() + raw.read()[3 << 20:]
    # a qcow2 image within an export, with its refcounts and tables there
    run("qemu-img", "create", "-q", "-f", "qcow2", "q", "16M")
    run("truncate", "-s", "20M", "q")
    with server("qemu-nbd", "-t", "-e", "4", "-f", "raw", "-k", s, "q", ready=s):
        with serve(relay, "-f", "qcow2", f"nbd:unix:{s}"):
            run("qemu-io", "-f", "raw", "-c", "write -P 5 1M 3M", f"nbd:unix:{relay}")
    run("qemu-img", "check", "-q", "-r", "leaks", "-f", "qcow2", "q")
    run("qemu-io", "-r", "-f", "qcow2", "-c", "read -P 5 1M 3M", "q")


class Ranges(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    ranges = True

    def log_message(self, *args):
        pass

    def head(self):
        with open(self.path[1:], "rb") as f:
            data = f.read()
        want = self.headers.get("Range")
        if want and Ranges.ranges:
            first, last = (int(x) for x in want.removeprefix("bytes=").split("-"))
            data = data[first:last + 1]
            self.send_response(206)
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        return data

    def do_HEAD(self):
        self.head()

    def do_GET(self):
        try:
            self.wfile.write(self.head())
        except OSError:
            pass


def http_client():
    fill("raw", 3 << 20)
    image("convert", "-c", "-f", "raw", "-O", "qcow2", "raw", "q")
    web = http.server.ThreadingHTTPServer(("localhost", 0), Ranges)
    web.handle_error = lambda *args: None  # clients that hang up
    threading.Thread(target=web.serve_forever, daemon=True).start()
    url = f"http://localhost:{web.server_port}/"
    image("compare", "-q", "-f", "qcow2", "-F", "raw", url + "q", "raw")
    image("convert", "-f", "raw", "-O", "raw", url + "raw", "back")
    run("cmp", "raw", "back")
    refused("readonly", "resize", "-f", "raw", url + "raw", "5M")
    refused("cannot be fetched", "info", "-f", "raw", f"http://localhost:{free_port()}/x")
    Ranges.ranges = False
    refused("ranges", "info", "-f", "raw", url + "raw")
    Ranges.ranges = True
    # a name in an image's header never makes Lodge talk to a server
    run("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", url + "raw", "-F", "raw", "over", "3M")
    refused("not a local file", "map", "-f", "qcow2", "over")
    web.shutdown()


def iscsi_client():
    """tgtd is the target."""
    if not shutil.which("tgtd"):
        print("   (tgt is not installed)")
        return
    fill("raw", 3 << 20)
    shutil.copy("raw", "lun")
    name = "iqn.2026-11.test:disk"
    with iscsi_target(name, "lun") as (_, port):
        url = f"iscsi://127.0.0.1:{port}/{name}/1"
        image("compare", "-q", "-f", "raw", "-F", "raw", url, "raw")
        s = sock()
        with serve(s, "-f", "raw", url):
            run("qemu-io", "-f", "raw", "-c", "write -P 3 100 5000", "-c", "write -P 4 1M 1500k", "-c", "write -z 2M 64k", "-c", "flush", "-c", "read -P 3 100 5000", f"nbd:unix:{s}")
        refused("cannot connect", "info", "-f", "raw", f"iscsi://127.0.0.1:{port}/iqn.none/1")
        refused("LIBISCSI_CHAP_PASSWORD", "info", "-f", "raw", f"iscsi://me%secret@127.0.0.1:{port}/{name}/1")
    run("qemu-io", "-r", "-f", "raw", "-c", "read -P 3 100 5000", "-c", "read -P 4 1M 1M", "-c", "read -P 0 2M 64k", "-c", "read -P 4 2162688 400k", "lun")


main(export_reads, export_writes, export_tcp_tls, hostile_clients, nbd_client, http_client, iscsi_client)
