// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The HPET under libFuzzer, while its thread runs: accesses of any width, place and value, some of them near the counter, and
 * pauses in which timers fire. It must pull no line but its own, have none up when it is switched off, read by halves what it reads
 * as a whole, and be as new after a reset.
 *
 * With -DSTANDALONE there is a main that feeds it pseudo-random inputs, with a fixed seed.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../unit/devices/rig.h"
#include "base/util.h"
#include "devices/legacy/hpet.h"

#define CONFIG     0x10
#define COUNTER    0xf0
#define TIMERS     0x100
#define TIMERS_END 0x160
#define PIT_GSI    2
#define RTC_GSI    8
#define ITS_GSIS   (BIT(PIT_GSI) | BIT(RTC_GSI) | BIT(14) | BIT(15))
#define MAX_STEPS  64u /* of an input; some of them sleep */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { STEP_READ, STEP_WRITE, STEP_WRITE_NEAR, STEP_PAUSE, STEP_KINDS };

struct step {
    uint8_t kind, width;
    uint16_t off;
    uint32_t low, high;
};

static struct {
    struct rig r;
    struct hpet *hpet;
} lab;

static void replace(void *opaque, bool on)
{
    (void)opaque, (void)on;
}

static void prepare(void)
{
    const struct hpet_config cfg = {.timer_gsi = PIT_GSI, .rtc_gsi = RTC_GSI, .replace = replace};
    ERROR_SCOPED(err);
    rig_init(&lab.r);
    CHECK(hpet_create(&lab.r.bus, &cfg, &lab.hpet, &err) == 0);
}

static uint64_t get(unsigned off, unsigned size)
{
    return rig_read(&lab.r, BUS_MMIO, HPET_BASE + off, size);
}

static void set(unsigned off, unsigned size, uint64_t val)
{
    rig_write(&lab.r, BUS_MMIO, HPET_BASE + off, size, val);
}

static void take_step(const struct step *s)
{
    unsigned width = 1u << s->width % 4, off = s->off % HPET_BYTES & ~(width - 1);
    uint64_t val = (uint64_t)s->high << 32 | s->low;
    switch (s->kind % STEP_KINDS) {
    case STEP_READ:
        get(off, width);
        break;
    case STEP_WRITE:
        set(off, width, val);
        break;
    case STEP_WRITE_NEAR:
        set(off, width, get(COUNTER, 8) + s->low % 20000);
        break;
    case STEP_PAUSE:
        usleep(s->low % 100);
        break;
    }
}

/* Switched off it pulls nothing, whatever its registers say, and what they say is the same by halves. */
static void check_halted(void)
{
    set(CONFIG, 8, 0);
    for (unsigned gsi = 0; gsi < ARRAY_SIZE(lab.r.gsi); gsi++)
        CHECK(!rig_gsi(&lab.r, gsi));
    for (unsigned off = 0; off < HPET_BYTES; off += 8) {
        uint64_t whole = get(off, 8);
        CHECK_EQ(get(off, 4) | get(off + 4, 4) << 32, whole);
        CHECK(off < TIMERS_END || !whole);
    }
}

static void check_new(void)
{
    pthread_mutex_lock(&lab.r.bus.lock);
    hpet_reset(lab.hpet);
    pthread_mutex_unlock(&lab.r.bus.lock);
    CHECK_EQ(get(COUNTER, 8), 0);
    for (unsigned off = TIMERS; off < TIMERS_END; off += 0x20)
        CHECK(get(off + 8, 8) == ~0ull && get(off + 16, 8) == 0);
    set(CONFIG, 4, 1);
    uint64_t first = get(COUNTER, 8);
    for (unsigned i = 0; i < 60000 && get(COUNTER, 8) == first; i++)
        usleep(1000);
    CHECK(get(COUNTER, 8) > first);
    set(CONFIG, 4, 0);
}

static void check_lines(void)
{
    pthread_mutex_lock(&lab.r.lock);
    for (unsigned gsi = 0; gsi < ARRAY_SIZE(lab.r.gsi_rises); gsi++)
        CHECK(!lab.r.gsi_rises[gsi] || (ITS_GSIS & BIT(gsi)));
    pthread_mutex_unlock(&lab.r.lock);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!lab.hpet)
        prepare();
    struct step s;
    for (unsigned i = 0; i < MAX_STEPS && size >= sizeof s; i++, data += sizeof s, size -= sizeof s) {
        memcpy(&s, data, sizeof s);
        take_step(&s);
    }
    check_halted();
    check_lines();
    check_new();
    return 0;
}

#ifdef STANDALONE
/* Most steps are at registers that there are, and most values small or all ones. */
static struct step make_step(struct rnd *rnd)
{
    struct step s = {.kind = (uint8_t)rnd_below(rnd, STEP_KINDS),
                     .width = (uint8_t)(rnd_below(rnd, 4) ? 2 + rnd_below(rnd, 2) : rnd_below(rnd, 4))};
    static const uint16_t places[] = {CONFIG,      CONFIG,        0x20,          COUNTER,       TIMERS,       TIMERS + 8,
                                      TIMERS + 16, TIMERS + 0x20, TIMERS + 0x28, TIMERS + 0x40, TIMERS + 0x48};
    s.off = rnd_below(rnd, 8) ? places[rnd_below(rnd, ARRAY_SIZE(places))] : (uint16_t)rnd64(rnd);
    s.low = rnd_below(rnd, 2) ? (uint32_t)rnd64(rnd) : rnd_below(rnd, 2) ? ~0u : rnd_below(rnd, 16) | 1;
    s.high = rnd_below(rnd, 2) ? 0 : (uint32_t)rnd64(rnd);
    return s;
}

int main(int argc, char **argv)
{
    unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 300;
    struct rnd rnd = {1};
    struct step steps[MAX_STEPS];
    for (unsigned i = 0; i < rounds; i++) {
        unsigned n = 1 + rnd_below(&rnd, MAX_STEPS);
        for (unsigned k = 0; k < n; k++)
            steps[k] = make_step(&rnd);
        LLVMFuzzerTestOneInput((const uint8_t *)steps, n * sizeof steps[0]);
    }
    hpet_destroy(lab.hpet);
    rig_free(&lab.r);
    return 0;
}
#endif
