/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A 9P2000.L client for tests. A request is made field by field and answered into `in`; rc() gives 0 or the error of the answer. */
#ifndef LODGE_TESTS_CLIENT_H
#define LODGE_TESTS_CLIENT_H

#include <string.h>

#include "../devices/check.h"
#include "share/p9.h"

struct client {
    struct share *s;
    uint8_t out[SHARE_MSIZE], in[SHARE_MSIZE];
    uint32_t len, room, got;
};

static inline void c_raw(struct client *c, const void *p, size_t n)
{
    memcpy(c->out + c->len, p, n);
    c->len += (uint32_t)n;
}
static inline void c8(struct client *c, uint8_t v)
{
    c_raw(c, &v, 1);
}
static inline void c16(struct client *c, uint16_t v)
{
    c_raw(c, &v, 2);
}
static inline void c32(struct client *c, uint32_t v)
{
    c_raw(c, &v, 4);
}
static inline void c64(struct client *c, uint64_t v)
{
    c_raw(c, &v, 8);
}
static inline void cstr(struct client *c, const char *t)
{
    c16(c, (uint16_t)strlen(t));
    c_raw(c, t, strlen(t));
}
static inline void c_begin(struct client *c, uint8_t type)
{
    c->len = 0;
    c32(c, 0);
    c8(c, type);
    c16(c, 77);
    c->room = sizeof c->in;
}
static inline uint32_t c_u32(const struct client *c, uint32_t at)
{
    uint32_t v;
    memcpy(&v, c->in + at, 4);
    return v;
}
/* Sends: 0, or the error number that came back. */
static inline int c_send(struct client *c)
{
    memcpy(c->out, &c->len, 4);
    /* Cut in the middle of the header, as no driver does and any may. */
    struct iovec out[] = {{c->out, 5}, {c->out + 5, c->len - 5}}, in[] = {{c->in, 3}, {c->in + 3, c->room - 3}};
    memset(c->in, 0xee, 64);
    c->got = share_serve(c->s, out, 2, c->len, in, 2, c->room);
    CHECK(c->got >= P9_HEADER && c->got <= c->room);
    CHECK_EQ(c_u32(c, 0), c->got);
    CHECK(c->in[5] == 77 && c->in[6] == 0);
    if (c->in[4] == P9_RLERROR) {
        CHECK_EQ(c->got, P9_HEADER + 4);
        return (int)c_u32(c, P9_HEADER);
    }
    CHECK_EQ(c->in[4], c->out[4] + 1);
    return 0;
}

static inline int c_version(struct client *c)
{
    c_begin(c, P9_TVERSION);
    c32(c, SHARE_MSIZE);
    cstr(c, "9P2000.L");
    return c_send(c);
}
static inline int c_attach(struct client *c, uint32_t fid, const char *tree)
{
    c_begin(c, P9_TATTACH);
    c32(c, fid);
    c32(c, P9_NOFID);
    cstr(c, "root");
    cstr(c, tree);
    c32(c, 0);
    return c_send(c);
}
/* One component; "" clones. */
static inline int c_walk(struct client *c, uint32_t fid, uint32_t newfid, const char *name)
{
    c_begin(c, P9_TWALK);
    c32(c, fid);
    c32(c, newfid);
    c16(c, name[0] ? 1 : 0);
    if (name[0])
        cstr(c, name);
    return c_send(c);
}
static inline int c_fid(struct client *c, uint8_t type, uint32_t fid)
{
    c_begin(c, type);
    c32(c, fid);
    return c_send(c);
}
static inline int c_open(struct client *c, uint32_t fid, uint32_t flags)
{
    c_begin(c, P9_TLOPEN);
    c32(c, fid);
    c32(c, flags);
    return c_send(c);
}
static inline int c_create(struct client *c, uint32_t fid, const char *name, uint32_t flags, uint32_t mode)
{
    c_begin(c, P9_TLCREATE);
    c32(c, fid);
    cstr(c, name);
    c32(c, flags);
    c32(c, mode);
    c32(c, 0);
    return c_send(c);
}
static inline int c_write(struct client *c, uint32_t fid, uint64_t at, const void *data, uint32_t n)
{
    c_begin(c, P9_TWRITE);
    c32(c, fid);
    c64(c, at);
    c32(c, n);
    c_raw(c, data, n);
    return c_send(c);
}
static inline int c_read(struct client *c, uint32_t fid, uint64_t at, uint32_t n)
{
    c_begin(c, P9_TREAD);
    c32(c, fid);
    c64(c, at);
    c32(c, n);
    return c_send(c);
}

#endif
