// SPDX-License-Identifier: GPL-2.0-or-later
/* The fields of 9P messages: little-endian numbers, strings with 16 bits of length, qids. */
#include "base/util.h"
#include "share/p9.h"

static uint64_t get(struct p9_msg *m, unsigned bytes)
{
    uint64_t v = 0;
    if (m->bad || m->len - m->at < bytes) {
        m->bad = true;
        return 0;
    }
    memcpy(&v, m->p + m->at, bytes);
    m->at += bytes;
    return v;
}

uint8_t p9_get8(struct p9_msg *m)
{
    return (uint8_t)get(m, 1);
}

uint16_t p9_get16(struct p9_msg *m)
{
    return (uint16_t)get(m, 2);
}

uint32_t p9_get32(struct p9_msg *m)
{
    return (uint32_t)get(m, 4);
}

uint64_t p9_get64(struct p9_msg *m)
{
    return get(m, 8);
}

void p9_get_string(struct p9_msg *m, char *buf, uint32_t max)
{
    uint16_t len = p9_get16(m);
    buf[0] = 0;
    if (m->bad || len > max || m->len - m->at < len || memchr(m->p + m->at, 0, len)) {
        m->bad = true;
        return;
    }
    memcpy(buf, m->p + m->at, len);
    buf[len] = 0;
    m->at += len;
}

void p9_get_name(struct p9_msg *m, char buf[P9_NAME_MAX + 1])
{
    p9_get_string(m, buf, P9_NAME_MAX);
    if (buf[0] == 0 || strchr(buf, '/') || strcmp(buf, ".") == 0 || strcmp(buf, "..") == 0)
        m->bad = true;
}

static void put(struct p9_msg *m, const void *v, size_t bytes)
{
    if (m->bad || m->len - m->at < bytes) {
        m->bad = true;
        return;
    }
    memcpy(m->p + m->at, v, bytes);
    m->at += (uint32_t)bytes;
}

void p9_put8(struct p9_msg *m, uint8_t v)
{
    put(m, &v, sizeof v);
}

void p9_put16(struct p9_msg *m, uint16_t v)
{
    put(m, &v, sizeof v);
}

void p9_put32(struct p9_msg *m, uint32_t v)
{
    put(m, &v, sizeof v);
}

void p9_put64(struct p9_msg *m, uint64_t v)
{
    put(m, &v, sizeof v);
}

void p9_put_string(struct p9_msg *m, const char *text, size_t len)
{
    p9_put16(m, (uint16_t)len);
    put(m, text, len);
}

/*
 * A qid's path identifies a file within the share. Inode numbers do that within one file system; those of others, mounted below the root, are told
 * apart by their device in the bits that inode numbers seldom reach.
 */
void p9_put_qid(struct p9_msg *m, const struct share *s, const struct stat *st)
{
    uint64_t path = st->st_ino;
    if (st->st_dev != s->root_stat.st_dev)
        path ^= (uint64_t)st->st_dev << 40 | 1ull << 63;
    p9_put8(m, S_ISDIR(st->st_mode) ? 0x80 : S_ISLNK(st->st_mode) ? 0x02 : 0);
    p9_put32(m, (uint32_t)st->st_mtim.tv_sec ^ (uint32_t)st->st_mtim.tv_nsec ^ (uint32_t)st->st_size << 8);
    p9_put64(m, path);
}
