#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""image_reflink_test.py LODGE [TEST...]: what `convert -C` and `commit` copy on file systems that share blocks, XFS and Btrfs, takes no room: the copy has the
same blocks as the original. Wants root and loop devices; where there are none, status 77 says that nothing was tested."""
import contextlib
import fcntl
import os
import struct
import sys
import tempfile

from image_common import image, main, run, same

FS_IOC_FIEMAP, SYNC, SHARED = 0xC020660B, 1, 0x2000  # linux/fiemap.h
FS_IOC_GETFLAGS, NOCOW = 0x80086601, 0x800000  # linux/fs.h
EXTENTS = 1000


@contextlib.contextmanager
def mounted(kind):
    """A new file system of this kind; the working directory is in it."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as d:
        disk, place = os.path.join(d, "disk"), os.path.join(d, "mnt")
        os.mkdir(place)
        with open(disk, "wb") as f:
            f.truncate(400 << 20)
        run(f"mkfs.{kind}", "-q", disk)
        run("mount", "-o", "loop", "-t", kind, disk, place)
        try:
            os.chdir(place)
            yield
        finally:
            os.chdir(before)
            run("umount", place)


def shared(path):
    """Bytes of the file that lie in blocks which other files have as well."""
    buf = bytearray(struct.pack("=QQIIII", 0, (1 << 64) - 1, SYNC, 0, EXTENTS, 0) + bytes(56 * EXTENTS))
    with open(path, "rb") as f:
        fcntl.ioctl(f, FS_IOC_FIEMAP, buf)
    n = struct.unpack_from("=I", buf, 20)[0]
    assert n < EXTENTS, n
    rows = [struct.unpack_from("=QQQQQIIII", buf, 32 + 56 * i) for i in range(n)]
    return sum(r[2] for r in rows if r[5] & SHARED)


DATA = 6 << 20  # bytes, in clusters that are written as a whole


def mostly_shared(path):
    assert shared(path) >= DATA - (64 << 10), (path, shared(path))


def shares():
    with open("raw", "wb") as f:
        f.write(os.urandom(DATA))
        f.truncate(16 << 20)
    for fmt in ("raw", "qcow2"):
        image("convert", "-C", "-f", "raw", "-O", fmt, "raw", f"new.{fmt}")
        same(f"new.{fmt}", fmt)
        mostly_shared(f"new.{fmt}")
    image("convert", "-C", "-f", "qcow2", "-O", "raw", "new.qcow2", "back")
    run("cmp", "raw", "back")
    mostly_shared("back")
    run("qemu-img", "check", "-q", "new.qcow2")


def commits():
    for fmt in ("raw", "qcow2"):
        image("create", "-f", fmt, f"base.{fmt}", "16M")
        image("create", "-f", "qcow2", "-b", f"base.{fmt}", "-F", fmt, "over")
        with open("wanted", "wb") as f:
            f.write(os.urandom(DATA))
            f.truncate(16 << 20)
        image("convert", "-f", "raw", "-O", "qcow2", "wanted", "copy")
        image("rebase", "-u", "-f", "qcow2", "-b", f"base.{fmt}", "-F", fmt, "copy")
        run("cp", "--reflink=always", "copy", "kept")  # the overlay is emptied
        image("commit", "-q", "-f", "qcow2", "copy")
        same(f"base.{fmt}", fmt, "wanted")
        mostly_shared(f"base.{fmt}")
        if fmt == "qcow2":
            run("qemu-img", "check", "-q", "base.qcow2")
        for name in (f"base.{fmt}", "over", "copy", "kept"):
            os.unlink(name)


def in_place():
    """nocow is for Btrfs, as qemu-img has it."""
    for fmt in ("raw", "qcow2"):
        for value in ("on", "off"):
            image("create", "-f", fmt, "-o", f"nocow={value}", "disk", "16M")
            with open("disk", "rb") as f:
                flags = struct.unpack("=q", fcntl.ioctl(f, FS_IOC_GETFLAGS, bytes(8)))[0]
            assert bool(flags & NOCOW) == (value == "on"), (fmt, value, flags)
            os.unlink("disk")


def on(kind, test):
    def body():
        with mounted(kind):
            test()
    body.__name__ = f"{kind}_{test.__name__}"
    return body


def can_mount():
    try:
        with mounted("btrfs"):
            return True
    except (AssertionError, OSError):
        return False


if not can_mount():
    print("no loop device, or not permitted to mount: nothing was tested")
    sys.exit(77)
main(*(on(kind, test) for kind in ("btrfs", "xfs") for test in (shares, commits)), on("btrfs", in_place))
