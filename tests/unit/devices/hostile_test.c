// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Guests that mean harm: broken rings by design and at random, queues that cannot be, and random accesses to every register of
 * every device. What must hold each time: the process lives (the sanitizers agree), the device says DEVICE_NEEDS_RESET where the
 * driver broke a rule, and after a reset it works as if nothing had been.
 */
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "devices/legacy/debugcon.h"
#include "devices/legacy/debugexit.h"
#include "devices/legacy/i8042.h"
#include "devices/legacy/rtc.h"
#include "devices/legacy/serial.h"
#include "devices/virtio/vblk.h"
#include "devices/virtio/vconsole.h"
#include "devices/virtio/vnet.h"
#include "devices/virtio/vrng.h"
#include "driver.h"

#define NEEDS_RESET 64
#define F_NEXT      1
#define F_WRITE     2
#define F_INDIRECT  4
#define F_AVAIL     0x80

enum { SLOT_RNG = 1, SLOT_CONSOLE, SLOT_DISK, SLOT_NET, SLOTS };

/* A machine with everything. */
struct machine {
    struct rig r;
    struct vrng *rng;
    struct vconsole *console;
    struct block *block;
    struct vblk *disk;
    struct netdev *user;
    struct vnet *net;
    struct lpc *lpc;
    struct serial *serial;
    struct rtc *rtc;
    struct i8042 *i8042;
    struct debugexit *debugexit;
    struct debugcon *debugcon;
    char path[32];
};

static void swallow(void *opaque, const void *buf, size_t len)
{
    const uint8_t *p = buf;
    uint8_t *sum = opaque;
    for (size_t i = 0; i < len; i++)
        *sum += p[i];
}

static void machine_init(struct machine *m)
{
    static uint8_t sum;
    const struct chardev chr = {.write = swallow, .opaque = &sum};
    struct rig *r = &m->r;
    ERROR_SCOPED(err);
    rig_init(r);
    strcpy(m->path, "/tmp/lodge-hostile-XXXXXX");
    AUTO_CLOSE int fd = mkstemp(m->path);
    CHECK(fd >= 0 && ftruncate(fd, MIB) == 0);
    CHECK(block_open(&(struct block_config){.path = m->path, .format = "raw"}, &m->block, &err) == 0);
    CHECK(net_user_create(&(struct net_user_config){.restricted = true}, &m->user, &err) == 0);
    CHECK(vrng_create(r->pci, &(struct vrng_config){SLOT_RNG}, &m->rng, &err) == 0);
    CHECK(vconsole_create(r->pci, &(struct vconsole_config){SLOT_CONSOLE, chr}, &m->console, &err) == 0);
    CHECK(vblk_create(r->pci, &(struct vblk_config){.slot = SLOT_DISK, .block = m->block, .serial = "x"}, &m->disk, &err) == 0);
    CHECK(vnet_create(r->pci, &(struct vnet_config){.slot = SLOT_NET, .net = m->user, .mac = {2}}, &m->net, &err) == 0);
    CHECK(lpc_create(r->pci, &(struct lpc_config){.pmbase = 0x600}, &m->lpc, &err) == 0);
    CHECK(serial_create(&r->bus, &(struct serial_config){0x3f8, 4, chr}, &m->serial, &err) == 0);
    CHECK(rtc_create(&r->bus, &(struct rtc_config){.gsi = 8}, &m->rtc, &err) == 0);
    CHECK(i8042_create(&r->bus, 1, &m->i8042, &err) == 0);
    CHECK(debugexit_create(&r->bus, 0xf4, &m->debugexit, &err) == 0);
    CHECK(debugcon_create(&r->bus, 0xe9, &chr, &m->debugcon, &err) == 0);
    CHECK(pci_host_assign(r->pci, &err) == 0);
}

static void machine_free(struct machine *m)
{
    debugcon_destroy(m->debugcon);
    debugexit_destroy(m->debugexit);
    i8042_destroy(m->i8042);
    rtc_destroy(m->rtc);
    serial_destroy(m->serial);
    lpc_destroy(m->lpc);
    vnet_destroy(m->net);
    vblk_destroy(m->disk);
    vconsole_destroy(m->console);
    vrng_destroy(m->rng);
    netdev_destroy(m->user);
    block_close(m->block);
    unlink(m->path);
    rig_free(&m->r);
}

/* Does the rng answer? */
static void check_alive(struct drv *d, uint64_t features)
{
    uint64_t mark = d->rig->next;
    CHECK(drv_reset(d));
    drv_start(d, features, 1, 16);
    uint64_t buf = rig_alloc(d->rig, 64, 16);
    CHECK_EQ(drv_do(d, 0, &(struct drv_buf){buf, 64, true}, 1), 64);
    CHECK(drv_reset(d));
    d->rig->next = mark;
}

/* ---- broken by design ---- */

struct raw_desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};

#define GOOD  0x200000 /* in RAM */
#define TABLE 0x300000

/* What a queue of 16 starts with: descriptors, and the first one's index in the available ring. */
static const struct bad_split {
    const char *what;
    struct raw_desc desc[3], table[3];
    uint16_t head, avail_idx;
    bool fine; /* the rule is kept after all */
} bad_split[] = {
    {"good", {{GOOD, 8, F_WRITE, 0}}, {{0}}, 0, 1, true},
    {"zero length", {{GOOD, 0, F_WRITE, 0}}, {{0}}, 0, 1, true},
    {"zero length at nowhere", {{~0ull, 0, F_WRITE, 0}}, {{0}}, 0, 1, true},
    {"loop of one", {{GOOD, 8, F_WRITE | F_NEXT, 0}}, {{0}}, 0, 1, false},
    {"loop of two", {{GOOD, 8, F_WRITE | F_NEXT, 1}, {GOOD, 8, F_WRITE | F_NEXT, 0}}, {{0}}, 0, 1, false},
    {"next outside", {{GOOD, 8, F_WRITE | F_NEXT, 16}}, {{0}}, 0, 1, false},
    {"next far outside", {{GOOD, 8, F_WRITE | F_NEXT, 0xffff}}, {{0}}, 0, 1, false},
    {"head outside", {{GOOD, 8, F_WRITE, 0}}, {{0}}, 16, 1, false},
    {"head far outside", {{GOOD, 8, F_WRITE, 0}}, {{0}}, 0xffff, 1, false},
    {"index jumps", {{GOOD, 8, F_WRITE, 0}}, {{0}}, 0, 17, false},
    {"index runs backwards", {{GOOD, 8, F_WRITE, 0}}, {{0}}, 0, 0xffff, false},
    {"outside of memory", {{1ull << 40, 8, F_WRITE, 0}}, {{0}}, 0, 1, false},
    {"across the end of memory", {{RIG_LOW - 4, 8, F_WRITE, 0}}, {{0}}, 0, 1, false},
    {"in the hole below 4 GiB", {{0xc0000000, 8, F_WRITE, 0}}, {{0}}, 0, 1, false},
    {"at a device's registers", {{RIG_MMIO32, 8, F_WRITE, 0}}, {{0}}, 0, 1, false},
    {"at configuration space", {{RIG_ECAM, 8, F_WRITE, 0}}, {{0}}, 0, 1, false},
    {"wraps", {{~0ull, 2, F_WRITE, 0}}, {{0}}, 0, 1, false},
    {"wraps by its length", {{0xffffffff00000000ull, 0xffffffff, F_WRITE, 0}}, {{0}}, 0, 1, false},
    {"longer than memory", {{0, 0xffffffff, F_WRITE, 0}}, {{0}}, 0, 1, false},
    {"writable before readable", {{GOOD, 8, F_WRITE | F_NEXT, 1}, {GOOD, 8, 0, 0}}, {{0}}, 0, 1, false},
    {"indirect", {{TABLE, 16, F_INDIRECT, 0}}, {{GOOD, 8, F_WRITE, 0}}, 0, 1, true},
    {"indirect, chained", {{TABLE, 48, F_INDIRECT, 0}}, {{GOOD, 8, F_WRITE | F_NEXT, 2}, {0}, {GOOD, 8, F_WRITE, 0}}, 0, 1, true},
    {"direct, then indirect", {{GOOD, 8, F_NEXT, 1}, {TABLE, 16, F_INDIRECT, 0}}, {{GOOD, 8, F_WRITE, 0}}, 0, 1, true},
    {"indirect in indirect", {{TABLE, 16, F_INDIRECT, 0}}, {{TABLE, 16, F_INDIRECT, 0}}, 0, 1, false},
    {"indirect with successor", {{TABLE, 16, F_INDIRECT | F_NEXT, 1}, {GOOD, 8, F_WRITE, 0}}, {{GOOD, 8, F_WRITE, 0}}, 0, 1, false},
    {"indirect of no entry", {{TABLE, 0, F_INDIRECT, 0}}, {{0}}, 0, 1, false},
    {"indirect of 17 bytes", {{TABLE, 17, F_INDIRECT, 0}}, {{GOOD, 8, F_WRITE, 0}}, 0, 1, false},
    {"indirect longer than the queue", {{TABLE, 17 * 16, F_INDIRECT, 0}}, {{GOOD, 8, F_WRITE, 0}}, 0, 1, false},
    {"indirect outside of memory", {{0xc0000000, 16, F_INDIRECT, 0}}, {{0}}, 0, 1, false},
    {"indirect wraps", {{~0ull - 7, 16, F_INDIRECT, 0}}, {{0}}, 0, 1, false},
    {"indirect loop", {{TABLE, 16, F_INDIRECT, 0}}, {{GOOD, 8, F_WRITE | F_NEXT, 0}}, 0, 1, false},
    {"indirect next outside", {{TABLE, 16, F_INDIRECT, 0}}, {{GOOD, 8, F_WRITE | F_NEXT, 1}}, 0, 1, false},
};

/* The same for packed rings: descriptors with their availability added, and ids in `next`. */
static const struct bad_split bad_packed[] = {
    {"good", {{GOOD, 8, F_WRITE, 3}}, {{0}}, 0, 0, true},
    {"any id", {{GOOD, 8, F_WRITE, 0xffff}}, {{0}}, 0, 0, true},
    {"zero length at nowhere", {{~0ull, 0, F_WRITE, 0}}, {{0}}, 0, 0, true},
    {"outside of memory", {{1ull << 40, 8, F_WRITE, 0}}, {{0}}, 0, 0, false},
    {"at a device's registers", {{RIG_MMIO32, 8, F_WRITE, 0}}, {{0}}, 0, 0, false},
    {"wraps", {{~0ull, 2, F_WRITE, 0}}, {{0}}, 0, 0, false},
    {"writable before readable", {{GOOD, 8, F_WRITE | F_NEXT, 0}, {GOOD, 8, 0, 0}}, {{0}}, 0, 0, false},
    {"indirect", {{TABLE, 32, F_INDIRECT, 0}}, {{GOOD, 8, F_WRITE, 0}, {GOOD, 8, F_WRITE, 0}}, 0, 0, true},
    {"indirect in indirect", {{TABLE, 16, F_INDIRECT, 0}}, {{TABLE, 16, F_INDIRECT, 0}}, 0, 0, false},
    {"indirect with successor", {{TABLE, 16, F_INDIRECT | F_NEXT, 0}, {GOOD, 8, F_WRITE, 0}}, {{GOOD, 8, F_WRITE, 0}}, 0, 0, false},
    {"indirect after direct", {{GOOD, 8, F_NEXT, 0}, {TABLE, 16, F_INDIRECT, 0}}, {{GOOD, 8, F_WRITE, 0}}, 0, 0, false},
    {"indirect of no entry", {{TABLE, 0, F_INDIRECT, 0}}, {{0}}, 0, 0, false},
    {"indirect of 33 bytes", {{TABLE, 33, F_INDIRECT, 0}}, {{GOOD, 8, F_WRITE, 0}}, 0, 0, false},
    {"indirect longer than the queue", {{TABLE, 17 * 16, F_INDIRECT, 0}}, {{GOOD, 8, F_WRITE, 0}}, 0, 0, false},
};

/* In a packed ring the last two halves of a descriptor are the other way round. */
static void put_desc(struct rig *r, uint64_t at, struct raw_desc d, bool packed, uint16_t more_flags)
{
    uint16_t flags = d.flags | more_flags;
    d.flags = packed ? d.next : flags;
    d.next = packed ? flags : d.next;
    memcpy(rig_at(r, at), &d, sizeof d);
}

static void try_bad(struct drv *d, const struct bad_split *b, bool packed)
{
    struct rig *r = d->rig;
    uint64_t mark = r->next;
    uint16_t id;
    uint32_t len;
    drv_start(d, DRV_INDIRECT | (packed ? DRV_PACKED : 0), 1, 16);
    for (unsigned i = 0; i < 3; i++) {
        put_desc(r, TABLE + 16 * i, b->table[i], packed, 0);
        if (b->desc[i].flags || b->desc[i].addr)
            put_desc(r, d->q[0].desc + 16 * i, b->desc[i], packed, packed ? F_AVAIL : 0);
    }
    uint16_t avail[3] = {0, b->avail_idx, b->head};
    if (!packed)
        memcpy(rig_at(r, d->q[0].driver), avail, sizeof avail);
    unsigned seen = rig_msis(r, d->vector_base);
    for (unsigned i = 0; i < 16; i++)
        d->q[0].count[i] = 1; /* whatever comes back is known */
    drv_force_kick(d, 0);
    if (b->fine) {
        if (!packed)
            CHECK(drv_wait(d, 0, &id, &len));
        else
            CHECK(rig_wait_msi(r, d->vector_base + 1, 0));
        CHECK(!(drv_read(d, DRV_STATUS, 1) & NEEDS_RESET));
    } else {
        if (!rig_wait_msi(r, d->vector_base, seen))
            fprintf(stderr, "%s ring: '%s' passes\n", packed ? "packed" : "split", b->what);
        CHECK(drv_read(d, DRV_STATUS, 1) & NEEDS_RESET);
    }
    CHECK(drv_reset(d));
    r->msi[d->vector_base + 1] = 0;
    r->next = mark;
}

/* Packed only: a chain as long as the ring, which has no end. */
static void endless_packed(struct drv *d)
{
    uint64_t mark = d->rig->next;
    drv_start(d, DRV_PACKED, 1, 16);
    for (unsigned i = 0; i < 16; i++)
        put_desc(d->rig, d->q[0].desc + 16 * i, (struct raw_desc){GOOD, 8, F_WRITE | F_NEXT, 0}, true, F_AVAIL);
    unsigned seen = rig_msis(d->rig, d->vector_base);
    drv_force_kick(d, 0);
    CHECK(rig_wait_msi(d->rig, d->vector_base, seen));
    CHECK(drv_reset(d));
    d->rig->next = mark;
}

static void by_design(struct machine *m)
{
    struct drv d;
    drv_find(&d, &m->r, PCI_DEVFN(SLOT_RNG, 0), true, 0);
    for (unsigned i = 0; i < ARRAY_SIZE(bad_split); i++)
        try_bad(&d, &bad_split[i], false);
    for (unsigned i = 0; i < ARRAY_SIZE(bad_packed); i++)
        try_bad(&d, &bad_packed[i], true);
    endless_packed(&d);
    check_alive(&d, 0);
}

/* ---- queues that cannot be ---- */

static void bad_queues(struct machine *m)
{
    static const struct {
        uint64_t size, desc, driver, device;
        bool packed, fine;
    } bad[] = {
        {0, GOOD, TABLE, 0x400000, false, false},
        {3, GOOD, TABLE, 0x400000, false, false},
        {13, GOOD, TABLE, 0x400000, true, true},
        {16, GOOD, TABLE, 0x400000, false, true},
        {16, GOOD + 8, TABLE, 0x400000, false, false},
        {16, GOOD, TABLE + 1, 0x400000, false, false},
        {16, GOOD, TABLE, 0x400002, false, false},
        {16, GOOD, TABLE + 2, 0x400000, true, false},
        {16, RIG_LOW - 16, TABLE, 0x400000, false, false},
        {16, GOOD, RIG_LOW - 4, 0x400000, false, false},
        {16, GOOD, TABLE, RIG_LOW - 4, false, false},
        {16, RIG_MMIO32, TABLE, 0x400000, false, false},
        {16, ~0ull - 15, TABLE, 0x400000, false, false},
        {16, GOOD, ~0ull - 1, 0x400000, true, false},
        {16, GOOD, GOOD, GOOD, false, true}, /* all in one place: legal to set up */
    };
    struct drv d;
    drv_find(&d, &m->r, PCI_DEVFN(SLOT_RNG, 0), true, 0);
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        memset(rig_at(&m->r, GOOD), 0, 3 * MIB);
        drv_negotiate(&d, bad[i].packed ? DRV_PACKED : 0);
        drv_write(&d, DRV_QUEUE_SELECT, 2, 0);
        drv_write(&d, DRV_QUEUE_SIZE, 2, bad[i].size);
        drv_write(&d, DRV_QUEUE_DESC, 8, bad[i].desc);
        drv_write(&d, DRV_QUEUE_DRIVER, 8, bad[i].driver);
        drv_write(&d, DRV_QUEUE_DEVICE, 8, bad[i].device);
        drv_write(&d, DRV_QUEUE_ENABLE, 2, 1);
        unsigned seen = rig_msis(&m->r, 0);
        drv_ok(&d);
        drv_force_kick(&d, 0);
        if (bad[i].fine) {
            usleep(5000);
            CHECK(!(drv_read(&d, DRV_STATUS, 1) & NEEDS_RESET));
        } else {
            CHECK(rig_wait_msi(&m->r, 0, seen));
        }
        CHECK(drv_reset(&d));
    }
    check_alive(&d, DRV_EVENT);
}

/* ---- rings full of noise ---- */

/* Noise that leads somewhere: addresses near RAM, small lengths, likely flags. */
static struct raw_desc noisy_desc(struct rnd *rnd)
{
    static const uint64_t bases[] = {0,          GOOD,      TABLE, RIG_LOW - 64, 4ull << 30, (4ull << 30) + RIG_HIGH - 64,
                                     RIG_MMIO32, ~0ull - 64};
    struct raw_desc d;
    d.addr = rnd_below(rnd, 8) ? GOOD + rnd_below(rnd, 0x1000) : bases[rnd_below(rnd, ARRAY_SIZE(bases))] + rnd_below(rnd, 128);
    d.len = rnd_below(rnd, 8) ? rnd_below(rnd, 2048) : (uint32_t)rnd64(rnd);
    d.flags = rnd_below(rnd, 16) ? rnd_below(rnd, 4) : (uint16_t)rnd64(rnd);
    d.next = rnd_below(rnd, 16) ? rnd_below(rnd, 32) : (uint16_t)rnd64(rnd);
    if (!rnd_below(rnd, 8))
        d = (struct raw_desc){TABLE, 16 * rnd_below(rnd, 32), F_INDIRECT, d.next};
    return d;
}

static void noise(struct rig *r, struct drv *d, struct rnd *rnd, bool packed)
{
    for (unsigned i = 0; i < 32; i++)
        put_desc(r, TABLE + 16 * i, noisy_desc(rnd), packed, 0);
    for (unsigned k = 0; k < 256; k++) { /* what requests of disks and cards look like inside */
        uint32_t word = rnd_below(rnd, 4) ? rnd_below(rnd, 16) : (uint32_t)rnd64(rnd);
        memcpy(rig_at(r, GOOD + 4 * k), &word, 4);
    }
    for (unsigned n = 0; n < d->nqueues; n++) {
        for (unsigned i = 0; i < 32; i++)
            put_desc(r, d->q[n].desc + 16 * i, noisy_desc(rnd), packed,
                     packed ? (uint16_t)(rnd_below(rnd, 8) ? F_AVAIL : 0x8000) : 0);
        uint16_t avail[34];
        for (unsigned i = 0; i < ARRAY_SIZE(avail); i++)
            avail[i] = rnd_below(rnd, 32) ? rnd_below(rnd, 32) : (uint16_t)rnd64(rnd);
        if (!packed)
            memcpy(rig_at(r, d->q[n].driver), avail, sizeof avail);
        drv_force_kick(d, n);
    }
}

static void noisy_rings(struct machine *m, unsigned rounds)
{
    static const unsigned queues[SLOTS] = {[SLOT_RNG] = 1, [SLOT_CONSOLE] = 2, [SLOT_DISK] = 1, [SLOT_NET] = 2};
    struct rnd rnd = {2024};
    struct rig *r = &m->r;
    for (unsigned round = 0; round < rounds; round++) {
        unsigned slot = 1 + round % (SLOTS - 1);
        bool packed = round / 4 % 2;
        struct drv d;
        uint64_t mark = r->next;
        drv_find(&d, r, PCI_DEVFN(slot, 0), true, 0);
        drv_start(&d, ~0ull & ~(packed ? 0 : DRV_PACKED), queues[slot], 32);
        for (unsigned i = 0; i < 3; i++) {
            noise(r, &d, &rnd, packed);
            vconsole_input(m->console, "x", 1);
            usleep(rnd_below(&rnd, 300));
        }
        CHECK(drv_reset(&d));
        r->next = mark;
    }
    struct drv d;
    drv_find(&d, r, PCI_DEVFN(SLOT_RNG, 0), true, 0);
    check_alive(&d, DRV_PACKED);
}

/* ---- every register ---- */

static uint64_t any_value(struct rnd *rnd)
{
    switch (rnd_below(rnd, 6)) {
    case 0:
        return 0;
    case 1:
        return ~0ull;
    case 2:
        return rnd_below(rnd, 16);
    case 3:
        return 1ull << rnd_below(rnd, 64);
    case 4:
        return GOOD + 4096ull * rnd_below(rnd, 64);
    default:
        return rnd64(rnd);
    }
}

static void any_access(struct machine *m, struct rnd *rnd)
{
    static const uint16_t ports[] = {0x60, 0x64, 0x70, 0x71, 0x80, 0x92, 0xe9, 0xf4, 0x3f8, 0xcf8, 0xcfc, 0xcf9, 0x2f8};
    static const uint8_t devices[] = {0, SLOT_RNG, SLOT_CONSOLE, SLOT_DISK, SLOT_NET, 31, 17};
    struct rig *r = &m->r;
    unsigned size = 1u << rnd_below(rnd, 4);
    enum bus_space space = BUS_MMIO;
    uint64_t addr;
    switch (rnd_below(rnd, 8)) {
    case 0:
        space = BUS_PORT;
        addr = ports[rnd_below(rnd, ARRAY_SIZE(ports))] + rnd_below(rnd, 8);
        break;
    case 1:
        addr = RIG_ECAM + (PCI_DEVFN(devices[rnd_below(rnd, ARRAY_SIZE(devices))], 0) << 12) + rnd_below(rnd, 300);
        break;
    case 2: /* anywhere near the mapped ranges */
        addr = (rnd_below(rnd, 2) ? RIG_MMIO32 : RIG_MMIO64) + rnd_below(rnd, 0x40000);
        break;
    default: { /* a range that is there now */
        unsigned fn = PCI_DEVFN(devices[1 + rnd_below(rnd, 4)], 0), reg = rnd_below(rnd, 2) * 8;
        uint64_t bar = rig_cfg_read(r, fn, 0x10 + reg, 4) & ~0xfu;
        if (!reg)
            bar |= (uint64_t)rig_cfg_read(r, fn, 0x14, 4) << 32;
        addr = bar + 0x1000 * rnd_below(rnd, 4) + rnd_below(rnd, 80);
        break;
    }
    }
    if (rnd_below(rnd, 2))
        rig_read(r, space, addr, size);
    else
        rig_write(r, space, addr, size, any_value(rnd));
}

/* Now and then things are put right, so that the accesses in between reach further than a dead device. */
static void put_right(struct machine *m, struct rnd *rnd)
{
    ERROR_SCOPED(err);
    struct drv d;
    struct rig *r = &m->r;
    uint64_t mark = r->next;
    unsigned slot = 1 + rnd_below(rnd, SLOTS - 1);
    pci_host_reset(r->pci);
    CHECK(pci_host_assign(r->pci, &err) == 0);
    drv_find(&d, r, PCI_DEVFN(slot, 0), true, 0);
    drv_start(&d, ~0ull, slot == SLOT_CONSOLE || slot == SLOT_NET ? 2 : 1, 32);
    serial_input(m->serial, "abc", 3);
    vconsole_input(m->console, "abc", 3);
    r->next = mark;
}

static void every_register(struct machine *m, double seconds)
{
    struct rnd rnd = {777};
    uint64_t end = now_ns() + (uint64_t)(seconds * 1e9);
    unsigned n = 0;
    for (; now_ns() < end; n++) {
        any_access(m, &rnd);
        if (n % 3000 == 0)
            put_right(m, &rnd);
    }
    printf("%u random accesses\n", n);
    ERROR_SCOPED(err);
    pci_host_reset(m->r.pci);
    serial_reset(m->serial);
    i8042_reset(m->i8042);
    rtc_reset(m->rtc);
    CHECK(pci_host_assign(m->r.pci, &err) == 0);
    struct drv d;
    drv_find(&d, &m->r, PCI_DEVFN(SLOT_RNG, 0), true, 0);
    check_alive(&d, DRV_PACKED | DRV_EVENT);
    CHECK_EQ(rig_in(&m->r, 0x3fd) & 0x60, 0x60);
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? atof(argv[1]) : 2;
    struct machine m;
    log_set_level(LOG_ERROR);
    machine_init(&m);
    by_design(&m);
    bad_queues(&m);
    noisy_rings(&m, (unsigned)(seconds * 300));
    every_register(&m, seconds);
    machine_free(&m);
    return 0;
}
