#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""image_formats_test.py LODGE [TEST...]: the other formats. Images are made by one tool and read by the other, written to by one and read by the other; and
images with tables that lie are refused."""
import base64
import bz2
import json
import os
import random
import shutil
import struct
import subprocess
import zlib

from image_common import fill, image, lodge, main, refused, run, same, server

KINDS = [("vdi", ""), ("vdi", "static=on"), ("vpc", ""), ("vpc", "subformat=fixed"), ("vhdx", ""), ("vmdk", ""), ("vmdk", "subformat=monolithicFlat"),
         ("vmdk", "subformat=streamOptimized"), ("vmdk", "subformat=twoGbMaxExtentSparse"), ("vmdk", "subformat=twoGbMaxExtentFlat")]
SIZE = (20 << 20) + 512 * 37


def options(o):
    return ("-o", o) if o else ()


def grown(raw, name, fmt):
    """The raw file as long as the image's disk: qemu-img rounds that of a VHD up to whole cylinders."""
    n = json.loads(run("qemu-img", "info", "--output=json", "-f", fmt, name))["virtual-size"]
    shutil.copy("raw", raw)
    os.truncate(raw, n)


def both_ways():
    for fmt, o in KINDS:
        fill("raw", SIZE, hash(fmt) & 0xff)
        image("convert", "-f", "raw", "-O", fmt, *options(o), "raw", "ours")
        same("ours", fmt)
        run("qemu-img", "convert", "-f", "raw", "-O", fmt, *options(o), "raw", "theirs")
        grown("long", "theirs", fmt)
        same("theirs", fmt, "long")
        image("convert", "-f", fmt, "-O", "raw", "theirs", "back")
        run("cmp", "long", "back")
        # read as a disk of more than a cluster's worth of zeroes, and sparse
        image("convert", "-f", fmt, "-O", "qcow2", "ours", "q")
        same("q", "qcow2")


def written_by_either():
    """Random writes, zeroes and discards through Lodge's NBD export into qemu-img's image, and by qemu-io into Lodge's."""
    r = random.Random(5)
    for fmt, o in KINDS:
        if "stream" in o:
            continue
        for make in ("lodge", "qemu"):
            run("qemu-img", "create", "-q", "-f", "raw", "raw", str(SIZE))
            if make == "lodge":
                image("create", "-f", fmt, *options(o), "i", str(SIZE))
            else:
                run("qemu-img", "create", "-q", "-f", fmt, *options(o), "i", str(SIZE))
            grown("long", "i", fmt)
            for round in range(2):
                commands = []
                for _ in range(25):
                    at, n = r.randrange(SIZE // 512 - 1), 0
                    n = min(r.choice((1, 8, 200, 3000)), SIZE // 512 - at)
                    commands.append(r.choice((f"write -P {r.randrange(1, 256)}", f"write -P {r.randrange(1, 256)}", "write -z")) + f" {at * 512} {n * 512}")
                args = [x for c in commands for x in ("-c", c)]
                run("qemu-io", "-f", "raw", *args, "long")
                if os.path.exists("s"):
                    os.unlink("s")
                if round == 0:
                    with server(*lodge, "serve", "-q", "-f", fmt, "--socket", "s", "i", ready="s"):
                        run("qemu-io", "-f", "raw", *args, f"nbd:unix:{os.getcwd()}/s")
                else:
                    run("qemu-io", "-f", fmt, *args, "i")
                same("i", fmt, "long")


def vmdk_parts():
    """Disks of three files: data on both sides of the seams, requests across them; made, written and read by either tool."""
    edge = 2 << 30
    for kind in ("twoGbMaxExtentSparse", "twoGbMaxExtentFlat"):
        for make in ("lodge", "qemu"):
            if make == "lodge":
                image("create", "-f", "vmdk", "-o", f"subformat={kind}", "p.vmdk", "4100M")
            else:
                run("qemu-img", "create", "-q", "-f", "vmdk", "-o", f"subformat={kind}", "p.vmdk", "4100M")
            args = ["-c", f"write -P 3 {edge - 70000} 200000", "-c", f"write -P 4 {2 * edge - 512} 1024", "-c", "write -P 5 0 512", "-c", f"write -z {edge - 512} 65536",
                    "-c", "write -P 6 4299161088 512"]
            with server(*lodge, "serve", "-q", "-f", "vmdk", "--socket", "s", "p.vmdk", ready="s"):
                run("qemu-io", "-f", "raw", *args[:6], f"nbd:unix:{os.getcwd()}/s")
            run("qemu-io", "-f", "vmdk", *args[6:], "p.vmdk")
            run("qemu-img", "create", "-q", "-f", "raw", "raw", "4100M")
            run("qemu-io", "-f", "raw", *args, "raw")
            same("p.vmdk", "vmdk")
            image("convert", "-f", "vmdk", "-O", "vmdk", "-o", f"subformat={kind}", "p.vmdk", "copy.vmdk")
            run("qemu-img", "compare", "-q", "-f", "vmdk", "-F", "raw", "copy.vmdk", "raw")
            os.unlink("raw")
    image("create", "-f", "vmdk", "-o", "subformat=twoGbMaxExtentSparse", "p.vmdk", "4100M")
    text = open("p.vmdk").read()
    for words, change in (("no sparse part", ("p-s002.vmdk", "bad")), ("beside", ("p-s002.vmdk", "../p-s002.vmdk")), ("existing image", ("p-s002.vmdk", "nbd:localhost:1")),
                          ("shorter", ("RW 4194304 SPARSE \"p-s002", "RW 4194305 SPARSE \"p-s002")), ("kind VMFS", ("SPARSE \"p-s002", "VMFS \"p-s002"))):
        with open("bad", "w") as f:
            f.write(text.replace(*change))
        assert text.replace(*change) != text
        refused(words, "map", "-f", "vmdk", "bad")


def vmdk_parents():
    """What QEMU reads through parents, Lodge does: chains, zeroed grains, overlays that are longer. Their content is guarded by the parent's number."""
    fill("raw", 6 << 20)
    for base, over in (("", ""), ("", "zeroed_grain=on"), ("subformat=streamOptimized", ""), ("subformat=twoGbMaxExtentSparse", "subformat=twoGbMaxExtentSparse"),
                       ("", "subformat=twoGbMaxExtentSparse"), ("subformat=monolithicFlat", "")):
        run("qemu-img", "convert", "-f", "raw", "-O", "vmdk", *options(base), "raw", "base.vmdk")
        run("qemu-img", "create", "-q", "-f", "vmdk", *options(over), "-b", "base.vmdk", "-F", "vmdk", "middle.vmdk")
        run("qemu-io", "-f", "vmdk", "-c", "write -P 1 100k 300k", "-c", "write -z 1M 128k", "-c", "write -P 2 5M 1M", "middle.vmdk")
        run("qemu-img", "create", "-q", "-f", "vmdk", *options(over), "-b", "middle.vmdk", "-F", "vmdk", "over.vmdk", "9M")
        run("qemu-io", "-f", "vmdk", "-c", "write -P 3 300k 200k", "-c", "write -P 4 5900k 500k", "-c", "write -z 2M 64k", "over.vmdk")
        run("qemu-img", "convert", "-f", "vmdk", "-O", "raw", "over.vmdk", "want")
        image("convert", "-f", "vmdk", "-O", "raw", "over.vmdk", "got")
        run("cmp", "want", "got")
        image("convert", "-f", "vmdk", "-O", "qcow2", "over.vmdk", "q")
        same("q", "qcow2", "want")
    refused("only read", "serve", "-f", "vmdk", "--socket", "s", "over.vmdk")
    with server(*lodge, "serve", "-q", "-f", "vmdk", "--socket", "s", "base.vmdk", ready="s"):
        run("qemu-io", "-f", "raw", "-c", "write -P 9 0 512", f"nbd:unix:{os.getcwd()}/s")
    refused("has changed since", "map", "-f", "vmdk", "over.vmdk")
    p = subprocess.run(["qemu-img", "convert", "-f", "vmdk", "-O", "raw", "over.vmdk", "x"], capture_output=True, text=True)
    assert p.returncode, "QEMU did not see that Lodge changed the parent"
    run("qemu-img", "create", "-q", "-f", "vmdk", "-b", "base.vmdk", "-F", "vmdk", "over.vmdk")
    good = open("over.vmdk", "rb").read()
    for words, name in (("overlay of itself", b"over.vmdk"), ("not a local file", b"nbd:x:1"), ("does not name it", b""), ("existing image", b"nowhere")):
        with open("over.vmdk", "wb") as f:
            f.write(good.replace(b'parentFileNameHint="base.vmdk"', (b'parentFileNameHint="' + name + b'"').ljust(30, b"\n")))
        refused(words, "map", "-f", "vmdk", "over.vmdk")


def parallels():
    fill("raw", SIZE, 3)
    run("qemu-img", "convert", "-f", "raw", "-O", "parallels", "raw", "p")
    same("p", "parallels", qemu=False)
    refused("only read", "resize", "-f", "parallels", "p", "30M")
    refused("can only be read", "convert", "-f", "raw", "-O", "parallels", "raw", "x")


def cloop():
    data = os.urandom(70000) + bytes(200000) + b"x" * 54288
    with open("raw", "wb") as f:
        f.write(data + bytes(-len(data) % 65536))
    data = open("raw", "rb").read()
    blocks = [zlib.compress(data[i:i + 65536]) for i in range(0, len(data), 65536)]
    at = 136 + 8 * (len(blocks) + 1)
    places = [at]
    for b in blocks:
        places.append(places[-1] + len(b))
    head = b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n".ljust(128, b"\0")
    good = head + struct.pack(">II", 65536, len(blocks)) + b"".join(struct.pack(">Q", p) for p in places) + b"".join(blocks)
    with open("c", "wb") as f:
        f.write(good)
    same("c", "cloop")
    for name, patch in (("huge block", (128, b"\xff\xff\xfe\x00")), ("no blocks", (132, bytes(4))), ("many blocks", (132, b"\xff" * 4)), ("place outside", (144, b"\xff" * 8)),
                        ("backwards", (144, bytes(8)))):
        bad(good, "cloop", name, [patch])
    with open("c", "wb") as f:
        f.write(good[:places[2]] + os.urandom(len(good) - places[2]))
    p = subprocess.run([*lodge, "convert", "-f", "cloop", "-O", "raw", "c", "x"], capture_output=True, text=True)
    assert p.returncode == 1 and p.stderr.count("\n") == 1, p


def mish(sector, chunks, data=0):
    body = b"".join(struct.pack(">IIQQQQ", t, 0, s, n, at, size) for t, s, n, at, size in chunks)
    head = b"mish" + struct.pack(">IQQQII", 1, sector, sum(c[2] for c in chunks), data, 0, 0) + bytes(24) + bytes(136)
    return head.ljust(200, b"\0") + struct.pack(">I", len(chunks)) + body


def build_dmg(parts, stored, trailer=lambda k: k, sectors=0):
    plist = b"<?xml version=\"1.0\"?><plist><dict><key>resource-fork</key><dict><key>blkx</key><array>" + b"".join(
        b"<dict><key>Data</key>\n<data>\n" + base64.encodebytes(p) + b"</data></dict>" for p in parts) + b"</array></dict></dict></plist>"
    koly = bytearray(512)
    koly[0:4] = b"koly"
    struct.pack_into(">II", koly, 4, 4, 512)
    struct.pack_into(">QQ", koly, 24, 0, len(stored))
    struct.pack_into(">QQ", koly, 216, len(stored), len(plist))
    struct.pack_into(">Q", koly, 492, sectors)
    return stored + plist + bytes(trailer(koly))


def dmg():
    data = os.urandom(40 << 10) + bytes(64 << 10) + b"pattern!" * (12 << 10) + os.urandom(8 << 10)
    with open("raw", "wb") as f:
        f.write(data)
    z, raw, b = zlib.compress(data[:40 << 10]), data[-(8 << 10):], bz2.compress(data[104 << 10:152 << 10])
    z2 = zlib.compress(data[152 << 10:200 << 10])
    stored = z + raw + b + z2
    first = mish(0, [(0x80000005, 0, 80, 0, len(z)), (2, 80, 128, 0, 0), (0x7ffffffe, 0, 0, 0, 0), (0x80000006, 208, 96, len(z) + len(raw), len(b)), (0xffffffff, 304, 0, 0, 0)])
    second = mish(304, [(0x80000005, 0, 96, len(z) + len(raw) + len(b), len(z2)), (1, 96, 16, len(z), len(raw)), (0xffffffff, 112, 0, 0, 0)])
    good = build_dmg([first, second], stored)
    with open("d.dmg", "wb") as f:
        f.write(good)
    # (qemu-img reads bzip2 only with a module that Debian has in another package)
    same("d.dmg", "dmg", qemu=False)
    with open("z.dmg", "wb") as f:
        f.write(build_dmg([mish(0, [(0x80000005, 0, 80, 0, len(z)), (2, 80, 128, 0, 0), (0xffffffff, 208, 0, 0, 0)])], z, sectors=208))
    with open("front", "wb") as f:
        f.write(data[:104 << 10])
    same("z.dmg", "dmg", "front")
    big = 1 << 62
    for name, chunk in (("overlap", (1, 0, 16, 0, 8192)), ("outside", (0x80000005, 400, 16, big, 100)), ("longer than the file", (1, 400, 1 << 30, 0, 8192)),
                        ("huge chunk", (0x80000005, 400, 1 << 40, 0, 100)), ("sector 2^62", (2, big, 16, 0, 0)), ("2^62 sectors", (2, 400, big, 0, 0))):
        with open("bad", "wb") as f:
            f.write(build_dmg([first, mish(0, [chunk])], stored))
        refuse("dmg", name)
    with open("bad", "wb") as f:
        f.write(build_dmg([mish(0, [(0x80000007, 0, 16, 0, 100)])], stored))
    refused("hdiutil", "map", "-f", "dmg", "bad")
    for name, trailer in (("no list", lambda k: k[:216] + bytes(16) + k[232:]), ("list outside", lambda k: k[:216] + b"\xff" * 16 + k[232:]), ("no koly", lambda k: bytes(512))):
        with open("bad", "wb") as f:
            f.write(build_dmg([first], stored, trailer))
        refuse("dmg", name)
    with open("bad", "wb") as f:
        f.write(build_dmg([first[:-8], b"mish" + b"\xff" * 300], stored))
    refuse("dmg", "many chunks")


# ---- images that lie ----

def refuse(fmt, name, verb=("map",)):
    """One line of error, quickly and in little memory."""
    p = subprocess.run(["sh", "-c", "ulimit -v 4000000; exec \"$@\"", "sh", *lodge, *verb, "-f", fmt, "bad"], capture_output=True, text=True, timeout=120)
    assert p.returncode == 1 and p.stderr.count("\n") == 1 and p.stderr.startswith("lodge: image"), (fmt, name, p.returncode, p.stderr[:300], p.stdout[:200])


def bad(good, fmt, name, patches, fix=lambda b: None):
    b = bytearray(good)
    for at, value in patches:
        b[at:at + len(value)] = value
    fix(b)
    with open("bad", "wb") as f:
        f.write(b)
    refuse(fmt, name)


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def lying_tables():
    fill("raw", 5 << 20, 1)
    good = {}
    for fmt in ("vdi", "vpc", "vhdx", "vmdk", "parallels"):
        run("qemu-img", "convert", "-f", "raw", "-O", fmt, "raw", "g")
        good[fmt] = open("g", "rb").read()
    ones, huge = b"\xff", struct.pack("<Q", 1 << 63)
    for name, patches in (("signature", [(64, b"x")]), ("version", [(68, b"\2")]), ("size 2^63", [(368, huge)]), ("size 0", [(368, bytes(8))]), ("block size 0", [(376, bytes(4))]),
                          ("block size odd", [(376, b"\x01\x00\x10\x00")]), ("blocks 2^32", [(384, ones * 4)]), ("table outside", [(340, b"\0\xfe\xff\xff")]),
                          ("table within the header", [(340, bytes(4))]), ("data in the table", [(344, struct.pack("<I", 512))]), ("entry outside", [(512, struct.pack("<I", 0x7fffffff))]),
                          ("parent", [(440, b"x")]), ("empty", [(0, bytes(1024))])):
        bad(good["vdi"], "vdi", name, patches)
    def sums(b):
        for at, n, where in ((0, 512, 64), (len(b) - 512, 512, 64), (512, 1024, 36)):
            b[at + where:at + where + 4] = bytes(4)
            b[at + where:at + where + 4] = struct.pack(">I", ~sum(b[at:at + n]) & 0xffffffff)
    both = lambda at, v: [(at, v), (len(good["vpc"]) - 512 + at, v)]
    for name, patches, fix in (("checksum", [(3, b"x")] + both(64, b"xxxx"), lambda b: None), ("type", both(60, b"\0\0\0\7"), sums), ("difference", both(60, b"\0\0\0\4"), sums),
                               ("size 2^63", both(48, b"\x80" + bytes(7)) + both(28, b"win "), sums), ("size 0", both(48, bytes(8)) + both(28, b"win "), sums),
                               ("header outside", both(16, ones * 8), sums), ("table outside", [(512 + 16, b"\x70" + bytes(7))], sums), ("block size", [(512 + 32, b"\0\0\0\1")], sums),
                               ("entries", [(512 + 28, ones * 4)], sums), ("entry outside", [(1536, b"\x7f\xff\xff\xff")], sums), ("entry in the header", [(1536, bytes(4))], sums)):
        bad(good["vpc"], "vpc", name, patches, fix)
    text = good["vmdk"].index(b"parentCID=ffffffff")
    directory = struct.unpack_from("<Q", good["vmdk"], 56)[0] * 512
    table = struct.unpack_from("<I", good["vmdk"], directory)[0] * 512
    for name, patches in (("signature", [(0, b"X")]), ("version", [(4, b"\x09")]), ("capacity 2^63", [(12, huge)]), ("capacity 0", [(12, bytes(8))]), ("grain 0", [(20, bytes(8))]),
                          ("grain 2^63", [(20, huge)]), ("entries", [(44, b"\1\0\0\0")]), ("directory outside", [(56, b"\0" * 6 + b"\1\0")]), ("directory 2^63", [(56, huge)]),
                          ("text outside", [(28, huge)]), ("text 2^63", [(36, huge)]), ("parent", [(text + 10, b"12345678")]), ("grain table outside", [(directory, b"\xff\xff\xff\x7f")]),
                          ("grain outside", [(table, b"\xff\xff\xff\x7f")]), ("footer", [(56, ones * 8)]), ("compression", [(8, b"\3\0\3\0"), (77, b"\7\0")])):
        bad(good["vmdk"], "vmdk", name, patches)
    for name, patches in (("tracks 0", [(28, bytes(4))]), ("tracks", [(28, ones * 4)]), ("entries", [(32, ones * 4)]), ("sectors 2^63", [(36, huge)]), ("sectors 0", [(36, bytes(8))]),
                          ("version", [(16, b"\7")]), ("entry outside", [(64, ones * 4)])):
        bad(good["parallels"], "parallels", name, patches)
    v = good["vhdx"]
    regions = {v[at:at + 16]: (at, *struct.unpack_from("<QI", v, at + 16)) for at in (196608 + 16, 196608 + 48)}
    bat = next(r for g, r in regions.items() if g[:4] == bytes.fromhex("6677c22d"))
    meta = next(r for g, r in regions.items() if g[:4] == bytes.fromhex("06a27c8b"))
    def vsums(b):
        for at, n in ((65536, 4096), (131072, 4096), (196608, 65536), (262144, 65536)):
            b[at + 4:at + 8] = bytes(4)
            b[at + 4:at + 8] = struct.pack("<I", crc32c(b[at:at + n]))
    item = lambda guid: meta[1] + struct.unpack_from("<I", v, v.index(bytes.fromhex(guid), meta[1]) + 16)[0]
    both = lambda at, value: [(at, value), (at + 65536, value)]
    for name, patches, fix in (("signature", [(0, b"x")], None), ("headers", both(65536 + 4, b"xxxx"), None), ("regions", both(196608 + 4, b"xxxx"), None),
                               ("table outside", both(bat[0] + 16, huge), vsums), ("metadata outside", both(meta[0] + 16, huge), vsums), ("table 0", both(bat[0] + 24, bytes(4)), vsums),
                               ("size 2^63", [(item("2442a52f1bcd7648b2115dbed83bf4b8"), huge)], None), ("size 0", [(item("2442a52f1bcd7648b2115dbed83bf4b8"), bytes(8))], None),
                               ("block 0", [(item("3767a1ca36fa434db3b633f0aa44e76b"), bytes(4))], None), ("sector 0", [(item("1dbf41816fa90947ba47f233a8faab5f"), bytes(4))], None),
                               ("parent", [(item("3767a1ca36fa434db3b633f0aa44e76b") + 4, b"\2")], None), ("entry outside", [(bat[1], b"\6\0\0\0\0\0\0\x7f")], None),
                               ("entry in the header", [(bat[1], b"\6\0\0\0\0\0\0\0")], None), ("count of items", [(meta[1] + 10, b"\xff\xff"), (meta[1] + 32, bytes(512))], None),
                               ("log that is none", both(65536 + 48, b"x" * 16), vsums)):
        bad(v, "vhdx", name, patches, fix or (lambda b: None))
    # cut short anywhere, and noise
    r = random.Random(2)
    for fmt, g in good.items():
        for _ in range(12):
            b = bytearray(g[:r.randrange(len(g))])
            for _ in range(r.randrange(30)):
                if b:
                    b[r.randrange(min(len(b), 4096))] = r.randrange(256)
            with open("bad", "wb") as f:
                f.write(b)
            p = subprocess.run([*lodge, "convert", "-f", fmt, "-O", "raw", "bad", "x"], capture_output=True, text=True, timeout=120)
            assert p.returncode in (0, 1) and p.stderr.count("\n") == p.returncode, (fmt, p)


def flat_names():
    """A descriptor cannot make Lodge read a file that lies elsewhere."""
    fill("raw", 1 << 20)
    image("convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=monolithicFlat", "raw", "f.vmdk")
    text = open("f.vmdk").read()
    for name in ("/etc/passwd", "../x", ".hidden", "a/b"):
        with open("bad", "w") as f:
            f.write(text.replace("f-flat.vmdk", name))
        refused("beside", "map", "-f", "vmdk", "bad")
    with open("bad", "w") as f:
        f.write(text.replace("RW 2048 FLAT", "RW 9999999999999999999 FLAT"))
    refuse("vmdk", "huge part")


def vhdx_log():
    """An entry that a writer has logged and not yet brought into the file is brought there, as by QEMU."""
    fill("raw", 30 << 20, 8)
    run("qemu-img", "convert", "-f", "raw", "-O", "vhdx", "raw", "v")
    b = bytearray(open("v", "rb").read())
    head = 65536 if struct.unpack_from("<Q", b, 65536 + 8)[0] > struct.unpack_from("<Q", b, 131072 + 8)[0] else 131072
    log, = struct.unpack_from("<Q", b, head + 72)
    bat = next(struct.unpack_from("<Q", b, at + 16)[0] for at in (196608 + 16, 196608 + 48) if b[at:at + 4] == bytes.fromhex("6677c22d"))
    sector = bytes(b[bat:bat + 4096])
    guid = os.urandom(16)
    def entry(number, tail, at, content):
        e = bytearray(8192)
        e[0:4] = b"loge"
        struct.pack_into("<IIQI", e, 8, 8192, tail, number, 1)
        e[32:48] = guid
        struct.pack_into("<QQ", e, 48, len(b), len(b))
        e[64:68] = b"desc"
        e[68:72] = content[-4:]
        e[72:80] = content[:8]
        struct.pack_into("<QQ", e, 80, at, number)
        e[4096:4100] = b"data"
        struct.pack_into("<I", e, 4100, number >> 32)
        e[4104:8188] = content[8:-4]
        struct.pack_into("<I", e, 8188, number & 0xffffffff)
        struct.pack_into("<I", e, 4, crc32c(e))
        return e
    # the table is lost in the file and stands in the log; the log's ring goes over its end
    first, second = (1 << 20) - 8192, 0
    other = os.urandom(4096)
    b[log:log + (1 << 20)] = bytes(1 << 20)
    stale = entry(3, 16384, bat, other)
    b[log + 16384:log + 16384 + 8192] = stale
    b[log + first:log + first + 8192] = entry(70, first, bat, other)
    b[log + second:log + second + 8192] = entry(71, first, bat, sector)
    b[bat:bat + 4096] = bytes(4096)
    for at in (65536, 131072):
        b[at + 48:at + 64] = guid
        b[at + 4:at + 8] = bytes(4)
        b[at + 4:at + 8] = struct.pack("<I", crc32c(b[at:at + 4096]))
    for name in ("ours", "theirs", "cut"):
        with open(name, "wb") as f:
            f.write(b)
    refused("check -f vhdx -r all", "map", "-f", "vhdx", "ours")
    image("check", "-f", "vhdx", "-r", "all", "ours")
    same("ours", "vhdx")
    run("qemu-img", "check", "-q", "-r", "all", "-f", "vhdx", "theirs")
    same("theirs", "vhdx")
    with open("cut", "r+b") as f:
        f.seek(log)
        f.write(os.urandom(1 << 20))
    refused("log cannot be read", "check", "-f", "vhdx", "-r", "all", "cut")


def checks():
    """A check finds entries that lead outside, and blocks in one place; a sound image, of either tool, has neither."""
    fill("raw", 9 << 20, 5)
    for fmt, option in (("vdi", ()), ("vhdx", ()), ("vmdk", ()), ("vmdk", ("-o", "subformat=twoGbMaxExtentSparse")), ("vmdk", ("-o", "subformat=streamOptimized"))):
        for tool in (lodge, ["qemu-img"]):
            run(*tool, "convert", "-f", "raw", "-O", fmt, *option, "raw", "x")
            assert "No errors" in image("check", "-f", fmt, "x")
            found = json.loads(image("check", "--json", "-f", fmt, "x"))
            assert found["format"] == fmt and found["allocated-clusters"] > 0 and "corruptions" not in found, found
            for part in ("x", "x-s001.vmdk"):
                if os.path.exists(part):
                    os.unlink(part)
    run("qemu-img", "convert", "-f", "raw", "-O", "vdi", "raw", "x")
    with open("x", "r+b") as f:
        f.seek(340)
        table = struct.unpack("<I", f.read(4))[0]
        f.seek(table)
        entries = [e for e in struct.unpack("<9I", f.read(36)) if e < 0xfffffffe]
        assert len(entries) > 2
        f.seek(table)
        f.write(struct.pack("<2I", entries[-1], entries[-1]))
    assert "same place" in image("check", "-f", "vdi", "x", status=2)
    assert json.loads(image("check", "--json", "-f", "vdi", "x", status=2))["corruptions"] >= 1
    with open("x", "r+b") as f:
        f.seek(table)
        f.write(struct.pack("<I", 1000000))
    assert "outside of the file" in image("check", "-f", "vdi", "x", status=2)
    refused("not mended", "check", "-f", "vdi", "-r", "all", "x")
    image("check", "-f", "raw", "raw", status=63)


main(both_ways, written_by_either, vmdk_parts, vmdk_parents, parallels, cloop, dmg, lying_tables, flat_names, vhdx_log, checks)
