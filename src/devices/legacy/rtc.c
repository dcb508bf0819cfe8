// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The MC146818 (Motorola data sheet), as the PC wires it.
 *
 * The guest's time is the host's real time plus an offset in seconds, which a guest changes by setting the clock. The time
 * registers are computed when they are read; while the guest holds the clock (SET, or the divider in reset) they are plain memory,
 * and letting go computes the offset from them. Interrupt flags are brought up to date whenever someone looks: on a read of
 * register C, and by a thread that exists once an interrupt was enabled and sleeps until the next second or periodic tick.
 */
#include "devices/legacy/rtc.h"

#include <string.h>

#include "base/util.h"

#define PORT_INDEX 0x70
#define RTC_PORTS  2

enum {
    REG_SEC,
    REG_SEC_ALARM,
    REG_MIN,
    REG_MIN_ALARM,
    REG_HOUR,
    REG_HOUR_ALARM,
    REG_WDAY,
    REG_MDAY,
    REG_MONTH,
    REG_YEAR,
    REG_A,
    REG_B,
    REG_C,
    REG_D,
    REG_CENTURY = 0x32, /* the PC's convention; FADT.CENTURY names it */
};

#define A_UIP     0x80
#define A_DIVIDER 0x70 /* 11x: held in reset */
#define A_RATE    0x0f

#define B_SET 0x80
#define B_PIE 0x40
#define B_AIE 0x20
#define B_UIE 0x10
#define B_DM  0x04 /* binary, not BCD */
#define B_24H 0x02

#define C_IRQF 0x80
#define C_PF   0x40
#define C_AF   0x20
#define C_UF   0x10

#define D_VRT 0x80

#define HOUR_PM        0x80
#define ALARM_ANY      0xc0 /* both bits set in an alarm register: any value matches */
#define RTC_HZ         32768
#define UIP_NS         244141 /* before an update: 8 ticks */
#define SECONDS_OF_DAY 86400
#define TIME_MAX       (1ll << 40) /* seconds; the registers cannot express as much */

/* CMOS RAM that tells memory sizes. */
#define CMOS_BASE_KIB  0x15 /* 2 bytes */
#define CMOS_EXT_KIB   0x17 /* 2 bytes, from 1 MiB, at most 63 MiB; again at 0x30 */
#define CMOS_EXT_KIB2  0x30
#define CMOS_ABOVE_16M 0x34 /* 2 bytes, units of 64 KiB */
#define CMOS_ABOVE_4G  0x5b /* 3 bytes, units of 64 KiB */
#define CMOS_CPUS      0x5f /* the number of CPUs, less one: SeaBIOS waits for as many */

struct rtc {
    struct bus *bus;
    unsigned gsi;
    uint8_t index;
    uint8_t cmos[128];
    int64_t offset;      /* seconds, guest minus host */
    int64_t last_second; /* guest time up to which UF and AF are up to date */
    int64_t last_period; /* number of the last periodic tick that PF knows */
    bool irq;      /* the line is up */
    bool replaced; /* the line is the HPET's */
    bool thread_started, quit;
    pthread_t thread;
    pthread_cond_t changed; /* with the device lock */
};

static const struct field rtc_fields[] = {
    FIELD(FIELD_U8, struct rtc, index),
    FIELD_ARRAY(FIELD_BYTES, struct rtc, cmos),
    FIELD(FIELD_U64, struct rtc, offset),
    FIELD(FIELD_U64, struct rtc, last_second),
    FIELD(FIELD_U64, struct rtc, last_period),
    FIELD(FIELD_BOOL, struct rtc, irq),
    {0},
};

static int rtc_restored(void *dev, struct error *err)
{
    struct rtc *r = dev;
    if (r->index >= sizeof r->cmos || llabs(r->offset) > TIME_MAX || llabs(r->last_second) > TIME_MAX)
        return error_set(err, 0, "device 'rtc': the saved state is not one of this chip; restore from an intact state");
    pthread_cond_signal(&r->changed);
    return 0;
}

const struct device_desc rtc_desc = {.name = "rtc", .fields = rtc_fields, .reset = rtc_reset, .restored = rtc_restored};

/* ---- time ---- */

static bool held(const struct rtc *r)
{
    return (r->cmos[REG_B] & B_SET) || (r->cmos[REG_A] & 0x60) == 0x60;
}

static struct timespec host_time(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return ts;
}

static uint8_t encode(const struct rtc *r, int v)
{
    return (uint8_t)(r->cmos[REG_B] & B_DM ? v : v / 10 << 4 | v % 10);
}

/* Takes any byte: digits beyond 9 count as they are. */
static int decode(const struct rtc *r, uint8_t v)
{
    return r->cmos[REG_B] & B_DM ? v : (v >> 4) * 10 + (v & 15);
}

static int decode_hour(const struct rtc *r, uint8_t v)
{
    if (r->cmos[REG_B] & B_24H)
        return decode(r, v);
    return decode(r, v & (uint8_t)~HOUR_PM) % 12 + (v & HOUR_PM ? 12 : 0);
}

static void registers_from_time(struct rtc *r, int64_t seconds)
{
    struct tm tm;
    time_t t = seconds;
    if (!gmtime_r(&t, &tm))
        return;
    uint8_t *c = r->cmos;
    int year = tm.tm_year + 1900, hour = tm.tm_hour;
    c[REG_SEC] = encode(r, tm.tm_sec);
    c[REG_MIN] = encode(r, tm.tm_min);
    if (c[REG_B] & B_24H)
        c[REG_HOUR] = encode(r, hour);
    else
        c[REG_HOUR] = encode(r, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? HOUR_PM : 0);
    c[REG_WDAY] = encode(r, tm.tm_wday + 1);
    c[REG_MDAY] = encode(r, tm.tm_mday);
    c[REG_MONTH] = encode(r, tm.tm_mon + 1);
    c[REG_YEAR] = encode(r, year % 100);
    c[REG_CENTURY] = encode(r, year / 100 % 100);
}

/* timegm() carries what is out of range, so that any bytes give a time. */
static int64_t time_from_registers(const struct rtc *r)
{
    const uint8_t *c = r->cmos;
    struct tm tm = {
        .tm_sec = decode(r, c[REG_SEC]),
        .tm_min = decode(r, c[REG_MIN]),
        .tm_hour = decode_hour(r, c[REG_HOUR]),
        .tm_mday = decode(r, c[REG_MDAY]),
        .tm_mon = decode(r, c[REG_MONTH]) - 1,
        .tm_year = decode(r, c[REG_CENTURY]) * 100 + decode(r, c[REG_YEAR]) - 1900,
    };
    return timegm(&tm);
}

/* ---- interrupts ---- */

static bool alarm_matches(const struct rtc *r, int64_t second)
{
    const uint8_t *c = r->cmos;
    int s = (int)(((second % SECONDS_OF_DAY) + SECONDS_OF_DAY) % SECONDS_OF_DAY);
    return (c[REG_SEC_ALARM] >= ALARM_ANY || decode(r, c[REG_SEC_ALARM]) == s % 60) &&
           (c[REG_MIN_ALARM] >= ALARM_ANY || decode(r, c[REG_MIN_ALARM]) == s / 60 % 60) &&
           (c[REG_HOUR_ALARM] >= ALARM_ANY || decode_hour(r, c[REG_HOUR_ALARM]) == s / 3600);
}

/* Ticks of 32768 Hz between periodic interrupts, 0 for none (data sheet, table 5, at a 32.768 kHz time base). */
static unsigned period(const struct rtc *r)
{
    unsigned rate = r->cmos[REG_A] & A_RATE;
    if (rate == 0 || (r->cmos[REG_A] & 0x60) == 0x60)
        return 0;
    return 1u << ((rate <= 2 ? rate + 7 : rate) - 1);
}

static int64_t ticks(struct timespec ts)
{
    return (int64_t)ts.tv_sec * RTC_HZ + (int64_t)ts.tv_nsec * RTC_HZ / (int64_t)NS_PER_S;
}

static void update_irq(struct rtc *r)
{
    uint8_t *c = r->cmos;
    bool level = c[REG_B] & c[REG_C] & (C_PF | C_AF | C_UF);
    c[REG_C] = (c[REG_C] & (uint8_t)~C_IRQF) | (level ? C_IRQF : 0);
    level = level && !r->replaced;
    if (level == r->irq)
        return;
    r->irq = level;
    r->bus->ops->set_gsi(r->bus->board, r->gsi, level);
}

void rtc_replace(struct rtc *r, bool replaced)
{
    r->replaced = replaced;
    update_irq(r);
}

/* Sets the flags of everything that happened up to now. */
static void catch_up(struct rtc *r)
{
    struct timespec now = host_time();
    int64_t second = now.tv_sec + r->offset;
    unsigned p = period(r);
    if (p && ticks(now) / p != r->last_period) {
        r->last_period = ticks(now) / p;
        r->cmos[REG_C] |= C_PF;
    }
    if (!held(r) && second != r->last_second) {
        r->cmos[REG_C] |= C_UF;
        /* An alarm repeats every day, so a day of seconds decides for any longer time. */
        int64_t from = MAX(r->last_second, second - SECONDS_OF_DAY);
        for (int64_t s = from + 1; s <= second && !(r->cmos[REG_C] & C_AF); s++) {
            if (alarm_matches(r, s))
                r->cmos[REG_C] |= C_AF;
        }
    }
    r->last_second = second;
    update_irq(r);
}

/* The host time of the next event that may interrupt. */
static struct timespec next_event(const struct rtc *r)
{
    struct timespec now = host_time(), at = {.tv_sec = now.tv_sec + 1};
    unsigned p = period(r);
    if (p && (r->cmos[REG_B] & B_PIE)) {
        int64_t t = (ticks(now) / p + 1) * p;
        struct timespec tick = {.tv_sec = t / RTC_HZ, .tv_nsec = (t % RTC_HZ * (int64_t)NS_PER_S + RTC_HZ - 1) / RTC_HZ};
        if (tick.tv_sec < at.tv_sec)
            at = tick;
    }
    return at;
}

static void *rtc_thread(void *arg)
{
    struct rtc *r = arg;
    pthread_mutex_lock(&r->bus->lock);
    while (!r->quit) {
        if (r->cmos[REG_B] & (B_PIE | B_AIE | B_UIE)) {
            struct timespec at = next_event(r);
            pthread_cond_timedwait(&r->changed, &r->bus->lock, &at);
            catch_up(r);
        } else {
            pthread_cond_wait(&r->changed, &r->bus->lock);
        }
    }
    pthread_mutex_unlock(&r->bus->lock);
    return NULL;
}

static void timing_changed(struct rtc *r)
{
    if (!r->thread_started && (r->cmos[REG_B] & (B_PIE | B_AIE | B_UIE)))
        r->thread_started = pthread_create(&r->thread, NULL, rtc_thread, r) == 0;
    pthread_cond_signal(&r->changed);
}

/* ---- registers ---- */

static bool is_time(unsigned reg)
{
    return reg == REG_SEC || reg == REG_MIN || reg == REG_HOUR || (reg >= REG_WDAY && reg <= REG_YEAR) || reg == REG_CENTURY;
}

static void clock_set(struct rtc *r)
{
    r->offset = time_from_registers(r) - host_time().tv_sec;
    r->last_second = host_time().tv_sec + r->offset;
}

static void write_control(struct rtc *r, unsigned reg, uint8_t val)
{
    catch_up(r);
    bool was_held = held(r);
    if (!was_held)
        registers_from_time(r, host_time().tv_sec + r->offset);
    if (reg == REG_A) {
        r->cmos[REG_A] = val & (uint8_t)~A_UIP;
        if (period(r))
            r->last_period = ticks(host_time()) / period(r);
    } else {
        /* SET ends update interrupts (data sheet, register B). */
        r->cmos[REG_B] = val & B_SET ? val & (uint8_t)~B_UIE : val;
    }
    if (was_held && !held(r))
        clock_set(r);
    update_irq(r);
    timing_changed(r);
}

static void write_cmos(struct rtc *r, uint8_t val)
{
    unsigned reg = r->index;
    if (reg == REG_A || reg == REG_B) {
        write_control(r, reg, val);
    } else if (is_time(reg)) {
        if (!held(r))
            registers_from_time(r, host_time().tv_sec + r->offset);
        r->cmos[reg] = val;
        if (!held(r))
            clock_set(r);
    } else if (reg != REG_C && reg != REG_D) {
        r->cmos[reg] = val;
    }
}

static uint8_t read_cmos(struct rtc *r)
{
    unsigned reg = r->index;
    uint8_t v;
    switch (reg) {
    case REG_A:
        v = r->cmos[REG_A];
        return !held(r) && host_time().tv_nsec >= (long)(NS_PER_S - UIP_NS) ? v | A_UIP : v;
    case REG_C:
        catch_up(r);
        v = r->cmos[REG_C];
        r->cmos[REG_C] = 0;
        update_irq(r);
        return v;
    case REG_D:
        return D_VRT;
    default:
        if (is_time(reg) && !held(r))
            registers_from_time(r, host_time().tv_sec + r->offset);
        return r->cmos[reg];
    }
}

static uint64_t rtc_read(void *dev, uint64_t off, unsigned size)
{
    (void)size;
    return off == 0 ? 0xff : read_cmos(dev); /* the index port is write-only */
}

static void rtc_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
    struct rtc *r = dev;
    (void)size;
    if (off == 0)
        r->index = val & 0x7f; /* bit 7 masks NMI on a PC; nothing here raises one by that way */
    else
        write_cmos(r, (uint8_t)val);
}

static const struct io_ops rtc_io = {.read = rtc_read, .write = rtc_write, .max_size = 1};

static void put16(uint8_t *p, uint64_t v)
{
    v = MIN(v, 0xffffull);
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

static void describe_memory(struct rtc *r, const struct rtc_config *cfg)
{
    uint64_t low = cfg->ram_below_4g, high = MIN(cfg->ram_above_4g / (64 * KIB), 0xffffffull);
    put16(r->cmos + CMOS_BASE_KIB, MIN(low / KIB, 640ull));
    uint64_t ext = low > MIB ? MIN((low - MIB) / KIB, 63 * KIB) : 0;
    put16(r->cmos + CMOS_EXT_KIB, ext);
    put16(r->cmos + CMOS_EXT_KIB2, ext);
    put16(r->cmos + CMOS_ABOVE_16M, low > 16 * MIB ? (low - 16 * MIB) / (64 * KIB) : 0);
    put16(r->cmos + CMOS_ABOVE_4G, high & 0xffff);
    r->cmos[CMOS_ABOVE_4G + 2] = (uint8_t)(high >> 16);
    r->cmos[CMOS_CPUS] = (uint8_t)(cfg->cpus ? MIN(cfg->cpus, 256u) - 1 : 0);
}

/* The reset line ends interrupts and leaves the time and the RAM alone (data sheet, RESET pin). */
void rtc_reset(void *dev)
{
    struct rtc *r = dev;
    r->index = 0;
    r->cmos[REG_B] &= (uint8_t) ~(B_PIE | B_AIE | B_UIE);
    r->cmos[REG_C] = 0;
    update_irq(r);
}

int rtc_create(struct bus *b, const struct rtc_config *cfg, struct rtc **out, struct error *err)
{
    struct rtc *r = calloc(1, sizeof *r);
    if (!r)
        return error_set(err, 0, "device 'rtc': out of memory; close other programs");
    r->bus = b;
    r->gsi = cfg->gsi;
    r->cmos[REG_A] = 0x26; /* 32.768 kHz time base, 1024 Hz periodic rate: the PC's default */
    r->cmos[REG_B] = B_24H;
    describe_memory(r, cfg);
    r->last_second = host_time().tv_sec;
    pthread_cond_init(&r->changed, NULL);
    if (bus_map(b, BUS_PORT, PORT_INDEX, RTC_PORTS, &rtc_io, r, rtc_desc.name, err) < 0) {
        pthread_cond_destroy(&r->changed);
        free(r);
        return -1;
    }
    *out = r;
    return 0;
}

void rtc_destroy(struct rtc *r)
{
    if (!r)
        return;
    pthread_mutex_lock(&r->bus->lock);
    r->quit = true;
    pthread_cond_signal(&r->changed);
    bus_unmap(r->bus, BUS_PORT, PORT_INDEX);
    pthread_mutex_unlock(&r->bus->lock);
    if (r->thread_started)
        pthread_join(r->thread, NULL);
    pthread_cond_destroy(&r->changed);
    free(r);
}
