#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""block.py --lodge LODGE --bench BLOCK_BENCH [--runs N] [--only REGEX] [--dir FOLDER]: disk images, Lodge beside qemu-img.

Each case runs Lodge's and QEMU's command in turn, N times, on files of the same contents that are made before. `qemu-img bench` and block_bench do the same requests
with the same queue depth through the page cache, so what is measured is the block layer; they tell the time of the requests themselves. Commands of
qemu-img and `lodge image` are measured from start to end. Cases that differ in the format only run in turn too, so that what else the machine does weighs on
all four alike. Medians, with the lowest and highest behind them; a ratio above 1 says that Lodge is faster, or takes less CPU time (its threads' and the
kernel's workers' together). In each round they take their turns in another order: what one run leaves behind, as memory that this machine's host takes back when it is free, meets
all of them."""
import argparse
import atexit
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time

a = argparse.ArgumentParser()
a.add_argument("--lodge", required=True)
a.add_argument("--bench", required=True)
a.add_argument("--runs", type=int, default=5)
a.add_argument("--only", default="")
a.add_argument("--dir")
args = a.parse_args()
MIB = 1 << 20
DATA = 512 * MIB
lodge = [os.path.abspath(args.lodge), "image"]
bench = os.path.abspath(args.bench)


def run(*cmd):
    p = subprocess.run(cmd, capture_output=True, text=True)
    if p.returncode:
        sys.exit(f"block.py: {' '.join(cmd)}: {p.stdout}{p.stderr}")
    return p.stdout


def timed(*cmd):
    """Seconds of the clock and of CPU that a command takes, and what it prints."""
    start = time.monotonic()
    p = subprocess.Popen(cmd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    out = p.stdout.read()
    _, status, usage = os.wait4(p.pid, 0)
    p.returncode = status
    if status:
        sys.exit(f"block.py: {' '.join(cmd)}: {out}")
    return time.monotonic() - start, usage.ru_utime + usage.ru_stime, out


def make(path, fmt, *options, data=True):
    """An image of DATA bytes; with `data`, every cluster written."""
    if os.path.exists(path):
        os.unlink(path)
    run("qemu-img", "create", "-q", "-f", fmt, *options, path, str(DATA))
    if data:
        run("qemu-io", "-f", fmt, *[x for at in range(0, DATA, 64 * MIB) for x in ("-c", f"write -q -P 17 {at} 64M")], path)


# ---- requests: the same ones, by `qemu-img bench` and by block_bench ----

def requests(fmt, op, size, count, order, path):
    """Seconds that `count` requests of `size` bytes take, 32 under way. order: step of bytes from one to the next; a large odd one goes all over."""
    step = {"seq": size, "random": (DATA // size // 2 * 2 - 1) // 3 * 2 * size + size}[order]
    ours = [bench, fmt, op, str(size), str(count), str(step), path]
    theirs = ["qemu-img", "bench", "-f", fmt, "-d", "32", "-c", str(count), "-s", str(size), "-S", str(step)] + (["-w"] if op == "write" else []) + [path]
    return ours, theirs


def by_tool(tool, ours, theirs):
    _, cpu, out = timed(*(ours if tool == "lodge" else theirs))
    return float(out if tool == "lodge" else re.search(r"([\d.]+) seconds", out).group(1)), cpu


def io_case(fmt, op, size, count, order, options=(), fresh=None):
    """fresh: makes the image anew before each run."""
    disk = f"disk.{fmt}"
    def prepare():
        if not fresh:
            make(disk, fmt, *options)
            os.sync()
    def each(tool):
        if fresh:
            fresh(disk)
            os.sync()
        return by_tool(tool, *requests(fmt, op, size, count, order, disk))
    return prepare, each


def nbd_case(op, size, count):
    """Random requests to qemu-nbd on a Unix socket."""
    uri = "nbd+unix:///?socket=" + os.path.join(folder.name, "nbd.sock")
    def prepare():
        if os.path.exists("served"):
            return
        make("served", "raw")
        server = subprocess.Popen(["qemu-nbd", "-k", os.path.join(folder.name, "nbd.sock"), "-f", "raw", "-t", "-e", "4", "--cache=writeback", "served"])
        atexit.register(lambda: (server.kill(), server.wait()))
        while not os.path.exists("nbd.sock"):
            time.sleep(0.05)
    def each(tool):
        os.sync()
        return by_tool(tool, *requests("raw", op, size, count, "random", uri))
    return prepare, each


def empty(fmt, *options):
    return lambda disk: make(disk, fmt, *options, data=False)


def overlay(disk):
    if not os.path.exists("base"):
        make("base", "qcow2")
    if os.path.exists(disk):
        os.unlink(disk)
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", "base", "-F", "qcow2", disk)


# ---- whole commands ----

def command(tool, *args):
    return timed(*(lodge if tool == "lodge" else ["qemu-img"]), *args)[:2]


def mixed():
    """Half zeroes, a quarter text, a quarter noise; raw, as qcow2, and compressed."""
    if os.path.exists("mixed"):
        return
    r = random.Random(1)
    words = [r.randbytes(5).hex().encode() for _ in range(2000)]
    text = b" ".join(r.choice(words) for _ in range(110000))[:MIB]
    with open("mixed", "wb") as f:
        f.truncate(DATA)
        for at in range(0, DATA, 4 * MIB):
            f.seek(at)
            cut = r.randrange(MIB)
            f.write(r.randbytes(MIB) + text[cut:] + text[:cut])
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "mixed", "mixed.qcow2")
    run(*lodge, "convert", "-c", "-f", "raw", "-O", "qcow2", "mixed", "packed.qcow2")


def convert_case(src, dst, *options, compressed=False):
    def each(tool):
        if os.path.exists("out"):
            os.unlink("out")
        os.sync()
        name = "packed.qcow2" if compressed else "mixed" if src == "raw" else "mixed.qcow2"
        return command(tool, "convert", *options, "-f", src, "-O", dst, name, "out")
    return mixed, each


def commit_case(fmt):
    """Half of the disk is in the overlay."""
    def prepare():
        make("below", fmt)
        if os.path.exists("above"):
            os.unlink("above")
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", "below", "-F", fmt, "above")
        run("qemu-io", "-f", "qcow2", *[x for at in range(0, DATA // 2, 64 * MIB) for x in ("-c", f"write -q -P 18 {at} 64M")], "above")
    def each(tool):
        run("cp", "above", "out")
        os.sync()
        return command(tool, "commit", "-q", "-f", "qcow2", "out")
    return prepare, each


def check_case():
    """100 GB, each of the 1.6 million clusters in use; they are holes in the file."""
    def prepare():
        if not os.path.exists("large"):
            run(*lodge, "create", "-f", "qcow2", "-o", "preallocation=metadata", "large", "100G")
    return prepare, lambda tool: command(tool, "check", "-f", "qcow2", "large")


def create_case(*options, fmt="qcow2"):
    def each(tool):
        if os.path.exists("new"):
            os.unlink("new")
        return command(tool, "create", "-f", fmt, *options, "new", "100G")
    return lambda: None, each


folder = tempfile.TemporaryDirectory(dir=args.dir)
CASES = {
    "raw: sequential read 64K": io_case("raw", "read", 65536, 40000, "seq"),
    "raw: random read 4K": io_case("raw", "read", 4096, 150000, "random"),
    "raw: sequential write 64K": io_case("raw", "write", 65536, 20000, "seq"),
    "raw: random write 4K": io_case("raw", "write", 4096, 100000, "random"),
    "qcow2: sequential read 64K": io_case("qcow2", "read", 65536, 40000, "seq"),
    "qcow2: random read 4K": io_case("qcow2", "read", 4096, 150000, "random"),
    "qcow2: sequential write 64K": io_case("qcow2", "write", 65536, 20000, "seq"),
    "qcow2: random write 4K": io_case("qcow2", "write", 4096, 100000, "random"),
    "raw preallocated: sequential write 64K": io_case("raw", "write", 65536, 8192, "seq", fresh=empty("raw", "-o", "preallocation=falloc")),
    "qcow2 preallocated: sequential write 64K": io_case("qcow2", "write", 65536, 8192, "seq", fresh=empty("qcow2", "-o", "preallocation=falloc")),
    "raw preallocated: random write 4K": io_case("raw", "write", 4096, 40000, "random", fresh=empty("raw", "-o", "preallocation=falloc")),
    "qcow2 preallocated: random write 4K": io_case("qcow2", "write", 4096, 40000, "random", fresh=empty("qcow2", "-o", "preallocation=falloc")),
    "qcow2 with preallocated metadata: sequential write 64K": io_case("qcow2", "write", 65536, 8192, "seq", fresh=empty("qcow2", "-o", "preallocation=metadata")),
    "raw: allocating sequential write 64K": io_case("raw", "write", 65536, 8192, "seq", fresh=empty("raw")),
    "qcow2: allocating sequential write 64K": io_case("qcow2", "write", 65536, 8192, "seq", fresh=empty("qcow2")),
    "raw: allocating sequential write 4K": io_case("raw", "write", 4096, 40000, "seq", fresh=empty("raw")),
    "qcow2: allocating sequential write 4K": io_case("qcow2", "write", 4096, 40000, "seq", fresh=empty("qcow2")),
    "raw: allocating random write 4K": io_case("raw", "write", 4096, 8000, "random", fresh=empty("raw")),
    "qcow2: allocating random write 4K": io_case("qcow2", "write", 4096, 8000, "random", fresh=empty("qcow2")),
    "qcow2: copy on write, random 4K": io_case("qcow2", "write", 4096, 8000, "random", fresh=overlay),
    "qcow2: copy on write, sequential 64K": io_case("qcow2", "write", 65536, 8192, "seq", fresh=overlay),
    "NBD: random read 4K": nbd_case("read", 4096, 30000),
    "NBD: random read 64K": nbd_case("read", 65536, 8000),
    "NBD: random write 4K": nbd_case("write", 4096, 30000),
    "NBD: random write 64K": nbd_case("write", 65536, 8000),
    "convert raw to qcow2": convert_case("raw", "qcow2"),
    "convert qcow2 to raw": convert_case("qcow2", "raw"),
    "convert qcow2 to qcow2": convert_case("qcow2", "qcow2"),
    "convert raw to qcow2, compressed": convert_case("raw", "qcow2", "-c"),
    "convert raw to qcow2, zstd": convert_case("raw", "qcow2", "-c", "-o", "compression_type=zstd"),
    "convert compressed qcow2 to raw": convert_case("qcow2", "raw", compressed=True),
    "commit to raw": commit_case("raw"),
    "commit to qcow2": commit_case("qcow2"),
    "check 100 GB": check_case(),
    "create 100 GB raw": create_case(fmt="raw"),
    "create 100 GB": create_case(),
    "create 100 GB, preallocated metadata": create_case("-o", "preallocation=metadata"),
}


def figure(times):
    scale, unit = (1000, "ms") if statistics.median(times) < 1 else (1, "s")
    return f"{statistics.median(times) * scale:.3g} {unit} ({min(times) * scale:.3g}..{max(times) * scale:.3g})"


def row(name, runs):
    wall, cpu = ({tool: [r[i] for r in runs[tool]] for tool in runs} for i in (0, 1))
    cpu = {tool: statistics.median(cpu[tool]) for tool in cpu}
    ratio = statistics.median(wall["qemu"]) / statistics.median(wall["lodge"])
    print(f"| {name} | {figure(wall['lodge'])} | {figure(wall['qemu'])} | {ratio:.2f} | {cpu['lodge']:.3g} s, {cpu['qemu']:.3g} s | {cpu['qemu'] / cpu['lodge']:.2f} |", flush=True)


def of_raw(runs):
    """The speed of qcow2 in % of raw's, by the clock and by CPU time: each run beside the one that was made with it."""
    return [100 * statistics.median(raw[i] / qcow2[i] for raw, qcow2 in zip(runs["raw"]["lodge"], runs["qcow2"]["lodge"])) for i in (0, 1)]


print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} CPUs, {args.runs} runs each, {DATA // MIB} MiB of data\n")
print("| case | lodge | qemu | qemu / lodge | CPU time: lodge, qemu | qemu / lodge |\n|---|---|---|---|---|---|")
shares = []
shuffle = random.Random()
os.chdir(folder.name)
for name in CASES:
    twin = re.sub("^qcow2", "raw", name) if name.startswith("qcow2") else None
    if not re.search(args.only, name) or name.startswith("raw") and re.sub("^raw", "qcow2", name) in CASES:
        continue
    group = {"raw": twin, "qcow2": name} if twin in CASES else {"": name}
    runs = {fmt: {"lodge": [], "qemu": []} for fmt in group}
    for case in group.values():
        CASES[case][0]()
    for _ in range(args.runs):
        turns = [(fmt, tool) for fmt in group for tool in ("lodge", "qemu")]
        for fmt, tool in shuffle.sample(turns, len(turns)):
            runs[fmt][tool].append(CASES[group[fmt]][1](tool))
    for fmt, case in group.items():
        row(case, runs[fmt])
    if twin in CASES:
        shares.append((name, of_raw(runs)))
print()
for name, (wall, cpu) in shares:
    print(f"{wall:.0f} % of raw's speed by the clock, {cpu:.0f} % by CPU time: {name}")
os.chdir("/")
