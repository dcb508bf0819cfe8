#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""libvirt_tour.py LODGED DEMO TEST…: Debian's own clients against lodged, with Debian's kernel (tools/demo.sh) as the guest. Runs on Debian's Python,
which has libvirt's binding."""
import os
import re
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../unit/daemon"))
from lab import Daemon, Terminal

lodged, demo = sys.argv[1:3]
lodge = os.path.dirname(os.path.abspath(lodged)) + "/../cli/lodge"
TREE = os.path.dirname(os.path.abspath(__file__)) + "/../.."
DIRECT = "kernel=%s/vmlinuz,initrd=%s/initrd.gz,kernel_args='console=ttyS0 quiet'" % (demo, demo)


def run(*args, status=0, seconds=300):
    p = subprocess.run(args, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL)
    assert p.returncode == status, "%s: %d\n%s%s" % (" ".join(args), p.returncode, p.stdout, p.stderr)
    return p.stdout + p.stderr


def install(d, name, *more):
    disk = d.root + "/" + name + ".img"
    with open(disk, "wb") as f:
        f.truncate(32 << 20)
    return run("virt-install", "--connect", d.uri(), "--name", name, "--memory", "512", "--import", "--disk", disk + ",format=raw", "--network", "user",
               "--graphics", "none", "--osinfo", "detect=off,name=linux2022", "--noautoconsole", "--boot", DIRECT, *more)


def test_hotplug(d):
    """virsh attaches a disk and a card to a running guest, whose system finds and uses them, and takes them away again."""
    v = d.virsh
    install(d, "plug")
    t = Terminal("virsh", "-c", d.uri(), "console", "plug")
    t.until(rb"~ # ")
    disk = d.root + "/more.img"
    with open(disk, "wb") as f:
        f.truncate(8 << 20)
    events = subprocess.Popen(["virsh", "-c", d.uri(), "event", "plug", "--event", "device-removed", "--timeout", "300"], stdout=subprocess.PIPE, text=True)
    v("attach-disk", "plug", disk, "vdb", "--live", "--driver", "qemu", "--subdriver", "raw", "--targetbus", "virtio")
    card = d.file("card.xml", "<interface type='user'><mac address='52:54:00:00:00:77'/><model type='virtio'/></interface>")
    v("attach-device", "plug", card, "--live")
    t.type(b"i=0; while [ ! -b /dev/vdb ] && [ $i -lt 300 ]; do sleep 0.2; i=$((i + 1)); done; echo data-$((40 + 2)) | dd of=/dev/vdb conv=sync 2>/dev/null; sync; echo is $(head -c 7 /dev/vdb)\n")
    t.until(rb"is data-42")
    place = re.search(r"<target dev='vdb' bus='virtio'/>\s*<address type='pci' domain='0x0000' bus='0x(..)' slot='0x00'", v("dumpxml", "plug")).group(1)
    t.type(b"ls /sys/bus/pci/devices/0000:%s:00.0/virtio*/block\n" % place.encode())
    t.until(rb"\nvdb")
    v("detach-disk", "plug", "vdb", "--live")
    assert "vdb" not in v("domblklist", "plug")
    t.type(b"[ ! -b /dev/vdb ] && echo disk is go''ne\n")
    t.until(rb"disk is gone")
    assert "vdb" in events.communicate(timeout=300)[0]
    t.type(b"grep -l 00:77 /sys/class/net/*/address\n")
    t.until(rb"/sys/class/net/eth1/address")
    v("detach-device", "plug", card, "--live")
    assert "00:77" not in v("domiflist", "plug")
    assert open(disk, "rb").read(7) == b"data-42"
    t.end()
    v("destroy", "plug")
    v("undefine", "plug")


def test_virsh(d):
    """The tour, with one guest from installation to its end."""
    v = d.virsh
    xml = install(d, "tour", "--print-xml")
    assert "<name>tour</name>" in xml
    install(d, "tour")
    t = Terminal("virsh", "-c", d.uri(), "console", "tour")
    t.until(rb"~ # ")
    t.type(b"echo $((6 * 7)) answers\n")
    t.until(rb"42 answers")
    t.type(b"\x1d")
    t.end()
    assert v("uri") == d.uri()
    assert "QEMU 7.2.0" in v("version")
    assert "x86_64" in v("nodeinfo") and "<machine" in v("capabilities") and "<vcpu max" in v("domcapabilities")
    assert re.search(r"tour +running", v("list", "--all"))
    assert re.search(r"CPU\(s\): +[12]", v("dominfo", "tour"))
    assert v("domstate", "tour", "--reason") == "running (booted)"
    stats = v("domstats", "tour")
    assert "block.0.name=vda" in stats and int(re.search(r"cpu.time=(\d+)", stats).group(1)) > 0
    assert "actual 524288" in v("dommemstat", "tour")
    assert re.search(r"vda +\S+tour.img", v("domblklist", "tour"))
    assert re.search(r"Capacity: +33554432", v("domblkinfo", "tour", "vda"))
    assert "rd_bytes" in v("domblkstat", "tour", "vda")
    mac = re.search(r"user +- +virtio +(\S+)", v("domiflist", "tour")).group(1)
    carried = dict(re.findall(r"\S+ (\S+) (\d+)", v("domifstat", "tour", mac))) # the guest has asked for an address
    assert int(carried["tx_packets"]) >= 2 and int(carried["rx_bytes"]) > 300, carried
    assert "net.0.name=" + mac in stats and int(re.search(r"net.0.tx.bytes=(\d+)", stats).group(1)) > 0
    assert re.search(r"State: +running", v("vcpuinfo", "tour"))
    v("setmem", "tour", "256M")
    v("suspend", "tour")
    assert v("domstate", "tour") == "paused"
    v("resume", "tour")
    v("reset", "tour")
    v("reboot", "tour")
    v("shutdown", "tour")
    v("autostart", "tour")
    assert "not supported" in v("managedsave", "tour", status=1)
    v("destroy", "tour")
    assert v("domstate", "tour", "--reason") == "shut off (destroyed)"
    first = v("dumpxml", "tour")
    v("define", d.file("again.xml", first))
    assert v("dumpxml", "tour") == first
    t = Terminal("virsh", "-c", d.uri())
    t.until(rb"virsh # ")
    t.type(b"domstate tour\n")
    t.until(rb"shut off")
    t.type(b"quit\n")
    t.end()
    v("undefine", "tour")
    assert v("list", "--all") == ""


def debian_disk(d):
    """An overlay on Debian's disk (tools/image.sh)."""
    images = run(TREE + "/tools/image.sh", "--prepare", seconds=1800).split()[-1]
    disk = d.root + "/debian.qcow2"
    run(lodge, "image", "create", "-q", "-f", "qcow2", "-b", images + "/debian.qcow2", "-F", "qcow2", disk)
    return disk


def log_in(t, host="debian"):
    t.until(host.encode() + rb" login:", 900)
    t.type(b"root\n")
    t.until(rb"root@" + host.encode() + rb":~# ?", 600)
    t.type(b"echo $((6 * 7)) answers\n")
    t.until(rb"42 answers", 600)


def wait_off(d, name, reason):
    end = time.monotonic() + 600
    while d.virsh("domstate", name, "--reason") != reason:
        assert time.monotonic() < end, d.virsh("domstate", name, "--reason")
        time.sleep(0.5)


def test_create(d):
    """lodge create makes of the same disk and a user-data file a guest in one line, whose console it shows: to the login of the host that cloud-init has
    named, which starts again and ends by its power button."""
    data = d.file("user-data", "#cloud-config\nhostname: created\nruncmd:\n  - [ sh, -c, 'echo seed-$((40 + 2))-done >/dev/ttyS0' ]\n")
    t = Terminal(lodge, "-c", d.uri(), "create", "web", "--import", debian_disk(d), "--cloud-init", data, "--console")
    t.until(rb"seed-42-done", 900)
    t.type(b"\n") # the login that stood there before the host had its name
    log_in(t, "created")
    t.type(b"cloud-init status --wait; lsblk -no LABEL,RO /dev/vdb; ip -br address | grep -c 10.0.2.15\n")
    t.until(rb"status: done", 600)
    t.until(rb"cidata +1", 600)
    d.virsh("reboot", "web")
    log_in(t, "created")
    d.virsh("shutdown", "web") # by ACPI: the guest's system is asked
    wait_off(d, "web", "shut off (shutdown)")
    t.end()
    run(lodge, "undefine", "-c", d.uri(), "web")


def test_image(d):
    """virt-install of Debian's disk to its login, which is typed and answered; the guest switches off by itself."""
    disk = debian_disk(d)
    # Debian 12's database of systems ends with Debian 11.
    options = ["virt-install", "--connect", d.uri(), "--name", "debian", "--memory", "1024", "--import", "--graphics", "none", "--disk", disk,
               "--network", "user", "--osinfo", "debian11", "--virt-type", "qemu", "--boot", "hd"]
    assert "<name>debian</name>" in run(*options, "--print-xml")
    run(*options, "--noautoconsole")
    t = Terminal("virsh", "-c", d.uri(), "console", "debian")
    log_in(t)
    t.type(b"systemctl start qemu-guest-agent; systemctl is-active qemu-guest-agent systemd-networkd-wait-online\n")
    end = time.monotonic() + 300
    while "10.0.2.15" not in subprocess.run(["virsh", "-c", d.uri(), "domifaddr", "debian", "--source", "agent"], capture_output=True, text=True).stdout:
        assert time.monotonic() < end, t.text
    assert d.virsh("qemu-agent-command", "debian", '{"execute": "guest-ping"}') == '{"return":{}}'
    assert re.search(r"os.id +: debian", d.virsh("guestinfo", "debian")) and d.virsh("domhostname", "debian", "--source", "agent")
    assert int(d.virsh("domtime", "debian").split()[-1]) > 1700000000
    d.virsh("setmem", "debian", "768M")
    end = time.monotonic() + 300
    while "actual 786432" not in d.virsh("dommemstat", "debian"): # the guest's driver has filled its balloon
        assert time.monotonic() < end, d.virsh("dommemstat", "debian")
        time.sleep(0.5)
    d.virsh("shutdown", "debian", "--mode", "agent")
    wait_off(d, "debian", "shut off (shutdown)")
    t.end()
    d.virsh("undefine", "debian")


def cpu_ns(pid):
    """CPU time of a process by itself."""
    with open("/proc/%d/stat" % pid) as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * 10**9 // os.sysconf("SC_CLK_TCK")


def stubs_of(pid):
    """The processes in which user code of a guest runs (docs/softkvm.md)."""
    found = []
    for tid in os.listdir("/proc/%d/task" % pid):
        with open("/proc/%d/task/%s/children" % (pid, tid)) as f:
            found += [int(p) for p in f.read().split()]
    return found


def test_cpu_time(d):
    """The time that a guest's user code takes in processes of its own is the guest's, wherever it is told."""
    install(d, "busy")
    t = Terminal("virsh", "-c", d.uri(), "console", "busy")
    t.until(rb"~ # ")
    # A shell's own loop would not do: busybox has calls of strchr() in it, by a page that has AVX-512 code too and so does not run directly.
    t.type(b"n=18446744073709551557; for i in 1 2 3; do n=\"$n $n $n $n\"; done; factor $n >/dev/null & factor $n >/dev/null\n")
    guest = d.guests()[0]
    end = time.monotonic() + 240
    while sum(map(cpu_ns, stubs_of(guest))) < 2 * 10**9:
        assert time.monotonic() < end, stubs_of(guest)
        time.sleep(0.1)
    used = lambda: cpu_ns(guest) + sum(map(cpu_ns, stubs_of(guest)))
    seconds = lambda text: int(float(re.search(r"(?:CPU time:|cpu_time) +(\S+)", text).group(1).rstrip("s")) * 10**9)
    asked = {
        "domstats": lambda: int(re.search(r"cpu.time=(\d+)", d.virsh("domstats", "busy", "--cpu-total")).group(1)),
        "cpu-stats": lambda: seconds(d.virsh("cpu-stats", "busy", "--total")),
        "dominfo": lambda: seconds(d.virsh("dominfo", "busy")) + 10**8, # which has tenths of a second
    }
    for name, ask in asked.items():
        before, told, after = used(), ask(), used()
        assert before <= told <= after + 2 * 10**8, (name, before, told, after)
    before = sum(map(cpu_ns, stubs_of(guest)))
    info, stats = d.virsh("vcpuinfo", "busy"), d.virsh("domstats", "busy", "--vcpu")
    after = used()
    of_all = lambda pattern, text: sum(float(n) for n in re.findall(pattern, text))
    for told in (of_all(r"CPU time: +([0-9.]+)s", info) * 10**9 + 2 * 10**8, of_all(r"vcpu.\d.time=(\d+)", stats)): # tenths of a second for each of two vCPUs
        assert before <= told <= after + 2 * 10**8, (before, told, after)
    t.end()
    d.virsh("destroy", "busy")


def test_tools(d):
    """virt-xml and virt-clone."""
    install(d, "one")
    d.virsh("destroy", "one")
    run("virt-xml", "--connect", d.uri(), "one", "--edit", "--memory", "768")
    assert "<memory unit='KiB'>786432</memory>" in d.virsh("dumpxml", "one")
    run("virt-clone", "--connect", d.uri(), "--original", "one", "--name", "two", "--file", d.root + "/two.img")
    assert os.path.getsize(d.root + "/two.img") == 32 << 20
    assert d.virsh("list", "--all", "--name").split() == ["one", "two"]
    uuids = {d.virsh("domuuid", n) for n in ("one", "two")}
    macs = {re.search(r"mac address='(\S+)'", d.virsh("dumpxml", n)).group(1) for n in ("one", "two")}
    assert len(uuids) == len(macs) == 2
    d.virsh("start", "two")
    d.virsh("destroy", "two")


def test_uefi(d):
    """virt-install --boot uefi: OVMF comes to its shell on the console, keeps what is set there, and goes with the domain."""
    run("virt-install", "--connect", d.uri(), "--name", "uefi", "--memory", "256", "--disk", "none", "--import", "--network", "none", "--graphics", "none",
        "--osinfo", "detect=off,name=linux2022", "--noautoconsole", "--boot", "uefi")
    xml = d.virsh("dumpxml", "uefi")
    assert "<os firmware='efi'>" in xml and "<loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.fd</loader>" in xml, xml
    nvram = re.search(r"<nvram>(\S+/uefi_VARS.fd)</nvram>", xml).group(1)
    name = b"LodgeMark -guid 77fa9abd-0359-4d32-bd60-28f4e78f784b"
    for command, answer in ((b"setvar " + name + b" -nv -bs =0badcafe", rb"Shell> "), (b"setvar " + name, rb"0B AD CA FE")):
        t = Terminal("virsh", "-c", d.uri(), "console", "uefi")
        t.type(b"\r") # what it has said before this console is not said again
        t.until(rb"Shell> ")
        t.type(command + b"\r")
        t.until(answer)
        t.type(b"reset -s\r")
        wait_off(d, "uefi", "shut off (shutdown)")
        t.end()
        assert os.path.getsize(nvram) > 0
        if answer == rb"Shell> ":
            d.virsh("start", "uefi")
    assert "--nvram" in d.virsh("undefine", "uefi", status=1)
    d.virsh("undefine", "uefi", "--nvram")
    assert not os.path.exists(nvram)


def test_refusals(d):
    """What the machine does not have is refused by name."""
    for option, word in ((["--graphics", "vnc"], "input"), (["--tpm", "emulator"], "tpm"), (["--cpu", "Skylake-Server"], "cpu")):
        disk = d.root + "/r.img"
        with open(disk, "wb") as f:
            f.truncate(1 << 20)
        said = run("virt-install", "--connect", d.uri(), "--name", "r", "--memory", "512", "--import", "--disk", disk, "--network", "user", "--osinfo",
                   "detect=off,name=linux2022", "--noautoconsole", *([] if option[0] == "--graphics" else ["--graphics", "none"]), *option, status=1)
        assert word in said and "not supported" in said, said
    assert d.virsh("list", "--all") == ""


def test_python(d):
    """Lifecycle events by libvirt's own binding."""
    import libvirt
    libvirt.virEventRegisterDefaultImpl()
    stop, seen = [], []

    def loop():
        while not stop:
            libvirt.virEventRunDefaultImpl()

    threading.Thread(target=loop, daemon=True).start()
    c = libvirt.open(d.uri())
    c.setKeepAlive(5, 3)
    c.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, lambda conn, dom, event, detail, _: seen.append((dom.name(), event, detail)), None)
    install(d, "ev")
    dom = c.lookupByName("ev")
    dom.suspend()
    dom.resume()
    dom.destroy()
    dom.undefine()
    end = time.monotonic() + 60
    wanted = [libvirt.VIR_DOMAIN_EVENT_STARTED, libvirt.VIR_DOMAIN_EVENT_DEFINED, libvirt.VIR_DOMAIN_EVENT_SUSPENDED, libvirt.VIR_DOMAIN_EVENT_RESUMED,
              libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_UNDEFINED]
    while [e for n, e, _ in seen if n == "ev"] != wanted:
        assert time.monotonic() < end, seen
        time.sleep(0.05)
    assert c.isAlive()
    stop.append(True)


def main():
    if demo == "auto":
        globals()["demo"] = subprocess.run([TREE + "/tools/demo.sh", "--prepare"], check=True, capture_output=True,
                                           text=True).stdout.strip()
        globals()["DIRECT"] = DIRECT.replace("auto/", demo + "/")
    for name in sys.argv[3:] or [n for n in globals() if n.startswith("test_")]:
        d = Daemon(lodged)
        try:
            globals()[name](d)
            print("ok: " + name)
        finally:
            d.end()


main()
