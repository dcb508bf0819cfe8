/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A token bucket: `rate` units in a second, up to `burst` of them at once. A use may take more than there is; what follows waits until the debt is paid.
 */
#ifndef LODGE_BASE_BUCKET_H
#define LODGE_BASE_BUCKET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/util.h"

struct bucket {
    uint64_t rate, burst; /* rate 0: no limit; burst 0: a tenth of a second's worth */
    double level;
    uint64_t last_ns;
};

static inline void bucket_init(struct bucket *b, uint64_t rate, uint64_t burst)
{
    *b = (struct bucket){.rate = rate, .burst = burst ? burst : MAX(rate / 10, 1)};
    b->level = (double)b->burst;
    b->last_ns = now_ns();
}

/* ns until something may be used; 0: now. */
static inline uint64_t bucket_wait(struct bucket *b)
{
    if (!b->rate)
        return 0;
    uint64_t now = now_ns();
    b->level += (double)(now - b->last_ns) * (double)b->rate / 1e9;
    if (b->level > (double)b->burst)
        b->level = (double)b->burst;
    b->last_ns = now;
    return b->level > 0 ? 0 : (uint64_t)(-b->level * 1e9 / (double)b->rate) + 1;
}

static inline void bucket_take(struct bucket *b, uint64_t amount)
{
    if (b->rate)
        b->level -= (double)amount;
}

#endif
