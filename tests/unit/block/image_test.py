#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""image_test.py LODGE [IMAGES]: `lodge image` beside qemu-img. Images of every combination of options are made by one tool, changed by one, read and
checked by the other. IMAGES limits how many (they are taken evenly from all)."""
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile

lodge = [os.path.abspath(sys.argv[1]), "image"]
limit = int(sys.argv[2]) if len(sys.argv) > 2 else 0
SIZE = 6 << 20
failures = 0


def run(*cmd, status=0):
    p = subprocess.run(cmd, capture_output=True, text=True)
    if p.returncode != status:
        raise AssertionError(f"{' '.join(cmd)}: status {p.returncode}: {p.stdout}{p.stderr}")
    return p.stdout


def lodge_image(*args, status=0):
    return run(*lodge, *args, status=status)


def same(image, raw):
    """Both tools read the image as the raw file, and find nothing wrong with it."""
    run("qemu-img", "check", "-q", "-f", "qcow2", image)
    run("qemu-img", "compare", "-q", "-f", "qcow2", "-F", "raw", image, raw)
    lodge_image("check", "-f", "qcow2", image)
    lodge_image("compare", "-q", "-f", "qcow2", "-F", "raw", image, raw)


def combinations():
    for version, cluster, bits, ext, zstd, pre, packed in itertools.product(
            ("0.10", "1.1"), (512, 4096, 65536, 2 << 20), (1, 8, 16, 64), (False, True), (False, True), ("off", "metadata", "falloc", "full"), (False, True)):
        if version == "0.10" and (bits != 16 or ext or zstd):
            continue
        if ext and cluster < 16384 or packed and pre != "off":
            continue
        yield f"compat={version},cluster_size={cluster},preallocation={pre}" + (
            f",refcount_bits={bits},extended_l2={'on' if ext else 'off'},compression_type={'zstd' if zstd else 'zlib'}" if version == "1.1" else ""), packed


def elsewhere():
    """Images whose data is in another file, or whose counts are lazy."""
    for cluster, ext, pre, raw in itertools.product((4096, 65536, 2 << 20), (False, True), ("off", "metadata", "falloc", "full"), (False, True)):
        if not (ext and cluster < 16384):
            yield f"compat=1.1,cluster_size={cluster},preallocation={pre},extended_l2={'on' if ext else 'off'},data_file={{}},data_file_raw={'on' if raw else 'off'}", False
    for cluster, packed in itertools.product((512, 65536), (False, True)):
        yield f"compat=1.1,cluster_size={cluster},lazy_refcounts=on", packed


def data(path, seed):
    r = random.Random(seed)
    with open(path, "wb") as f:
        f.truncate(SIZE)
        for _ in range(12):
            f.seek(r.randrange(SIZE // 512) * 512)
            n = min(r.choice((512, 4096, 70000, 400000)), SIZE - f.tell())
            f.write(r.randbytes(n) if r.random() < 0.5 else bytes([r.randrange(256)]) * n)


def one(options, packed, number):
    c = ["-c"] if packed else []
    data("raw", number)
    # made by Lodge, read by qemu-img, and the reverse
    for name in ("ours", "theirs", "ours.data", "theirs.data"):
        if os.path.exists(name):
            os.unlink(name)
    lodge_image("convert", *c, "-f", "raw", "-O", "qcow2", "-o", options.format("ours.data"), "raw", "ours")
    same("ours", "raw")
    run("qemu-img", "convert", *c, "-f", "raw", "-O", "qcow2", "-o", options.format("theirs.data"), "raw", "theirs")
    same("theirs", "raw")
    lodge_image("convert", "-f", "qcow2", "-O", "raw", "theirs", "back")
    run("cmp", "raw", "back")
    for image in ("ours", "theirs") if "data_file_raw=on" in options else ():
        run("cmp", "raw", f"{image}.data")
    if "data_file" in options: # holds no snapshots; writes of either tool are read by the other
        for image in ("ours", "theirs"):
            run("qemu-io", "-f", "qcow2", "-c", f"write -P 5 {number % 64 * 65536} 200k", image)
            run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", image, f"{image}.raw")
            same(image, f"{image}.raw")
        return
    # A cluster whose count is full cannot be part of a snapshot: with 8 bits that takes many compressed clusters in one.
    if "refcount_bits=1," in options or "refcount_bits=8," in options and packed:
        return
    # snapshots made by one tool and applied by the other, with writes between
    for image, first, second in (("ours", lodge_image, None), ("theirs", None, lodge_image)):
        tool = {lodge_image: lambda *a: lodge_image("snapshot", "-f", "qcow2", *a), None: lambda *a: run("qemu-img", "snapshot", *a)}
        tool[first]("-c", "one", image)
        run("qemu-io", "-f", "qcow2", "-c", f"write -P 5 {number % 64 * 65536} 200k", "-c", "discard 1M 1M", image)
        run("qemu-img", "check", "-q", "-f", "qcow2", image)
        tool[second]("-a", "one", image)
        same(image, "raw")
        tool[first]("-d", "one", image)
        same(image, "raw")
    # a bitmap of either lives through what follows (qemu-img applies no snapshots to an image that has one)
    marked = "compat=1.1" in options
    if marked:
        run("qemu-img", "bitmap", "--add", "ours", "keep")
        lodge_image("bitmap", "-f", "qcow2", "--add", "theirs", "keep")
    # an overlay of either on the other, written, rebased and committed
    lodge_image("create", "-f", "qcow2", "-b", "theirs", "-F", "qcow2", "over")
    run("qemu-io", "-f", "qcow2", "-c", "write -P 3 100k 3000k", "over")
    run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", "over", "raw")
    same("over", "raw")
    lodge_image("rebase", "-f", "qcow2", "-b", "ours", "-F", "qcow2", "over")
    same("over", "raw")
    lodge_image("commit", "-q", "-f", "qcow2", "over")
    same("ours", "raw")
    for image in ("ours", "theirs") if marked else ():
        bitmaps = json.loads(run("qemu-img", "info", "--output=json", "-f", "qcow2", image))["format-specific"]["data"]["bitmaps"]
        assert [(b["name"], b["flags"]) for b in bitmaps] == [("keep", ["auto"])], (image, bitmaps)
    lodge_image("resize", "-f", "qcow2", "--shrink", "ours", "3M")
    run("qemu-img", "check", "-q", "-f", "qcow2", "ours")
    lodge_image("resize", "-f", "qcow2", "ours", "9M")
    run("qemu-img", "resize", "-q", "-f", "raw", "--shrink", "raw", "3M")
    run("qemu-img", "resize", "-q", "-f", "raw", "raw", "9M")
    same("ours", "raw")


def json_fields():
    lodge_image("create", "-f", "qcow2", "j", "10M")
    ours, theirs = json.loads(lodge_image("info", "--json", "-f", "qcow2", "j")), json.loads(run("qemu-img", "info", "--output=json", "-f", "qcow2", "j"))
    assert ours == theirs, (ours, theirs)
    run("qemu-io", "-f", "qcow2", "-c", "write 1M 128k", "j")
    key = lambda m: [(e["start"], e["length"], e["depth"], e["zero"], e["data"], e.get("offset")) for e in m]
    ours, theirs = json.loads(lodge_image("map", "--json", "-f", "qcow2", "j")), json.loads(run("qemu-img", "map", "--output=json", "-f", "qcow2", "j"))
    assert key(ours) == key(theirs), (ours, theirs)


def repairs():
    """A lost refcount and a leak are found, and mended."""
    lodge_image("create", "-f", "qcow2", "r", "10M")
    run("qemu-io", "-f", "qcow2", "-c", "write -P 1 0 1M", "r")
    for patch, status in ((b"\0\0", 2), (b"\0\1", 3)):
        end = json.loads(run("qemu-img", "check", "--output=json", "r"))["image-end-offset"] // 65536
        with open("r", "r+b") as f:
            f.seek(48)
            f.seek(int.from_bytes(f.read(8), "big"))
            block = int.from_bytes(f.read(8), "big")
            f.seek(block + 2 * (end - 1 if status == 2 else end + 3))
            f.write(patch)
        run(*lodge, "check", "-f", "qcow2", "r", status=status)
        lodge_image("check", "-r", "all", "-f", "qcow2", "r")
        run("qemu-img", "check", "-q", "r")
        run("qemu-io", "-f", "qcow2", "-r", "-c", "read -P 1 0 1M", "r")


def cut_off():
    """A file that ends too early, as a download that broke off: the same number of errors as qemu-img counts, and mended it reads as zeroes there."""
    for keep in (5, 4.5, 1):
        lodge_image("create", "-f", "qcow2", "r", "10M")
        run("qemu-io", "-f", "qcow2", "-c", "write -P 1 0 64k", "-c", "write -P 1 1M 128k", "r")
        assert os.path.getsize("r") == 8 << 16
        os.truncate("r", int(keep * 65536))
        check = lambda cmd, option: json.loads(subprocess.run([*cmd, "check", "-f", "qcow2", option, "r"], capture_output=True, text=True).stdout)
        ours, theirs = check(lodge, "--json"), check(["qemu-img"], "--output=json")
        if keep > 1: # of tables that are gone QEMU counts each entry
            assert ours["corruptions"] == theirs["corruptions"] > 0, (ours, theirs)
        assert ours["corruptions"] > 0
        run(*lodge, "check", "-f", "qcow2", "r", status=2)
        lodge_image("check", "-r", "all", "-f", "qcow2", "r")
        run("qemu-img", "check", "-q", "r")
        run("qemu-io", "-f", "qcow2", "-r", "-c", "read -P 0 1M 128k", "r")


def refusals():
    for args, words in ((("create", "x", "1M"), "-f raw"), (("info", "raw"), "never guessed"), (("create", "-f", "qcow2", "-o", "cluster_size=3", "x", "1M"), "power of two"),
                        (("create", "-f", "qcow2", "x"), "size"), (("convert", "-f", "raw", "raw", "x"), "-O"), (("check", "-f", "qcow2", "raw"), "no qcow2 image"),
                        (("info", "-f", "qcow2", "/nonexistent"), "No such file"), (("convrt",), "convert"), (("resize", "-f", "qcow2", "j", "1M"), "--shrink"),
                        (("snapshot", "-f", "qcow2", "-a", "none", "j"), "no snapshot 'none'"), (("create", "-f", "qcow2", "-b", "j", "x"), "-F")):
        p = subprocess.run([*lodge, *args], capture_output=True, text=True)
        assert p.returncode == 1 and words in p.stderr and p.stderr.count("\n") == 1, (args, p)
    # a backing file without a format is not opened
    run("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", "raw", "-F", "raw", "nofmt", "1M")
    with open("nofmt", "r+b") as f:
        f.seek(112)
        assert f.read(4) == bytes.fromhex("e2792aca")
        f.seek(112)
        f.write(bytes.fromhex("11223344"))
    p = subprocess.run([*lodge, "check", "-f", "qcow2", "-r", "all", "nofmt"], capture_output=True, text=True)
    assert p.returncode == 0, p
    p = subprocess.run([*lodge, "map", "-f", "qcow2", "nofmt"], capture_output=True, text=True)
    assert p.returncode == 1 and "format of its backing file" in p.stderr, p


if subprocess.run("command -v qemu-img >/dev/null", shell=True).returncode:
    print("skipped: qemu-img is not installed")
    sys.exit(77)
with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    everything = list(combinations()) + list(elsewhere())
    step = max(1, len(everything) // limit) if limit else 1
    chosen = everything[::step]
    for n, (options, packed) in enumerate(chosen):
        try:
            one(options, packed, n)
        except AssertionError as e:
            failures += 1
            print(f"{options}{' compressed' if packed else ''}: {e}")
    json_fields()
    repairs()
    cut_off()
    refusals()
    print(f"{len(chosen)} combinations of {len(everything)}, {failures} failed")
sys.exit(1 if failures else 0)
