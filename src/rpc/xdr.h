/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * XDR (RFC 4506) by tables: how a C struct lies on the wire is data, made by generate.py, and one decoder and one encoder walk it.
 *
 * The decoder takes any bytes. It allocates only what the bytes that are left can fill (an array's count is checked against the
 * least size of its elements), refuses strings with a NUL in them, counts beyond the protocol's maximum, and bytes that are left
 * over.
 */
#ifndef LODGE_RPC_XDR_H
#define LODGE_RPC_XDR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "rpc/arena.h"

enum xdr_kind {
    XDR_INT,             /* int32_t, uint32_t, enumerations */
    XDR_HYPER,           /* 64 bits: int64_t, uint64_t, double */
    XDR_CHAR,            /* 8 bits in memory, 4 bytes on the wire */
    XDR_SHORT,           /* 16 bits in memory, 4 bytes on the wire */
    XDR_STRING,          /* char * */
    XDR_OPTIONAL_STRING, /* char *, NULL for none */
    XDR_OPAQUE,          /* max bytes inside the struct */
    XDR_BYTES,           /* struct { uint32_t len; uint8_t *val; } */
    XDR_STRUCT,          /* inside the struct */
    XDR_OPTIONAL,        /* pointer to a struct, NULL for none */
    XDR_FIXED,           /* max elements inside the struct */
    XDR_ARRAY,           /* struct { uint32_t len; element *val; } */
    XDR_PARAM,           /* union remote_typed_param_value */
};

struct xdr_field {
    size_t offset;
    enum xdr_kind kind;
    uint32_t max; /* bytes, elements, or characters */
    const struct xdr_type *element;
};

struct xdr_type {
    size_t size; /* of the C struct */
    unsigned nfields;
    const struct xdr_field *fields;
};

/* For elements of arrays. */
extern const struct xdr_type xdr_xdr_int, xdr_xdr_hyper, xdr_xdr_char, xdr_xdr_short, xdr_xdr_string;

/* The protocol's one union: `type` is a virTypedParameterType. */
struct remote_typed_param_value {
    int32_t type;
    union {
        int32_t i;
        uint32_t ui;
        int64_t l;
        uint64_t ul;
        double d;
        int32_t b;
        char *s;
    };
};
extern const struct xdr_type xdr_remote_typed_param_value;

struct xdr_out {
    uint8_t *data; /* owned */
    size_t len, cap;
    bool failed; /* memory is out, or a value exceeds the protocol's maximum: what was written is of no use */
};

enum rpc_proc_flags {
    RPC_EVENT = 1,    /* the server's; args is its message */
    RPC_RW = 2,       /* refused on a read-only connection */
    RPC_RW_FLAGS = 4, /* refused there with some flags */
    RPC_NO_AUTH = 8,  /* allowed before authentication */
    RPC_URGENT = 16,  /* must answer while other calls of the connection wait */
    RPC_STREAM = 32,
};

struct rpc_proc {
    const char *name;                  /* NULL: no such procedure */
    const struct xdr_type *args, *ret; /* NULL: an empty body */
    unsigned flags;
};

/* Decodes all of [data, data+len) into `object` of type->size bytes, which is zeroed first. What it points to lies in `arena`. */
int xdr_decode(const struct xdr_type *type, const void *data, size_t len, struct arena *arena, void *object, struct error *err);
/* Appends. A NULL string that is not optional is written as an empty one. */
void xdr_encode(struct xdr_out *out, const struct xdr_type *type, const void *object);
void xdr_put_u32(struct xdr_out *out, uint32_t value);
void xdr_put_raw(struct xdr_out *out, const void *data, size_t len);
void xdr_out_free(struct xdr_out *out);

static inline uint32_t xdr_get_u32(const void *p)
{
    const uint8_t *b = p;
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

#endif
