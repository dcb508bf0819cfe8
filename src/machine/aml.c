// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * AML by hand: see aml.h. Every PkgLength is written in its three-byte form (ACPI 6.4, 20.2.4), which reaches 1 MiB, so that
 * closing an object only fills bytes in.
 */
#include "machine/aml.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

enum {
    OP_ZERO = 0x00,
    OP_ONE = 0x01,
    OP_NAME = 0x08,
    OP_BYTE = 0x0a,
    OP_WORD = 0x0b,
    OP_DWORD = 0x0c,
    OP_STRING = 0x0d,
    OP_QWORD = 0x0e,
    OP_SCOPE = 0x10,
    OP_BUFFER = 0x11,
    OP_PACKAGE = 0x12,
    OP_METHOD = 0x14,
    OP_IF = 0xa0,
    OP_ELSE = 0xa1,
    OP_EXT = 0x5b,
    OP_EXT_DEVICE = 0x82,
};

#define PKG_BYTES 3

/* Descriptor fields. */
enum {
    END_TAG = 0x79,
    SMALL_IRQ = 0x22,
    SMALL_IO = 0x47,
    LARGE_MEMORY32 = 0x86,
    LARGE_DWORD = 0x87,
    LARGE_WORD = 0x88,
    LARGE_INTERRUPT = 0x89,
    LARGE_QWORD = 0x8a,
    SPACE_MEMORY = 0,
    SPACE_IO = 1,
    SPACE_BUS = 2,
    FIXED_MIN_MAX = 0x0c, /* decoded positively, by the bridge and everything behind it */
    IO_ENTIRE = 3,
    MEMORY_READ_WRITE = 1,
    MEMORY_CACHEABLE = 2,
};

void aml_bytes(struct aml *a, const void *data, size_t len)
{
    if (a->failed)
        return;
    if (a->len + len > a->cap) {
        size_t cap = MAX(a->cap * 2, a->len + len + 4096);
        uint8_t *grown = realloc(a->data, cap);
        if (!grown) {
            a->failed = true;
            return;
        }
        a->data = grown;
        a->cap = cap;
    }
    memcpy(a->data + a->len, data, len);
    a->len += len;
}

void aml_u8(struct aml *a, unsigned v)
{
    aml_bytes(a, &(uint8_t){(uint8_t)v}, 1);
}

void aml_u16(struct aml *a, unsigned v)
{
    aml_bytes(a, &(uint16_t){(uint16_t)v}, 2);
}

void aml_u32(struct aml *a, uint32_t v)
{
    aml_bytes(a, &v, 4);
}

void aml_u64(struct aml *a, uint64_t v)
{
    aml_bytes(a, &v, 8);
}

/* Opens an object behind its opcode: leaves room for the PkgLength. */
static void begin(struct aml *a, bool resources)
{
    assert(a->depth < AML_DEPTH);
    a->open[a->depth].start = a->len;
    a->open[a->depth++].resources = resources;
    aml_bytes(a, "\0\0\0", PKG_BYTES);
}

void aml_end(struct aml *a)
{
    assert(a->depth > 0);
    size_t start = a->open[--a->depth].start;
    if (a->open[a->depth].resources) {
        aml_u8(a, END_TAG);
        aml_u8(a, 0); /* a checksum of zero: not checked (6.4.2.9) */
    }
    if (a->failed)
        return;
    if (a->open[a->depth].resources) {
        uint16_t size = (uint16_t)(a->len - start - PKG_BYTES - 3);
        memcpy(a->data + start + PKG_BYTES + 1, &size, sizeof size);
    }
    size_t len = a->len - start;
    assert(len < 1u << 20);
    a->data[start] = (uint8_t)(2 << 6 | (len & 15));
    a->data[start + 1] = (uint8_t)(len >> 4);
    a->data[start + 2] = (uint8_t)(len >> 12);
}

/* A NameString of one segment, padded with '_' (20.2.2). */
static void path_bytes(struct aml *a, const char *path)
{
    char seg[4] = "____";
    if (*path == '\\') {
        aml_u8(a, '\\');
        path++;
    }
    assert(strlen(path) <= 4);
    memcpy(seg, path, strlen(path));
    aml_bytes(a, seg, 4);
}

void aml_scope(struct aml *a, const char *path)
{
    aml_u8(a, OP_SCOPE);
    begin(a, false);
    path_bytes(a, path);
}

void aml_device(struct aml *a, const char *name)
{
    aml_u8(a, OP_EXT);
    aml_u8(a, OP_EXT_DEVICE);
    begin(a, false);
    path_bytes(a, name);
}

void aml_method(struct aml *a, const char *name, unsigned args)
{
    aml_u8(a, OP_METHOD);
    begin(a, false);
    path_bytes(a, name);
    aml_u8(a, args);
}

void aml_if(struct aml *a)
{
    aml_u8(a, OP_IF);
    begin(a, false);
}

void aml_else(struct aml *a)
{
    aml_u8(a, OP_ELSE);
    begin(a, false);
}

void aml_op(struct aml *a, enum aml_op op)
{
    aml_u8(a, op);
}

void aml_buffer(struct aml *a, const void *data, unsigned len)
{
    aml_u8(a, OP_BUFFER);
    begin(a, false);
    aml_u8(a, OP_BYTE);
    aml_u8(a, len);
    aml_bytes(a, data, len);
    aml_end(a);
}

void aml_package(struct aml *a, unsigned elements)
{
    assert(elements < 256);
    aml_u8(a, OP_PACKAGE);
    begin(a, false);
    aml_u8(a, elements);
}

void aml_resources(struct aml *a)
{
    aml_u8(a, OP_BUFFER);
    begin(a, true);
    aml_u8(a, OP_WORD);
    aml_u16(a, 0); /* the size, filled in by aml_end() */
}

void aml_name(struct aml *a, const char *path)
{
    aml_u8(a, OP_NAME);
    path_bytes(a, path);
}

void aml_ref(struct aml *a, const char *path)
{
    path_bytes(a, path);
}

void aml_integer(struct aml *a, uint64_t v)
{
    if (v <= 1) {
        aml_u8(a, v ? OP_ONE : OP_ZERO);
    } else if (v <= 0xff) {
        aml_u8(a, OP_BYTE);
        aml_u8(a, (unsigned)v);
    } else if (v <= 0xffff) {
        aml_u8(a, OP_WORD);
        aml_u16(a, (unsigned)v);
    } else if (v <= 0xffffffff) {
        aml_u8(a, OP_DWORD);
        aml_u32(a, (uint32_t)v);
    } else {
        aml_u8(a, OP_QWORD);
        aml_u64(a, v);
    }
}

void aml_string(struct aml *a, const char *text)
{
    aml_u8(a, OP_STRING);
    aml_bytes(a, text, strlen(text) + 1);
}

/* Three letters of five bits and four hexadecimal digits, as a big-endian double word (ACPI 6.4, 19.3.4). */
void aml_eisaid(struct aml *a, const char *id)
{
    uint32_t v = (uint32_t)(id[0] - 0x40) << 26 | (uint32_t)(id[1] - 0x40) << 21 | (uint32_t)(id[2] - 0x40) << 16;
    v |= (uint32_t)strtoul(id + 3, NULL, 16);
    aml_integer(a, __builtin_bswap32(v));
}

void aml_io(struct aml *a, unsigned port, unsigned len)
{
    aml_u8(a, SMALL_IO);
    aml_u8(a, 1); /* decodes 16 bits */
    aml_u16(a, port);
    aml_u16(a, port);
    aml_u8(a, 1); /* alignment */
    aml_u8(a, len);
}

void aml_irq(struct aml *a, unsigned irq)
{
    aml_u8(a, SMALL_IRQ);
    aml_u16(a, 1u << irq);
}

void aml_memory32(struct aml *a, uint32_t base, uint32_t len)
{
    aml_u8(a, LARGE_MEMORY32);
    aml_u16(a, 9);
    aml_u8(a, MEMORY_READ_WRITE);
    aml_u32(a, base);
    aml_u32(a, len);
}

void aml_interrupt(struct aml *a, unsigned gsi)
{
    aml_u8(a, LARGE_INTERRUPT);
    aml_u16(a, 6);
    aml_u8(a, 0x09); /* consumer, level, active high, shared */
    aml_u8(a, 1);
    aml_u32(a, gsi);
}

/* The head of an address space descriptor: 3 bytes that do not depend on the width. */
static void window(struct aml *a, unsigned tag, unsigned body, unsigned space, unsigned specific)
{
    aml_u8(a, tag);
    aml_u16(a, body);
    aml_u8(a, space);
    aml_u8(a, FIXED_MIN_MAX);
    aml_u8(a, specific);
}

static void window16(struct aml *a, unsigned space, unsigned specific, unsigned first, unsigned last)
{
    window(a, LARGE_WORD, 13, space, specific);
    aml_u16(a, 0); /* granularity */
    aml_u16(a, first);
    aml_u16(a, last);
    aml_u16(a, 0); /* translation */
    aml_u16(a, last - first + 1);
}

void aml_bus_window(struct aml *a, unsigned first, unsigned last)
{
    window16(a, SPACE_BUS, 0, first, last);
}

void aml_io_window(struct aml *a, unsigned first, unsigned last)
{
    window16(a, SPACE_IO, IO_ENTIRE, first, last);
}

void aml_memory_window32(struct aml *a, uint32_t first, uint32_t last)
{
    window(a, LARGE_DWORD, 23, SPACE_MEMORY, MEMORY_READ_WRITE);
    aml_u32(a, 0);
    aml_u32(a, first);
    aml_u32(a, last);
    aml_u32(a, 0);
    aml_u32(a, last - first + 1);
}

void aml_memory_window64(struct aml *a, uint64_t first, uint64_t last)
{
    window(a, LARGE_QWORD, 43, SPACE_MEMORY, MEMORY_READ_WRITE | MEMORY_CACHEABLE);
    aml_u64(a, 0);
    aml_u64(a, first);
    aml_u64(a, last);
    aml_u64(a, 0);
    aml_u64(a, last - first + 1);
}
