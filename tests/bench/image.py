# SPDX-License-Identifier: GPL-2.0-or-later
"""The larger initrd of `make bench`: the demo's, and behind it an archive with lodge-bench, its data, and programs of this host with their libraries.

Linux unpacks concatenated archives one after another. The host runs the same files: programs from its own /usr, data from the folder that is packed."""
import os
import random
import re
import shutil
import subprocess

TOOLS = ("dash", "head", "cat", "rm", "sha256sum", "md5sum", "gzip", "bzip2", "xz", "mawk", "dd", "python3", "perl", "lua5.4", "sqlite3", "gcc", "as", "openssl")
PYTHON_LEAVES_OUT = shutil.ignore_patterns("test", "tests", "idlelib", "tkinter", "lib2to3", "ensurepip", "distutils", "config-*", "dist-packages", "site-packages",
                                           "pydoc_data", "turtledemo", "asyncio", "multiprocessing", "unittest", "sitecustomize.py")


def libraries(path):
    """Paths of the shared libraries that a program is loaded with, the loader included."""
    out = subprocess.run(["ldd", path], capture_output=True, text=True).stdout
    return re.findall(r"(/\S+) \(0x", out)


def find_tools():
    """Name to path, of those that this host has in /usr/bin."""
    return {name: "/usr/bin/" + name for name in TOOLS if os.access("/usr/bin/" + name, os.X_OK)}


class Root:
    """A folder that becomes an archive. A Debian root has its /lib in /usr/lib."""

    def __init__(self, top):
        self.top = top
        shutil.rmtree(top, ignore_errors=True)
        os.makedirs(top + "/usr/lib")
        os.makedirs(top + "/usr/lib64")
        os.symlink("usr/lib", top + "/lib")
        os.symlink("usr/lib64", top + "/lib64")

    def file(self, path):
        """Copies a file of the host to the same place, links resolved."""
        to = self.top + path
        if not os.path.exists(to):
            os.makedirs(os.path.dirname(to), exist_ok=True)
            shutil.copy2(path, to)

    def program(self, path):
        self.file(path)
        for lib in libraries(path):
            self.file(lib)

    def archive(self, to):
        names = subprocess.run("find . | LC_ALL=C sort", shell=True, cwd=self.top, capture_output=True, check=True).stdout
        with open(to, "wb") as f:
            subprocess.run(["cpio", "--quiet", "-o", "-H", "newc", "-R", "0:0"], cwd=self.top, input=names, stdout=f, check=True)


def add_archive(demo, folder):
    """FOLDER/initrd: the demo's initrd, and FOLDER/tools.cpio behind it."""
    with open(folder + "/initrd", "wb") as out:
        for part in (demo + "/initrd.gz", folder + "/tools.cpio"):
            with open(part, "rb") as f:
                shutil.copyfileobj(f, out)
            out.write(b"\0" * (-out.tell() % 4)) # an archive begins at a multiple of four


def write_data(folder, here):
    """Text like prose, SQL, a C file without its headers, a key: the same in every run, for one machine."""
    rnd = random.Random(1)
    words = ["".join(rnd.choice("etaoinshrdlucmfw") for _ in range(rnd.randint(2, 9))) + rnd.choice(("", "", "", "ing")) for _ in range(3000)]
    with open(folder + "/data", "w") as f:
        size = 0
        while size < 8 << 20:
            line = " ".join(words[int(rnd.paretovariate(0.6)) % len(words)] for _ in range(12)) + "\n"
            f.write(line)
            size += len(line)
    with open(folder + "/inserts.sql", "w") as f:
        for i in range(40000):
            f.write("INSERT INTO t(b, c) VALUES('%s %s', %d);\n" % (rnd.choice(words), rnd.choice(words), rnd.randrange(5000)))
    subprocess.run(["gcc", "-E", "-P", "-o", folder + "/medium.i", here + "/programs/integer.c"], check=True)
    if os.path.exists("/usr/bin/openssl"):
        subprocess.run(["openssl", "genrsa", "-out", folder + "/rsa.pem", "2048"], check=True, capture_output=True)
    for name in ("tools.sh", "work.py", "work.pl", "work.lua"):
        shutil.copy(here + "/" + name, folder)


def make(top, demo, lodge_bench, here):
    """Writes TOP/initrd; returns (its path, the folder of data for the host, the tools that were found)."""
    root = Root(top + "/root")
    data = root.top + "/bench"
    os.makedirs(data)
    write_data(data, here)
    shutil.copy2(lodge_bench, data)
    tools = find_tools()
    for path in tools.values():
        root.program(path)
    if "perl" in tools:
        root.file("/usr/lib/x86_64-linux-gnu/perl-base/strict.pm")
    if "gcc" in tools:
        root.program(os.path.realpath(subprocess.run(["gcc", "-print-prog-name=cc1"], capture_output=True, text=True, check=True).stdout.strip()))
    if "python3" in tools:
        stdlib = subprocess.run(["/usr/bin/python3", "-c", "import sysconfig; print(sysconfig.get_path('stdlib'))"], capture_output=True, text=True, check=True).stdout.strip()
        shutil.copytree(stdlib, root.top + stdlib, ignore=PYTHON_LEAVES_OUT, symlinks=False)
    root.archive(top + "/tools.cpio")
    add_archive(demo, top)
    os.unlink(top + "/tools.cpio")
    for name in os.listdir(root.top): # the host has its own; only the data stays
        path = root.top + "/" + name
        if name != "bench":
            os.unlink(path) if os.path.islink(path) else shutil.rmtree(path)
    return top + "/initrd", data, tools
