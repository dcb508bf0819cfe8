#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A third opinion: runs the guests of this folder on QEMU's TCG and says which of their expectations it does not share.

    on_qemu.py GUEST.S...

Each is built with -DDEBUGCON, put at 0x8000 and started in real mode by a boot ROM of one jump. Not part of any test suite: QEMU has gaps of its own.
"""
import os
import subprocess
import sys
import tempfile



def run(source, tmp):
    guest, rom, log = (os.path.join(tmp, n) for n in ("guest.bin", "jump.rom", "log"))
    subprocess.run(["gcc", "-nostdlib", "-static", "-no-pie", "-DDEBUGCON", "-Wl,-Ttext=0x8000", "-Wl,--oformat=binary", "-Wl,--build-id=none",
                    "-o", guest, source], check=True)
    with open(rom, "wb") as f:
        f.write(bytes(0xfff0) + b"\xea\x00\x80\x00\x00" + bytes(11))
    open(log, "wb").close()
    try:
        subprocess.run(["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max,-la57", "-m", "16", "-display", "none", "-nodefaults", "-no-reboot",
                        "-bios", rom, "-device", f"loader,file={guest},addr=0x8000,force-raw=on", "-debugcon", f"file:{log}"],
                       timeout=float(os.environ.get("QEMU_SECONDS", "6")), stderr=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        pass
    with open(log, "rb") as f:
        return f.read()


def verdict(name, data):
    actual = expected = checks = bad = 0
    ended = False
    for at in range(0, len(data) - 4, 5):
        b0, b3, b2, b1 = data[at + 1:at + 5]
        port, value = data[at], int.from_bytes((b0, b1, b2, b3), "little")
        if port == 0xf1:
            actual = value
        elif port == 0xf3:
            expected = value
        elif port == 0xf5:
            checks += 1
            if actual != expected:
                bad += 1
                print(f"  {name}:{value}: {actual:#x}, expected {expected:#x}")
        elif port in (0xf4, 0xf6):
            ended = True
    print(f"{name}: {checks} checks, {bad} different" + ("" if ended else ", did not end"))


def main():
    for source in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as tmp:
            verdict(os.path.basename(source), run(source, tmp))


main()
