#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""image_luks_test.py LODGE [TEST...]: encrypted images, over raw and within qcow2: made by one tool and read by the other; passphrases; headers that lie."""
import os
import random
import struct
import subprocess

from image_common import attempt, fill, image, lodge, main, refused, run, server

SIZE = 5 << 20
QUICK = "iter-time=10"


def opts(fmt, name, secret="key"):
    """qemu-img's notation."""
    o = f"driver={fmt},file.filename={name}," + ("key-secret=s" if fmt == "luks" else "encrypt.key-secret=s")
    return ["--object", f"secret,id=s,file={secret}", "--image-opts", o]


def qemu_same(fmt, name, raw="raw", secret="key"):
    run("qemu-img", "convert", *opts(fmt, name, secret), "-O", "raw", "flat")
    run("cmp", raw, "flat")


def lodge_same(fmt, name, raw="raw", secret="key"):
    image("compare", "-q", "--secret-file", secret, "-f", fmt, "-F", "raw", name, raw)


def keys():
    for name, text in (("key", b"a passphrase"), ("other", b"another\n"), ("wrong", b"a passphrase\n"), ("empty", b"")):
        with open(name, "wb") as f:
            f.write(text)


def prefix(fmt, o):
    return ",".join(("encrypt." if fmt == "qcow2" else "") + x for x in o.split(","))


def both_ways():
    keys()
    fill("raw", SIZE, 1)
    for o in ("cipher-alg=aes-256", "cipher-alg=aes-128", "cipher-alg=aes-256,cipher-mode=cbc,ivgen-alg=plain64", "cipher-alg=aes-256,cipher-mode=cbc,ivgen-alg=essiv,hash-alg=sha512",
              "cipher-alg=serpent-256", "cipher-alg=twofish-128,cipher-mode=cbc,ivgen-alg=plain,hash-alg=sha1"):
        for fmt in ("luks", "qcow2"):
            more = "encrypt.format=luks," if fmt == "qcow2" else ""
            image("convert", "--new-secret-file", "key", "-f", "raw", "-O", fmt, "-o", more + prefix(fmt, o + "," + QUICK), "raw", "ours")
            lodge_same(fmt, "ours")
            qemu_same(fmt, "ours")
            theirs = o + (",ivgen-hash-alg=sha256" if "essiv" in o else "")
            p = attempt("qemu-img", "convert", "--object", "secret,id=s,file=key", "-f", "raw", "-O", fmt, "-o", more + prefix(fmt, "key-secret=s," + theirs + "," + QUICK), "raw", "theirs")
            if p.returncode:  # Debian's QEMU has not each of them
                assert "not supported" in p.stderr or "unavailable" in p.stderr, p.stderr
                continue
            lodge_same(fmt, "theirs")
        image("check", "-f", "qcow2", "ours")
        run("qemu-img", "check", "-q", *opts("qcow2", "ours"))


def changed():
    """Writes of all kinds through either, overlays, snapshots, sizes, preallocation."""
    keys()
    r = random.Random(3)
    for fmt, o in (("luks", QUICK), ("qcow2", prefix("qcow2", "format=luks," + QUICK)), ("qcow2", "cluster_size=4096," + prefix("qcow2", "format=luks," + QUICK)),
                   ("qcow2", "extended_l2=on," + prefix("qcow2", "format=luks," + QUICK)), ("qcow2", "preallocation=metadata," + prefix("qcow2", "format=luks," + QUICK)),
                   ("qcow2", "preallocation=full,cluster_size=64k," + prefix("qcow2", "format=luks," + QUICK)), ("qcow2", "compat=0.10," + prefix("qcow2", "format=luks," + QUICK))):
        image("create", "--secret-file", "key", "-f", fmt, "-o", o, "i", str(SIZE))
        run("qemu-img", "create", "-q", "-f", "raw", "raw", str(SIZE))
        if fmt == "luks":  # what was not written is noise
            image("convert", "--new-secret-file", "key", "-f", "raw", "-O", fmt, "-o", o, "raw", "i")
        lodge_same(fmt, "i")
        for tool in ("lodge", "qemu"):
            args = []
            for _ in range(20):
                at = r.randrange(SIZE // 512 - 1)
                n = min(r.choice((1, 3, 130, 2000)), SIZE // 512 - at)
                args += ["-c", f"write {r.choice(('-P 1', '-P 77', '-P 200', '-z'))} {at * 512} {n * 512}"]
            run("qemu-io", "-f", "raw", *args, "raw")
            if os.path.exists("s"):
                os.unlink("s")
            if tool == "lodge":
                with server(*lodge, "serve", "-q", "--secret-file", "key", "-f", fmt, "--socket", "s", "i", ready="s"):
                    run("qemu-io", "-f", "raw", *args, f"nbd:unix:{os.getcwd()}/s")
            else:
                run("qemu-io", "--object", "secret,id=s,file=key", *args, "--image-opts", opts(fmt, "i")[-1])
            lodge_same(fmt, "i")
            qemu_same(fmt, "i")
        if fmt == "qcow2":
            run("qemu-img", "check", "-q", *opts("qcow2", "i"))
            image("snapshot", "--secret-file", "key", "-f", "qcow2", "-c", "one", "i")
            image("resize", "--secret-file", "key", "-f", "qcow2", "i", "7M")
            run("qemu-io", "--object", "secret,id=s,file=key", "-c", "write -P 9 0 3M", "--image-opts", opts(fmt, "i")[-1])
            image("snapshot", "--secret-file", "key", "-f", "qcow2", "-a", "one", "i")
            qemu_same(fmt, "i")
            image("check", "-f", "qcow2", "i")
            # an overlay in the clear on an encrypted one
            image("create", "--secret-file", "key", "-f", "qcow2", "-b", "i", "-F", "qcow2", "over")
            image("compare", "-q", "--secret-file", "key", "-f", "qcow2", "-F", "raw", "over", "raw")


def passphrases():
    keys()
    fill("raw", SIZE, 2)
    for fmt, o in (("luks", QUICK), ("qcow2", "encrypt.format=luks,encrypt." + QUICK)):
        image("convert", "--new-secret-file", "key", "-f", "raw", "-O", fmt, "-o", o, "raw", "i")
        for secret, words in ((("--secret-file", "wrong"), "not one of its"), ((), "--secret-file"), (("--secret-file", "empty"), "empty"), (("--secret-file", "none"), "cannot be read")):
            refused(words, "map", *secret, "-f", fmt, "i")
        image("amend", "--secret-file", "key", "--new-secret-file", "other", "-f", fmt, "i")
        lodge_same(fmt, "i", secret="other")
        qemu_same(fmt, "i", secret="other")
        image("amend", "--secret-file", "other", "-f", fmt, "-o", "erase-slot=0", "i")
        refused("not one of its", "map", "--secret-file", "key", "-f", fmt, "i")
        qemu_same(fmt, "i", secret="other")
        refused("last one", "amend", "--secret-file", "other", "-f", fmt, "-o", "erase-slot=1", "i")
        refused("not in use", "amend", "--secret-file", "other", "-f", fmt, "-o", "erase-slot=5", "i")
    assert "encrypted" in image("info", "-f", "qcow2", "i")
    refused("compressed", "convert", "-c", "--new-secret-file", "key", "-f", "raw", "-O", "qcow2", "-o", "encrypt.format=luks,encrypt." + QUICK, "raw", "x")
    refused("not known", "create", "--secret-file", "key", "-f", "luks", "-o", "cipher-alg=rot13-256", "x", "1M")
    refused("iter-time", "create", "--secret-file", "key", "-f", "luks", "-o", "iter-time=0", "x", "1M")


def lying_headers():
    keys()
    image("create", "--secret-file", "key", "-f", "luks", "-o", QUICK, "g", "1M")
    image("create", "--secret-file", "key", "-f", "qcow2", "-o", "encrypt.format=luks,encrypt." + QUICK, "q", "1M")
    good = open("g", "rb").read()
    for name, at, value in (("magic", 0, b"X"), ("version", 6, b"\0\2"), ("cipher", 8, b"rot13"), ("cipher without end", 8, b"a" * 32), ("mode", 40, b"ecb-plain"), ("hash", 72, b"crc32"),
                            ("payload outside", 104, b"\xff" * 4), ("payload 0", 104, bytes(4)), ("key length 0", 108, bytes(4)), ("key length", 108, b"\xff" * 4), ("key length 48", 108, b"\0\0\0\x30"),
                            ("digest iterations", 164, b"\xff" * 4), ("digest iterations 0", 164, bytes(4)), ("slot iterations", 212, b"\xff" * 4), ("slot iterations 0", 212, bytes(4)),
                            ("slot outside", 248, b"\xff" * 4), ("slot at 0", 248, bytes(4)), ("stripes", 252, b"\xff" * 4), ("stripes 0", 252, bytes(4)), ("slot", 208, b"abcd")):
        with open("bad", "wb") as f:
            f.write(good[:at] + value + good[at + len(value):])
        p = subprocess.run([*lodge, "map", "--secret-file", "key", "-f", "luks", "bad"], capture_output=True, text=True, timeout=120)
        assert p.returncode == 1 and p.stderr.count("\n") == 1, (name, p)
    q = open("q", "rb").read()
    at = q.index(bytes.fromhex("0537be77")) + 8
    for name, value in (("outside", b"\x7f" + b"\xff" * 7), ("odd", struct.pack(">Q", 513)), ("long", struct.pack(">QQ", 65536, 1 << 63)), ("empty", struct.pack(">QQ", 65536 * 4, 0))):
        with open("bad", "wb") as f:
            f.write(q[:at] + value + q[at + len(value):])
        p = subprocess.run([*lodge, "map", "--secret-file", "key", "-f", "qcow2", "bad"], capture_output=True, text=True, timeout=120)
        assert p.returncode == 1 and p.stderr.count("\n") == 1, (name, p)


main(both_ways, changed, passphrases, lying_headers)
