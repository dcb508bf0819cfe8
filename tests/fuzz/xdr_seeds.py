#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""xdr_seeds.py TABLE.json DIR: a small message of every kind for xdr_fuzz, so that it begins where decoders succeed."""
import json
import os
import struct
import sys

SCALARS = {"int": 4, "unsigned int": 4, "hyper": 8, "unsigned hyper": 8, "double": 8, "char": 4, "unsigned char": 4, "short": 4, "unsigned short": 4}


class Writer:
    def __init__(self, table):
        self.structs = {s["name"]: s for s in table["structs"]}
        self.typedefs = {t["name"]: t for t in table["typedefs"]}

    def string(self, text):
        return struct.pack(">I", len(text)) + text + b"\0" * (-len(text) % 4)

    def value(self, kind, field, depth):
        """One element of the type, or what the kind makes of it."""
        name = field["type"]
        if kind == "optional":
            return struct.pack(">I", 0) if depth > 4 else struct.pack(">I", 1) + self.value("plain", field, depth + 1)
        if name == "opaque":
            return b"\0" * (field["len"] + -field["len"] % 4) if kind == "array-fixed" else self.string(b"\0\1\2")
        if kind == "string" or name == "string":
            return self.string(b"name")
        if kind == "array-variable":
            return struct.pack(">I", 0) if depth > 4 else struct.pack(">I", 1) + self.value("plain", field, depth + 1)
        if kind == "array-fixed":
            return self.value("plain", field, depth) * field["len"]
        if name in self.typedefs:
            return self.value(self.typedefs[name]["kind"], self.typedefs[name], depth)
        if name == "remote_typed_param_value":
            return struct.pack(">II", 1, 7) # VIR_TYPED_PARAM_INT
        if name in self.structs:
            return self.struct(name, depth + 1)
        return b"\0" * SCALARS.get(name, 4) # enumerations have 4

    def struct(self, name, depth=0):
        return b"".join(self.value(f["kind"], f, depth) for f in self.structs[name]["fields"])


def main():
    with open(sys.argv[1]) as f:
        table = json.load(f)
    w = Writer(table)
    os.makedirs(sys.argv[2], exist_ok=True)
    for p in table["procedures"]:
        for bit, key in ((1, "msg" if p["kind"] == "event" else "args"), (0, "ret")):
            if p["program"] in ("remote", "qemu") and p.get(key):
                with open("%s/%s-%s-%d" % (sys.argv[2], p["program"], p["name"], bit), "wb") as f:
                    f.write(struct.pack(">HBB", p["number"], bit | (2 if p["program"] == "qemu" else 0), 0) + w.struct(p[key]))


main()
