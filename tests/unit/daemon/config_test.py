#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""config_test.py LODGED KERNEL [TEST…]: what lodged keeps of a guest, and its changes: addresses, devices, metadata, limits of memory, the journal."""
import os
import re
import socket
import struct
import subprocess
import sys
import zlib

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lab import Wire, domain, run_tests, string, until

lodged, kernel = sys.argv[1:3]


def test_nvram(d):
    """A UEFI guest gets a file for its firmware's variables by its name, and whoever undefines it says what becomes of that."""
    xml = lambda os_, loader: """<domain type='qemu'><name>u</name><memory unit='MiB'>64</memory><os%s><type machine='q35'>hvm</type>%s</os><features><acpi/><apic/></features></domain>""" % (os_, loader)
    flash = "<loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.fd</loader>"
    path = d.root + "/var/lib/lodge/nvram/u_VARS.fd"
    features = "<firmware><feature enabled='no' name='enrolled-keys'/><feature enabled='%s' name='secure-boot'/></firmware>"
    for text, option in ((xml(" firmware='efi'", features % "no"), "--nvram"), (xml("", flash), "--keep-nvram")):
        d.virsh("define", d.file("u.xml", text))
        first = d.virsh("dumpxml", "u")
        assert flash in first and "<nvram>" + path + "</nvram>" in first and ("firmware='efi'" in first) == ("firmware" in text), first
        d.virsh("define", d.file("again.xml", first))
        assert d.virsh("dumpxml", "u") == first
        d.virsh("undefine", "u") # the guest never ran: there is no file
        d.virsh("define", d.file("u.xml", text))
        open(path, "w").close()
        said = d.virsh("undefine", "u", status=1)
        assert path in said and "--nvram" in said and "--keep-nvram" in said, said
        d.virsh("undefine", "u", "--nvram", "--keep-nvram", status=1)
        assert d.virsh("list", "--all", "--name") == "u"
        d.virsh("undefine", "u", option)
        assert os.path.exists(path) == (option == "--keep-nvram")
    assert "'secure-boot' is not supported" in d.virsh("define", d.file("u.xml", xml(" firmware='efi'", features % "yes")), status=1)
    rom = xml(" firmware='efi'", "<loader type='rom'>/usr/share/seabios/bios-256k.bin</loader>")
    assert "leave one of them out" in d.virsh("define", d.file("u.xml", rom), status=1)


def test_journal(d):
    """A power cut that took the files' last changes: the journal does them again, in another boot only, and believes nothing that is not whole."""
    folder = d.root + "/etc/lodge/domains/"
    uuids = ["00000000-0000-4000-8000-%012d" % i for i in range(6)]
    for i in range(4):
        d.virsh("define", d.file("j.xml", domain("j%d" % i, kernel, more="<uuid>%s</uuid>" % uuids[i])))
    d.virsh("autostart", "j0")
    d.virsh("autostart", "j0", "--disable")
    d.virsh("undefine", "j1")
    d.virsh("define", d.file("j.xml", domain("j2", kernel, more="<uuid>%s</uuid><title>new</title>" % uuids[2])))

    def cut(change=lambda journal: journal, boot=b"another boot"):
        """The daemon's end with the files as a power cut may leave them."""
        d.kill()
        with open(folder + "journal", "rb") as f:
            journal = f.read()
        body = journal[8:16] + boot.ljust(40, b"\0")
        with open(folder + "journal", "wb") as f:
            f.write(change(journal[:4] + struct.pack("<I", zlib.crc32(body)) + body + journal[56:]))
        open(folder + uuids[0] + ".xml", "w").close()
        if os.path.exists(folder + uuids[3] + ".xml"):
            os.unlink(folder + uuids[3] + ".xml")
        with open(folder + uuids[1] + ".xml", "w") as f:
            f.write(domain("j1", kernel, more="<uuid>%s</uuid>" % uuids[1]))
        with open(folder + uuids[2] + ".xml", "w") as f:
            f.write(domain("j2", kernel, more="<uuid>%s</uuid>" % uuids[2]))
        with open(folder + uuids[0] + ".autostart", "w") as f:
            f.write("")

    names = lambda: sorted(d.virsh("list", "--all", "--name").split())
    cut()
    d.start()
    assert names() == ["j0", "j2", "j3"] and "<title>new</title>" in d.virsh("dumpxml", "j2")
    assert re.search(r"Autostart: +disable", d.virsh("dominfo", "j0"))
    first = open(folder + "journal", "rb").read()
    with open("/proc/sys/kernel/random/boot_id", "rb") as f:
        boot = f.read().strip()
    cut(boot=boot) # somebody has changed the files since
    d.start()
    assert names() == ["j1", "j2"]
    # A record of another epoch, a damaged one, a short journal, a name that leads elsewhere: what comes before them holds.
    with open(folder + "journal", "wb") as f:
        f.write(first)
    cut(lambda j: j[:4096])
    d.start()
    assert names() == ["j1", "j2"]
    with open(folder + "journal", "wb") as f:
        f.write(first)
    cut(lambda j: j[:4200] + b"X" + j[4201:])
    d.start()
    assert names() == ["j1", "j2"]
    name = b"../../../escaped"
    payload = name + b"text"
    epoch = first[8:16]
    rest = epoch + struct.pack("<IIII", 0, len(name), 4, 0)
    evil = struct.pack("<II", 0x4c4a5243, zlib.crc32(rest + payload)) + rest + payload
    with open(folder + "journal", "wb") as f:
        f.write(first)
    cut(lambda j: j[:4096] + evil + j[4096 + len(evil):])
    d.start()
    assert not os.path.exists(d.root + "/escaped") and names() == ["j1", "j2"]
    # More than the journal holds, and a domain that is too large for it.
    for i, size in enumerate((200000, 200000, 200000, 200000, 200000, 400000, 100)):
        d.virsh("define", d.file("j.xml", domain("j4", kernel, more="<uuid>%s</uuid><description>%s</description>" % (uuids[4], "%d" % i * size))))
    d.kill()
    d.start()
    assert "6" * 100 in d.virsh("dumpxml", "j4")
    for name in names():
        d.virsh("undefine", name)


def test_addresses(d):
    """Defining gives PCI addresses as libvirt does, which stay over dumpxml and define, and which the started guest's process takes."""
    v = d.virsh
    iface = "<interface type='user'><mac address='52:54:00:00:00:01'/><model type='virtio'/>%s</interface>"
    v("define", d.file("p.xml", domain("p", kernel, devices=iface % "")))
    first = v("dumpxml", "p")
    assert "<address type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x0'/>" in first
    assert first.count("model='pcie-root-port'") == 2 and "<target chassis='1' port='0x8'/>" in first
    v("define", d.file("again.xml", first))
    assert v("dumpxml", "p") == first
    v("start", "p")
    assert re.sub(" id='[0-9]+'", "", v("dumpxml", "p")).count("<address type='pci'") == first.count("<address type='pci'")
    v("destroy", "p")
    at = "<address type='pci' bus='0x05' slot='0x00' function='0x0'/>"
    v("define", d.file("q.xml", domain("q", kernel, devices=iface % at)))
    assert v("dumpxml", "q").count("model='pcie-root-port'") == 5
    both = iface % at + iface.replace("00:01", "00:02") % at
    error = v("define", d.file("r.xml", domain("r", kernel, devices=both)), status=1)
    assert "0000:05:00.0 is that of network interface" in error, error
    for name in "pq":
        v("undefine", name)


def test_hotplug(d):
    """A disk and a card come to a running guest and stay in its XML, over the daemon's restart too; what cannot come says why. The guest has no driver, so
    nothing goes again."""
    v = d.virsh
    disk = d.file("plug.img", "\0" * 4096)
    iface = "<interface type='user'><mac address='52:54:00:00:00:0%d'/><model type='virtio'/></interface>"
    ports = "<controller type='pci' model='pcie-root-port'/>" * 3
    v("define", d.file("h.xml", domain("h", kernel, devices=ports + iface % 1)))
    v("start", "h")
    raw = ("--live", "--driver", "qemu", "--subdriver", "raw", "--targetbus", "virtio")
    v("attach-disk", "h", disk, "vda", *raw)
    assert "vda" in v("domblklist", "h") and "vda" not in v("domblklist", "h", "--inactive")
    assert "<address type='pci' domain='0x0000' bus='0x02' slot='0x00' function='0x0'/>" in v("dumpxml", "h")
    assert "vda" in v("attach-disk", "h", disk, "vda", *raw, status=1)
    assert "plug.img" in v("attach-disk", "h", disk, "vdb", *raw, status=1) # locked
    v("attach-device", "h", d.file("i.xml", iface % 2), "--live")
    assert "no root port is free" in v("attach-device", "h", d.file("i.xml", iface % 3), "--live", status=1)
    assert "only disks" in v("attach-device", "h", d.file("r.xml", "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>"), "--live", status=1)
    assert "no device <interface>" in v("detach-device", "h", d.file("i.xml", iface % 3), "--live", status=1)
    assert "cannot be changed" in v("update-device", "h", d.file("i.xml", iface % 1), "--live", status=1)
    v("attach-device", "h", d.file("f.xml", "<disk type='file'><driver name='qemu' type='raw'/><source file='%s'/><target dev='vdf' bus='virtio'/><alias name='ua-f'/></disk>"
                                   % d.file("f.img", "\0" * 4096)), "--config")
    v("detach-device-alias", "h", "ua-f", "--config")
    assert "no device has the alias 'ua-f'" in v("detach-device-alias", "h", "ua-f", "--live", status=1)
    d.kill()
    d.start()
    until(lambda: "running" in v("domstate", "h"))
    assert "vda" in v("domblklist", "h") and "52:54:00:00:00:02" in v("domiflist", "h")
    v("attach-disk", "h", disk, "vda", "--config", *raw[1:])
    v("destroy", "h")
    assert "vda" in v("domblklist", "h") and "52:54:00:00:00:02" not in v("domiflist", "h")
    v("undefine", "h")


def test_foreign(d):
    """A disk that another process serves comes to a running guest. What is not counted here is said to be unknown, and is no zero."""
    v = d.virsh
    path = d.file("image", "\0" * 65536)
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(d.root + "/back")
        s.listen()
        back = subprocess.Popen([os.environ["VHOSTDISK"], "--fd", str(s.fileno()), "--file", path], pass_fds=(s.fileno(),))
    try:
        disk = "<disk type='vhostuser'><driver name='qemu' type='raw'/><source type='unix' path='%s/back'/><target dev='vda' bus='virtio'/></disk>" % d.root
        v("define", d.file("v.xml", domain("v", kernel, devices="<controller type='pci' model='pcie-root-port'/>" * 2)))
        v("start", "v")
        v("attach-device", "v", d.file("d.xml", disk), "--live")
        assert "vda" in v("domblklist", "v")
        assert "is not known here" in v("domblkstat", "v", "vda", status=1)
        assert "no disk 'vdb'" in v("domblkstat", "v", "vdb", status=1)
        stats = v("domstats", "v", "--block")
        assert "block.0.name=vda" in stats and "rd.reqs" not in stats, stats
        v("destroy", "v")
        v("undefine", "v")
    finally:
        back.kill()
        back.wait()


def test_config(d):
    """Devices, metadata and actions of the configuration, one by one."""
    mac = "52:54:00:00:00:0%d"
    ifaces = "".join("<interface type='user'><mac address='%s'/><model type='virtio'/></interface>" % (mac % i) for i in (1, 2))
    # Kept metadata may hold anything, what looks like the domain's own tags too.
    tricky = "<metadata><a:a xmlns:a='urn:a'>\n  <devices>\n  </devices>\n</a:a></metadata>"
    d.virsh("define", d.file("c.xml", domain("c", kernel, more=tricky, devices=ifaces)))
    v = d.virsh
    rest = lambda: re.sub(r" *<controller (.*/>|(.|\n)*?</controller>)\n", "", v("dumpxml", "c")) # root ports stay when their devices go
    first = rest()
    assert first.count("<address type='pci'") == 2
    disk = d.file("c.img", "\0" * 4096)
    for target in ("vda", "vdb"):
        v("attach-disk", "c", disk, target, "--config", "--driver", "qemu", "--subdriver", "raw", "--targetbus", "virtio")
    assert "vdb" in v("attach-disk", "c", disk, "vdb", "--config", "--targetbus", "virtio", status=1)
    v("attach-disk", "c", "", "sda", "--config", "--type", "cdrom", "--targetbus", "sata")
    v("change-media", "c", "sda", disk, "--config", "--insert")
    assert re.search("sda +" + disk, v("domblklist", "c"))
    places = re.findall("<address type='pci'.*bus='(0x..)' slot='0x00'", v("dumpxml", "c"))
    assert sorted(places) == ["0x01", "0x02", "0x03", "0x04"], places
    v("change-media", "c", "sda", "--config", "--eject")
    assert re.search("sda +-", v("domblklist", "c"))
    for target in ("vda", "sda", "vdb"):
        v("detach-disk", "c", target, "--config")
    v("detach-interface", "c", "user", "--mac", mac % 1, "--config")
    assert mac % 2 in v("domiflist", "c") and mac % 1 not in v("domiflist", "c")
    gone = d.file("gone.xml", "<interface type='user'><mac address='52:54:00:00:00:09'/></interface>")
    assert "no device <interface> with 52:54:00:00:00:09" in v("detach-device", "c", gone, "--config", status=1)
    v("attach-device", "c", d.file("i.xml", "<interface type='user'><mac address='%s'/><model type='virtio'/></interface>" % (mac % 1)), "--config")
    assert "more than one" in v("detach-device", "c", d.file("any.xml", "<interface type='user'/>"), "--config", status=1)
    assert "<serial> cannot" in v("detach-device", "c", d.file("s.xml", "<serial type='pty'/>"), "--config", status=1)
    for hostile in ("</devices><title>x</title><devices>", "<disk", "<!DOCTYPE a><disk/>", "<nosuch/>"):
        v("attach-device", "c", d.file("h.xml", hostile), "--config", status=1)
    for i in (1, 2):
        v("detach-interface", "c", "user", "--mac", mac % i, "--config")
    for i in (1, 2):
        v("attach-device", "c", d.file("i.xml", "<interface type='user'><mac address='%s'/><model type='virtio'/></interface>" % (mac % i)), "--config")
    assert rest() == first
    # By a user's own name; a daemon's are dropped.
    named = "<interface type='user'><mac address='%s'/><model type='virtio'/><alias name='%%s'/></interface>" % (mac % 3)
    v("attach-device", "c", d.file("n.xml", named % "ua-third"), "--config")
    assert "<alias name='ua-third'/>" in v("dumpxml", "c")
    assert "no device has the alias 'ua-other'" in v("detach-device-alias", "c", "ua-other", "--config", status=1)
    assert "not running" in v("detach-device-alias", "c", "ua-third", "--live", status=1)
    twice = "<channel type='unix'><target type='virtio' name='n'/><alias name='ua-third'/></channel>"
    assert "two devices have it" in v("attach-device", "c", d.file("n.xml", twice), "--config", status=1)
    v("detach-device-alias", "c", "ua-third", "--config")
    assert rest() == first
    v("attach-device", "c", d.file("n.xml", named % "net2"), "--config")
    assert "<alias" not in v("dumpxml", "c")
    v("detach-interface", "c", "user", "--mac", mac % 3, "--config")
    for wrong in (named % "ua-a b", named % ("ua-" + "x" * 70), "<rng model='virtio'><backend model='random'>/dev/urandom</backend><alias name='ua-rng'/></rng>"):
        said = v("attach-device", "c", d.file("n.xml", wrong), "--config", status=1)
        assert "<alias>" in said, said
    # Metadata.
    assert "not found" in v("metadata", "c", "urn:x", status=1)
    v("metadata", "c", "urn:x", "--config", "--key", "x", "--set", "<data n='1'><more/></data>")
    assert v("metadata", "c", "urn:x") == '<data n="1"><more/></data>'
    assert '<x:data xmlns:x="urn:x" n="1">' in v("dumpxml", "c")
    v("metadata", "c", "urn:x", "--config", "--key", "y", "--set", "<data/>")
    assert v("metadata", "c", "urn:x") == "<data/>" and "<devices>" in v("metadata", "c", "urn:a")
    for key, text in (("a b", "<d/>"), ("k", "<d>"), ("k", "<!DOCTYPE a [<!ENTITY b 'c'>]><d>&b;</d>")):
        v("metadata", "c", "urn:x", "--config", "--key", key, "--set", text, status=1)
    v("metadata", "c", "urn:x", "--config", "--remove")
    assert rest() == first
    v("desc", "c", "--config", "a <description>")
    assert v("desc", "c") == "a <description>"
    v("set-lifecycle-action", "c", "crash", "restart", "--config")
    assert "<on_crash>restart</on_crash>" in v("dumpxml", "c")
    assert "not supported" in v("set-lifecycle-action", "c", "crash", "preserve", "--config", status=1)
    d.kill()
    d.start()
    assert "<on_crash>restart</on_crash>" in v("dumpxml", "c") and v("desc", "c") == "a <description>"
    w = Wire(d.socket).open()
    assert w.call(21, struct.pack(">i", 10)) == (21, 0, struct.pack(">I", 1) + string("c"))
    assert w.call(37, struct.pack(">i", 10)) == (37, 0, struct.pack(">I", 0))
    assert w.call(21, struct.pack(">i", -1)) == (21, 0, struct.pack(">I", 0))
    w.refused(39, 21, b"")
    v("undefine", "c")


def test_memtune(d):
    """Limits of memory are kept and checked everywhere; where the host's cgroups are not lodged's, a start is refused. A folder of plain files
    stands for the cgroups: it shows what is written, not what a kernel does with it."""
    uuid = "11111111-2222-3333-4444-66666666666a"
    limits = "<memtune><hard_limit unit='MiB'>%s</hard_limit><swap_hard_limit unit='MiB'>%s</swap_hard_limit></memtune>"
    xml = lambda hard, swap: d.file("t.xml", domain("t", kernel, more="<uuid>%s</uuid>" % uuid + limits % (hard, swap)))
    assert "at least the hard_limit" in d.virsh("define", xml(200, 100), status=1)
    assert "not a limit" in d.virsh("define", xml(0, 100), status=1)
    d.virsh("define", xml(200, 300))
    values = lambda *args: [line.split()[-1] for line in d.virsh("memtune", "t", *args).splitlines() if ":" in line]
    assert values() == ["204800", "unlimited", "307200"], values()
    assert "--cgroup DIR" in d.virsh("start", "t", status=1)
    assert "not running" in d.virsh("memtune", "t", "--live", "--hard-limit", "1000", status=1)
    assert "at least the hard_limit" in d.virsh("memtune", "t", "--config", "--hard-limit", "400000", status=1)
    assert "0 KiB" in d.virsh("memtune", "t", "--config", "--soft-limit", "0", status=1)
    assert "min_guarantee" in d.virsh("memtune", "t", "--config", "--min-guarantee", "1000", status=1)
    d.virsh("memtune", "t", "--config", "--soft-limit", "150000", "--swap-hard-limit", "-1")
    assert values() == ["204800", "150000", "unlimited"]
    assert "<soft_limit unit='KiB'>150000</soft_limit>" in d.virsh("dumpxml", "t")
    folder = d.root + "/groups"
    os.makedirs(folder + "/" + uuid)
    refused = subprocess.run([d.lodged, "--root", d.root + "/other", "--cgroup", folder], capture_output=True, text=True, timeout=120)
    assert refused.returncode == 1 and "memory controller" in refused.stderr and refused.stderr.count("\n") == 1, refused
    for name in ("cgroup.controllers", "cgroup.subtree_control", *(uuid + "/" + n for n in ("cgroup.procs", "memory.max", "memory.high", "memory.swap.max"))):
        d.file("groups/" + name, "cpu memory\n" if name == "cgroup.controllers" else "")
    d.kill()
    d.options = ("--cgroup", folder)
    d.start()
    group = lambda: [open(folder + "/" + uuid + "/" + n).read() for n in ("memory.max", "memory.high", "memory.swap.max", "cgroup.procs")]
    assert open(folder + "/cgroup.subtree_control").read() == "+memory"
    d.virsh("start", "t")
    assert group() == ["209715200", "153600000", "max", "0"], group()
    d.virsh("memtune", "t", "--live", "--hard-limit", "100000", "--swap-hard-limit", "150000", "--soft-limit", "-1")
    assert group() == ["102400000", "max", "51200000", "0"], group()
    assert values() == ["100000", "unlimited", "150000"] and values("--config") == ["204800", "150000", "unlimited"]
    assert "at least the hard_limit" in d.virsh("memtune", "t", "--live", "--hard-limit", "200000", status=1)
    os.unlink(folder + "/" + uuid + "/memory.high")
    assert "memory.high" in d.virsh("memtune", "t", "--live", "--soft-limit", "50000", status=1)
    d.virsh("destroy", "t")
    d.virsh("undefine", "t")


run_tests(globals(), sys.argv[3:], lodged)
