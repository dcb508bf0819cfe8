# SPDX-License-Identifier: GPL-2.0-or-later
"""The same programs in a guest of Lodge, in the same guest under QEMU TCG, and on the host, interleaved; medians, ratios and geometric means."""
import math
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

import image
import vmm

# Programs of Debian's packages: name, group, amount of work for tools.sh, and the program that must be there.
TOOLS = [
    ("sha256sum", "compute", 8 << 20, "sha256sum"),
    ("md5sum", "compute", 8 << 20, "md5sum"),
    ("gzip", "compute", 2 << 20, "gzip"),
    ("bzip2", "compute", 1 << 20, "bzip2"),
    ("xz", "compute", 400000, "xz"),
    ("awk", "compute", 4 << 20, "mawk"),
    ("shell-loop", "compute", 150000, "dash"),
    ("python-nbody", "compute", 3000, "python3"),
    ("python-fannkuch", "compute", 7, "python3"),
    ("python-json", "compute", 30, "python3"),
    ("python-regex", "compute", 1 << 20, "python3"),
    ("sqlite", "compute", 20000, "sqlite3"),
    ("gcc", "compute", 1, "gcc"),
    ("perl", "compute", 200000, "perl"),
    ("lua", "compute", 500000, "lua5.4"),
    ("openssl-aes", "compute", 8 << 20, "openssl"),
    ("openssl-sha256", "compute", 8 << 20, "openssl"),
    ("openssl-rsa", "compute", 8, "openssl"),
    ("dd", "os", 100000, "dd"),
    ("python-start", "os", 5, "python3"),
]
LIMIT = 240 # seconds for one run of one program


class Program:
    def __init__(self, name, group, command):
        self.name, self.group, self.command = name, group, command
        self.seconds = {"native": [], "lodge": [], "qemu-tcg": []}
        self.checksums = {}

    def run(self, place):
        """One run; returns None, or what was wrong. A wrong result does not enter the figures."""
        try:
            out = place.run(self.command, LIMIT)
        except (vmm.Failure, subprocess.TimeoutExpired) as e:
            return "%s: %s: %s" % (place.name, self.name, e)
        m = re.search(r"^%s ([0-9.]+) ([0-9a-f]{16})\r*$" % re.escape(self.name), out, re.M)
        if not m:
            return "%s: %s: no result in %r" % (place.name, self.name, out[-300:])
        if self.checksums.setdefault("native", m.group(2)) != m.group(2):
            return "%s: %s: checksum %s; the host has %s" % (place.name, self.name, m.group(2), self.checksums["native"])
        self.seconds[place.name].append(float(m.group(1)))
        return None

    def median(self, place):
        return statistics.median(self.seconds[place]) if self.seconds[place] else None

    def ratio(self, above, below):
        a, b = self.median(above), self.median(below)
        return a / b if a and b else None


def select(lodge_bench, tools, quick, only):
    """The programs to run, and the names of those that this host cannot pack."""
    chosen, missing = [], []
    for line in subprocess.run([lodge_bench, "--list"], capture_output=True, text=True, check=True).stdout.splitlines():
        name, group, work = line.split()
        # fib's work is its argument: its time grows with the 1.6th power
        work = "" if not quick else " %d" % (20 if name == "fib" else max(1, int(work) // 50))
        chosen.append(Program(name, group, "./lodge-bench %s%s" % (name, work)))
    for name, group, work, needed in TOOLS:
        if needed not in tools or "dash" not in tools:
            missing.append(name)
            continue
        work = 5 if quick and name == "python-fannkuch" else max(1, work // 50) if quick else work
        chosen.append(Program(name, group, "./lodge-bench --time %s dash tools.sh %s %d" % (name, name, work)))
    if only:
        chosen = [p for p in chosen if re.fullmatch(only, p.name)]
    return chosen, missing


def show(values):
    if not values:
        return "-"
    digits = "%.0f" if statistics.median(values) >= 0.1 else "%.1f"
    return " ".join((digits % (statistics.median(values) * 1e3), "(" + digits % (min(values) * 1e3) + ".." + digits % (max(values) * 1e3) + ")"))


def number(value):
    return "-" if value is None else "%.2f" % value


def geomean(values):
    values = [v for v in values if v]
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


def table(programs):
    print("| program | native, ms | lodge, ms | qemu-tcg, ms | lodge / native | qemu-tcg / lodge |\n|---|---|---|---|---|---|")
    for group in ("compute", "os"):
        rows = [p for p in programs if p.group == group]
        for p in rows:
            print("| %s | %s | %s | %s | %s | %s |" % (p.name, show(p.seconds["native"]), show(p.seconds["lodge"]), show(p.seconds["qemu-tcg"]),
                                                  number(p.ratio("lodge", "native")), number(p.ratio("qemu-tcg", "lodge"))))
        if rows:
            print("| **geomean, %s** (%d) | | | | **%s** | **%s** |" % (group, len(rows), number(geomean(p.ratio("lodge", "native") for p in rows)),
                                                                 number(geomean(p.ratio("qemu-tcg", "lodge") for p in rows))))


def run_all(programs, places, runs, wrong):
    """Runs everything, the host first, since its checksum is the measure; adds what went wrong to a list."""
    for turn in range(runs):
        for p in programs:
            for place in places:
                print("\r%d/%d %s: %s\033[K" % (turn + 1, runs, p.name, place.name), end="", file=sys.stderr)
                fault = p.run(place)
                if fault:
                    wrong.append(fault)
                    print("\r\033[K" + fault, file=sys.stderr)
    print("\r\033[K", end="", file=sys.stderr)


def measure(a, vmms):
    """Prints the table; returns the number of things that were wrong."""
    lodge_bench = os.path.abspath(a.first + "/programs/lodge-bench")
    work = tempfile.mkdtemp(prefix="lodge-bench.", dir=os.path.abspath(a.first))
    places = []
    try:
        scratch = work + "/scratch"
        os.makedirs(scratch)
        initrd, data, tools = image.make(work, a.demo, lodge_bench, os.path.dirname(os.path.abspath(__file__)))
        programs, missing = select(lodge_bench, tools, a.quick, a.only)
        guests = [vmm.Guest(v, a.cpus, initrd) for v in vmms]
        places = [vmm.Host(data, scratch)] + guests
        wrong = []
        try:
            run_all(programs, places, a.runs, wrong)
        except KeyboardInterrupt:
            wrong.append("interrupted: the table has what was measured until then")
        for g in guests:
            if g.process and abs(g.clock_error()) > 0.02:
                wrong.append("%s: the guest's clock is off by %.1f %%" % (g.name, g.clock_error() * 100))
        table(programs)
        if missing:
            print("\nLeft out, since this host does not have them: " + ", ".join(missing))
        for fault in wrong:
            print("\nWrong: " + fault)
        return len(wrong)
    finally:
        for place in places:
            place.stop()
        shutil.rmtree(work, ignore_errors=True)
