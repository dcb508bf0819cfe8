# SPDX-License-Identifier: GPL-2.0-or-later
"""`lodge image` as people type it: options, sizes, names that must not be taken, and files that are none. qemu-img does the same."""
import json
import os
import signal
import struct
import subprocess

from image_common import fill, image, lodge, main, refused, run, same


def virtual_size(name, fmt="qcow2"):
    return json.loads(run("qemu-img", "info", "--output=json", "-f", fmt, name))["virtual-size"]


def sizes():
    """A size is read whole or refused: 1e3 is not 1, and 0x1000 not 0."""
    for text, size in (("0", 0), ("511", 512), ("1.5G", 3 << 29), ("10G", 10 << 30), ("5k", 5120), ("1.3K", 1536), ("2T", 2 << 40)):
        image("create", "-f", "qcow2", "q", text)
        assert virtual_size("q") == size, text
    for text in ("1e3", "0x1000", "1.2.3", ".5G", "10Q", "", " 5M", "nan", "inf", "9223372036854775808", "16E", "18446744073709551616", "5MM"):
        refused("is no size", "create", "-f", "qcow2", "q", text)
    image("create", "-f", "qcow2", "-o", "size=3M", "q")
    assert virtual_size("q") == 3 << 20
    refused("given already", "create", "-f", "qcow2", "-o", "size=3M", "q", "4M")
    image("resize", "-f", "qcow2", "q", "+1M")
    refused("--shrink", "resize", "-f", "qcow2", "q", "-2M")
    image("resize", "-f", "qcow2", "--shrink", "q", "-2M")
    assert virtual_size("q") == 2 << 20
    refused("smaller than that", "resize", "-f", "qcow2", "--shrink", "q", "-3M")
    refused("too large", "measure", "-O", "qcow2", "-o", "cluster_size=512", "--size", "10T")
    refused("does not know '-z'", "resize", "-f", "qcow2", "q", "-z")


def options():
    """Each verb has its own options; several -o are one list."""
    image("create", "-f", "qcow2", "-o", "cluster_size=4K", "-o", "refcount_bits=64", "q", "1M")
    found = json.loads(image("info", "--json", "-f", "qcow2", "q"))
    assert found["cluster-size"] == 4096 and found["format-specific"]["data"]["refcount-bits"] == 64, found
    refused("'--shrink'", "info", "-f", "qcow2", "--shrink", "q")
    refused("'--json'", "snapshot", "-l", "-f", "qcow2", "--json", "q")
    refused("'--frob'", "info", "-f", "qcow2", "--frob", "q")
    refused("'xml'", "info", "-f", "qcow2", "--output=xml", "q")
    refused("option '-f': wants a value", "info", "q", "-f")
    refused("option '--size': wants a value", "measure", "-O", "raw", "--size")
    for jobs in ("0", "17", "abc", "-1", "4x"):
        refused("option '-m'", "convert", "-m", jobs, "-f", "qcow2", "-O", "raw", "q", "o")
    refused("-c and -d", "snapshot", "-f", "qcow2", "-c", "one", "-d", "two", "q")
    assert not os.path.exists("o") and image("snapshot", "-f", "qcow2", "-l", "q").count("\n") == 1


def statuses():
    """What cannot be compared is not different, and what cannot be checked is not sound."""
    fill("raw", 1 << 20)
    image("convert", "-f", "raw", "-O", "qcow2", "raw", "q")
    refused("cannot open", "compare", "-f", "raw", "raw", "missing", status=2)
    refused("cannot open", "compare", "-f", "raw", "missing", "raw", status=2)
    refused("no tables", "check", "-f", "raw", "raw", status=63)
    image("create", "-f", "raw", "other", "1M")
    assert "100.00/100%" in image("compare", "-p", "-f", "qcow2", "-F", "raw", "q", "raw")
    image("compare", "-q", "-f", "qcow2", "-F", "raw", "q", "other", status=1)
    assert image("check", "-q", "-f", "qcow2", "q") == ""


def no_files():
    """A FIFO is refused at once, whoever is or is not at its other end."""
    os.mkfifo("fifo")
    fill("raw", 1 << 20)
    refused("neither a file nor", "convert", "-f", "raw", "-O", "qcow2", "fifo", "q")
    refused("neither a file nor", "convert", "-f", "raw", "-O", "raw", "raw", "fifo")
    refused("neither a file nor", "info", "-f", "raw", "fifo")
    refused("neither a file nor", "info", "-f", "raw", "/dev/null")
    fill("base", 1 << 20, 2)
    image("create", "-f", "qcow2", "-b", "base", "-F", "raw", "q")
    run("qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "raw", "-b", "fifo", "q")
    refused("neither a file nor", "map", "-f", "qcow2", "q")


def taken_names():
    """No file is made over one that is needed."""
    fill("base", 1 << 20)
    with open("base", "rb") as f:
        before = f.read()
    os.link("base", "other-name")
    for name in ("base", "./base", "other-name", os.path.abspath("base")):
        refused("its own backing file", "create", "-f", "qcow2", "-b", "base", "-F", "raw", name)
        refused("give another name", "create", "-f", "qcow2", "-b", "base", "-F", "raw", "-o", f"data_file={name}", "new.qcow2")
    for name in ("new.qcow2", "./new.qcow2", os.path.abspath("new.qcow2")):
        refused("give another name", "create", "-f", "qcow2", "-o", f"data_file={name}", "new.qcow2", "1M")
        refused("give another name", "create", "-f", "qcow2", "-o", f"data_file={name},data_file_raw=on", "new.qcow2", "1M")
    with open("base", "rb") as f:
        assert f.read() == before


def loops():
    """A chain that leads back to itself is told as that, and rebase makes none; nor does it write a name that nobody opens."""
    for name in "abc":
        image("create", "-f", "qcow2", name, "1M")
    image("rebase", "-u", "-f", "qcow2", "-b", "b", "-F", "qcow2", "a")
    image("rebase", "-u", "-f", "qcow2", "-b", "c", "-F", "qcow2", "b")
    image("rebase", "-u", "-f", "qcow2", "-b", "a", "-F", "qcow2", "c")
    for name in "abc":
        refused("overlay of itself", "map", "-f", "qcow2", name)
    refused("overlay of itself", "create", "-f", "qcow2", "-b", "a", "-F", "qcow2", "d")
    for own in ("c", "./c", os.path.abspath("c")):
        refused("its own backing file", "rebase", "-u", "-f", "qcow2", "-b", own, "-F", "qcow2", "c")
    refused("format 'frob' is not known", "rebase", "-u", "-f", "qcow2", "-b", "a", "-F", "frob", "c")
    for name in ('json:{"driver":"raw","file.filename":"a"}', "nbd://localhost/a", "nbd:localhost:1"):
        refused("not a file of this host", "rebase", "-u", "-f", "qcow2", "-b", name, "-F", "raw", "c")
    image("rebase", "-u", "-f", "qcow2", "-b", "", "c")
    image("map", "-f", "qcow2", "a")


def odd_lengths():
    """A raw file that ends within a sector is read with zeroes behind it, as qemu-img reads it, and is not written to; an empty one is a disk too."""
    for length in (1, 511, 1000, 5 * 65536 + 7):
        with open("odd", "wb") as f:
            f.write(os.urandom(length))
        for fmt in ("raw", "qcow2", "vmdk"):
            image("convert", "-f", "raw", "-O", fmt, "odd", "ours")
            run("qemu-img", "convert", "-f", "raw", "-O", fmt, "odd", "theirs")
            same("ours", fmt, "odd")
            same("theirs", fmt, "odd")
        assert json.loads(image("info", "--json", "-f", "raw", "odd"))["virtual-size"] == (length + 511) // 512 * 512
        refused("512", "resize", "-f", "raw", "odd", "1M")
        image("create", "-f", "qcow2", "-b", "odd", "-F", "raw", "overlay")
        same("overlay", "qcow2", "odd")
    open("empty", "wb").close()
    image("convert", "-f", "raw", "-O", "qcow2", "empty", "q")
    image("convert", "-f", "qcow2", "-O", "raw", "q", "r")
    assert os.path.getsize("r") == 0 and virtual_size("q") == 0
    image("resize", "-f", "raw", "r", "1M")
    assert os.path.getsize("r") == 1 << 20


def names_in_json():
    """Whatever bytes a name has, the output is JSON."""
    image("create", "-f", "qcow2", "q", "1M")
    for name in (b"quote\"back\\slash", b"tab\tand \x7f", "grün".encode(), b"\xff\xc0\xaf", b"cut \xe2\x82"):
        subprocess.run([*lodge, "snapshot", "-f", "qcow2", "-c", name, "q"], check=True)
    found = [s["name"] for s in json.loads(image("info", "--json", "-f", "qcow2", "q"))["snapshots"]]
    assert found == ['quote"back\\slash', "tab\tand \x7f", "grün", "???", "cut ??"], found


def cut_files():
    """A file that was cut off within a block has lost data, and check says so; what stands behind the last block does no harm."""
    with open("raw", "wb") as f:
        f.write(os.urandom(8 << 20))
    for fmt, part in (("vmdk", "x"), ("vdi", "x"), ("vpc", "x"), ("vhdx", "x"), ("parallels", "x"), ("monolithicFlat", "x-flat.vmdk"), ("twoGbMaxExtentSparse", "x-s001.vmdk"), ("twoGbMaxExtentFlat", "x-f001.vmdk")):
        kind, name = (fmt, "x") if part == "x" else ("vmdk", "x.vmdk")
        run("qemu-img", "convert", "-f", "raw", "-O", kind, *(() if part == "x" else ("-o", f"subformat={fmt}")), "raw", name)
        image("check", "-f", kind, name)
        length = os.path.getsize(part)
        for left in (length - 1536, length * 2 // 3):
            os.truncate(part, left)
            out = image("check", "-f", kind, name, status=2)
            assert "-r all" not in out and "ERROR" in out, (fmt, left, out)
            assert json.loads(image("check", "--json", "-f", kind, name, status=2))["corruptions"] >= 1
        run("qemu-img", "convert", "-f", "raw", "-O", kind, *(() if part == "x" else ("-o", f"subformat={fmt}")), "raw", name)
        with open(part, "ab") as f:
            f.write(os.urandom(4096))
        image("check", "-f", kind, name)
        image("compare", "-q", "-f", kind, "-F", "raw", name, "raw")


def lying_counts():
    """Where the header or the tables count as free, or their counts or entries lead outside of the file, nothing is written; a repair counts anew."""
    fill("raw", 8 << 20)
    for cluster in ("4K", "64K"):
        run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-o", f"cluster_size={cluster}", "raw", "good")
        run("qemu-img", "snapshot", "-c", "one", "good")
        with open("good", "rb") as f:
            good = f.read()
        l1, refcounts = struct.unpack(">QQ", good[40:56])
        block, = struct.unpack(">Q", good[refcounts:refcounts + 8])
        lies = [(refcounts, n) for n in (0, 1 << 30, 1 << 40, 1 << 55)]
        lies += [(block, 0), (block + 2 * (refcounts // int(cluster[:-1]) // 1024), 0), (l1, 1 << 63 | 1 << 40), (l1, 1 << 30)]
        for at, value in lies:
            bad = good[:at] + value.to_bytes(8, "big") + good[at + 8:]
            with open("bad", "wb") as f:
                f.write(bad)
            if at == l1:
                p = subprocess.run([*lodge, "map", "-f", "qcow2", "bad"], capture_output=True, text=True, timeout=120)
                assert p.returncode == 1 and "leads outside" in p.stderr and "cannot be read" in p.stderr, p
            else:
                for verb in (("resize", "-f", "qcow2", "bad", "+1M"), ("snapshot", "-f", "qcow2", "-c", "two", "bad"), ("serve", "-q", "-f", "qcow2", "--socket", "s", "bad")):
                    refused("counts as free", *verb)
                image("compare", "-q", "-f", "qcow2", "-F", "raw", "bad", "raw")
            with open("bad", "rb") as f:
                assert f.read() == bad, (cluster, at, value)
            image("check", "-f", "qcow2", "bad", status=2)
            image("check", "-f", "qcow2", "-r", "all", "bad")
            run("qemu-img", "check", "-q", "-f", "qcow2", "bad")
            if at != l1:
                same("bad", "qcow2")


def onto_backing():
    """A copy with a backing file has zeroes where the disk has them, whatever the backing file has there."""
    fill("raw", 4 << 20, 3)
    with open("base", "wb") as f:
        f.write(os.urandom(4 << 20))
    for extra in ((), ("-c",), ("-C",), ("-o", "compat=0.10"), ("-o", "extended_l2=on"), ("-o", "cluster_size=2M")):
        image("convert", *extra, "-f", "raw", "-O", "qcow2", "-o", "backing_file=base,backing_fmt=raw", "raw", "q")
        same("q", "qcow2")
        run("qemu-img", "check", "-q", "q")


def larger_backing():
    """What an overlay grows by is zeroes, also where its backing file has more; and no preallocation hides one."""
    with open("base", "wb") as f:
        f.write(os.urandom(3 << 20))
    for extra in ((), ("-o", "compat=0.10"), ("-o", "extended_l2=on"), ("-o", "cluster_size=2M")):
        for tool in (lodge, ["qemu-img"]):
            run(*tool, "create", "-q", "-f", "qcow2", *extra, "-b", "base", "-F", "raw", "q", str((1 << 20) + 1536))
            run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", "q", "want")
            image("resize", "-f", "qcow2", "q", "4M")
            os.truncate("want", 4 << 20)
            same("q", "qcow2", "want")
            run("qemu-img", "check", "-q", "q")
    for how in ("metadata", "falloc", "full"):
        refused("hide the backing file", "create", "-f", "qcow2", "-o", f"preallocation={how}", "-b", "base", "-F", "raw", "q")


def dd_bytes():
    """What count leaves out is not copied, also within the last sector."""
    fill("raw", 1 << 20, 3)
    with open("raw", "r+b") as f:
        f.write(os.urandom(8192))
    for args in (("bs=1000", "count=3"), ("bs=1", "count=5"), ("bs=513", "count=1")):
        run("qemu-img", "dd", "-f", "raw", "-O", "raw", "if=raw", "of=theirs", *args)
        for offload in ((), ("-C",)):
            image("dd", *offload, "-f", "raw", "-O", "raw", "if=raw", "of=ours", *args)
            run("cmp", "ours", "theirs")


def raw_data_file():
    """A raw data file is the disk, also after another size of it."""
    fill("raw", 3 << 20)
    image("convert", "-f", "raw", "-O", "qcow2", "-o", "data_file=data,data_file_raw=on", "raw", "q")
    for size in (5 << 20, 2 << 20, 4 << 20):
        image("resize", "--shrink", "-f", "qcow2", "q", str(size))
        assert os.path.getsize("data") == size
        same("q", "qcow2", "data")
        run("qemu-img", "check", "-q", "q")


def interrupted():
    """A signal in the middle of a copy ends it by that signal, and leaves the old image as it was, and unlocked."""
    fill("raw", 8 << 20)
    with open("raw", "rb") as f:
        before = f.read()
    p = subprocess.Popen([*lodge, "convert", "-p", "-r", "64K", "-m", "1", "-f", "raw", "-O", "qcow2", "raw", "q"], stdout=subprocess.PIPE)
    assert p.stdout.read(1)  # it is under way
    p.send_signal(signal.SIGINT)
    assert p.wait(60) == -signal.SIGINT
    p.stdout.close()
    with open("raw", "rb") as f:
        assert f.read() == before
    image("resize", "-f", "raw", "raw", "+1M")
    image("convert", "-f", "raw", "-O", "qcow2", "raw", "q")
    same("q", "qcow2")


def full_disk():
    """Without space, the error says what becomes of the new file, and an image that there was stays sound."""
    os.mkdir("small")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1M", "none", "small"], capture_output=True).returncode:
        print("full_disk: nothing may be mounted here, and nothing was tested")
        return
    try:
        with open("raw", "wb") as f:
            f.write(os.urandom(4 << 20))
        for fmt in ("raw", "qcow2", "vmdk", "vdi", "vpc"):
            refused("not complete: remove it, and free space", "convert", "-f", "raw", "-O", fmt, "raw", "small/x")
            os.unlink("small/x")
        image("create", "-f", "qcow2", "small/q", "8M")
        with open("small/rest", "wb", buffering=0) as f:
            try:
                while f.write(bytes(4096)):
                    pass
            except OSError:
                pass
        refused("No space", "bitmap", "-f", "qcow2", "--add", "small/q", "b")
        refused("No space", "snapshot", "-f", "qcow2", "-c", "s", "small/q")
        os.unlink("small/rest")
        image("check", "-f", "qcow2", "small/q")
    finally:
        subprocess.run(["umount", "small"], check=True)


main(sizes, options, statuses, no_files, taken_names, loops, odd_lengths, names_in_json, cut_files, lying_counts, onto_backing, larger_backing, dd_bytes, raw_data_file, interrupted, full_disk)
