// SPDX-License-Identifier: GPL-2.0-or-later
/* Does each entry of a table of blocks lead into the file, is the whole block there, and does each lead to a place of its own? */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/util.h"
#include "block/blockmap.h"

#define PLACES_MAX (1u << 26) /* half a GiB of memory */

struct places {
    uint64_t *host;
    size_t n, cap;
};

static void corrupt(struct image_check *k, const char *what, uint64_t where)
{
    k->corruptions++;
    image_report(k, "ERROR: %s %" PRIu64, what, where);
}

static int add(struct places *p, uint64_t host)
{
    if (p->n == PLACES_MAX)
        return -EFBIG;
    if (p->n == p->cap) {
        size_t cap = p->cap ? 2 * p->cap : 1024;
        uint64_t *more = realloc(p->host, cap * sizeof *more);
        if (!more)
            return -ENOMEM;
        p->host = more;
        p->cap = cap;
    }
    p->host[p->n++] = host;
    return 0;
}

/* A file that was cut off ends within a block: what the disk has there reads as zeroes. The last block may be shorter, like the disk. */
static bool is_cut(const struct blockmap *m, uint64_t block, uint64_t host)
{
    uint64_t at = block * m->block;
    return at < m->im->size && (host > m->end || MIN(m->block, m->im->size - at) > m->end - host);
}

/* An entry that leads outside spoils its leaf: no block of it can be read. */
static int collect(struct blockmap *m, struct places *p, bool whole, struct image_check *k)
{
    for (uint64_t block = 0; block < m->nblocks; block++) {
        uint64_t host;
        int ret = blockmap_lookup(m, block, &host);
        if (ret == -EIO) {
            block = ALIGN_DOWN(block, (uint64_t)BLOCKMAP_LEAF);
            corrupt(k, "an entry leads outside of the file, among those from block", block);
            block += BLOCKMAP_LEAF - 1;
            continue;
        }
        if (ret == 0 && blockmap_has_place(host)) {
            if (whole && is_cut(m, block, host))
                corrupt(k, "the file ends within block", block);
            ret = add(p, host);
        }
        if (ret < 0)
            return ret;
    }
    return 0;
}

static int by_place(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

int blockmap_check_map(struct blockmap *m, uint64_t bytes, struct image_check *out)
{
    struct places p = {0};
    int ret = collect(m, &p, bytes == m->block, out);
    if (ret == 0 && p.n)
        qsort(p.host, p.n, sizeof *p.host, by_place);
    for (size_t i = 1; ret == 0 && i < p.n; i++)
        if (p.host[i] - p.host[i - 1] < bytes)
            corrupt(out, "two blocks have the same place in the file, at byte", p.host[i]);
    out->total_clusters += m->nblocks;
    out->allocated_clusters += p.n;
    out->end = MAX(out->end, m->end);
    free(p.host);
    return ret;
}

int blockmap_check(struct image *im, struct image_check *out)
{
    struct blockmap *m = im->state;
    return blockmap_check_map(m, m->block, out);
}
