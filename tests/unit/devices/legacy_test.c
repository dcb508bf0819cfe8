// SPDX-License-Identifier: GPL-2.0-or-later
/* The legacy devices, as a driver meets them. */
#include <string.h>

#include "base/util.h"
#include "devices/legacy/debugcon.h"
#include "devices/legacy/debugexit.h"
#include "devices/legacy/i8042.h"
#include "devices/legacy/parallel.h"
#include "devices/legacy/rtc.h"
#include "devices/legacy/serial.h"
#include "rig.h"

static char output[256];
static size_t output_len;
static unsigned ready_calls;

static void collect(void *opaque, const void *buf, size_t len)
{
    (void)opaque;
    CHECK(output_len + len < sizeof output);
    memcpy(output + output_len, buf, len);
    output_len += len;
}

static void input_ready(void *opaque)
{
    (void)opaque;
    ready_calls++;
}

static const struct chardev chr = {.write = collect, .input_ready = input_ready};

/* ---- serial ---- */

#define COM SERIAL_COM1_PORT

static void serial_output(struct rig *r)
{
    output_len = 0;
    rig_out(r, COM + 1, 0);
    for (const char *s = "hello"; *s; s++) {
        CHECK(rig_in(r, COM + 5) & 0x20);
        rig_out(r, COM, (uint8_t)*s);
    }
    CHECK(output_len == 5 && memcmp(output, "hello", 5) == 0);
    CHECK_EQ(rig_in(r, COM + 5), 0x60);
    CHECK(!rig_gsi(r, 4));
}

/* THRE: raised by enabling it, ended by reading IIR, raised again by each byte written. */
static void serial_thre(struct rig *r)
{
    rig_out(r, COM + 1, 2);
    CHECK(rig_gsi(r, 4));
    CHECK_EQ(rig_in(r, COM + 2) & 0x0f, 2);
    CHECK(!rig_gsi(r, 4));
    CHECK_EQ(rig_in(r, COM + 2) & 0x0f, 1);
    rig_out(r, COM, 'x');
    CHECK(rig_gsi(r, 4));
    rig_out(r, COM + 1, 0);
    CHECK(!rig_gsi(r, 4));
    rig_out(r, COM + 1, 2); /* the off-on trick of drivers */
    CHECK_EQ(rig_in(r, COM + 2) & 0x0f, 2);
    rig_out(r, COM + 1, 0);
}

static void serial_input_fifo(struct rig *r, struct serial *s)
{
    char data[32];
    memset(data, 'a', sizeof data);
    rig_out(r, COM + 2, 0x87); /* FIFOs, trigger at 8 */
    CHECK_EQ(rig_in(r, COM + 2), 0xc1);
    rig_out(r, COM + 1, 1);
    CHECK_EQ(serial_input(s, "123", 3), 3);
    CHECK(rig_gsi(r, 4));
    CHECK_EQ(rig_in(r, COM + 2), 0xcc); /* below the trigger: time-out */
    CHECK_EQ(serial_input(s, data, 20), 20);
    CHECK_EQ(rig_in(r, COM + 2), 0xc4);
    CHECK_EQ(rig_in(r, COM), '1');
    CHECK_EQ(rig_in(r, COM), '2');
    CHECK_EQ(rig_in(r, COM), '3');
    for (unsigned i = 0; i < 20; i++) {
        CHECK(rig_in(r, COM + 5) & 1);
        CHECK_EQ(rig_in(r, COM), 'a');
    }
    CHECK_EQ(rig_in(r, COM + 5), 0x60);
    CHECK(!rig_gsi(r, 4));
    /* Clearing the FIFO. */
    CHECK_EQ(serial_input(s, "zz", 2), 2);
    rig_out(r, COM + 2, 0x03);
    CHECK_EQ(rig_in(r, COM + 5) & 1, 0);
    rig_out(r, COM + 1, 0);
}

/* More input than the backlog holds: nothing is lost, and the back end is told when there is room. */
static void serial_flow(struct rig *r, struct serial *s)
{
    uint8_t sent = 0, seen = 0, chunk[1000];
    size_t total = 0, read = 0;
    ready_calls = 0;
    while (total < 20000) {
        for (size_t i = 0; i < sizeof chunk; i++)
            chunk[i] = (uint8_t)(sent + i);
        size_t n = serial_input(s, chunk, sizeof chunk);
        sent = (uint8_t)(sent + n);
        total += n;
        if (n == sizeof chunk)
            continue;
        unsigned before = ready_calls;
        while (ready_calls == before) {
            CHECK_EQ(rig_in(r, COM), seen++);
            read++;
        }
    }
    while (rig_in(r, COM + 5) & 1) {
        CHECK_EQ(rig_in(r, COM), seen++);
        read++;
    }
    CHECK_EQ(read, total);
}

static void serial_loopback(struct rig *r)
{
    rig_out(r, COM + 4, 0x1a); /* RTS, OUT2: what Linux probes with */
    CHECK_EQ(rig_in(r, COM + 6) & 0xf0, 0x90);
    rig_out(r, COM + 4, 0x10);
    CHECK_EQ(rig_in(r, COM + 6), 0x09); /* both went away */
    CHECK_EQ(rig_in(r, COM + 6), 0x00);
    rig_out(r, COM + 4, 0x14);
    rig_out(r, COM + 4, 0x10);
    CHECK_EQ(rig_in(r, COM + 6), 0x04); /* trailing edge of the ring indicator */
    output_len = 0;
    rig_out(r, COM + 2, 0x01);
    for (unsigned i = 0; i < 17; i++)
        rig_out(r, COM, (uint8_t)i);
    CHECK_EQ(output_len, 0);
    CHECK_EQ(rig_in(r, COM + 5), 0x63); /* data, and the 17th overran */
    CHECK_EQ(rig_in(r, COM + 5), 0x61);
    for (unsigned i = 0; i < 16; i++)
        CHECK_EQ(rig_in(r, COM), i);
    rig_out(r, COM + 4, 0x0b);
    CHECK_EQ(rig_in(r, COM + 6) & 0xf0, 0xb0);
    rig_in(r, COM + 6);
}

static void serial_registers(struct rig *r, struct serial *s)
{
    rig_out(r, COM + 3, 0x83);
    rig_out(r, COM, 0x01);
    rig_out(r, COM + 1, 0x02);
    CHECK_EQ(rig_in(r, COM), 1);
    CHECK_EQ(rig_in(r, COM + 1), 2);
    rig_out(r, COM + 3, 0x03);
    CHECK_EQ(rig_in(r, COM + 3), 3);
    rig_out(r, COM + 1, 0xff);
    CHECK_EQ(rig_in(r, COM + 1), 0x0f);
    rig_out(r, COM + 1, 0x04);
    rig_out(r, COM + 7, 0x5a);
    CHECK_EQ(rig_in(r, COM + 7), 0x5a);
    CHECK_EQ(rig_read(r, BUS_PORT, COM + 6, 2), 0x5a00 | rig_in(r, COM + 6));
    serial_break(s);
    CHECK_EQ(rig_in(r, COM + 2) & 0x0f, 6);
    CHECK(rig_gsi(r, 4));
    CHECK_EQ(rig_in(r, COM + 5), 0x71);
    CHECK(!rig_gsi(r, 4));
    CHECK_EQ(rig_in(r, COM), 0);
    rig_out(r, COM + 1, 0);
}

static void test_serial(struct rig *r)
{
    struct serial *s, *twin;
    struct serial_config cfg = {.port = COM, .gsi = 4, .chr = chr};
    ERROR_SCOPED(err);
    CHECK(serial_create(&r->bus, &cfg, &s, &err) == 0);
    CHECK(serial_create(&r->bus, &cfg, &twin, &err) < 0 && error_is_set(&err));
    serial_output(r);
    serial_thre(r);
    serial_input_fifo(r, s);
    serial_flow(r, s);
    serial_loopback(r);
    serial_registers(r, s);
    serial_destroy(s);
}

/* ---- RTC ---- */

static uint8_t cmos(struct rig *r, uint8_t reg)
{
    rig_out(r, 0x70, reg);
    return rig_in(r, 0x71);
}

static void cmos_set(struct rig *r, uint8_t reg, uint8_t val)
{
    rig_out(r, 0x70, reg);
    rig_out(r, 0x71, val);
}

static int bcd(uint8_t v)
{
    CHECK((v & 15) < 10 && v >> 4 < 10);
    return (v >> 4) * 10 + (v & 15);
}

/* The guest's time, read as drivers do: until two readings agree. */
static time_t rtc_time(struct rig *r)
{
    time_t last = -1;
    for (;;) {
        struct tm tm = {
            .tm_sec = bcd(cmos(r, 0)),
            .tm_min = bcd(cmos(r, 2)),
            .tm_hour = bcd(cmos(r, 4)),
            .tm_mday = bcd(cmos(r, 7)),
            .tm_mon = bcd(cmos(r, 8)) - 1,
            .tm_year = bcd(cmos(r, 0x32)) * 100 + bcd(cmos(r, 9)) - 1900,
        };
        time_t t = timegm(&tm);
        if (t == last)
            return t;
        last = t;
    }
}

static void rtc_clock(struct rig *r)
{
    time_t before = time(NULL), first = rtc_time(r), after = time(NULL);
    CHECK(first >= before - 1 && first <= after + 1);
    CHECK(cmos(r, 6) >= 1 && cmos(r, 6) <= 7);
    CHECK_EQ(cmos(r, 0x0d), 0x80);
    CHECK_EQ(cmos(r, 0x0b), 0x02);
    CHECK_EQ(cmos(r, 0x0a) & 0x7f, 0x26);
    /* 1999-12-31 23:59:58, set with the clock held; then it runs over the century. */
    static const uint8_t when[][2] = {{0, 0x58}, {2, 0x59}, {4, 0x23}, {7, 0x31}, {8, 0x12}, {9, 0x99}, {0x32, 0x19}};
    cmos_set(r, 0x0b, 0x82);
    for (unsigned i = 0; i < ARRAY_SIZE(when); i++)
        cmos_set(r, when[i][0], when[i][1]);
    CHECK_EQ(cmos(r, 0), 0x58);
    cmos_set(r, 0x0b, 0x02);
    before = time(NULL);
    first = rtc_time(r);
    after = time(NULL);
    usleep(2100000);
    time_t before2 = time(NULL), t = rtc_time(r), after2 = time(NULL);
    CHECK(t >= 946684800);
    CHECK(t - first >= before2 - after - 1 && t - first <= after2 - before + 1);
    CHECK_EQ(cmos(r, 9), 0);
    CHECK_EQ(cmos(r, 0x32), 0x20);
    CHECK_EQ(cmos(r, 6), 7); /* a Saturday */
}

static void rtc_formats(struct rig *r)
{
    cmos_set(r, 0x0b, 0x86); /* binary, 24 h, held */
    cmos_set(r, 4, 13);
    cmos_set(r, 2, 30);
    cmos_set(r, 0, 0);
    cmos_set(r, 0x0b, 0x06);
    CHECK_EQ(cmos(r, 4), 13);
    cmos_set(r, 0x0b, 0x04);
    CHECK_EQ(cmos(r, 4), 0x81); /* 1 PM */
    cmos_set(r, 0x0b, 0x00);
    CHECK_EQ(cmos(r, 4), 0x81);
    cmos_set(r, 4, 0x12); /* midnight */
    cmos_set(r, 0x0b, 0x02);
    CHECK_EQ(cmos(r, 4), 0);
    CHECK_EQ(cmos(r, 2), 0x30);
    /* Nonsense is carried, not believed. */
    cmos_set(r, 8, 0xff);
    cmos_set(r, 7, 0xff);
    rtc_time(r);
}

static void rtc_interrupts(struct rig *r)
{
    cmos(r, 0x0c);
    cmos_set(r, 0x0b, 0x12); /* update-ended */
    CHECK(rig_wait_gsi(r, 8, true));
    CHECK_EQ(cmos(r, 0x0c) & (uint8_t)~0x40, 0x90); /* the periodic flag is set whether it interrupts or not */
    cmos_set(r, 0x0b, 0x02);
    cmos(r, 0x0c);
    CHECK(!rig_gsi(r, 8));
    /* Periodic at 1024 Hz: 50 ticks are not there sooner. A tick that nobody fetched is one with the next. */
    uint64_t start = now_ns();
    cmos_set(r, 0x0b, 0x42);
    for (unsigned ticks = 0; ticks < 50;) {
        CHECK(rig_wait_gsi(r, 8, true));
        ticks += (cmos(r, 0x0c) & 0x40) != 0;
    }
    CHECK(now_ns() - start >= 48 * NS_PER_S / 1024);
    cmos_set(r, 0x0b, 0x02);
    /* An alarm two seconds ahead; or 62, when the machine took the CPU away meanwhile. */
    time_t at = rtc_time(r) + 2;
    struct tm tm;
    gmtime_r(&at, &tm);
    cmos_set(r, 1, (uint8_t)(tm.tm_sec / 10 << 4 | tm.tm_sec % 10));
    cmos_set(r, 3, 0xff);
    cmos_set(r, 5, 0xc0);
    cmos(r, 0x0c);
    cmos_set(r, 0x0b, 0x22);
    CHECK(rig_wait_gsi(r, 8, true));
    CHECK(cmos(r, 0x0c) & 0x20);
    CHECK(rtc_time(r) >= at);
    cmos_set(r, 0x0b, 0x02);
}

static void test_rtc(struct rig *r)
{
    struct rtc *rtc;
    struct rtc_config cfg = {.ram_below_4g = 512 * MIB, .ram_above_4g = 3 * GIB, .gsi = 8};
    ERROR_SCOPED(err);
    CHECK(rtc_create(&r->bus, &cfg, &rtc, &err) == 0);
    CHECK_EQ(cmos(r, 0x15) | cmos(r, 0x16) << 8, 640);
    CHECK_EQ(cmos(r, 0x17) | cmos(r, 0x18) << 8, 63 * 1024);
    CHECK_EQ(cmos(r, 0x34) | cmos(r, 0x35) << 8, (512 - 16) * 16);
    CHECK_EQ(cmos(r, 0x5b) | cmos(r, 0x5c) << 8 | cmos(r, 0x5d) << 16, 3 * 1024 * 16);
    rtc_clock(r);
    rtc_formats(r);
    rtc_interrupts(r);
    rtc_destroy(rtc);
}

/* ---- 8042 and resets ---- */

static uint8_t kbd(struct rig *r)
{
    CHECK(rig_in(r, 0x64) & 1);
    return rig_in(r, 0x60);
}

static void test_i8042(struct rig *r)
{
    struct i8042 *k;
    ERROR_SCOPED(err);
    CHECK(i8042_create(&r->bus, 1, &k, &err) == 0);
    CHECK_EQ(rig_in(r, 0x64) & 1, 0);
    rig_out(r, 0x64, 0xaa);
    CHECK_EQ(kbd(r), 0x55);
    rig_out(r, 0x64, 0x20);
    uint8_t ctr = kbd(r);
    rig_out(r, 0x64, 0x60);
    rig_out(r, 0x60, ctr & (uint8_t)~1);
    rig_out(r, 0x64, 0xab);
    CHECK_EQ(kbd(r), 0);
    rig_out(r, 0x64, 0xd3); /* no mouse: the echo does not come back as one's */
    rig_out(r, 0x60, 0x5a);
    CHECK_EQ(rig_in(r, 0x64) & 0x21, 0x01);
    kbd(r);
    rig_out(r, 0x64, 0xa9);
    CHECK(kbd(r) != 0);
    CHECK(!rig_gsi(r, 1));
    rig_out(r, 0x64, 0x60);
    rig_out(r, 0x60, ctr | 1);
    rig_out(r, 0x60, 0xff);
    CHECK(rig_gsi(r, 1));
    CHECK_EQ(kbd(r), 0xfa);
    CHECK_EQ(kbd(r), 0xaa);
    CHECK(!rig_gsi(r, 1));
    rig_out(r, 0x60, 0xed);
    CHECK_EQ(kbd(r), 0xfa);
    rig_out(r, 0x60, 0x07);
    CHECK_EQ(kbd(r), 0xfa);
    rig_out(r, 0x60, 0xf2);
    CHECK_EQ(kbd(r), 0xfa);
    CHECK_EQ(kbd(r), 0xab);
    kbd(r);
    CHECK_EQ(rig_in(r, 0x64) & 1, 0);
    /* A20 and the four ways to reset. */
    rig_out(r, 0x92, 0x00);
    CHECK_EQ(rig_in(r, 0x92) & 2, 0);
    rig_out(r, 0x64, 0xd1);
    rig_out(r, 0x60, 0xdf);
    CHECK_EQ(rig_in(r, 0x92) & 2, 2);
    CHECK_EQ(rig_events(r, BOARD_RESET), 0);
    rig_out(r, 0x64, 0xfe);
    CHECK_EQ(rig_events(r, BOARD_RESET), 1);
    rig_out(r, 0x92, 0x03);
    CHECK_EQ(rig_events(r, BOARD_RESET), 2);
    rig_out(r, 0x64, 0xd1);
    rig_out(r, 0x60, 0x02);
    CHECK_EQ(rig_events(r, BOARD_RESET), 3);
    rig_out(r, 0xcf9, 0x02);
    CHECK_EQ(rig_events(r, BOARD_RESET), 3);
    rig_out(r, 0xcf9, 0x06);
    CHECK_EQ(rig_events(r, BOARD_RESET), 4);
    i8042_destroy(k);
}

static void test_debug(struct rig *r)
{
    struct debugexit *x;
    struct debugcon *c;
    ERROR_SCOPED(err);
    CHECK(debugexit_create(&r->bus, 0xf4, &x, &err) == 0);
    CHECK(debugcon_create(&r->bus, 0xe9, &chr, &c, &err) == 0);
    rig_write(r, BUS_PORT, 0xf4, 4, 0x31);
    CHECK_EQ(rig_events(r, BOARD_DEBUG_EXIT), 1);
    CHECK_EQ(r->event_code, 0x31);
    rig_out(r, 0xf4, 7);
    CHECK_EQ(r->event_code, 7);
    output_len = 0;
    CHECK_EQ(rig_in(r, 0xe9), 0xe9);
    rig_out(r, 0xe9, 'k');
    CHECK(output_len == 1 && output[0] == 'k');
    debugcon_destroy(c);
    debugexit_destroy(x);
}

/* ---- parallel port ---- */

#define LPT PARALLEL_LPT1_PORT

static void test_parallel(struct rig *r)
{
    struct parallel *p;
    ERROR_SCOPED(err);
    CHECK(parallel_create(&r->bus, &(struct parallel_config){LPT, PARALLEL_LPT1_GSI, chr}, &p, &err) == 0);
    output_len = 0;
    for (const char *s = "paper"; *s; s++) {
        CHECK_EQ(rig_in(r, LPT + 1) & 0xf8, 0xd8); /* ready, no acknowledgement pending, selected, no error */
        rig_out(r, LPT, (uint8_t)*s);
        CHECK_EQ(rig_in(r, LPT), *s);
        rig_out(r, LPT + 2, 0x0d);
        rig_out(r, LPT + 2, 0x0d); /* still low: no second byte */
        rig_out(r, LPT + 2, 0x0c);
    }
    CHECK(output_len == 5 && memcmp(output, "paper", 5) == 0);
    CHECK_EQ(r->gsi_rises[PARALLEL_LPT1_GSI], 0);
    rig_out(r, LPT + 2, 0x1c); /* with interrupts */
    rig_out(r, LPT + 2, 0x1d);
    CHECK_EQ(r->gsi_rises[PARALLEL_LPT1_GSI], 1);
    CHECK(!rig_gsi(r, PARALLEL_LPT1_GSI));
    rig_out(r, LPT + 2, 0x00);
    rig_out(r, LPT + 2, 0x01); /* a printer that is being reset takes nothing */
    CHECK_EQ(output_len, 6);
    CHECK_EQ(rig_in(r, LPT + 2), 0xc1);
    rig_out(r, LPT + 1, 0);
    CHECK_EQ(rig_read(r, BUS_PORT, LPT, 4) & 0xffffff, 0xc1dfull << 8 | 'r');
    parallel_destroy(p);
}

int main(void)
{
    struct rig r;
    rig_init(&r);
    test_serial(&r);
    test_i8042(&r);
    test_debug(&r);
    test_rtc(&r);
    test_parallel(&r);
    rig_free(&r);
    return 0;
}
