#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""cli_test.py LODGE LODGED KERNEL [TEST…]: lodge's verbs against a lodged of their own. Guests are the smallest there are."""
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../daemon"))
from lab import Terminal, domain, run_tests

lodge, lodged, kernel = [os.path.abspath(a) for a in sys.argv[1:4]]


def run(d, *args, status=0, env=None, stdin="", uri=True):
    """Both streams of one command; an error is one line, with its remedy."""
    words = [lodge] + (["-c", d.uri()] if uri else []) + list(args)
    p = subprocess.run(words, capture_output=True, text=True, timeout=120, input=stdin, env=dict(os.environ, **(env or {})))
    if status is None:
        return p.stdout + p.stderr
    assert p.returncode == status, "lodge %s: %d\n%s%s" % (" ".join(args), p.returncode, p.stdout, p.stderr)
    if status:
        assert p.stderr.count("\n") == 1 and p.stderr.startswith("lodge: ") and "; " in p.stderr, p.stderr
    return p.stdout + p.stderr


def values(d, *args):
    return json.loads(run(d, *args, "--json"))


def define(d, name, devices="", more=""):
    run(d, "define", d.file(name + ".xml", domain(name, kernel, devices=devices, more=more)))


def test_life(d):
    define(d, "g")
    define(d, "h", more="<title>the other</title>")
    assert run(d, "list").splitlines() == ["id  name  state"]
    assert run(d, "list", "--all", "--name").splitlines() == ["g", "h"]
    run(d, "start", "g")
    rows = values(d, "list", "--all", "--title")
    assert [(r["name"], r["state"], r["title"]) for r in rows] == [("g", "running", None), ("h", "shut off", "the other")], rows
    assert rows[1]["id"] is None and rows[0]["id"] > 0 and re.fullmatch("[0-9a-f-]{36}", rows[0]["uuid"])
    for name in ("g", str(rows[0]["id"]), rows[0]["uuid"]):
        assert values(d, "domstate", name) == {"name": "g", "state": "running", "reason": "booted"}
    assert run(d, "domstate", "g") == "running\n" and run(d, "domstate", "--reason", "g") == "running (booted)\n"
    run(d, "suspend", "g")
    assert run(d, "domstate", "g", "--reason") == "paused (user)\n"
    info = values(d, "dominfo", "g")
    assert info["max_memory"] == 32 << 20 and info["vcpus"] == 1 and info["persistent"] is True and info["autostart"] is False, info
    assert re.search(r"maximum +32 MiB\n", run(d, "dominfo", "g"))
    run(d, "destroy", "g")
    run(d, "start", "--paused", "g")
    assert values(d, "domstate", "g")["state"] == "paused"
    run(d, "destroy", "g")
    run(d, "autostart", "g")
    assert values(d, "dominfo", "g")["autostart"] is True
    run(d, "autostart", "g", "off")
    assert values(d, "dominfo", "g")["autostart"] is False
    assert values(d, "dumpxml", "h")["xml"] == run(d, "dumpxml", "h")
    run(d, "desc", "h", "what it is for")
    run(d, "desc", "--title", "h", "T")
    assert run(d, "desc", "h") == "what it is for\n" and values(d, "desc", "h", "--title") == {"name": "h", "title": "T"}
    run(d, "undefine", "g")
    run(d, "undefine", "h")
    assert values(d, "list", "--all") == []
    assert "defined" in run(d, "define", "-", stdin=domain("i", kernel))


def test_devices(d):
    disk = d.root + "/disk one.raw"
    with open(disk, "wb") as f:
        f.truncate(3 << 20)
    define(d, "g", "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='%s'/><target dev='vda' bus='virtio'/></disk>"
           "<disk type='file' device='cdrom'><target dev='sda' bus='sata'/><readonly/></disk>"
           "<interface type='user'><mac address='52:54:00:00:00:01'/><model type='virtio'/></interface>" % disk)
    assert values(d, "domblklist", "g")[0]["source"] == disk
    run(d, "start", "g")
    vda, sda = values(d, "domblklist", "g")
    assert (vda["target"], vda["device"], vda["bus"], vda["format"], vda["readonly"], vda["capacity"]) == ("vda", "disk", "virtio", "raw", False, 3 << 20), vda
    assert (sda["device"], sda["source"], sda["capacity"], sda["readonly"]) == ("cdrom", None, None, True), sda
    assert re.search(r"vda +disk +virtio +raw +3 MiB .*disk one.raw\n", run(d, "domblklist", "g"))
    nic, = values(d, "domiflist", "g")
    assert (nic["type"], nic["model"], nic["mac"], nic["link"]) == ("user", "virtio", "52:54:00:00:00:01", "up"), nic
    stats, = values(d, "domstats", "g")
    assert stats["name"] == "g" and stats["stats"]["state.state"] == 1 and stats["stats"]["block.0.name"] == "vda", stats
    assert {k.split(".")[0] for k in values(d, "domstats", "--state", "--vcpu")[0]["stats"]} == {"state", "vcpu"}
    assert re.search(r"g\n +state.state +1\n", run(d, "domstats")) and re.search(r"balloon.maximum +32 MiB\n", run(d, "domstats", "g"))
    assert values(d, "vcpucount", "g") == {"name": "g", "maximum_config": 1, "maximum_live": 1, "current_config": 1, "current_live": 1}
    run(d, "destroy", "g")
    run(d, "setvcpus", "g", "3", "--config", "--maximum")
    assert values(d, "vcpucount", "g") == {"name": "g", "maximum_config": 3, "maximum_live": None, "current_config": 3, "current_live": None}
    assert "'0' is not a number" in run(d, "setvcpus", "g", "0", status=1) and "'x' is not an amount" in run(d, "setmem", "g", "x", status=1)


def test_storage(d):
    assert [(p["name"], p["state"]) for p in values(d, "pool-list")] == [("default", "running")]
    assert re.search(r"path +%s" % re.escape(d.root), run(d, "pool-info"))
    for name, more in (("a", ()), ("b.qcow2", ()), ("c.qcow2", ("--backing", values(d, "pool-info")["path"] + "/a", "--backing-format=raw"))):
        assert "volume '%s': created" % name in run(d, "vol-create", name, "16M", *more)
    a, b, c = sorted(values(d, "vol-list"), key=lambda v: v["name"])
    assert (a["format"], a["capacity"], b["format"], c["format"]) == ("raw", 16 << 20, "qcow2", "qcow2"), (a, b, c)
    assert a["allocation"] < a["capacity"]
    assert values(d, "vol-info", a["path"]) == a and re.search(r"capacity +16 MiB\n", run(d, "vol-info", "b.qcow2"))
    blob = os.urandom(1 << 20)
    with open(d.root + "/blob", "wb") as f:
        f.write(blob)
    run(d, "vol-resize", "a", "1M", "--shrink")
    assert "volume 'a': written" in run(d, "vol-upload", "a", d.root + "/blob")
    run(d, "vol-download", a["path"], d.root + "/back")
    with open(d.root + "/back", "rb") as f:
        assert f.read() == blob
    assert subprocess.run([lodge, "-c", d.uri(), "vol-download", "a", "-"], capture_output=True, timeout=120).stdout == blob
    assert "cannot read" in run(d, "vol-upload", "a", "/nonexistent", status=1) and "more was sent" in run(d, "vol-upload", "a", lodge, status=1)
    assert "cannot write" in run(d, "vol-download", "a", "/dev/full", status=1)
    assert "lodge pool-list" in run(d, "pool-start", "default", status=1)
    run(d, "pool-refresh")
    for name in ("a", b["path"], "c.qcow2"):
        run(d, "vol-delete", name)
    assert values(d, "vol-list", "default") == []
    assert "never guessed" in run(d, "vol-create", "x", "1M", "--backing", "/b", status=1)
    assert "is no size" in run(d, "vol-create", "x", "big", status=1)


def test_edit(d):
    define(d, "g")
    tmp = d.root + "/tmp"
    os.mkdir(tmp)

    def edit(script, status=0):
        return run(d, "edit", "g", status=status, env={"VISUAL": "", "EDITOR": script, "TMPDIR": tmp})

    assert "not changed" in edit("true") and os.listdir(tmp) == []
    assert "changed" in edit("sed -i 's/<memory.*memory>/<memory>40960<\\/memory>/; /currentMemory/d'")
    assert values(d, "dominfo", "g")["max_memory"] == 40 << 20 and os.listdir(tmp) == []
    assert "ends with an error" in edit("false", status=1) and os.listdir(tmp) == []
    refused = edit("sed -i 's/<memory/<memmory/; s/\\/memory>/\\/memmory>/'", status=1)
    kept, = os.listdir(tmp)
    assert "memmory" in refused and "line" in refused and tmp + "/" + kept in refused, refused
    with open(tmp + "/" + kept) as f:
        assert "<memmory" in f.read()
    assert values(d, "dominfo", "g")["max_memory"] == 40 << 20


def test_create(d):
    """An image in one line: what is defined, the seed and its place, and that a failure leaves nothing."""
    disk, data = d.root + "/disk.raw", d.file("user-data", "#cloud-config\n")
    with open(disk, "wb") as f:
        f.truncate(1 << 20)
    pool = values(d, "pool-info")["path"]
    seed = pool + "/lodge-seed-g.iso"
    made = ("create", "g", "--kernel", kernel, "--append", "echo", "--import", disk, "--memory", "48M", "--vcpus=2", "--network", "user", "--accel=softkvm")
    xml = run(d, *made, "--print-xml", uri=False)
    assert "<type arch='x86_64' machine='q35'>" in xml and disk in xml and values(d, "list", "--all") == []
    p = subprocess.Popen([lodge, "-c", d.uri(), *made, "--cloud-init", data, "--console", "--autostart"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    text = b""
    while b"up: echo" not in text: # what is typed before may be lost, as on any serial port
        text += p.stdout.read1(4096)
    p.stdin.write(b"typed and given back")
    p.stdin.flush()
    while b"given back" not in text:
        text += p.stdout.read1(4096)
    p.stdin.write(b"\x1d")
    p.stdin.close()
    assert p.wait(60) == 0 and b"defined and started" in text
    info = values(d, "dominfo", "g")
    assert (info["vcpus"], info["max_memory"], info["state"], info["autostart"]) == (2, 48 << 20, "running", True), info
    assert [b["source"] for b in values(d, "domblklist", "g")] == [disk, seed] and values(d, "domiflist", "g")[0]["type"] == "user"
    with open(seed, "rb") as f:
        assert b"cidata" in f.read(34000)
    assert "exists" in run(d, *made, status=1)
    run(d, "destroy", "g")
    run(d, "undefine", "g")
    os.unlink(seed)
    # What the daemon refuses, and what cannot start, is undone.
    assert "/nonexistent" in run(d, *made, "--kernel", "/nonexistent", "--cloud-init", data, status=1)
    assert values(d, "list", "--all") == [] and os.listdir(pool) == []
    for more, words in ((("--import", "/nonexistent.raw"), "no such file"), (("--cloud-init", "/nonexistent"), "user-data '/nonexistent'"),
                        (("--memory", "1"), "'--memory'"), (("--network", "default"), "is no network"), (("--cpus", "2"), "did you mean '--vcpus'?")):
        assert words in run(d, *made, *more, status=1), more
    for words in (("create",), ("create", "--import", disk), ("create", "g"), ("create", "a/b", "--import", disk), ("create", "g", "--import", d.root + "/x")):
        run(d, *words, status=1)
    assert values(d, "list", "--all") == [] and os.listdir(pool) == []
    assert values(d, *made, "--no-start") == {"name": "g", "started": False}


def prompt(d):
    return Terminal(lodge, "-c", d.uri(), env={"XDG_STATE_HOME": d.root + "/state", "TERM": "xterm", "INPUTRC": "/dev/null"}, seconds=120)


def test_prompt(d):
    """Completion, history over two lives, errors that do not end it, a daemon that comes back."""
    define(d, "guest-one")
    t = prompt(d)
    t.until(rb"lodge> ")
    t.type(b"doms\t")
    t.until(rb"tat")
    t.type(b"e gu\t\r") # of domstate and domstats
    t.until(rb"guest-one")
    t.until(rb"shut off")
    t.until(rb"lodge> ")
    t.type(b"nonsense\r")
    t.until(rb"lodge: verb 'nonsense'")
    t.until(rb"lodge> ")
    t.type(b"run\r")
    t.until(rb"takes the terminal")
    t.until(rb"lodge> ")
    t.type(b"desc guest-one 'two  words; here'; desc guest-one # and no more\r")
    t.until(rb"[\r\n]two  words; here\r")
    t.until(rb"lodge> ")
    d.kill()
    d.start()
    t.type(b"domstate guest-one\r")
    t.until(rb"connection is lost")
    t.until(rb"lodge> ")
    t.type(b"domstate guest-one\r")
    t.until(rb"[\r\n]shut off")
    t.until(rb"lodge> ")
    t.type(b"quit\r")
    assert t.wait() == 0
    assert os.stat(d.root + "/state/lodge/history").st_mode & 0o777 == 0o600
    t = prompt(d)
    t.until(rb"lodge> ")
    t.type(b"\x1b[A\x1b[A\r") # the line before `quit`
    t.until(rb"[\r\n]shut off")
    t.until(rb"lodge> ")
    t.type(b"\x04")
    assert t.wait() == 0


def test_script(d):
    script = "# made and asked\n  define %s\n\nstart g; domstate g\ndestroy 'g'\ndomstate \"g\" --json\nquit\nbogus\n" % d.file("s.xml", domain("g", kernel))
    out = run(d, stdin=script)
    assert "defined" in out and "\nrunning\n" in out and '"state": "shut off"' in out, out
    assert "line 2: domain 'x'" in run(d, stdin="list\ndomstate x\nundefine g\n", status=1)
    assert "g" in run(d, "list", "--all", "--name")
    assert "a quote is not closed" in run(d, stdin="list 'x\n", status=1) and "more than 64 words" in run(d, stdin="list " * 65, status=1)
    assert run(d, stdin="") == "" and run(d, stdin="version") == run(d, "version")
    other = run(d, uri=False, stdin="connect '%s'\nlist --all --name\nconnect qemu+unix:///system?socket=/nonexistent\n" % d.uri(), status=1)
    assert "g\n" in other and "line 3: daemon" in other


def test_complete(d):
    define(d, "guest-one")
    define(d, "guest two")
    run(d, "vol-create", "disk.raw", "1M")
    c = lambda *words: run(d, "complete", "-c", d.uri(), *words, uri=False).splitlines()
    assert c("dom") == ["dominfo", "domstate", "domstats", "domblklist", "domiflist"] and "run" in c("") and c("help", "vol-u") == ["vol-upload"]
    assert sorted(c("start", "gue")) == ["guest two", "guest-one"] and c("start", "guest-one", "") == []
    assert c("domstats", "guest-one", "guest-") == ["guest-one"]
    assert c("start", "--p") == ["--paused"] and "--json" in c("start", "--") and c("list", "--all", "--na") == ["--name"]
    assert c("vol-info", "di") == ["disk.raw"] and c("vol-info", "--pool", "def") == ["default"] and c("vol-info", "--pool", "none", "di") == []
    assert c("vol-create", "x", "1M", "--format", "") == ["raw", "qcow2"] and c("define", "x") == ["/"] and c("vol-upload", "disk.raw", "") == ["/"]
    assert c("run", "--kern") == ["--kernel"] and c("run", "--kernel", "") == ["/"] and c("create", "--clo") == ["--cloud-init"] and c("bogus", "") == []
    assert run(d, "complete", "-c", "qemu+ssh://nowhere.invalid/system", "start", "", uri=False) == "" # asks nobody
    bash = lambda line: subprocess.run(["bash", "-c", 'source "$0"; lodge() { :; }; COMP_LINE=$1; COMP_POINT=${#1}; _lodge; printf "%s\\n" "${COMPREPLY[@]}"',
                                        os.path.dirname(os.path.abspath(__file__)) + "/../../../src/cli/lodge.bash", line],
                                       capture_output=True, text=True, timeout=120, env=dict(os.environ, LODGE_URI=d.uri())).stdout.splitlines()
    assert bash(lodge + " domst") == ["domstate", "domstats"] and bash(lodge + " domstate guest-") == ["guest-one"]
    assert bash("%s define %s/guest-o" % (lodge, d.root)) == [d.root + "/guest-one.xml"]


def test_zsh(d):
    """The same at a zsh's prompt: a verb, an object with a space in its name, a file."""
    define(d, "guest-one")
    define(d, "other one")
    functions, programs = d.root + "/functions", d.root + "/programs"
    os.mkdir(functions)
    os.mkdir(programs)
    os.symlink(os.path.dirname(os.path.abspath(__file__)) + "/../../../src/cli/lodge.zsh", functions + "/_lodge")
    os.symlink(lodge, programs + "/lodge")
    d.file(".zshrc", "fpath=(%s $fpath)\nautoload -U compinit\ncompinit -u -D\nunset zle_bracketed_paste\nunsetopt prompt_cr prompt_sp\nPS1='ready> '\n" % functions)
    t = Terminal("zsh", "-i", env={"ZDOTDIR": d.root, "PATH": programs + ":" + os.environ["PATH"], "LODGE_URI": d.uri(), "TERM": "dumb", "HOME": d.root},
                 seconds=120)
    t.until(rb"ready> ")
    for typed, completed in ((b"lodge domst\t", rb"lodge domst.*at"), (b"lodge dominfo gue\t", rb"lodge dominfo guest-one"),
                             (b"lodge dominfo oth\t", rb"lodge dominfo other. one"), (b"lodge define %s/guest\t" % d.root.encode(), rb"guest-one\.xml")):
        t.type(typed)
        t.until(completed)
        t.type(b"\x15\n")
        t.until(rb"ready> ")
    t.end()


def pump(a, b):
    try:
        while data := a.recv(65536):
            b.sendall(data)
    except OSError:
        pass
    for s in (a, b):
        try:
            s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


class Door:
    """A TCP port of the loopback that leads to the daemon; with `tls`, a context, as libvirt's daemons have it: a byte says that the client may come in."""

    def __init__(self, d, tls=None, welcome=b"\x01"):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.path, self.tls, self.welcome = d.socket, tls, welcome
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                s = self.listener.accept()[0]
            except OSError:
                return
            try:
                if self.tls:
                    s = self.tls.wrap_socket(s, server_side=True)
                    s.sendall(self.welcome)
            except OSError: # ssl's errors are such
                s.close()
                continue
            to = socket.socket(socket.AF_UNIX)
            to.connect(self.path)
            threading.Thread(target=pump, args=(s, to), daemon=True).start()
            threading.Thread(target=pump, args=(to, s), daemon=True).start()


def certificates(folder):
    """An authority, a server's certificate for 127.0.0.1 and one for elsewhere, a client's, and a client's of another authority."""
    def tool(*args):
        subprocess.run(["certtool", "--ecc", *args], check=True, capture_output=True, cwd=folder)
    def template(name, text):
        with open(folder + "/" + name + ".cfg", "w") as f:
            f.write("cn = %s\nexpiration_days = 100\n%s\n" % (name, text))
    for ca in ("cacert", "otherca"):
        template(ca, "ca\ncert_signing_key")
        tool("--generate-privkey", "--outfile", ca + ".key")
        tool("--generate-self-signed", "--load-privkey", ca + ".key", "--template", ca + ".cfg", "--outfile", ca + ".pem")
    for name, ca, text in (("server", "cacert", "ip_address = 127.0.0.1\ntls_www_server"), ("elsewhere", "cacert", "dns_name = elsewhere.invalid\ntls_www_server"),
                           ("client", "cacert", "tls_www_client"), ("stranger", "otherca", "tls_www_client")):
        template(name, text)
        tool("--generate-privkey", "--outfile", name + "key.pem")
        tool("--generate-certificate", "--load-privkey", name + "key.pem", "--load-ca-certificate", ca + ".pem", "--load-ca-privkey", ca + ".key", "--template",
             name + ".cfg", "--outfile", name + "cert.pem")


def test_tls(d):
    define(d, "far")
    pki = d.root + "/pki"
    os.mkdir(pki)
    certificates(pki)
    def context(name):
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(pki + "/%scert.pem" % name, pki + "/%skey.pem" % name)
        tls.load_verify_locations(pki + "/cacert.pem")
        tls.verify_mode = ssl.CERT_REQUIRED
        return tls
    door, elsewhere, closed = Door(d, context("server")), Door(d, context("elsewhere")), Door(d, context("server"), b"\x00")
    uri = lambda at=door, host="127.0.0.1", more="": "qemu://%s:%d/system?pkipath=%s%s" % (host, at.port, pki, more)
    list_at = lambda text, **kw: run(d, "list", "--all", "--name", "-c", text, uri=False, **kw)
    assert list_at(uri()) == "far\n" and list_at(uri().replace("qemu:", "lodge+tls:")) == "far\n"
    run(d, "undefine", "far")
    big = domain("far", kernel, more="<description>%s</description>" % ("x" * 900000)) # more than a record, both ways
    run(d, "define", "-", "-c", uri(), uri=False, stdin=big)
    assert "x" * 900000 in run(d, "dumpxml", "far", "-c", uri(), uri=False)
    assert "not to be trusted" in list_at(uri(elsewhere), status=1) and list_at(uri(elsewhere, more="&no_verify=1")) == "far\n"
    assert "does not accept" in list_at(uri(closed), status=1)
    for name in ("cert", "key"):
        os.rename(pki + "/client%s.pem" % name, pki + "/own%s.pem" % name)
        os.rename(pki + "/stranger%s.pem" % name, pki + "/client%s.pem" % name)
    list_at(uri(), status=1)
    os.unlink(pki + "/clientkey.pem")
    assert "cannot be used" in list_at(uri(), status=1)
    os.rename(pki + "/cacert.pem", pki + "/gone")
    if not os.path.exists("/etc/pki/CA/cacert.pem"):
        assert "authority's certificate" in list_at(uri(), status=1)
    assert "TLS fails" in list_at(uri(Door(d), more="&no_verify=1").replace(pki, "/nonexistent"), status=1) # no TLS there


def test_remote(d):
    """Programs as connections: a stand-in for ssh that notes its arguments and runs the command here."""
    define(d, "far")
    ssh = d.file("ssh", '#!/bin/sh\nprintf "%%s\\n" "$@" >%s/args\nfor last; do :; done\nPATH=%s:$PATH exec sh -c "$last"\n' % (d.root, os.path.dirname(lodge)))
    os.chmod(ssh, 0o755)
    args = lambda: open(d.root + "/args").read().splitlines()
    uri = "qemu+ssh://me@host.invalid:2222/system?command=%s&socket=%s" % (ssh, d.socket)
    assert run(d, "list", "--all", "--name", "-c", uri + "&keyfile=/k&no_tty=1&no_verify=1", uri=False) == "far\n"
    assert args()[:-1] == ["-T", "-e", "none", "-p", "2222", "-l", "me", "-i", "/k", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "--", "host.invalid"]
    nc = d.file("nc tool", "#!/bin/sh\nexec %s relay \"$2\"\n" % lodge)
    os.chmod(nc, 0o755)
    assert run(d, "list", "--all", "--name", "-c", uri + "&netcat=" + nc.replace(" ", "%20"), uri=False) == "far\n"
    run(d, "list", "-c", uri.replace(d.socket, "/x'%3Btouch%20" + d.root + "/escaped%3B'"), uri=False, status=None) # a quote is not the end of the word
    assert not os.path.exists(d.root + "/escaped")
    assert "connection is lost" in run(d, "list", "-c", "qemu+ssh://h/system?command=false", uri=False, status=1)
    assert "cannot run '/nonexistent'" in run(d, "list", "-c", "qemu+ssh://h/system?command=/nonexistent", uri=False, status=1)
    relay = d.file("relay", "#!/bin/sh\nexec %s relay %s\n" % (lodge, d.socket))
    os.chmod(relay, 0o755)
    assert run(d, "list", "--all", "--name", "-c", "lodge+ext:///system?command=" + relay, uri=False) == "far\n"
    assert "names no program" in run(d, "list", "-c", "qemu+ext:///system", uri=False, status=1)
    door = Door(d)
    assert run(d, "list", "--all", "--name", "-c", "qemu+tcp://127.0.0.1:%d/system" % door.port, uri=False) == "far\n"
    unused = socket.create_server(("127.0.0.1", 0))
    port = unused.getsockname()[1]
    unused.close()
    assert "cannot connect" in run(d, "list", "-c", "qemu+tcp://127.0.0.1:%d/system" % port, uri=False, status=1)
    assert "names no host" in run(d, "list", "-c", "qemu+tcp:///system", uri=False, status=1)
    assert "transport 'pigeon'" in run(d, "list", "-c", "qemu+pigeon://h/system", uri=False, status=1)
    assert "cannot connect" in run(d, "relay", "/nonexistent", uri=False, status=1)


def test_errors(d):
    define(d, "guest")
    assert "did you mean 'guest'?" in run(d, "start", "gest", status=1)
    assert "see 'lodge list --all'" in run(d, "start", "other", status=1)
    assert "'lodge domstate'" in run(d, "domstat3", "guest", status=1)
    bad = d.file("bad.xml", "<domain type='kvm'>\n<name>x</name>\n<mistake/>\n</domain>")
    text = run(d, "define", bad, status=1)
    assert bad in text and "line 3" in text and "<mistake>" in text, text
    assert "binary" in run(d, "define", kernel, status=1) and "cannot read" in run(d, "define", "/nonexistent", status=1)
    huge = d.file("huge.xml", " " * ((1 << 20) + 1))
    assert "longer than 1 MiB" in run(d, "define", huge, status=1)
    same = domain("guest", kernel, more="<uuid>00000000-0000-4000-8000-000000000001</uuid>")
    assert "already exists" in run(d, "define", d.file("same.xml", same), status=1)
    run(d, "start", "guest")
    assert "already" in run(d, "start", "guest", status=1)
    run(d, "destroy", "guest")
    assert "not running" in run(d, "destroy", "guest", status=1)
    assert "lodge start DOMAIN" in run(d, "start", status=1) and "too many" in run(d, "start", "a", "b", status=1)
    assert "did you mean '--all'?" in run(d, "list", "--al", status=1) and "takes no value" in run(d, "list", "--all=1", status=1)
    assert "lacks its value" in run(d, "vol-info", "x", "--pool", status=1)
    assert "pool 'p'" in run(d, "vol-list", "p", status=1) and "volume 'v'" in run(d, "vol-info", "v", status=1)
    assert "did you mean 'lodge start'?" in run(d, "strat", "guest", status=1)
    # Connections.
    assert "none runs at '/nonexistent/s'" in run(d, "list", "-c", "qemu+unix:///system?socket=/nonexistent/s", status=1, uri=False)
    assert "not a URI" in run(d, "list", "-c", "system", status=1, uri=False)
    assert "xen" in run(d, "list", "-c", "xen:///?socket=" + d.socket, status=1, uri=False)
    assert "read-only" in run(d, "start", "guest", "--connect=" + d.uri(readonly=True), status=1, uri=False)
    for name in ("LODGE_URI", "LIBVIRT_DEFAULT_URI"):
        assert "guest" in run(d, "list", "--all", uri=False, env={name: d.uri()})
    assert "usage: lodge start DOMAIN" in run(d, "start", "--help", uri=False) == run(d, "help", "start", uri=False)


run_tests(globals(), sys.argv[4:], lodged)
