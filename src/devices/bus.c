// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The address spaces: two sorted arrays of ranges, searched by bisection.
 *
 * An access that lies in one range and that its device takes whole goes there as it is; every other one is cut into pieces of at
 * most what the device takes, at least one byte, each of which finds its own range. A handler may change the arrays (a BAR that
 * moves), so nothing is kept over a call.
 */
#include "devices/bus.h"

#include <string.h>

#include "base/util.h"

struct bus_range {
    uint64_t base, last; /* both inclusive, so that a range may end at 2^64 */
    const struct io_ops *ops;
    void *dev;
    const char *name;
};

void bus_init(struct bus *b, struct guestmem *mem, const struct board_ops *ops, void *board)
{
    *b = (struct bus){.mem = mem, .ops = ops, .board = board};
    pthread_mutex_init(&b->lock, NULL);
}

void bus_free(struct bus *b)
{
    pthread_mutex_destroy(&b->lock);
    free(b->ranges[BUS_PORT]);
    free(b->ranges[BUS_MMIO]);
    *b = (struct bus){0};
}

/* Index of the first range that ends at `addr` or behind it. */
static unsigned lower_bound(const struct bus *b, enum bus_space space, uint64_t addr)
{
    unsigned lo = 0, hi = b->nranges[space];
    while (lo < hi) {
        unsigned mid = lo + (hi - lo) / 2;
        if (b->ranges[space][mid].last < addr)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

int bus_map(struct bus *b, enum bus_space space, uint64_t base, uint64_t len, const struct io_ops *ops, void *dev, const char *name,
            struct error *err)
{
    const char *what = space == BUS_PORT ? "ports" : "MMIO";
    uint64_t last = base + (len - 1);
    if (len == 0 || last < base || (space == BUS_PORT && last > 0xffff))
        return error_set(err, 0, "device '%s': %s 0x%llx (0x%llx bytes) do not exist; give it another address", name, what,
                         (unsigned long long)base, (unsigned long long)len);
    unsigned at = lower_bound(b, space, base), n = b->nranges[space];
    if (at < n && b->ranges[space][at].base <= last)
        return error_set(err, 0, "device '%s': %s 0x%llx-0x%llx overlap those of '%s'; give it another address", name, what,
                         (unsigned long long)base, (unsigned long long)last, b->ranges[space][at].name);
    struct bus_range *r = realloc(b->ranges[space], (n + 1) * sizeof *r);
    if (!r)
        return error_set(err, 0, "device '%s': out of memory; close other programs", name);
    memmove(r + at + 1, r + at, (n - at) * sizeof *r);
    r[at] = (struct bus_range){base, last, ops, dev, name};
    b->ranges[space] = r;
    b->nranges[space] = n + 1;
    return 0;
}

void bus_unmap(struct bus *b, enum bus_space space, uint64_t base)
{
    unsigned at = lower_bound(b, space, base), n = b->nranges[space];
    struct bus_range *r = b->ranges[space];
    if (at == n || r[at].base != base)
        return;
    memmove(r + at, r + at + 1, (n - at - 1) * sizeof *r);
    b->nranges[space] = n - 1;
}

/* The range of `addr` in *out and the bytes, at most `size`, that go there in one piece; 0 when nothing claims `addr`. */
static unsigned find(const struct bus *b, enum bus_space space, uint64_t addr, unsigned size, struct bus_range *out)
{
    unsigned at = lower_bound(b, space, addr);
    if (at == b->nranges[space] || b->ranges[space][at].base > addr)
        return 0;
    *out = b->ranges[space][at];
    unsigned max = out->ops->max_size ? out->ops->max_size : 8, piece = 8;
    while (piece > size || piece > max)
        piece /= 2;
    /* A piece that would cross the range's end: bytes (bus.h). */
    return out->last - addr < piece - 1 ? 1 : piece;
}

void bus_read(struct bus *b, enum bus_space space, uint64_t addr, void *data, unsigned size)
{
    uint8_t *p = data;
    pthread_mutex_lock(&b->lock);
    while (size) {
        struct bus_range r;
        uint64_t v = ~0ull;
        unsigned n = find(b, space, addr, size, &r);
        if (n && r.ops->read)
            v = r.ops->read(r.dev, addr - r.base, n);
        n = n ? n : 1;
        memcpy(p, &v, n);
        p += n, addr += n, size -= n;
    }
    pthread_mutex_unlock(&b->lock);
}

void bus_write(struct bus *b, enum bus_space space, uint64_t addr, const void *data, unsigned size)
{
    const uint8_t *p = data;
    pthread_mutex_lock(&b->lock);
    while (size) {
        struct bus_range r;
        uint64_t v = 0;
        unsigned n = find(b, space, addr, size, &r);
        memcpy(&v, p, n ? n : 1);
        if (n && r.ops->write)
            r.ops->write(r.dev, addr - r.base, n, v);
        n = n ? n : 1;
        p += n, addr += n, size -= n;
    }
    pthread_mutex_unlock(&b->lock);
}
