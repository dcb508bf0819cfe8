# SPDX-License-Identifier: GPL-2.0-or-later
"""How the benchmark starts Lodge and its peer, and talks to what they run."""
import os
import pty
import re
import select
import subprocess
import time

PROMPT = b"~ # "


def spawn(argv, terminal):
    """Starts a program; returns (process, descriptor of its output)."""
    if terminal:
        master, slave = pty.openpty()
        p = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, close_fds=True)
        os.close(slave)
        return p, master
    r, w = os.pipe()
    p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=w, stderr=subprocess.DEVNULL, close_fds=True)
    os.close(w)
    return p, r


def until(fd, pattern, limit):
    """Reads until the regular expression matches; returns what was read, or raises when the output ends or `limit` seconds pass."""
    seen = b""
    end = time.monotonic() + limit
    while not re.search(pattern, seen):
        ready, _, _ = select.select([fd], [], [], max(0, end - time.monotonic()))
        try:
            data = os.read(fd, 65536) if ready else b""
        except OSError: # a terminal whose other side is gone
            data = b""
        if not data:
            raise RuntimeError("%r did not appear; the output ended with %r" % (pattern, seen[-400:]))
        seen += data
    return seen


def stat_fields(pid):
    with open("/proc/%d/stat" % pid) as f:
        return f.read().rsplit(")", 1)[1].split()


def family(pid):
    """A process, and those in which user code of Lodge's guests runs."""
    pids = [pid]
    for name in os.listdir("/proc"):
        try:
            if not name.isdigit() or int(stat_fields(int(name))[1]) != pid:
                continue
            with open("/proc/%s/comm" % name) as f:
                if f.read() == "softkvm-user\n":
                    pids.append(int(name))
        except OSError: # has ended meanwhile
            pass
    return pids


def beyond_ram_kib(pid, ram):
    """RSS of a process and its stubs in KiB without the mappings whose name has one of `ram`: the guest's own memory."""
    total = 0
    for p in family(pid):
        skip = False
        with open("/proc/%d/smaps" % p) as f:
            for line in f:
                if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                    skip = any(name in line for name in ram)
                elif line.startswith("Rss:") and not skip:
                    total += int(line.split()[1])
    return total


def cpu_seconds(pid):
    """CPU time of a process and its stubs."""
    return sum(int(f) for p in family(pid) for f in stat_fields(p)[11:13]) / os.sysconf("SC_CLK_TCK")


class Lodge:
    name = "lodge"
    ram = ("lodge-guest-ram",)

    def __init__(self, a):
        self.a = a

    def first(self):
        return [self.a.lodge, "run", "--accel", "softkvm", "--kernel", self.a.first + "/first.elf", "--memory", "64M", "--debugcon", "-"]

    def boot(self, cpus, initrd=None, memory="512M"):
        return [self.a.lodge, "run", "--accel", "softkvm", "--kernel", self.a.demo + "/vmlinuz", "--initrd", initrd or self.a.demo + "/initrd.gz",
                "--append", "console=ttyS0 quiet", "--cpus", str(cpus), "--memory", memory, "--net", "user"]


    def disk(self, overlay):
        return [self.a.lodge, "run", "--accel", "softkvm", "--memory", "1G", "--net", "user", "--disk", overlay + ",format=qcow2"]


class Qemu:
    name = "qemu-tcg"
    ram = ("memfd:guest-ram", "memfd:memory-backend-memfd")
    base = ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-M", "q35,memory-backend=guest-ram", "-nodefaults", "-display", "none"]

    def __init__(self, a):
        self.a = a

    def memory(self, size):
        return ["-m", size, "-object", "memory-backend-memfd,id=guest-ram,size=" + size]

    def first(self):
        return self.base + self.memory("64M") + ["-bios", self.a.first + "/first.rom", "-chardev", "stdio,id=c,signal=off",
                                                 "-device", "isa-debugcon,iobase=0xe9,chardev=c"]

    def disk(self, overlay):
        return self.base + self.memory("1G") + ["-serial", "stdio", "-nic", "user,model=virtio",
                            "-device", "virtio-rng-pci", "-drive", "file=" + overlay + ",format=qcow2,if=virtio"]

    def boot(self, cpus, initrd=None, memory="512M"):
        return self.base + self.memory(memory) + ["-smp", str(cpus), "-serial", "stdio", "-kernel", self.a.demo + "/vmlinuz",
                                                  "-initrd", initrd or self.a.demo + "/initrd.gz", "-append", "console=ttyS0 quiet",
                                                  "-netdev", "user,id=n", "-device", "virtio-net-pci,netdev=n", "-no-reboot"]


class Failure(Exception):
    """A command that did not do what it should; the place goes on unless it is `lost`."""

    def __init__(self, text, lost=False):
        super().__init__(text)
        self.lost = lost


class Guest:
    """A guest at a shell on its serial line, in the folder of the benchmark's data. Started when it is first needed, and again after it was lost."""

    def __init__(self, vmm, cpus, initrd):
        self.name = vmm.name
        self.argv = vmm.boot(cpus, initrd, "1G")
        self.process = None

    def start(self):
        self.process, self.fd = spawn(self.argv, True)
        try:
            until(self.fd, re.escape(PROMPT), 240)
        except RuntimeError as e:
            self.stop()
            raise Failure("no shell: %s" % e, True) from e
        self.send("export PATH=/usr/bin:/bin T=/tmp; cd /bench", 30)
        self.uptime, self.started = self.read_uptime(), time.monotonic()

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            os.close(self.fd)
            self.process = None

    def send(self, command, limit):
        """Types a command; returns what it printed, or raises."""
        os.write(self.fd, command.encode() + b'; echo "=$?="\n') # the line's echo does not match: it has the letters $?
        try:
            out = until(self.fd, rb"=(\d+)=\r*\n", limit)
        except RuntimeError as e:
            self.stop()
            raise Failure(str(e), True) from e
        status = int(re.findall(rb"=(\d+)=\r*\n", out)[-1])
        text = out.decode(errors="replace")
        if status:
            raise Failure("status %d: %s" % (status, text[-300:]))
        return text

    def read_uptime(self):
        return float(re.search(r"\n(\d+\.\d\d) ", self.send("cat /proc/uptime", 30)).group(1))

    def run(self, command, limit):
        if not self.process:
            self.start()
        return self.send(command, limit)

    def clock_error(self):
        """By how much the guest's clock ran off the host's since it was started, as a share; its own measurements are wrong by that."""
        host = time.monotonic() - self.started
        return (self.read_uptime() - self.uptime) / host - 1


class Host:
    name = "native"

    def __init__(self, folder, scratch):
        self.folder = folder
        self.env = dict(os.environ, T=scratch, LC_ALL="C", PATH="/usr/bin:/bin")

    def run(self, command, limit):
        p = subprocess.run(command, shell=True, cwd=self.folder, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=limit)
        if p.returncode:
            raise Failure("status %d: %s" % (p.returncode, p.stdout[-300:]))
        return p.stdout

    def stop(self):
        pass
