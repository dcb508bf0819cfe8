// SPDX-License-Identifier: GPL-2.0-or-later
/* Pieces of L2 tables and refcount blocks in memory, by their place in the file; the one that was not used for longest goes first. */
#include "block/qcow2.h"

#include <errno.h>
#include <string.h>

#include "base/util.h"

int qcow2_cache_init(struct qcow2_cache *c, unsigned slice_bytes, uint64_t bytes)
{
    *c = (struct qcow2_cache){.slice_bytes = slice_bytes, .max = (unsigned)MAX(bytes / slice_bytes, 16)};
    c->hash_size = 64;
    while (c->hash_size < c->max)
        c->hash_size *= 2;
    c->hash = calloc(c->hash_size, sizeof *c->hash);
    return c->hash ? 0 : -ENOMEM;
}

static struct qcow2_slice **bucket(struct qcow2_cache *c, uint64_t offset)
{
    return &c->hash[(offset / c->slice_bytes * 0x9e3779b97f4a7c15ull >> 32) & (c->hash_size - 1)];
}

static void unlist(struct qcow2_cache *c, struct qcow2_slice *s)
{
    *(s->newer ? &s->newer->older : &c->newest) = s->older;
    *(s->older ? &s->older->newer : &c->oldest) = s->newer;
}

static void list_newest(struct qcow2_cache *c, struct qcow2_slice *s)
{
    s->newer = NULL;
    s->older = c->newest;
    *(c->newest ? &c->newest->newer : &c->oldest) = s;
    c->newest = s;
}

static void forget(struct qcow2_cache *c, struct qcow2_slice *s)
{
    struct qcow2_slice **at = bucket(c, s->offset);
    while (*at != s)
        at = &(*at)->hash_next;
    *at = s->hash_next;
    unlist(c, s);
    c->ndirty -= s->dirty;
    c->n--;
    free(s->data);
    free(s);
}

void qcow2_cache_drop(struct qcow2_cache *c)
{
    while (c->newest)
        forget(c, c->newest);
}

void qcow2_cache_free(struct qcow2_cache *c)
{
    if (c->hash)
        qcow2_cache_drop(c);
    free(c->hash);
    *c = (struct qcow2_cache){0};
}

/* Makes room without writing: dirty slices stay until the next write-back, which comes when a quarter of the cache is dirty. */
static void make_room(struct qcow2_cache *c)
{
    struct qcow2_slice *s = c->oldest;
    while (s && c->n >= c->max) {
        struct qcow2_slice *newer = s->newer;
        if (!s->dirty && !s->pins)
            forget(c, s);
        s = newer;
    }
}

static struct qcow2_slice *find(struct qcow2_cache *c, uint64_t offset)
{
    struct qcow2_slice *s = *bucket(c, offset);
    while (s && s->offset != offset)
        s = s->hash_next;
    return s;
}

static struct qcow2_slice *add(struct qcow2_cache *c, uint64_t offset, uint8_t *data)
{
    struct qcow2_slice *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    make_room(c);
    *s = (struct qcow2_slice){.offset = offset, .data = data, .hash_next = *bucket(c, offset)};
    *bucket(c, offset) = s;
    list_newest(c, s);
    c->n++;
    return s;
}

static int load(struct qcow2 *q, struct qcow2_cache *c, uint64_t offset, bool zero, struct qcow2_slice **out)
{
    AUTO_FREE uint8_t *data = calloc(1, c->slice_bytes);
    if (!data)
        return -ENOMEM;
    int ret = zero ? 0 : file_read(q->file, offset, data, c->slice_bytes);
    if (ret < 0)
        return ret;
    *out = add(c, offset, data);
    if (!*out)
        return -ENOMEM;
    data = NULL;
    return 0;
}

int qcow2_get(struct qcow2 *q, struct qcow2_cache *c, uint64_t offset, bool zero, struct qcow2_slice **out)
{
    offset = ALIGN_DOWN(offset, (uint64_t)c->slice_bytes);
    struct qcow2_slice *s = find(c, offset);
    if (!s) {
        fiber_lock(&c->loading);
        int ret = 0;
        if (!(s = find(c, offset)))
            ret = load(q, c, offset, zero, &s);
        fiber_unlock(q->im->loop, &c->loading);
        if (ret < 0)
            return ret;
    } else if (s != c->newest) {
        unlist(c, s);
        list_newest(c, s);
    }
    if (zero)
        memset(s->data, 0, c->slice_bytes);
    s->pins++;
    *out = s;
    return 0;
}

void qcow2_put(struct qcow2_slice *s)
{
    s->pins--;
}

void qcow2_dirty(struct qcow2_cache *c, struct qcow2_slice *s)
{
    c->ndirty += !s->dirty;
    s->dirty = true;
}

static int by_offset(const void *a, const void *b)
{
    uint64_t x = (*(struct qcow2_slice *const *)a)->offset, y = (*(struct qcow2_slice *const *)b)->offset;
    return (x > y) - (x < y);
}

#define BATCH 64

/* Slices side by side go out as one write. */
static int write_sorted(struct qcow2 *q, struct qcow2_cache *c, struct qcow2_slice **list, unsigned n)
{
    for (unsigned i = 0, k; i < n; i += k) {
        struct iovec iov[BATCH];
        for (k = 0; i + k < n && k < BATCH && list[i + k]->offset == list[i]->offset + (uint64_t)k * c->slice_bytes; k++)
            iov[k] = (struct iovec){list[i + k]->data, c->slice_bytes};
        int ret = file_writev(q->file, list[i]->offset, (uint64_t)k * c->slice_bytes, iov, (int)k);
        if (ret < 0)
            return ret;
        for (unsigned j = i; j < i + k; j++) {
            c->ndirty -= list[j]->dirty;
            list[j]->dirty = false;
        }
    }
    return 0;
}

int qcow2_cache_write(struct qcow2 *q, struct qcow2_cache *c)
{
    if (!c->ndirty)
        return 0;
    AUTO_FREE struct qcow2_slice **list = malloc(c->ndirty * sizeof(struct qcow2_slice *));
    unsigned n = 0;
    if (!list)
        return -ENOMEM;
    for (struct qcow2_slice *s = c->newest; s; s = s->older)
        if (s->dirty) {
            list[n++] = s;
            s->pins++;
        }
    qsort(list, n, sizeof(struct qcow2_slice *), by_offset);
    int ret = write_sorted(q, c, list, n);
    for (unsigned i = 0; i < n; i++)
        list[i]->pins--;
    return ret;
}
