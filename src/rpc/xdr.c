// SPDX-License-Identifier: GPL-2.0-or-later
#include "rpc/xdr.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "rpc/remote.h"

#define MAX_DEPTH 16 /* structs in structs; the protocol has 5 */

#define SINGLE(name, c_type, ...)                                  \
    static const struct xdr_field name##_field = {0, __VA_ARGS__}; \
    const struct xdr_type xdr_##name = {sizeof(c_type), 1, &name##_field}

SINGLE(xdr_int, int32_t, XDR_INT, 0, NULL);
SINGLE(xdr_hyper, int64_t, XDR_HYPER, 0, NULL);
SINGLE(xdr_char, char, XDR_CHAR, 0, NULL);
SINGLE(xdr_short, int16_t, XDR_SHORT, 0, NULL);
SINGLE(xdr_string, char *, XDR_STRING, REMOTE_STRING_MAX, NULL);
SINGLE(remote_typed_param_value, struct remote_typed_param_value, XDR_PARAM, 0, NULL);

/* How arrays and byte strings lie in a struct. */
struct counted {
    uint32_t len;
    void *val;
};

/* ---- decoding ---- */

struct in {
    const uint8_t *p, *end;
    struct arena *arena;
    struct error *err;
};

/* The least number of bytes that a value takes on the wire. */
static size_t least_size(const struct xdr_type *type, unsigned depth)
{
    size_t sum = 0;
    for (unsigned i = 0; i < type->nfields && depth < MAX_DEPTH; i++) {
        const struct xdr_field *f = &type->fields[i];
        switch (f->kind) {
        case XDR_HYPER:
        case XDR_PARAM:
            sum += 8;
            break;
        case XDR_OPAQUE:
            sum += ALIGN_UP((size_t)f->max, 4);
            break;
        case XDR_STRUCT:
            sum += least_size(f->element, depth + 1);
            break;
        case XDR_FIXED:
            sum += f->max * least_size(f->element, depth + 1);
            break;
        default:
            sum += 4;
        }
    }
    return sum;
}

static int cut_off(struct in *in)
{
    return error_set(in->err, 0, "message: cut off");
}

static int get_u32(struct in *in, uint32_t *value)
{
    if (in->end - in->p < 4)
        return cut_off(in);
    *value = xdr_get_u32(in->p);
    in->p += 4;
    return 0;
}

/* `len` bytes and their padding. */
static int get_raw(struct in *in, uint32_t len, const uint8_t **data)
{
    if ((size_t)(in->end - in->p) < ALIGN_UP((size_t)len, 4))
        return cut_off(in);
    *data = in->p;
    in->p += ALIGN_UP((size_t)len, 4);
    return 0;
}

static int get_count(struct in *in, uint32_t max, uint32_t *count)
{
    if (get_u32(in, count) < 0)
        return -1;
    return *count > max ? error_set(in->err, 0, "message: a count of %u is more than the %u that are allowed", *count, max) : 0;
}

static int get_string(struct in *in, uint32_t max, char **s)
{
    const uint8_t *data = NULL;
    uint32_t len;
    if (get_count(in, max, &len) < 0 || get_raw(in, len, &data) < 0)
        return -1;
    if (memchr(data, 0, len))
        return error_set(in->err, 0, "message: a string holds a NUL");
    *s = arena_strndup(in->arena, (const char *)data, len);
    return *s ? 0 : error_set(in->err, ENOMEM, "message: out of memory");
}

/* The word before an optional value. */
static int get_presence(struct in *in, uint32_t *present)
{
    if (get_u32(in, present) < 0)
        return -1;
    return *present > 1 ? error_set(in->err, 0, "message: an optional value is neither there nor not") : 0;
}

static int get_hyper(struct in *in, void *to)
{
    uint32_t high, low;
    if (get_u32(in, &high) < 0 || get_u32(in, &low) < 0)
        return -1;
    uint64_t value = (uint64_t)high << 32 | low;
    memcpy(to, &value, 8);
    return 0;
}

static int get_param(struct in *in, struct remote_typed_param_value *v)
{
    uint32_t word;
    if (get_u32(in, &word) < 0)
        return -1;
    v->type = (int32_t)word;
    switch (v->type) {
    case VIR_TYPED_PARAM_INT:
    case VIR_TYPED_PARAM_UINT:
    case VIR_TYPED_PARAM_BOOLEAN:
        return get_u32(in, &v->ui);
    case VIR_TYPED_PARAM_LLONG:
    case VIR_TYPED_PARAM_ULLONG:
    case VIR_TYPED_PARAM_DOUBLE:
        return get_hyper(in, &v->ul);
    case VIR_TYPED_PARAM_STRING:
        return get_string(in, REMOTE_STRING_MAX, &v->s);
    default:
        return error_set(in->err, 0, "message: a parameter has the unknown type %d", v->type);
    }
}

static int get_type(struct in *in, const struct xdr_type *type, void *object, unsigned depth);

static int get_elements(struct in *in, const struct xdr_type *element, uint8_t *to, uint32_t count, unsigned depth)
{
    for (uint32_t i = 0; i < count; i++, to += element->size)
        if (get_type(in, element, to, depth + 1) < 0)
            return -1;
    return 0;
}

static int get_array(struct in *in, const struct xdr_field *f, struct counted *c, unsigned depth)
{
    if (get_count(in, f->max, &c->len) < 0)
        return -1;
    if ((size_t)(in->end - in->p) / least_size(f->element, 0) < c->len)
        return cut_off(in);
    c->val = arena_alloc(in->arena, c->len * f->element->size);
    return c->val ? get_elements(in, f->element, c->val, c->len, depth) : error_set(in->err, ENOMEM, "message: out of memory");
}

static int get_bytes(struct in *in, uint32_t max, struct counted *c)
{
    const uint8_t *data = NULL;
    if (get_count(in, max, &c->len) < 0 || get_raw(in, c->len, &data) < 0)
        return -1;
    c->val = arena_strndup(in->arena, (const char *)data, c->len);
    return c->val ? 0 : error_set(in->err, ENOMEM, "message: out of memory");
}

/* A value in 4 bytes that has fewer in memory. */
static int get_narrow(struct in *in, enum xdr_kind kind, uint8_t *to)
{
    uint32_t word;
    if (get_u32(in, &word) < 0)
        return -1;
    if (kind == XDR_CHAR)
        *to = (uint8_t)word;
    else
        *(uint16_t *)to = (uint16_t)word;
    return 0;
}

static int get_optional(struct in *in, const struct xdr_field *f, uint8_t *to, unsigned depth)
{
    uint32_t present;
    if (get_presence(in, &present) < 0)
        return -1;
    if (!present)
        return 0;
    if (f->kind == XDR_OPTIONAL_STRING)
        return get_string(in, f->max, (char **)to);
    void *object = *(void **)to = arena_alloc(in->arena, f->element->size);
    return object ? get_type(in, f->element, object, depth + 1) : error_set(in->err, ENOMEM, "message: out of memory");
}

static int get_field(struct in *in, const struct xdr_field *f, uint8_t *to, unsigned depth)
{
    const uint8_t *data = NULL;
    switch (f->kind) {
    case XDR_INT:
        return get_u32(in, (uint32_t *)to);
    case XDR_HYPER:
        return get_hyper(in, to);
    case XDR_CHAR:
    case XDR_SHORT:
        return get_narrow(in, f->kind, to);
    case XDR_STRING:
        return get_string(in, f->max, (char **)to);
    case XDR_OPTIONAL_STRING:
    case XDR_OPTIONAL:
        return get_optional(in, f, to, depth);
    case XDR_OPAQUE:
        if (get_raw(in, f->max, &data) < 0)
            return -1;
        memcpy(to, data, f->max);
        return 0;
    case XDR_BYTES:
        return get_bytes(in, f->max, (struct counted *)to);
    case XDR_STRUCT:
        return get_type(in, f->element, to, depth + 1);
    case XDR_FIXED:
        return get_elements(in, f->element, to, f->max, depth);
    case XDR_ARRAY:
        return get_array(in, f, (struct counted *)to, depth);
    case XDR_PARAM:
        return get_param(in, (struct remote_typed_param_value *)to);
    }
    return -1;
}

static int get_type(struct in *in, const struct xdr_type *type, void *object, unsigned depth)
{
    if (depth > MAX_DEPTH)
        return error_set(in->err, 0, "message: nested too deep");
    for (unsigned i = 0; i < type->nfields; i++)
        if (get_field(in, &type->fields[i], (uint8_t *)object + type->fields[i].offset, depth) < 0)
            return -1;
    return 0;
}

int xdr_decode(const struct xdr_type *type, const void *data, size_t len, struct arena *arena, void *object, struct error *err)
{
    struct in in = {data, (const uint8_t *)data + len, arena, err};
    if (type)
        memset(object, 0, type->size);
    if (type && get_type(&in, type, object, 0) < 0)
        return -1;
    return in.p == in.end ? 0 : error_set(err, 0, "message: %zu bytes are left over", (size_t)(in.end - in.p));
}

/* ---- encoding ---- */

void xdr_put_raw(struct xdr_out *out, const void *data, size_t len)
{
    if (out->failed)
        return;
    if (out->cap - out->len < len) {
        size_t cap = MAX(out->cap * 2, ALIGN_UP(out->len + len, 1024));
        uint8_t *grown = realloc(out->data, cap);
        out->failed = !grown;
        if (!grown)
            return;
        out->data = grown;
        out->cap = cap;
    }
    if (len)
        memcpy(out->data + out->len, data, len);
    out->len += len;
}

void xdr_put_u32(struct xdr_out *out, uint32_t value)
{
    const uint8_t bytes[4] = {(uint8_t)(value >> 24), (uint8_t)(value >> 16), (uint8_t)(value >> 8), (uint8_t)value};
    xdr_put_raw(out, bytes, 4);
}

static void put_padded(struct xdr_out *out, const void *data, size_t len)
{
    static const uint8_t zeros[4];
    xdr_put_raw(out, data, len);
    xdr_put_raw(out, zeros, ALIGN_UP(len, 4) - len);
}

static void put_counted(struct xdr_out *out, const void *data, size_t len, uint32_t max)
{
    if (len > max) {
        out->failed = true;
        return;
    }
    xdr_put_u32(out, (uint32_t)len);
    put_padded(out, data, len);
}

static void put_string(struct xdr_out *out, const char *s, uint32_t max)
{
    put_counted(out, s ? s : "", s ? strlen(s) : 0, max);
}

static void put_hyper(struct xdr_out *out, const void *from)
{
    uint64_t value;
    memcpy(&value, from, 8);
    xdr_put_u32(out, (uint32_t)(value >> 32));
    xdr_put_u32(out, (uint32_t)value);
}

static void put_param(struct xdr_out *out, const struct remote_typed_param_value *v)
{
    xdr_put_u32(out, (uint32_t)v->type);
    switch (v->type) {
    case VIR_TYPED_PARAM_LLONG:
    case VIR_TYPED_PARAM_ULLONG:
    case VIR_TYPED_PARAM_DOUBLE:
        put_hyper(out, &v->ul);
        break;
    case VIR_TYPED_PARAM_STRING:
        put_string(out, v->s, REMOTE_STRING_MAX);
        break;
    default:
        xdr_put_u32(out, v->ui);
    }
}

static void put_elements(struct xdr_out *out, const struct xdr_type *element, const uint8_t *from, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        xdr_encode(out, element, from + i * element->size);
}

static void put_field(struct xdr_out *out, const struct xdr_field *f, const uint8_t *from)
{
    const struct counted *c = (const struct counted *)from;
    const void *pointer;
    switch (f->kind) {
    case XDR_INT:
        xdr_put_u32(out, *(const uint32_t *)from);
        break;
    case XDR_HYPER:
        put_hyper(out, from);
        break;
    case XDR_CHAR:
        xdr_put_u32(out, (uint32_t) * (const int8_t *)from);
        break;
    case XDR_SHORT:
        xdr_put_u32(out, *(const uint16_t *)from);
        break;
    case XDR_STRING:
        put_string(out, *(char *const *)from, f->max);
        break;
    case XDR_OPTIONAL_STRING:
    case XDR_OPTIONAL:
        pointer = *(void *const *)from;
        xdr_put_u32(out, pointer != NULL);
        if (pointer && f->kind == XDR_OPTIONAL)
            xdr_encode(out, f->element, pointer);
        else if (pointer)
            put_string(out, pointer, f->max);
        break;
    case XDR_OPAQUE:
        put_padded(out, from, f->max);
        break;
    case XDR_BYTES:
        put_counted(out, c->val, c->len, f->max);
        break;
    case XDR_STRUCT:
        xdr_encode(out, f->element, from);
        break;
    case XDR_FIXED:
        put_elements(out, f->element, from, f->max);
        break;
    case XDR_ARRAY:
        out->failed |= c->len > f->max;
        xdr_put_u32(out, c->len);
        put_elements(out, f->element, c->val, c->len);
        break;
    case XDR_PARAM:
        put_param(out, (const struct remote_typed_param_value *)from);
        break;
    }
}

void xdr_encode(struct xdr_out *out, const struct xdr_type *type, const void *object)
{
    for (unsigned i = 0; type && i < type->nfields && !out->failed; i++)
        put_field(out, &type->fields[i], (const uint8_t *)object + type->fields[i].offset);
}

void xdr_out_free(struct xdr_out *out)
{
    free(out->data);
    *out = (struct xdr_out){0};
}
