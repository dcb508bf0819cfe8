// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The HPET (IA-PC HPET specification 1.0a). The main counter is the host's monotonic clock in units of 10 ns, plus an offset;
 * nothing counts while nobody looks. A thread sleeps until the first timer that may interrupt is due, with the device lock as its
 * mutex.
 *
 * A timer that the guest sets into the past fires at once, as one whose time passed while the guest was not looking. A periodic
 * timer fires once for the periods that were missed, and not more often than every HPET_PACE_NS, so that a guest cannot keep a
 * thread of the host busy.
 */
#include "devices/legacy/hpet.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/util.h"

#define HPET_TIMERS  3
#define HPET_TICK_NS 10u
#define HPET_PACE_NS 50000u
#define FS_PER_NS    1000000ull

/* Registers, 64 bits each. */
enum { REG_ID = 0x00, REG_CONFIG = 0x10, REG_STATUS = 0x20, REG_COUNTER = 0xf0, REG_TIMERS = 0x100 };
enum { TIMER_BYTES = 0x20, TIMER_CONFIG = 0x00, TIMER_COMPARATOR = 0x08, TIMER_MESSAGE = 0x10 };

#define CONFIG_ENABLE  BIT64(0)
#define CONFIG_REPLACE BIT64(1) /* legacy replacement */

#define T_LEVEL     BIT64(1)
#define T_INTERRUPT BIT64(2)
#define T_PERIODIC  BIT64(3)
#define T_CAN       (BIT64(4) | BIT64(5) | BIT64(15)) /* be periodic, 64 bits, send messages */
#define T_SET       BIT64(6)                          /* the next write to the comparator of a periodic timer sets it */
#define T_32BIT     BIT64(8)
#define T_MESSAGE   BIT64(14)
#define T_WRITABLE  (T_LEVEL | T_INTERRUPT | T_PERIODIC | T_SET | T_32BIT | T_ROUTE | T_MESSAGE)
#define T_ROUTE     0x3e00ull
#define T_ROUTE_AT  9
#define T_GSIS      (BIT(14) | BIT(15)) /* lines that no other device of the board has */

struct hpet_timer {
    uint64_t config, comparator, period, message;
    uint64_t due; /* value of the counter, not wrapped */
    bool armed;
};

struct hpet {
    struct bus *bus;
    struct hpet_config cfg;
    uint64_t config, status;
    uint64_t counter; /* while it is halted; else what to add to the clock */
    struct hpet_timer timers[HPET_TIMERS];
    bool lines[HPET_TIMERS]; /* level-triggered lines that are up */
    uint64_t rest_ns;        /* until then nothing periodic fires */
    bool quit;
    pthread_t thread;
    pthread_cond_t changed; /* with the device lock */
};

static const struct field hpet_fields[] = {
    FIELD(FIELD_U64, struct hpet, config),
    FIELD(FIELD_U64, struct hpet, status),
    FIELD(FIELD_U64, struct hpet, counter),
    FIELD_EACH(FIELD_U64, struct hpet, timers, config),
    FIELD_EACH(FIELD_U64, struct hpet, timers, comparator),
    FIELD_EACH(FIELD_U64, struct hpet, timers, period),
    FIELD_EACH(FIELD_U64, struct hpet, timers, message),
    {0},
};
const struct device_desc hpet_desc = {
    .name = "hpet", .fields = hpet_fields, .why_unsaved = "its counter follows a clock of this host", .reset = hpet_reset};

/* ---- time ---- */

static bool running(const struct hpet *h)
{
    return h->config & CONFIG_ENABLE;
}

static uint64_t counter_now(const struct hpet *h)
{
    return running(h) ? now_ns() / HPET_TICK_NS + h->counter : h->counter;
}

static void set_counter(struct hpet *h, uint64_t value)
{
    h->counter = running(h) ? value - now_ns() / HPET_TICK_NS : value;
}

/* Ticks from `now` to the comparator: 0 for one that has passed. */
static uint64_t ticks_to(const struct hpet_timer *t, uint64_t now)
{
    int64_t d = t->config & T_32BIT ? (int32_t)((uint32_t)t->comparator - (uint32_t)now) : (int64_t)(t->comparator - now);
    return d > 0 ? (uint64_t)d : 0;
}

static void arm(struct hpet *h, struct hpet_timer *t)
{
    uint64_t now = counter_now(h);
    t->armed = running(h) && (t->config & T_INTERRUPT);
    t->due = now + ticks_to(t, now);
    pthread_cond_signal(&h->changed);
}

static void arm_all(struct hpet *h)
{
    for (unsigned i = 0; i < HPET_TIMERS; i++)
        arm(h, &h->timers[i]);
}

/* ---- interrupts ---- */

/* The line of timer i; -1: none. */
static int line_of(const struct hpet *h, unsigned i)
{
    if ((h->config & CONFIG_REPLACE) && i < 2)
        return (int)(i ? h->cfg.rtc_gsi : h->cfg.timer_gsi);
    unsigned gsi = (h->timers[i].config & T_ROUTE) >> T_ROUTE_AT;
    return T_GSIS & BIT(gsi) ? (int)gsi : -1;
}

static void set_line(struct hpet *h, unsigned i, bool level)
{
    int gsi = line_of(h, i);
    h->lines[i] = level && gsi >= 0;
    if (gsi >= 0)
        h->bus->ops->set_gsi(h->bus->board, (unsigned)gsi, level);
}

/* Takes level-triggered lines down, before what they depend on changes; raise_lines() brings those up again that should be. */
static void drop_lines(struct hpet *h)
{
    for (unsigned i = 0; i < HPET_TIMERS; i++)
        if (h->lines[i])
            set_line(h, i, false);
}

static void raise_lines(struct hpet *h)
{
    const uint64_t wanted = T_LEVEL | T_INTERRUPT;
    for (unsigned i = 0; i < HPET_TIMERS; i++)
        if ((h->status & BIT64(i)) && (h->timers[i].config & (wanted | T_MESSAGE)) == wanted && running(h))
            set_line(h, i, true);
}

static void fire(struct hpet *h, unsigned i)
{
    const struct hpet_timer *t = &h->timers[i];
    if (t->config & T_MESSAGE) {
        h->bus->ops->send_msi(h->bus->board, t->message >> 32, (uint32_t)t->message);
    } else if (t->config & T_LEVEL) {
        h->status |= BIT64(i);
        raise_lines(h);
    } else {
        set_line(h, i, true);
        set_line(h, i, false);
    }
}

/* The next time of a timer that has fired at `now`: its next period, or when the comparator's 32 bits come round. */
static void fire_due(struct hpet *h, unsigned i, uint64_t now)
{
    struct hpet_timer *t = &h->timers[i];
    bool narrow = t->config & T_32BIT;
    fire(h, i);
    if (t->config & T_PERIODIC) {
        uint64_t period = MAX(t->period, 1ull), missed = (now - t->due) / period + 1;
        t->comparator += missed * period;
        if (narrow)
            t->comparator &= 0xffffffff;
        t->due += missed * period;
        h->rest_ns = now_ns() + HPET_PACE_NS;
    } else if (narrow) {
        t->due += BIT64(32);
    } else {
        t->armed = false;
    }
}

/* ---- the thread ---- */

/* Fires what is due; the time until which there is nothing to do, UINT64_MAX for ever. */
static uint64_t serve(struct hpet *h)
{
    uint64_t next = UINT64_MAX, now = counter_now(h);
    for (unsigned i = 0; i < HPET_TIMERS; i++) {
        struct hpet_timer *t = &h->timers[i];
        uint64_t rest = t->config & T_PERIODIC ? h->rest_ns : 0;
        if (t->armed && t->due <= now && now_ns() >= rest)
            fire_due(h, i, now);
        if (!t->armed)
            continue;
        uint64_t ticks = t->due > now ? t->due - now : 0;
        uint64_t at = ticks < UINT64_MAX / HPET_TICK_NS / 4 ? now_ns() + ticks * HPET_TICK_NS : UINT64_MAX;
        next = MIN(next, MAX(at, t->config & T_PERIODIC ? h->rest_ns : 0));
    }
    return next;
}

static void *hpet_thread(void *arg)
{
    struct hpet *h = arg;
    pthread_mutex_lock(&h->bus->lock);
    while (!h->quit) {
        uint64_t at = serve(h);
        struct timespec ts = {.tv_sec = (time_t)(at / NS_PER_S), .tv_nsec = (long)(at % NS_PER_S)};
        if (at == UINT64_MAX)
            pthread_cond_wait(&h->changed, &h->bus->lock);
        else
            pthread_cond_timedwait(&h->changed, &h->bus->lock, &ts);
    }
    pthread_mutex_unlock(&h->bus->lock);
    return NULL;
}

/* ---- registers ---- */

static uint64_t read_timer(const struct hpet_timer *t, unsigned reg)
{
    switch (reg) {
    case TIMER_CONFIG:
        return t->config | T_CAN | (uint64_t)T_GSIS << 32;
    case TIMER_COMPARATOR:
        return t->comparator;
    case TIMER_MESSAGE:
        return t->message;
    default:
        return 0;
    }
}

static uint64_t read_reg(const struct hpet *h, unsigned reg)
{
    switch (reg) {
    case REG_ID:
        return HPET_TICK_NS * FS_PER_NS << 32 | HPET_BLOCK_ID;
    case REG_CONFIG:
        return h->config;
    case REG_STATUS:
        return h->status;
    case REG_COUNTER:
        return counter_now(h);
    default:
        break;
    }
    unsigned i = (reg - REG_TIMERS) / TIMER_BYTES;
    return reg >= REG_TIMERS && i < HPET_TIMERS ? read_timer(&h->timers[i], reg % TIMER_BYTES) : 0;
}

static void write_config(struct hpet *h, uint64_t val)
{
    uint64_t now = counter_now(h), changed;
    val &= CONFIG_ENABLE | CONFIG_REPLACE;
    changed = val ^ h->config;
    drop_lines(h);
    h->config = val;
    if (changed & CONFIG_ENABLE)
        set_counter(h, now);
    if (changed & CONFIG_REPLACE)
        h->cfg.replace(h->cfg.opaque, val & CONFIG_REPLACE);
    raise_lines(h);
    arm_all(h);
}

static void write_comparator(struct hpet *h, struct hpet_timer *t, uint64_t val)
{
    if (t->config & T_32BIT)
        val &= 0xffffffff;
    if (!(t->config & T_PERIODIC) || (t->config & T_SET))
        t->comparator = val;
    t->period = val;
    t->config &= ~T_SET;
    arm(h, t);
}

static void write_timer(struct hpet *h, struct hpet_timer *t, unsigned reg, uint64_t val)
{
    switch (reg) {
    case TIMER_CONFIG:
        drop_lines(h);
        t->config = val & T_WRITABLE;
        if (!(t->config & T_PERIODIC))
            t->config &= ~T_SET;
        if (t->config & T_32BIT) {
            t->comparator &= 0xffffffff;
            t->period &= 0xffffffff;
        }
        raise_lines(h);
        arm(h, t);
        break;
    case TIMER_COMPARATOR:
        write_comparator(h, t, val);
        break;
    case TIMER_MESSAGE:
        t->message = val;
        break;
    default:
        break;
    }
}

static void write_reg(struct hpet *h, unsigned reg, uint64_t val)
{
    unsigned i = (reg - REG_TIMERS) / TIMER_BYTES;
    if (reg == REG_CONFIG) {
        write_config(h, val);
    } else if (reg == REG_COUNTER) {
        set_counter(h, val);
        arm_all(h);
    } else if (reg >= REG_TIMERS && i < HPET_TIMERS) {
        write_timer(h, &h->timers[i], reg % TIMER_BYTES, val);
    }
}

static uint64_t hpet_read(void *dev, uint64_t off, unsigned size)
{
    uint64_t v = read_reg(dev, (unsigned)off & ~7u) >> (8 * (off & 7));
    return size < 8 ? v & ((1ull << (8 * size)) - 1) : v;
}

/* Aligned dwords and qwords are defined; others are dropped. A dword leaves the other half as it reads. */
static void hpet_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
    struct hpet *h = dev;
    unsigned reg = (unsigned)off & ~7u, shift = 8 * (off & 7);
    if (size < 4 || off % size)
        return;
    if (reg == REG_STATUS) { /* ones clear */
        drop_lines(h);
        h->status &= ~(val << shift);
        raise_lines(h);
        return;
    }
    if (size == 4)
        val = (read_reg(h, reg) & ~(0xffffffffull << shift)) | (val & 0xffffffff) << shift;
    write_reg(h, reg, val);
}

static const struct io_ops hpet_io = {.read = hpet_read, .write = hpet_write};

/* ---- life ---- */

void hpet_reset(void *dev)
{
    struct hpet *h = dev;
    write_config(h, 0);
    h->status = h->counter = h->rest_ns = 0;
    for (unsigned i = 0; i < HPET_TIMERS; i++)
        h->timers[i] = (struct hpet_timer){.comparator = ~0ull};
}

int hpet_create(struct bus *b, const struct hpet_config *cfg, struct hpet **out, struct error *err)
{
    struct hpet *h = calloc(1, sizeof *h);
    pthread_condattr_t attr;
    if (!h)
        return error_set(err, 0, "device 'hpet': out of memory; close other programs");
    h->bus = b;
    h->cfg = *cfg;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&h->changed, &attr);
    pthread_condattr_destroy(&attr);
    hpet_reset(h);
    int e = bus_map(b, BUS_MMIO, HPET_BASE, HPET_BYTES, &hpet_io, h, hpet_desc.name, err);
    if (e == 0 && (e = pthread_create(&h->thread, NULL, hpet_thread, h)) != 0) {
        error_set(err, e, "device 'hpet': cannot start its thread: %s; raise the limit of processes (ulimit -u)", strerror(e));
        bus_unmap(b, BUS_MMIO, HPET_BASE);
    }
    if (e) {
        pthread_cond_destroy(&h->changed);
        free(h);
        return -1;
    }
    pthread_setname_np(h->thread, hpet_desc.name);
    *out = h;
    return 0;
}

void hpet_destroy(struct hpet *h)
{
    if (!h)
        return;
    pthread_mutex_lock(&h->bus->lock);
    h->quit = true;
    pthread_cond_signal(&h->changed);
    bus_unmap(h->bus, BUS_MMIO, HPET_BASE);
    pthread_mutex_unlock(&h->bus->lock);
    pthread_join(h->thread, NULL);
    pthread_cond_destroy(&h->changed);
    free(h);
}
