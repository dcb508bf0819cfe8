// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/params.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define FIRST_ROWS 32u
#define NAME_BYTES 80u /* VIR_TYPED_PARAM_FIELD_LENGTH */

static struct remote_typed_param *add(struct params *p, int type, const char *format, va_list ap)
{
    static struct remote_typed_param lost;
    char name[NAME_BYTES];
    if (p->len == p->cap) {
        unsigned cap = p->cap ? p->cap * 2 : FIRST_ROWS;
        struct remote_typed_param *grown = arena_alloc(&p->c->arena, cap * sizeof *grown);
        if (!grown)
            return &lost;
        if (p->len)
            memcpy(grown, p->val, p->len * sizeof *grown);
        p->val = grown;
        p->cap = cap;
    }
    struct remote_typed_param *row = &p->val[p->len++];
    vsnprintf(name, sizeof name, format, ap);
    *row = (struct remote_typed_param){call_string(p->c, name), {.type = type}};
    return row;
}

#define ADD(type, member, to)                                \
    va_list ap;                                              \
    va_start(ap, name);                                      \
    struct remote_typed_param *row = add(p, type, name, ap); \
    va_end(ap);                                              \
    row->value.member = to

void params_int(struct params *p, int value, const char *name, ...)
{
    ADD(VIR_TYPED_PARAM_INT, i, value);
}

void params_uint(struct params *p, unsigned value, const char *name, ...)
{
    ADD(VIR_TYPED_PARAM_UINT, ui, value);
}

void params_u64(struct params *p, uint64_t value, const char *name, ...)
{
    ADD(VIR_TYPED_PARAM_ULLONG, ul, value);
}

void params_string(struct params *p, const char *value, const char *name, ...)
{
    if (!value)
        return;
    ADD(VIR_TYPED_PARAM_STRING, s, call_string(p->c, value));
}
