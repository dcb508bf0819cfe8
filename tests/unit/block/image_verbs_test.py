#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""image_verbs_test.py LODGE [TEST...]: measure, amend, bitmap and dd, beside qemu-img's. (dd counts as dd(1) does: qemu-img's count= includes what skip= leaves out.)"""
import json
import os
import random
import subprocess
import time

from image_common import fill, image, lodge, main, refused, run, same, serve, server, sock


def measure():
    """The numbers are qemu-img's, for sizes and for images."""
    r = random.Random(7)
    for _ in range(25):
        size = r.choice((512, 65536, 1 << 20, (5 << 30) + 512, 100 << 30, r.randrange(1, 1 << 31) * 512))
        o = f"cluster_size={r.choice((4096, 65536, 1 << 21))},refcount_bits={r.choice((1, 16, 64))},preallocation={r.choice(('off', 'metadata', 'falloc', 'full'))}"
        if "cluster_size=4096" not in o and r.random() < 0.3:
            o += ",extended_l2=on"
        ours = json.loads(image("measure", "-O", "qcow2", "-o", o, "--json", "--size", str(size)))
        assert ours == json.loads(run("qemu-img", "measure", "-O", "qcow2", "-o", o, "--output=json", "--size", str(size))), (size, o, ours)
    fill("raw", 6 << 20)
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "raw", "q")
    run("qemu-img", "bitmap", "--add", "q", "one")
    run("qemu-img", "bitmap", "--add", "-g", "4096", "q", "second")
    for fmt, name in (("raw", "raw"), ("qcow2", "q")):
        for out, o in (("qcow2", ()), ("qcow2", ("-o", "cluster_size=4096")), ("raw", ())):
            ours = json.loads(image("measure", "-f", fmt, "-O", out, *o, "--json", name))
            assert ours == json.loads(run("qemu-img", "measure", "-f", fmt, "-O", out, *o, "--output=json", name)), (fmt, out, o, ours)
    refused("--size", "measure", "-O", "qcow2")


def amend():
    fill("raw", 6 << 20, 3)
    for start, change in (("compat=0.10", "compat=1.1"), ("compat=1.1", "compat=0.10"), ("refcount_bits=16", "refcount_bits=64"), ("refcount_bits=64", "refcount_bits=1"),
                          ("refcount_bits=1", "refcount_bits=16"), ("lazy_refcounts=off", "lazy_refcounts=on"), ("cluster_size=512", "refcount_bits=32")):
        run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-o", start, "raw", "a")
        if start != "compat=0.10":
            run("qemu-io", "-f", "qcow2", "-c", "write -z 1M 64k", "-c", "write -z 512k 1k", "a")
            run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", "a", "raw")
        image("amend", "-f", "qcow2", "-o", change, "a")
        run("qemu-img", "check", "-q", "-f", "qcow2", "a")
        same("a", "qcow2")
        info = json.loads(run("qemu-img", "info", "--output=json", "a"))["format-specific"]["data"]
        key, value = change.split("=")
        assert str(info[{"compat": "compat", "refcount_bits": "refcount-bits", "lazy_refcounts": "lazy-refcounts"}[key]]).lower() in (value, {"on": "true"}.get(value)), info
    # with snapshots: wider is possible, narrower than there are references is not
    image("snapshot", "-f", "qcow2", "-c", "s", "a")
    image("amend", "-f", "qcow2", "-o", "refcount_bits=64", "a")
    refused("refcount_bits", "amend", "-f", "qcow2", "-o", "refcount_bits=1", "a")
    run("qemu-img", "check", "-q", "-f", "qcow2", "a")
    same("a", "qcow2")
    # an overlay's marked zeroes become written ones
    image("create", "-f", "qcow2", "-b", "raw", "-F", "raw", "over")
    run("qemu-io", "-f", "qcow2", "-c", "write -z 0 1M", "over")
    run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", "over", "flat")
    image("amend", "-f", "qcow2", "-o", "compat=0.10", "over")
    run("qemu-img", "check", "-q", "-f", "qcow2", "over")
    same("over", "qcow2", "flat")
    refused("cluster_size", "amend", "-f", "qcow2", "-o", "cluster_size=4096", "a")


def dirty(name, bitmap, tool):
    """The dirty ranges, as a set of 64 KiB clusters; read by qemu-img out of an NBD export of `tool`."""
    return set(dirty_ranges(name, bitmap, tool))


def dirty_ranges(name, bitmap, tool):
    path = sock("bm.sock")
    cmd = [*lodge, "serve", "-f", "qcow2", "--read-only", "--bitmap", bitmap, "--socket", path, name] if tool == "lodge" else \
        ["qemu-nbd", "-r", "-t", "-f", "qcow2", "-B", bitmap, "-k", path, name]
    with server(*cmd, ready=path):
        out = run("qemu-img", "map", "--output=json", "--image-opts", f"driver=nbd,server.type=unix,server.path={path},x-dirty-bitmap=qemu:dirty-bitmap:{bitmap}")
    for e in json.loads(out):
        if not e["data"]:
            yield from range(e["start"] >> 16, (e["start"] + e["length"] + 65535) >> 16)


def bitmaps():
    """Made by one tool, recorded by either, read by the other."""
    for make, other in (("lodge", "qemu"), ("qemu", "lodge")):
        run("qemu-img", "create", "-q", "-f", "qcow2", "b", "8M")
        if make == "lodge":
            image("bitmap", "-f", "qcow2", "--add", "b", "x")
        else:
            run("qemu-img", "bitmap", "--add", "b", "x")
        run("qemu-img", "check", "-q", "b")
        run("qemu-io", "-f", "qcow2", "-c", "write 64k 64k", "b")
        with_lodge_writes("b", ["write 1M 128k", "discard 4M 64k", "write -z 5M 64k"])
        run("qemu-io", "-f", "qcow2", "-c", "write 3M 1k", "b")
        run("qemu-img", "check", "-q", "b")
        image("check", "-f", "qcow2", "b")
        want = {1, 16, 17, 48, 64, 80}
        for tool in ("lodge", "qemu"):
            assert dirty("b", "x", tool) == want, (make, tool, dirty("b", "x", tool))
        image("bitmap", "-f", "qcow2", "--disable", "b", "x")
        with_lodge_writes("b", ["write 7M 64k"])
        assert dirty("b", "x", other) == want
        image("bitmap", "-f", "qcow2", "--add", "--merge", "x", "b", "y")
        image("bitmap", "-f", "qcow2", "--clear", "--enable", "b", "x")
        with_lodge_writes("b", ["write 0 64k"])
        assert dirty("b", "x", "qemu") == {0} and dirty("b", "y", "qemu") == want | {0}, (dirty("b", "x", "qemu"), dirty("b", "y", "qemu"))
        image("resize", "-f", "qcow2", "b", "9M")
        assert dirty("b", "x", "qemu") == {0} | set(range(128, 144)), dirty("b", "x", "qemu")
        image("convert", "-f", "qcow2", "-O", "qcow2", "--bitmaps", "b", "c")
        assert dirty("c", "y", "qemu") == want | {0} | set(range(128, 144))
        image("snapshot", "-f", "qcow2", "-c", "s", "b")
        run("qemu-img", "check", "-q", "b")
        image("bitmap", "-f", "qcow2", "--remove", "b", "x")
        assert [m["name"] for m in json.loads(run("qemu-img", "info", "--output=json", "b"))["format-specific"]["data"]["bitmaps"]] == ["y"]
        run("qemu-img", "check", "-q", "b")
        run("qemu-img", "bitmap", "--remove", "b", "y")
        image("check", "-f", "qcow2", "b")
    ours, theirs = (json.loads(f) for f in (image("info", "--json", "-f", "qcow2", "c"), run("qemu-img", "info", "--output=json", "c")))
    assert ours == theirs, (ours, theirs)
    refused("no bitmap", "bitmap", "-f", "qcow2", "--clear", "b", "none")
    refused("granularity", "bitmap", "-f", "qcow2", "--add", "-g", "100", "b", "g")
    # a directory that lies is not used, and the image is
    image("bitmap", "-f", "qcow2", "--add", "b", "liar")
    good = open("b", "rb").read()
    directory = int.from_bytes(good[good.index(bytes.fromhex("23852875")) + 24:][:8], "big")
    for name, at, value in (("granularity", 17, b"\xd8"), ("granularity 0", 17, b"\0"), ("name", 18, b"\xff\xff"), ("extra", 20, b"\xff" * 4), ("table", 0, b"\x7f" * 8), ("entries", 8, b"\xff" * 4),
                            ("type", 16, b"\7")):
        with open("l", "wb") as f:
            f.write(good[:directory + at] + value + good[directory + at + len(value):])
        assert "liar" not in image("info", "-f", "qcow2", "l"), name
        with_lodge_writes("l", ["write 1M 64k"])
    image("bitmap", "-f", "qcow2", "--remove", "b", "liar")
    # left in use by a program that died: not valid for anybody, and removed by either
    image("bitmap", "-f", "qcow2", "--add", "b", "lost")
    killed_writer("b")
    refused("not valid", "bitmap", "-f", "qcow2", "--clear", "b", "lost")
    assert "in-use" in str(json.loads(run("qemu-img", "info", "--output=json", "b"))["format-specific"]["data"]["bitmaps"])
    image("bitmap", "-f", "qcow2", "--remove", "b", "lost")
    image("check", "-f", "qcow2", "-r", "leaks", "b")
    run("qemu-img", "check", "-q", "b")


def with_lodge_writes(name, commands, kill=False):
    """qemu-io writes through Lodge's NBD export."""
    path = sock("w.sock")
    with serve(path, "-f", "qcow2", name) as p:
        run("qemu-io", "-f", "raw", *[x for c in commands for x in ("-c", c)], f"nbd:unix:{path}")
        if kill:
            p.kill()


def killed_writer(name):
    with_lodge_writes(name, ["write 2M 64k", "flush"], kill=True)
    for _ in range(1200):  # the kernel lets go of io_uring's files a moment after the process
        if subprocess.run([*lodge, "snapshot", "-f", "qcow2", "-c", "after", name], capture_output=True).returncode == 0:
            break
        time.sleep(0.1)


def dd():
    fill("raw", 3 << 20, 5)
    image("convert", "-f", "raw", "-O", "qcow2", "raw", "q")
    for args in (("bs=1M", "count=2"), ("bs=64k", "skip=3"), ("bs=512", "skip=100", "count=77"), ("bs=1M", "skip=2", "count=100")):
        image("dd", "-f", "qcow2", "-O", "raw", "if=q", "of=ours", *args)
        run("dd", "if=raw", "of=theirs", "status=none", *args)
        run("cmp", "ours", "theirs")
        image("dd", "-f", "raw", "-O", "qcow2", "if=raw", "of=oursq", *args)
        same("oursq", "qcow2", "theirs")
    refused("if=", "dd", "-f", "raw", "bs=1M", "count=1")


def convert_options():
    """-m, --rate and -p change how it goes, not what comes out."""
    fill("raw", 5 << 20, 9)
    out = image("convert", "-p", "-m", "1", "-r", "100M", "-f", "raw", "-O", "qcow2", "raw", "q")
    assert "(100.00/100%)" in out, out
    same("q", "qcow2")
    for jobs in ("2", "16"):
        image("convert", "-c", "-m", jobs, "-f", "qcow2", "-O", "qcow2", "q", "c")
        same("c", "qcow2")
        run("qemu-img", "check", "-q", "c")


def info_fields():
    """What qemu-img tells of an image is there under the same names, with the same values."""
    with open("key", "w") as f:
        f.write("secret")
    secret = ("--object", "secret,id=s,file=key", "-o")
    kinds = (("raw",), ("qcow2",), ("qcow2", "-o", "compat=0.10"), ("qcow2", "-o", "data_file=data,data_file_raw=on,extended_l2=on"), ("vmdk",), ("vmdk", "-o", "subformat=twoGbMaxExtentSparse"),
             ("vmdk", "-o", "subformat=monolithicFlat"), ("vmdk", "-o", "subformat=streamOptimized"), ("vdi",), ("vpc",), ("vhdx",),
             ("qcow2", *secret, "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10"),
             ("luks", *secret, "key-secret=s,iter-time=10,cipher-alg=aes-128,cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha256"))
    def less(theirs, ours, where):
        if isinstance(theirs, dict):
            assert isinstance(ours, dict), (where, theirs, ours)
            for name in theirs:
                assert name in ours, (where, name)
                if name not in ("filename", "actual-size"):  # a part's name has the folder before it, or not
                    less(theirs[name], ours[name], f"{where}.{name}")
        elif isinstance(theirs, list):
            assert len(theirs) == len(ours), (where, theirs, ours)
            for a, b in zip(theirs, ours):
                less(a, b, where)
        else:
            assert theirs == ours, (where, theirs, ours)
    for fmt, *options in kinds:
        run("qemu-img", "create", "-q", "-f", fmt, *options, "x", "20M")
        if fmt == "qcow2" and not options:
            run("qemu-img", "snapshot", "-c", "first", "x")
            run("qemu-img", "bitmap", "--add", "x", "map")
        less(json.loads(run("qemu-img", "info", "--output=json", "-f", fmt, "x")), json.loads(image("info", "--json", "-f", fmt, "x")), f"{fmt} {options}")
        text = image("info", "-f", fmt, "x")
        assert ("encrypted: yes" in text) == ("--object" in options), (fmt, text)
        os.unlink("x")


def offload():
    """What the kernel copies is the same: holes, compressed clusters, chains and encrypted disks between, images of any kind; behind an old file's content too."""
    fill("raw", (9 << 20) + 512, 12)
    image("convert", "-f", "raw", "-O", "qcow2", "raw", "q")
    image("convert", "-c", "-f", "raw", "-O", "qcow2", "raw", "packed")
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", "packed", "-F", "qcow2", "over")
    run("qemu-io", "-f", "qcow2", "-c", "write -P 3 1M 500k", "-c", "write -z 3M 200k", "over")
    run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", "over", "wanted")
    with open("key", "w") as f:
        f.write("secret")
    image("convert", "-f", "raw", "-O", "luks", "-o", "iter-time=10", "--new-secret-file", "key", "raw", "luks")
    image("convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=twoGbMaxExtentFlat", "raw", "flat")
    for fmt, name, want in (("raw", "raw", "raw"), ("qcow2", "q", "raw"), ("qcow2", "packed", "raw"), ("qcow2", "over", "wanted"), ("luks", "luks", "raw"), ("vmdk", "flat", "raw")):
        secret = ("--secret-file", "key") if fmt == "luks" else ()
        for out in ("raw", "qcow2"):
            with open("new", "wb") as f:
                f.write(b"x" * 300000)
            image("convert", "-C", *secret, "-f", fmt, "-O", out, name, "new")
            same("new", out, want)
    image("dd", "-C", "-f", "qcow2", "-O", "raw", "if=over", "of=part", "bs=64k", "skip=15", "count=40")
    run("dd", "if=wanted", "of=theirs", "status=none", "bs=64k", "skip=15", "count=40")
    run("cmp", "part", "theirs")
    refused("-c or -C", "convert", "-c", "-C", "-f", "raw", "-O", "qcow2", "raw", "new")


def commits():
    """Zeroes, compressed clusters, clusters of another size and parts of them come through a commit, which the kernel copies where it can."""
    for fmt, options in (("raw", ()), ("qcow2", ()), ("qcow2", ("-o", "cluster_size=4k")), ("qcow2", ("-o", "extended_l2=on"))):
        fill("raw", (9 << 20) + 512, 13)
        for name in ("base", "over"):
            if os.path.exists(name):
                os.unlink(name)
        run("qemu-img", "convert", "-f", "raw", "-O", fmt, *options, "raw", "base")
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", "base", "-F", fmt, "over")
        run("qemu-io", "-f", "qcow2", "-c", "write -P 3 1M 500k", "-c", "write -z 3M 200k", "-c", "write -P 5 5120k 1", "-c", "write -c -P 6 6M 64k", "-c", "write -P 7 9M 512", "over")
        run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", "over", "wanted")
        image("commit", "-q", "-f", "qcow2", "over")
        same("base", fmt, "wanted")
        same("over", "qcow2", "wanted")
        for name in ("base", "over") if fmt == "qcow2" else ("over",):
            run("qemu-img", "check", "-q", "-f", "qcow2", name)


main(info_fields, measure, amend, bitmaps, dd, convert_options, offload, commits)
