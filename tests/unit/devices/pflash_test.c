// SPDX-License-Identifier: GPL-2.0-or-later
/* The flash chip, as a firmware drives it, and as nobody should. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "devices/legacy/pflash.h"
#include "rig.h"

#define BASE 0xffc00000ull
#define SIZE (3 * PFLASH_BLOCK)

static struct rig rig, *const r = &rig;
static uint8_t data[SIZE], stored[SIZE]; /* the chip's contents; what was stored of it */
static bool is_mapped = true, broken;
static unsigned stores;

static void mapped(void *opaque, bool now)
{
    CHECK(opaque == &rig && now != is_mapped);
    is_mapped = now;
}

static int store(void *opaque, uint64_t off, size_t len)
{
    CHECK(opaque == &rig && off <= SIZE && len <= SIZE - off);
    stores++;
    if (broken)
        return -ENOSPC;
    memcpy(stored + off, data + off, len);
    return 0;
}

static uint8_t get(uint64_t off)
{
    return (uint8_t)rig_read(r, BUS_MMIO, BASE + off, 1);
}

static void put(uint64_t off, uint8_t val)
{
    rig_write(r, BUS_MMIO, BASE + off, 1, val);
}

/* How OVMF tells flash from RAM and ROM: a byte that is none of these values changes after a clear and a status command only. */
static void detected(void)
{
    CHECK_EQ(get(5), 0x5a);
    put(5, 0x50);
    CHECK_EQ(get(5), 0x5a);
    put(5, 0x70);
    CHECK(!is_mapped);
    CHECK_EQ(get(5), 0);
    put(5, 0xff);
    CHECK(is_mapped);
    CHECK_EQ(get(5), 0x5a);
}

static void identity(void)
{
    put(0, 0x90);
    CHECK_EQ(get(0), 0x89);
    CHECK_EQ(get(2), 0);
    put(0, 0x98);
    CHECK(get(0x10) == 'Q' && get(0x11) == 'R' && get(0x12) == 'Y' && get(0x13) == 1);
    CHECK_EQ(get(0x27), 14);                 /* 2^14 bytes have room for three blocks */
    CHECK(!get(0x2a) && !get(0x2b));         /* no buffer */
    CHECK(get(0x2c) == 1 && get(0x2d) == 2); /* three blocks … */
    CHECK_EQ(get(0x2f) | get(0x30) << 8, PFLASH_BLOCK / 256);
    CHECK(get(0x31) == 'P' && get(0x35) == '0' && !get(0x36) && !get(SIZE - 1));
    put(0, 0xff);
}

static void programming(void)
{
    unsigned n = stores;
    put(7, 0x10);
    put(7, 0xf0);
    CHECK_EQ(get(7), 0x80);
    put(7, 0xff);
    CHECK_EQ(get(7), 0x5a & 0xf0); /* bits are only cleared */
    CHECK(stores == n + 1 && stored[7] == 0x50);
    put(PFLASH_BLOCK + 9, 0x20);
    put(PFLASH_BLOCK + 9, 0xd0);
    put(0, 0xff);
    for (unsigned i = 0; i < SIZE; i++)
        CHECK_EQ(get(i), i / PFLASH_BLOCK == 1 ? 0xff : i == 7 ? 0x50 : 0x5a);
    CHECK(stores == n + 2 && memcmp(data, stored, SIZE) == 0);
    /* An erased byte takes any value; what changes nothing is not stored. */
    put(SIZE - PFLASH_BLOCK - 1, 0x40);
    put(SIZE - PFLASH_BLOCK - 1, 0xa7);
    put(0, 0x40);
    put(0, 0xff);
    CHECK(data[PFLASH_BLOCK * 2 - 1] == 0xa7 && stores == n + 3);
    put(0, 0xff);
}

static void errors(void)
{
    uint8_t before = data[3];
    put(0, 0x50);
    put(0, 0x20);
    put(0, 0x10); /* not the confirmation */
    CHECK_EQ(get(0), 0xb0);
    put(0, 0x50);
    put(0, 0x70);
    CHECK_EQ(get(0), 0);
    broken = true;
    put(3, 0x10);
    put(3, 0);
    CHECK_EQ(get(3), 0x90);
    put(3, 0x20);
    put(3, 0xd0);
    CHECK_EQ(get(3), 0xb0);
    put(0, 0x50);
    broken = false;
    CHECK(data[3] == before && memcmp(data, stored, SIZE) == 0);
    put(3, 0x60);
    put(3, 0x01); /* a lock that does not exist */
    CHECK_EQ(get(3), 0x80);
    put(0, 0xff);
}

/* Anything anywhere: the contents are what was stored, and the mapping follows the mode. */
static void noise(unsigned rounds)
{
    static const uint8_t commands[] = {0x10, 0x20, 0x40, 0x50, 0x60, 0x70, 0x90, 0x98, 0xd0, 0xe8, 0xff};
    struct rnd rnd = {now_ns() | 1};
    printf("seed %llu\n", (unsigned long long)rnd.state);
    fflush(stdout);
    for (unsigned i = 0; i < rounds; i++) {
        unsigned size = 1u << rnd_below(&rnd, 4);
        broken = !rnd_below(&rnd, 8);
        rig_write(r, BUS_MMIO, BASE + rnd_below(&rnd, SIZE), size,
                  rnd_below(&rnd, 2) ? commands[rnd_below(&rnd, ARRAY_SIZE(commands))] : rnd64(&rnd));
        rig_read(r, BUS_MMIO, BASE + rnd_below(&rnd, SIZE), size);
        CHECK(memcmp(data, stored, SIZE) == 0);
    }
    broken = false;
    put(0, 0x50), put(0, 0x50), put(0, 0xff); /* the first may have been an argument */
    CHECK(is_mapped);
    put(5, 0x20), put(5, 0xd0), put(5, 0x40), put(5, 0x5a), put(5, 0xff);
    detected();
}

int main(int argc, char **argv)
{
    struct pflash *f;
    struct pflash_config cfg = {.base = BASE, .size = SIZE, .data = data, .mapped = mapped, .store = store, .opaque = &rig};
    rig_init(r);
    memset(data, 0x5a, SIZE);
    memset(stored, 0x5a, SIZE);
    cfg.size = SIZE - 1;
    CHECK(pflash_create(&r->bus, &cfg, &f, NULL) < 0);
    cfg.size = SIZE;
    CHECK(pflash_create(&r->bus, &cfg, &f, NULL) == 0);
    detected();
    identity();
    programming();
    errors();
    noise(argc > 1 ? (unsigned)atoi(argv[1]) : 20000);
    pflash_destroy(f);
    rig_free(r);
    return 0;
}
