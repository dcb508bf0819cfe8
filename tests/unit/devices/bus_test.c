// SPDX-License-Identifier: GPL-2.0-or-later
/* The bus: overlap, wrap-around, cutting of accesses, and many ranges against a plain model. */
#include <string.h>

#include "base/util.h"
#include "check.h"
#include "devices/bus.h"

struct probe {
    char log[256];
};

static uint64_t probe_read(void *dev, uint64_t off, unsigned size)
{
    struct probe *p = dev;
    sprintf(p->log + strlen(p->log), "r%llu.%u ", (unsigned long long)off, size);
    return 0x8877665544332211ull;
}

static void probe_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
    struct probe *p = dev;
    sprintf(p->log + strlen(p->log), "w%llu.%u=%llx ", (unsigned long long)off, size, (unsigned long long)val);
}

static const struct io_ops wide = {.read = probe_read, .write = probe_write};
static const struct io_ops bytes = {.read = probe_read, .write = probe_write, .max_size = 1};
static const struct io_ops words = {.read = probe_read, .write = probe_write, .max_size = 4};
static const struct io_ops silent = {0};

static void refuses(void)
{
    struct bus b;
    bus_init(&b, NULL, NULL, NULL);
    CHECK(bus_map(&b, BUS_PORT, 0x100, 0x10, &wide, NULL, "a", NULL) == 0);
    ERROR_SCOPED(err);
    CHECK(bus_map(&b, BUS_PORT, 0x10f, 1, &wide, NULL, "b", &err) < 0);
    CHECK(strstr(error_text(&err), "'b'") && strstr(error_text(&err), "'a'"));
    CHECK(bus_map(&b, BUS_PORT, 0xf0, 0x11, &wide, NULL, "b", NULL) < 0);
    CHECK(bus_map(&b, BUS_PORT, 0, 0x10000, &wide, NULL, "b", NULL) < 0);
    CHECK(bus_map(&b, BUS_PORT, 0x110, 0, &wide, NULL, "b", NULL) < 0);
    CHECK(bus_map(&b, BUS_PORT, 0xfffe, 3, &wide, NULL, "b", NULL) < 0);
    CHECK(bus_map(&b, BUS_MMIO, ~0ull, 2, &wide, NULL, "b", NULL) < 0);
    CHECK(bus_map(&b, BUS_PORT, 0x110, 1, &wide, NULL, "b", NULL) == 0);
    CHECK(bus_map(&b, BUS_PORT, 0xff, 1, &wide, NULL, "c", NULL) == 0);
    CHECK(bus_map(&b, BUS_MMIO, ~0ull, 1, &wide, NULL, "top", NULL) == 0);
    CHECK(bus_map(&b, BUS_MMIO, 0x100, 0x10, &wide, NULL, "other space", NULL) == 0);
    bus_unmap(&b, BUS_PORT, 0x100);
    bus_unmap(&b, BUS_PORT, 0x101); /* no range begins there */
    CHECK(bus_map(&b, BUS_PORT, 0x100, 0x10, &wide, NULL, "again", NULL) == 0);
    bus_free(&b);
}

static void expect(struct bus *b, struct probe *p, bool write, uint64_t addr, unsigned size, const char *log, uint64_t value)
{
    uint64_t v = write ? value : 0;
    p->log[0] = 0;
    if (write)
        bus_write(b, BUS_MMIO, addr, &v, size);
    else
        bus_read(b, BUS_MMIO, addr, &v, size);
    if (strcmp(p->log, log) != 0)
        fprintf(stderr, "access at 0x%llx: '%s'\n", (unsigned long long)addr, p->log);
    CHECK(strcmp(p->log, log) == 0);
    if (!write)
        CHECK_EQ(v, value);
}

static void cuts(void)
{
    struct bus b;
    struct probe p;
    bus_init(&b, NULL, NULL, NULL);
    CHECK(bus_map(&b, BUS_MMIO, 0x1000, 0x10, &wide, &p, "wide", NULL) == 0);
    CHECK(bus_map(&b, BUS_MMIO, 0x2000, 0x10, &bytes, &p, "bytes", NULL) == 0);
    CHECK(bus_map(&b, BUS_MMIO, 0x3000, 0x10, &words, &p, "words", NULL) == 0);
    CHECK(bus_map(&b, BUS_MMIO, 0x3010, 0x10, &silent, &p, "silent", NULL) == 0);
    CHECK(bus_map(&b, BUS_MMIO, 0xfffffffffffffff8ull, 8, &wide, &p, "top", NULL) == 0);
    expect(&b, &p, false, 0x1008, 8, "r8.8 ", 0x8877665544332211ull);
    expect(&b, &p, false, 0x1003, 4, "r3.4 ", 0x44332211);
    expect(&b, &p, false, 0x100e, 4, "r14.1 r15.1 ", 0xffff1111); /* crosses the end: bytes, and nothing behind */
    expect(&b, &p, false, 0xffe, 4, "r0.2 ", 0x2211ffff);
    expect(&b, &p, true, 0x2000, 4, "w0.1=dd w1.1=cc w2.1=bb w3.1=aa ", 0xaabbccdd);
    expect(&b, &p, true, 0x3000, 8, "w0.4=55667788 w4.4=11223344 ", 0x1122334455667788ull);
    expect(&b, &p, false, 0x5000, 8, "", ~0ull);
    expect(&b, &p, false, 0x3010, 4, "", 0xffffffff);
    expect(&b, &p, true, 0x3010, 4, "", 1);
    expect(&b, &p, false, 0xfffffffffffffff8ull, 8, "r0.8 ", 0x8877665544332211ull);
    bus_free(&b);
}

/* 64 neighbouring ranges, mapped and unmapped at random. */
static void against_model(void)
{
    struct rnd rnd = {42};
    bool mapped[64] = {false};
    struct bus b;
    struct probe p;
    bus_init(&b, NULL, NULL, NULL);
    for (unsigned i = 0; i < 20000; i++) {
        unsigned at = rnd_below(&rnd, 64);
        uint64_t v = 0;
        if (rnd_below(&rnd, 2)) {
            CHECK((bus_map(&b, BUS_MMIO, at * 16, 16, &wide, &p, "x", NULL) == 0) == !mapped[at]);
            mapped[at] = true;
        } else {
            bus_unmap(&b, BUS_MMIO, at * 16);
            mapped[at] = false;
        }
        at = rnd_below(&rnd, 64);
        p.log[0] = 0;
        bus_read(&b, BUS_MMIO, at * 16 + 8, &v, 8);
        CHECK(mapped[at] == (v == 0x8877665544332211ull));
    }
    bus_free(&b);
}

int main(void)
{
    refuses();
    cuts();
    against_model();
    return 0;
}
