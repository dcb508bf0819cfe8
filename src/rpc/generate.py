#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""generate.py TABLE.json remote.h remote.c client.h: C from the table of libvirt's wire.

remote.h: constants and enumerations of the API, a C struct for each structure, the numbers of the procedures.
remote.c: how each struct lies on the wire (struct xdr_type), and the table of procedures (struct rpc_proc).
client.h: a typed function for each call."""
import json
import sys

SCALARS = {  # name: (C type, wire bytes, kind)
    "int": ("int32_t", 4, "XDR_INT"), "unsigned int": ("uint32_t", 4, "XDR_INT"), "hyper": ("int64_t", 8, "XDR_HYPER"),
    "unsigned hyper": ("uint64_t", 8, "XDR_HYPER"), "double": ("double", 8, "XDR_HYPER"), "char": ("char", 4, "XDR_CHAR"),
    "unsigned char": ("uint8_t", 4, "XDR_CHAR"), "short": ("int16_t", 4, "XDR_SHORT"), "unsigned short": ("uint16_t", 4, "XDR_SHORT"),
}


class Generator:
    def __init__(self, table):
        self.table = table
        self.typedefs = {t["name"]: t for t in table["typedefs"]}
        self.structs = {s["name"]: s for s in table["structs"]}
        self.enums = {e["name"] for e in table["enums"]}
        self.unions = {u["name"] for u in table["unions"]}
        self.done = set()
        self.h, self.c, self.client = [], [], []

    def resolve(self, field):
        """The field with typedefs taken apart: type and kind are what the wire has."""
        f = dict(field)
        while f["type"] in self.typedefs:
            t = self.typedefs[f["type"]]
            if f["kind"] not in ("plain", "optional"):
                f["element"] = self.resolve({"name": "", "type": f["type"], "kind": "plain"})
                return f
            if f["kind"] == "optional" and t["kind"] != "plain":
                assert t["kind"] == "string" # an optional string
                f.update(type="string", kind="optional-string", max=t["max"])
                return f
            kind = f["kind"]
            f.update({k: t[k] for k in ("type", "kind", "max", "len") if k in t})
            if kind == "optional":
                f["kind"] = "optional"
        if f["kind"] == "optional" and f["type"] == "string":
            f["kind"] = "optional-string"
        return f

    def member(self, field):
        """(declaration, initializer of struct xdr_field less the offset)."""
        f = self.resolve(field)
        name, kind, base = f["name"], f["kind"], f["type"]
        if base in self.enums:
            base = "int"
        e = f.get("element")
        if kind == "array-variable" and e and e["kind"] == "string":
            return "struct { uint32_t len; char **val; } %s;" % name, "XDR_ARRAY, .max = %d, .element = &xdr_xdr_string" % f["max"]
        if e:
            base = e["type"]
            if e["kind"] == "array-fixed": # list of UUIDs
                raise SystemExit("generate.py: %s: an array of arrays is not supported" % name)
        if kind == "string":
            return "char *%s;" % name, "XDR_STRING, .max = %d" % f["max"]
        if kind == "optional-string":
            return "char *%s; /* may be NULL */" % name, "XDR_OPTIONAL_STRING, .max = %d" % f.get("max", 4194304)
        if base == "opaque":
            if kind == "array-fixed":
                return "uint8_t %s[%d];" % (name, f["len"]), "XDR_OPAQUE, .max = %d" % f["len"]
            return "struct { uint32_t len; uint8_t *val; } %s;" % name, "XDR_BYTES, .max = %d" % f["max"]
        if base in SCALARS:
            ctype, _, xkind = SCALARS[base]
            if kind == "plain":
                return "%s %s;" % (ctype, name), xkind
            if kind == "array-fixed":
                return "%s %s[%d];" % (ctype, name, f["len"]), "XDR_FIXED, .max = %d, .element = &xdr_%s" % (f["len"], xkind.lower())
            return "struct { uint32_t len; %s *val; } %s;" % (ctype, name), "XDR_ARRAY, .max = %d, .element = &xdr_%s" % (f["max"], xkind.lower())
        self.struct(base)
        desc = "xdr_" + base
        if kind == "plain":
            return "struct %s %s;" % (base, name), "XDR_STRUCT, .element = &%s" % desc
        if kind == "optional":
            return "struct %s *%s; /* may be NULL */" % (base, name), "XDR_OPTIONAL, .element = &%s" % desc
        assert kind == "array-variable", (name, kind)
        return "struct { uint32_t len; struct %s *val; } %s;" % (base, name), "XDR_ARRAY, .max = %d, .element = &%s" % (f["max"], desc)

    def struct(self, name):
        if name in self.done:
            return
        self.done.add(name)
        if name in self.unions: # the one union is known by hand: rpc/xdr.h
            return
        rows = [self.member(f) for f in self.structs[name]["fields"]]
        self.h.append("struct %s {" % name)
        self.h += ["    " + decl for decl, _ in rows]
        self.h.append("};\nextern const struct xdr_type xdr_%s;\n" % name)
        self.c.append("static const struct xdr_field fields_%s[] = {" % name)
        self.c += ["    {.offset = offsetof(struct %s, %s), .kind = %s}," % (name, f["name"], init) for f, (_, init) in zip(self.structs[name]["fields"], rows)]
        self.c.append("};\nconst struct xdr_type xdr_%s = {sizeof(struct %s), %d, fields_%s};\n" % (name, name, len(rows), name))

    def constants(self):
        self.h.append("enum {")
        for row in self.table["constants"] + self.table["api_numbers"]:
            if -2**31 <= row["value"] < 2**31 and row["name"] not in self.seen and not self.seen.add(row["name"]):
                self.h.append("    %s = %d," % (row["name"], row["value"]))
        self.h.append("};\n")
        for e in self.table["enums"] + self.table["api_enums"]:
            values = [(n, v) for n, v in e["values"] if -2**31 <= v < 2**31 and n not in self.seen and not self.seen.add(n)]
            if values:
                self.h.append("enum %s {" % e["name"])
                self.h += ["    %s = %d," % v for v in values]
                self.h.append("};\n")
        for row in self.table["api_strings"]:
            if row["name"] not in self.seen:
                self.seen.add(row["name"])
                self.h.append('#define %s %s' % (row["name"], json.dumps(row["value"])))
        self.h.append("")

    def procedures(self):
        for prog in ("remote", "qemu"):
            procs = [p for p in self.table["procedures"] if p["program"] == prog]
            self.h.append("enum %s_procedure {" % prog)
            self.h += ["    %s_PROC_%s = %d," % (prog.upper(), p["name"].upper(), p["number"]) for p in procs]
            self.h.append("    %s_PROCS = %d\n};" % (prog.upper(), max(p["number"] for p in procs) + 1))
            self.h.append("extern const struct rpc_proc %s_procs[%s_PROCS];\n" % (prog, prog.upper()))
            self.c.append("const struct rpc_proc %s_procs[%s_PROCS] = {" % (prog, prog.upper()))
            for p in procs:
                flags = [flag for flag, on in (("RPC_EVENT", p["kind"] == "event"), ("RPC_RW", p.get("rw_only") == "always"), ("RPC_RW_FLAGS", p.get("rw_only") == "flags"),
                                               ("RPC_NO_AUTH", p.get("no_auth")), ("RPC_URGENT", p.get("priority") == "high"), ("RPC_STREAM", p.get("stream"))) if on]
                args = p.get("msg") if p["kind"] == "event" else p.get("args")
                self.c.append('    [%d] = {"%s", %s, %s, %s},' % (p["number"], p["name"], "&xdr_" + args if args else "NULL", "&xdr_" + p["ret"] if p.get("ret") else "NULL",
                                                                   " | ".join(flags) or "0"))
                if prog == "remote" and p["kind"] == "call":
                    self.client_call(p)
            self.c.append("};\n")

    def client_call(self, p):
        params = ["struct rpc_client *c"]
        if p.get("args"):
            params.append("const struct %s *args" % p["args"])
        if p.get("ret"):
            params.append("struct %s *ret" % p["ret"])
        self.client.append("static inline int client_%s(%s, struct error *err)\n{\n    return rpc_client_call(c, REMOTE_PROC_%s, %s, %s, err);\n}\n"
                           % (p["name"], ", ".join(params), p["name"].upper(), "args" if p.get("args") else "NULL", "ret" if p.get("ret") else "NULL"))

    def run(self):
        self.seen = set()
        self.constants()
        for s in self.table["structs"]:
            self.struct(s["name"])
        self.procedures()


def write(path, head, lines, tail=""):
    with open(path, "w") as f:
        f.write("/* Generated by src/rpc/generate.py from src/rpc/libvirt-rpc.json. */\n" + head + "\n".join(lines) + tail + "\n")


def main():
    with open(sys.argv[1]) as f:
        g = Generator(json.load(f))
    g.run()
    write(sys.argv[2], '#ifndef LODGE_RPC_REMOTE_H\n#define LODGE_RPC_REMOTE_H\n\n#include "rpc/xdr.h"\n\n', g.h, "\n#endif")
    write(sys.argv[3], '#include "rpc/remote.h"\n\n#include <stddef.h>\n\n', g.c)
    write(sys.argv[4], '#ifndef LODGE_RPC_CALLS_H\n#define LODGE_RPC_CALLS_H\n\n#include "rpc/client.h"\n\n', g.client, "\n#endif")


main()
