// SPDX-License-Identifier: GPL-2.0-or-later
/* The HPET: counter, the three timers in each of their ways to interrupt, and any value in any register. */
#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "devices/legacy/hpet.h"
#include "rig.h"

#define CONFIG   0x10
#define STATUS   0x20
#define COUNTER  0xf0
#define TIMER(n) (0x100 + 0x20 * (n))
#define CMP      8
#define FSB      16

static bool replaced;

static void replace(void *opaque, bool on)
{
    (void)opaque;
    replaced = on;
}

static uint64_t get(struct rig *r, unsigned off, unsigned size)
{
    return rig_read(r, BUS_MMIO, HPET_BASE + off, size);
}

static void set(struct rig *r, unsigned off, unsigned size, uint64_t val)
{
    rig_write(r, BUS_MMIO, HPET_BASE + off, size, val);
}

static unsigned rises(struct rig *r, unsigned gsi)
{
    pthread_mutex_lock(&r->lock);
    unsigned n = r->gsi_rises[gsi];
    pthread_mutex_unlock(&r->lock);
    return n;
}

/* Waits for more than `seen` rising edges; the device's thread brings them. */
static void wait_rises(struct rig *r, unsigned gsi, unsigned seen)
{
    for (unsigned i = 0; i < 60000 && rises(r, gsi) <= seen; i++)
        usleep(1000);
    CHECK(rises(r, gsi) > seen);
}

static void counter(struct rig *r)
{
    CHECK_EQ(get(r, 0, 8), 10000000ull << 32 | HPET_BLOCK_ID);
    set(r, 0, 8, 0);
    CHECK_EQ(get(r, 0, 4), HPET_BLOCK_ID);
    CHECK_EQ(get(r, 4, 4), 10000000);
    CHECK_EQ(get(r, COUNTER, 8), 0);
    set(r, COUNTER, 4, 0xfffffff0);
    set(r, COUNTER + 4, 4, 7);
    CHECK_EQ(get(r, COUNTER, 8), 0x7fffffff0);
    CHECK_EQ(get(r, COUNTER + 2, 2), 0xffff);
    set(r, COUNTER, 2, 0); /* a word is not written */
    set(r, CONFIG, 4, 1);
    uint64_t first = get(r, COUNTER, 8);
    CHECK(first >= 0x7fffffff0);
    usleep(1000);
    uint64_t second = get(r, COUNTER, 8);
    CHECK(second >= first + 100000); /* a millisecond, or more */
    set(r, CONFIG, 4, 0);
    uint64_t halted = get(r, COUNTER, 8);
    CHECK(halted >= second);
    usleep(1000);
    CHECK_EQ(get(r, COUNTER, 8), halted);
    set(r, COUNTER, 8, 0);
}

static void capabilities(struct rig *r)
{
    for (unsigned n = 0; n < 3; n++) {
        CHECK_EQ(get(r, TIMER(n) + CMP, 8), ~0ull);
        set(r, TIMER(n), 8, ~0ull);
        CHECK_EQ(get(r, TIMER(n), 8), 0x0000c000ull << 32 | 0xff7e);
        set(r, TIMER(n), 4, 0);
        CHECK_EQ(get(r, TIMER(n), 4), 0x8030);
    }
    CHECK_EQ(get(r, TIMER(3), 8), 0);
    CHECK_EQ(get(r, 0x3f8, 8), 0);
}

/* One shot by a line of its own, by a message, and not at all. */
static void one_shot(struct rig *r)
{
    set(r, CONFIG, 4, 1);
    unsigned seen = rises(r, 14);
    set(r, TIMER(0), 4, 14 << 9 | 4);
    set(r, TIMER(0) + CMP, 8, get(r, COUNTER, 8) + 1000);
    wait_rises(r, 14, seen);
    CHECK(!rig_gsi(r, 14)); /* an edge */
    CHECK_EQ(get(r, STATUS, 4), 0);
    set(r, TIMER(0), 4, 0);
    unsigned messages = rig_msis(r, 5);
    set(r, TIMER(1) + FSB, 8, 0xfee00000ull << 32 | 5);
    set(r, TIMER(1), 4, 0x4000 | 0x100 | 4);
    set(r, TIMER(1) + CMP, 4, (uint32_t)get(r, COUNTER, 4) + 1000);
    CHECK(rig_wait_msi(r, 5, messages));
    set(r, TIMER(1), 4, 0);
    seen = rises(r, 14);
    set(r, TIMER(0), 4, 14 << 9); /* no interrupt wanted */
    set(r, TIMER(0) + CMP, 8, get(r, COUNTER, 8) + 100);
    set(r, TIMER(2), 4, 20 << 9 | 4); /* a line that it does not have */
    set(r, TIMER(2) + CMP, 8, get(r, COUNTER, 8) + 100);
    messages = rig_msis(r, 6);
    set(r, TIMER(1) + FSB, 8, 0xfee00000ull << 32 | 6);
    set(r, TIMER(1), 4, 0x4000 | 4);
    set(r, TIMER(1) + CMP, 8, get(r, COUNTER, 8) - 5); /* has passed: at once */
    CHECK(rig_wait_msi(r, 6, messages));
    CHECK_EQ(rises(r, 14), seen);
    CHECK_EQ(rises(r, 20), 0);
    set(r, TIMER(1), 4, 0);
    set(r, TIMER(2), 4, 0);
}

static void level(struct rig *r)
{
    set(r, TIMER(2), 4, 15 << 9 | 4 | 2);
    set(r, TIMER(2) + CMP, 8, get(r, COUNTER, 8) + 1000);
    CHECK(rig_wait_gsi(r, 15, true));
    CHECK_EQ(get(r, STATUS, 4), 4);
    set(r, STATUS, 4, 3);
    CHECK(rig_gsi(r, 15));
    set(r, TIMER(2), 4, 14 << 9 | 4 | 2); /* the line moves with the route */
    CHECK(!rig_gsi(r, 15) && rig_gsi(r, 14));
    set(r, CONFIG, 4, 0);
    CHECK(!rig_gsi(r, 14));
    set(r, CONFIG, 4, 1);
    CHECK(rig_gsi(r, 14));
    set(r, STATUS, 4, 4);
    CHECK(!rig_gsi(r, 14));
    CHECK_EQ(get(r, STATUS, 4), 0);
    set(r, TIMER(2), 4, 0);
}

/* Periodic as Linux sets it, in place of the PIT. */
static void periodic(struct rig *r)
{
    set(r, CONFIG, 4, 3);
    CHECK(replaced);
    unsigned seen = rises(r, 2);
    uint64_t start = get(r, COUNTER, 8);
    set(r, TIMER(0), 4, 0x8 | 0x40 | 0x100 | 4);
    CHECK_EQ(get(r, TIMER(0), 4) & 0x40, 0x40);
    set(r, TIMER(0) + CMP, 4, (uint32_t)start + 100000);
    CHECK_EQ(get(r, TIMER(0), 4) & 0x40, 0);
    set(r, TIMER(0) + CMP, 4, 100000);
    for (unsigned i = 0; i < 5; i++)
        wait_rises(r, 2, seen + i);
    uint64_t cmp = get(r, TIMER(0) + CMP, 8);
    CHECK(cmp < 1ull << 32);
    CHECK_EQ((uint32_t)(cmp - start) % 100000, 0); /* it keeps its phase */
    /* A period of nothing does not stop anybody. */
    set(r, TIMER(0) + CMP, 4, 0);
    seen = rises(r, 2);
    wait_rises(r, 2, seen + 3);
    set(r, TIMER(1), 4, 4);
    set(r, TIMER(1) + CMP, 8, get(r, COUNTER, 8));
    wait_rises(r, 8, 0);
    set(r, CONFIG, 4, 0);
    CHECK(!replaced);
    seen = rises(r, 2);
    usleep(3000);
    CHECK_EQ(rises(r, 2), seen); /* halted */
}

static void any_register(struct rig *r, unsigned rounds)
{
    struct rnd rnd = {now_ns() | 1};
    printf("seed %llu\n", (unsigned long long)rnd.state);
    for (unsigned i = 0; i < rounds; i++) {
        unsigned size = 1u << rnd_below(&rnd, 4);
        unsigned off = rnd_below(&rnd, 4) ? rnd_below(&rnd, 0x160) & ~(size - 1) : rnd_below(&rnd, HPET_BYTES - 8);
        uint64_t val = rnd_below(&rnd, 2) ? rnd64(&rnd) : get(r, COUNTER, 8) + rnd_below(&rnd, 1000);
        if (off < COUNTER && rnd_below(&rnd, 2))
            val |= 1;
        if (rnd_below(&rnd, 3))
            set(r, off, size, val);
        else
            get(r, off, size);
    }
}

int main(void)
{
    const struct hpet_config cfg = {.timer_gsi = 2, .rtc_gsi = 8, .replace = replace};
    struct hpet *h;
    struct rig r;
    ERROR_SCOPED(err);
    rig_init(&r);
    CHECK(hpet_create(&r.bus, &cfg, &h, &err) == 0);
    CHECK(hpet_create(&r.bus, &cfg, &(struct hpet *){NULL}, &err) < 0); /* the place is taken */
    counter(&r);
    capabilities(&r);
    one_shot(&r);
    level(&r);
    periodic(&r);
    any_register(&r, 100000);
    pthread_mutex_lock(&r.bus.lock);
    hpet_reset(h);
    pthread_mutex_unlock(&r.bus.lock);
    CHECK(!replaced && !rig_gsi(&r, 14) && !rig_gsi(&r, 15));
    capabilities(&r);
    one_shot(&r);
    level(&r);
    periodic(&r);
    hpet_destroy(h);
    rig_free(&r);
    return 0;
}
