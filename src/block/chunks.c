// SPDX-License-Identifier: GPL-2.0-or-later
#include "block/chunks.h"

#include <bzlib.h>
#include <errno.h>
#include <string.h>
#include <zlib.h>

#include "base/util.h"

int chunks_add(struct chunks *c, const struct chunk *k)
{
    if ((c->n & (c->n - 1)) == 0) { /* the room doubles at powers of two */
        struct chunk *list = realloc(c->list, MAX(2 * c->n, 1ull) * sizeof *list);
        if (!list)
            return -ENOMEM;
        c->list = list;
    }
    c->list[c->n++] = *k;
    return 0;
}

static int by_start(const void *a, const void *b)
{
    const struct chunk *x = a, *y = b;
    return (x->start > y->start) - (x->start < y->start);
}

int chunks_finish(struct chunks *c, uint64_t size)
{
    if (c->n)
        qsort(c->list, c->n, sizeof *c->list, by_start);
    for (uint64_t i = 0, end = 0; i < c->n; i++) {
        const struct chunk *k = &c->list[i];
        if (k->start < end || k->start > size || k->len > size - k->start)
            return -EINVAL;
        end = k->start + k->len;
    }
    return 0;
}

/* The last chunk that begins at `offset` or before it, NULL: none. */
static const struct chunk *find(const struct chunks *c, uint64_t offset, uint64_t *next)
{
    uint64_t low = 0, high = c->n;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (c->list[middle].start <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    *next = low < c->n ? c->list[low].start : UINT64_MAX;
    return low ? &c->list[low - 1] : NULL;
}

struct unpacking {
    const struct chunk *k;
    uint8_t *in, *out;
};

static ssize_t unpack(void *arg)
{
    struct unpacking *u = arg;
    uLongf got = u->k->len;
    unsigned bz = (unsigned)u->k->len;
    bool ok = u->k->kind == CHUNK_ZLIB ? uncompress(u->out, &got, u->in, u->k->stored) == Z_OK && got == u->k->len
                                       : BZ2_bzBuffToBuffDecompress((char *)u->out, &bz, (char *)u->in, (unsigned)u->k->stored, 0, 0) == BZ_OK && bz == u->k->len;
    return ok ? 0 : -EIO;
}

static int load(struct image *im, struct chunks *c, const struct chunk *k)
{
    AUTO_FREE uint8_t *in = malloc(k->stored + 1), *out = malloc(k->len + 1);
    struct unpacking u = {k, in, out};
    int ret = in && out ? file_read(im->file, k->host, in, k->stored) : -ENOMEM;
    if (ret == 0)
        ret = (int)io_call(im->loop, unpack, &u);
    if (ret < 0)
        return ret;
    free(c->data);
    c->data = steal_ptr(&out);
    c->unpacked = (uint64_t)(k - c->list) + 1;
    return 0;
}

static int read_chunk(struct image *im, const struct chunk *k, uint64_t within, uint64_t at, uint64_t n, const struct iovec *iov, int niov)
{
    struct chunks *c = im->state;
    int ret = 0;
    if (k->kind == CHUNK_ZERO) {
        iov_zero(iov, niov, at, n);
        return 0;
    }
    if (k->kind == CHUNK_RAW) {
        AUTO_FREE uint8_t *buf = malloc(n);
        ret = buf ? file_read(im->file, k->host + within, buf, n) : -ENOMEM;
        if (ret == 0)
            iov_from(iov, niov, at, buf, n);
        return ret;
    }
    fiber_lock(&c->lock);
    if (c->unpacked != (uint64_t)(k - c->list) + 1)
        ret = load(im, c, k);
    if (ret == 0)
        iov_from(iov, niov, at, c->data + within, n);
    fiber_unlock(im->loop, &c->lock);
    return ret;
}

int chunks_read(struct image *im, uint64_t offset, uint64_t len, const struct iovec *iov, int niov)
{
    for (uint64_t done = 0, n, next; done < len; done += n) {
        uint64_t at = offset + done;
        const struct chunk *k = find(im->state, at, &next);
        bool inside = k && at - k->start < k->len;
        n = MIN(len - done, inside ? k->start + k->len - at : next - at);
        if (!inside) {
            iov_zero(iov, niov, done, n);
            continue;
        }
        n = k->kind == CHUNK_RAW ? MIN(n, MIB) : n;
        int ret = read_chunk(im, k, at - k->start, done, n, iov, niov);
        if (ret < 0)
            return ret;
    }
    return 0;
}

int chunks_extent(struct image *im, uint64_t offset, uint64_t len, struct extent *out)
{
    uint64_t next;
    const struct chunk *k = find(im->state, offset, &next);
    bool inside = k && offset - k->start < k->len;
    *out = (struct extent){.kind = EXTENT_ZERO, .len = MIN(len, inside ? k->start + k->len - offset : next - offset)};
    if (inside && k->kind != CHUNK_ZERO)
        out->kind = k->kind == CHUNK_RAW ? EXTENT_DATA : EXTENT_COMPRESSED;
    if (inside && k->kind == CHUNK_RAW) {
        out->host = k->host + offset - k->start;
        out->has_host = true;
    }
    return 0;
}

int chunks_close(struct image *im)
{
    struct chunks *c = im->state;
    if (c) {
        free(c->list);
        free(c->data);
        free(c);
    }
    im->state = NULL;
    return 0;
}
