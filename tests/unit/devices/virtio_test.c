// SPDX-License-Identifier: GPL-2.0-or-later
/* The virtio devices, driven with every kind of ring, with MSI-X and with the pin. */
#include <string.h>
#include <sys/stat.h>

#include "base/util.h"
#include "devices/virtio/vblk.h"
#include "devices/virtio/vconsole.h"
#include "devices/virtio/vrng.h"
#include "modes.h"

/* ---- rng ---- */

static void test_rng(struct rig *r, const struct mode *m)
{
    struct vrng *rng;
    struct drv d;
    ERROR_SCOPED(err);
    CHECK(vrng_create(r->pci, &(struct vrng_config){.slot = PCI_SLOT_AUTO}, &rng, &err) == 0);
    CHECK(pci_host_assign(r->pci, &err) == 0);
    drv_find(&d, r, PCI_DEVFN(1, 0), m->msix, 0);
    CHECK_EQ(rig_cfg_read(r, d.devfn, 0, 4), 0x10441af4);
    drv_start(&d, m->features, 1, m->size);
    uint64_t buf = rig_alloc(r, 4096, 16);
    for (unsigned i = 0; i < 300; i++) { /* often round the ring */
        struct drv_buf bufs[] = {{buf, 64, true}, {buf + 100, 28, true}, {buf + 200, 0, true}};
        uint8_t *p = rig_at(r, buf);
        memset(p, 0, 256);
        CHECK_EQ(drv_do(&d, 0, bufs, 1 + i % 3), i % 3 ? 92 : 64);
        unsigned zero = 0;
        for (unsigned k = 0; k < 64; k++)
            zero += p[k] == 0;
        CHECK(zero < 16 && p[64] == 0 && p[128] == 0);
    }
    CHECK(drv_reset(&d));
    drv_start(&d, m->features, 1, m->size); /* and again after a reset */
    CHECK_EQ(drv_do(&d, 0, &(struct drv_buf){buf, 4096, true}, 1), 4096);
    vrng_destroy(rng);
}

/* ---- console ---- */

static struct {
    pthread_mutex_t lock;
    char text[65536];
    size_t len;
} out = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void collect(void *opaque, const void *buf, size_t len)
{
    (void)opaque;
    pthread_mutex_lock(&out.lock);
    CHECK(out.len + len <= sizeof out.text);
    memcpy(out.text + out.len, buf, len);
    out.len += len;
    pthread_mutex_unlock(&out.lock);
}

static void console_output(struct drv *d, uint64_t buf)
{
    char expected[4096];
    size_t len = 0;
    out.len = 0;
    for (unsigned i = 0; i < 200; i++) {
        char line[20];
        int n = sprintf(line, "line %u\n", i);
        memcpy(rig_at(d->rig, buf), line, sizeof line);
        memcpy(expected + len, line, (size_t)n);
        len += (size_t)n;
        struct drv_buf bufs[] = {{buf, 3, false}, {buf + 3, (uint32_t)n - 3, false}};
        CHECK_EQ(drv_do(d, 1, bufs, 2), 0);
    }
    pthread_mutex_lock(&out.lock);
    CHECK(out.len == len && memcmp(out.text, expected, len) == 0);
    pthread_mutex_unlock(&out.lock);
}

static void console_input(struct drv *d, struct vconsole *c, uint64_t buf)
{
    char sent[6000], got[6000];
    size_t nsent = 0, ngot = 0;
    for (size_t i = 0; i < sizeof sent; i++)
        sent[i] = (char)(i * 7);
    for (unsigned i = 0; i < 8; i++)
        drv_add(d, 0, &(struct drv_buf){buf + 64 * i, 64, true}, 1);
    drv_kick(d, 0);
    while (ngot < sizeof sent) {
        uint16_t id;
        uint32_t len;
        nsent += vconsole_input(c, sent + nsent, MIN(sizeof sent - nsent, (size_t)100));
        CHECK(drv_wait(d, 0, &id, &len));
        CHECK(len > 0 && len <= 64);
        /* Buffers come back in order and are used again in order. */
        static unsigned next;
        if (ngot == 0)
            next = 0;
        memcpy(got + ngot, rig_at(d->rig, buf + 64 * next), len);
        ngot += len;
        drv_add(d, 0, &(struct drv_buf){buf + 64 * next, 64, true}, 1);
        drv_kick(d, 0);
        next = (next + 1) % 8;
    }
    CHECK(ngot == nsent && memcmp(sent, got, ngot) == 0);
}

static void test_console(struct rig *r, const struct mode *m)
{
    struct vconsole *c;
    struct drv d;
    struct vconsole_config cfg = {.slot = 9, .chr = {.write = collect}};
    ERROR_SCOPED(err);
    CHECK(vconsole_create(r->pci, &cfg, &c, &err) == 0);
    CHECK(pci_host_assign(r->pci, &err) == 0);
    drv_find(&d, r, PCI_DEVFN(9, 0), m->msix, 8);
    out.len = 0;
    rig_write(r, BUS_MMIO, d.device + 8, 4, 'E');
    CHECK(out.len == 1 && out.text[0] == 'E');
    drv_start(&d, m->features | 1, 2, m->size);
    uint64_t buf = rig_alloc(r, 4096, 16);
    console_output(&d, buf);
    console_input(&d, c, buf);
    uint8_t generation = (uint8_t)drv_read(&d, DRV_GENERATION, 1);
    unsigned seen = rig_msis(r, 8);
    vconsole_resize(c, 132, 50);
    CHECK(m->msix ? rig_wait_msi(r, 8, seen) : rig_wait_gsi(r, pci_intx_gsi(9, 1), true));
    CHECK_EQ(rig_read(r, BUS_MMIO, d.isr, 1) & 2, 2);
    CHECK_EQ(rig_read(r, BUS_MMIO, d.isr, 1), 0);
    CHECK(drv_read(&d, DRV_GENERATION, 1) != generation);
    CHECK_EQ(rig_read(r, BUS_MMIO, d.device, 4), 132 | 50 << 16);
    vconsole_destroy(c);
}

/* ---- disk ---- */

#define DISK_SECTORS 8192u

enum { IN = 0, OUT = 1, FLUSH = 4, GET_ID = 8, DISCARD = 11, ZEROES = 13 };

struct disk {
    struct drv d;
    uint64_t header, status, data;
};

/* One request; its status. The data's direction follows from the type. */
static uint8_t disk_do(struct disk *k, uint32_t type, uint64_t sector, uint32_t len, uint32_t *answer)
{
    struct rig *r = k->d.rig;
    uint64_t head[2] = {type, sector};
    memcpy(rig_at(r, k->header), head, sizeof head);
    *(uint8_t *)rig_at(r, k->status) = 0xaa;
    bool in = type == IN || type == GET_ID;
    struct drv_buf bufs[4] = {{k->header, 16, false}};
    unsigned n = 1;
    if (len > 1024) { /* data in two parts, cut anywhere */
        bufs[n++] = (struct drv_buf){k->data, 777, in};
        bufs[n++] = (struct drv_buf){k->data + 777, len - 777, in};
    } else if (len) {
        bufs[n++] = (struct drv_buf){k->data, len, in};
    }
    bufs[n++] = (struct drv_buf){k->status, 1, true};
    uint32_t got = drv_do(&k->d, 0, bufs, n);
    if (answer)
        *answer = got;
    return *(uint8_t *)rig_at(r, k->status);
}

static void disk_transfers(struct disk *k)
{
    struct rig *r = k->d.rig;
    struct rnd rnd = {7};
    uint8_t *shadow = calloc(DISK_SECTORS, 512), *data = rig_at(r, k->data);
    uint32_t answer;
    for (unsigned i = 0; i < 400; i++) {
        uint32_t count = 1 + rnd_below(&rnd, 16), sector = rnd_below(&rnd, DISK_SECTORS - count);
        uint8_t *at = shadow + 512ull * sector;
        switch (rnd_below(&rnd, 3)) {
        case 0:
            CHECK_EQ(disk_do(k, IN, sector, 512 * count, &answer), 0);
            CHECK_EQ(answer, 512 * count + 1);
            CHECK(memcmp(data, at, 512 * count) == 0);
            break;
        case 1:
            for (unsigned b = 0; b < 512 * count; b++)
                data[b] = (uint8_t)rnd64(&rnd);
            memcpy(at, data, 512 * count);
            CHECK_EQ(disk_do(k, OUT, sector, 512 * count, &answer), 0);
            CHECK_EQ(answer, 1);
            break;
        case 2:
            memset(at, 0, 512 * count);
            uint32_t range[4] = {sector, 0, count, rnd_below(&rnd, 2)};
            memcpy(data, range, sizeof range);
            CHECK_EQ(disk_do(k, ZEROES, 0, 16, &answer), 0);
            break;
        }
    }
    CHECK_EQ(disk_do(k, FLUSH, 0, 0, NULL), 0);
    for (unsigned s = 0; s < DISK_SECTORS; s += 16) {
        CHECK_EQ(disk_do(k, IN, s, 8192, NULL), 0);
        CHECK(memcmp(data, shadow + 512ull * s, 8192) == 0);
    }
    free(shadow);
}

static void disk_refusals(struct disk *k)
{
    struct rig *r = k->d.rig;
    uint8_t *data = rig_at(r, k->data);
    uint32_t answer;
    CHECK_EQ(disk_do(k, IN, DISK_SECTORS, 512, &answer), 1);
    CHECK_EQ(answer, 1);
    CHECK_EQ(disk_do(k, IN, DISK_SECTORS - 1, 1024, NULL), 1);
    CHECK_EQ(disk_do(k, IN, ~0ull, 512, NULL), 1);
    CHECK_EQ(disk_do(k, IN, 0, 511, NULL), 1);
    CHECK_EQ(disk_do(k, IN, 0, 0, NULL), 1);
    CHECK_EQ(disk_do(k, 77, 0, 0, NULL), 2);
    CHECK_EQ(disk_do(k, GET_ID, 0, 20, &answer), 0);
    CHECK_EQ(answer, 21);
    CHECK(memcmp(data, "the-serial\0\0\0\0\0\0\0\0\0\0", 20) == 0);
    uint32_t outside[8] = {0, 0, 8, 0, DISK_SECTORS - 1, 0, 2, 0}, flags[4] = {0, 0, 1, 2}, none[4] = {0};
    memcpy(data, outside, sizeof outside);
    CHECK_EQ(disk_do(k, DISCARD, 0, 32, NULL), 1);
    memcpy(data, flags, sizeof flags);
    CHECK_EQ(disk_do(k, ZEROES, 0, 16, NULL), 2);
    memcpy(data, none, sizeof none);
    CHECK_EQ(disk_do(k, ZEROES, 0, 16, NULL), 1);
    CHECK_EQ(disk_do(k, ZEROES, 0, 15, NULL), 1);
    outside[4] = 16;
    memcpy(data, outside, sizeof outside);
    CHECK_EQ(disk_do(k, DISCARD, 0, 32, NULL), 0);
}

/* Many requests at a time, some of which are in flight when the driver resets. */
static void disk_parallel(struct disk *k, const struct mode *m)
{
    struct rig *r = k->d.rig;
    unsigned batch = m->features & DRV_INDIRECT ? 13 : 4;
    uint16_t id;
    uint32_t len;
    for (unsigned round = 0; round < 50; round++) {
        uint64_t head[2] = {IN, round};
        memcpy(rig_at(r, k->header), head, sizeof head);
        memset(rig_at(r, k->status), 0xaa, batch);
        for (unsigned i = 0; i < batch; i++) {
            struct drv_buf bufs[] = {{k->header, 16, false}, {k->data + 4096 * i, 4096, true}, {k->status + i, 1, true}};
            drv_add(&k->d, 0, bufs, 3);
        }
        drv_kick(&k->d, 0);
        if (round % 10 == 9) {
            CHECK(drv_reset(&k->d));
            drv_start(&k->d, m->features, 1, m->size);
            continue;
        }
        for (unsigned i = 0; i < batch; i++) {
            CHECK(drv_wait(&k->d, 0, &id, &len));
            CHECK_EQ(len, 4097);
        }
        for (unsigned i = 0; i < batch; i++)
            CHECK_EQ(*(uint8_t *)rig_at(r, k->status + i), 0);
    }
}

static struct block *open_disk(const char *path, bool readonly, enum block_engine engine)
{
    struct block *b;
    struct block_config cfg = {.path = path, .format = "raw", .readonly = readonly, .engine = engine};
    ERROR_SCOPED(err);
    if (block_open(&cfg, &b, &err) < 0) {
        fprintf(stderr, "%s\n", error_text(&err));
        exit(1);
    }
    return b;
}

static void test_disk(struct rig *r, const struct mode *m, enum block_engine engine)
{
    char path[] = "/tmp/lodge-disk-XXXXXX";
    AUTO_CLOSE int fd = mkstemp(path);
    struct vblk *blk;
    struct disk k;
    ERROR_SCOPED(err);
    CHECK(fd >= 0 && ftruncate(fd, DISK_SECTORS * 512) == 0);
    struct vblk_config cfg = {.slot = PCI_SLOT_AUTO, .block = open_disk(path, false, engine), .serial = "the-serial"};
    CHECK(vblk_create(r->pci, &cfg, &blk, &err) == 0);
    CHECK(pci_host_assign(r->pci, &err) == 0);
    drv_find(&k.d, r, PCI_DEVFN(1, 0), m->msix, 16);
    CHECK_EQ(rig_read(r, BUS_MMIO, k.d.device, 8), DISK_SECTORS);
    CHECK_EQ(rig_read(r, BUS_MMIO, k.d.device + 20, 4), 512);
    drv_start(&k.d, m->features | 1 << 9, 1, m->size);
    k.header = rig_alloc(r, 64, 16);
    k.status = rig_alloc(r, 64, 1);
    k.data = rig_alloc(r, 64 * 1024, 4096);
    disk_transfers(&k);
    disk_refusals(&k);
    disk_parallel(&k, m);
    CHECK_EQ(k.d.features & 1 << 9, 0);
    CHECK_EQ(disk_do(&k, OUT, 0, 4096, NULL), 0); /* a driver without FLUSH: written through */
    vblk_destroy(blk);
    block_close(cfg.block);
    /* Read-only, and without the flush feature. */
    cfg.block = open_disk(path, true, engine);
    CHECK(vblk_create(r->pci, &cfg, &blk, &err) == 0);
    CHECK(pci_host_assign(r->pci, &err) == 0);
    drv_find(&k.d, r, PCI_DEVFN(1, 0), m->msix, 16);
    drv_start(&k.d, m->features | 1 << 5, 1, m->size);
    CHECK_EQ(k.d.features & 0x6020, 0x20); /* RO, and neither discard nor write zeroes */
    CHECK_EQ(disk_do(&k, OUT, 0, 512, NULL), 1);
    CHECK_EQ(disk_do(&k, IN, 0, 512, NULL), 0);
    vblk_destroy(blk);
    block_close(cfg.block);
    unlink(path);
}

/* ---- the transport ---- */

/* Every register of the common configuration through the window in configuration space. */
static void test_window(struct rig *r)
{
    struct vrng *rng;
    struct drv d;
    ERROR_SCOPED(err);
    CHECK(vrng_create(r->pci, &(struct vrng_config){.slot = 4}, &rng, &err) == 0);
    CHECK(pci_host_assign(r->pci, &err) == 0);
    drv_find(&d, r, PCI_DEVFN(4, 0), true, 0);
    unsigned cap = 0;
    for (unsigned at = rig_cap(r, d.devfn, 9, 0); at; at = rig_cap(r, d.devfn, 9, at))
        cap = rig_cfg_read(r, d.devfn, at + 3, 1) == 5 ? at : cap;
    CHECK(cap);
    rig_cfg_write(r, d.devfn, 4, 2, 0); /* it works while the BAR is off */
    rig_cfg_write(r, d.devfn, cap + 8, 4, DRV_STATUS);
    rig_cfg_write(r, d.devfn, cap + 12, 4, 1);
    rig_cfg_write(r, d.devfn, cap + 16, 4, 0xffffff03);
    CHECK_EQ(rig_cfg_read(r, d.devfn, cap + 16, 1), 3);
    rig_cfg_write(r, d.devfn, cap + 8, 4, DRV_NUM_QUEUES);
    rig_cfg_write(r, d.devfn, cap + 12, 4, 2);
    CHECK_EQ(rig_cfg_read(r, d.devfn, cap + 16, 4), 1);
    static const uint32_t bad[][3] = {{0, 3, 2}, {0, 0x4000, 4}, {0, 0xfffffffc, 4}, {0, 1, 4},  {0, 0, 0},
                                      {0, 0, 8}, {1, 0, 4},      {9, 0, 4},          {255, 0, 4}};
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        rig_cfg_write(r, d.devfn, cap + 4, 1, bad[i][0]);
        rig_cfg_write(r, d.devfn, cap + 8, 4, bad[i][1]);
        rig_cfg_write(r, d.devfn, cap + 12, 4, bad[i][2]);
        rig_cfg_read(r, d.devfn, cap + 16, 4);
        rig_cfg_write(r, d.devfn, cap + 16, 4, 0xdeadbeef);
    }
    rig_cfg_write(r, d.devfn, 4, 2, 6);
    CHECK_EQ(drv_read(&d, DRV_STATUS, 1), 3);
    vrng_destroy(rng);
}

static void test_negotiation(struct rig *r)
{
    struct vrng *rng;
    struct drv d;
    ERROR_SCOPED(err);
    CHECK(vrng_create(r->pci, &(struct vrng_config){.slot = 4}, &rng, &err) == 0);
    CHECK(pci_host_assign(r->pci, &err) == 0);
    drv_find(&d, r, PCI_DEVFN(4, 0), true, 0);
    /* Without VERSION_1, and with a bit that is not offered. */
    for (unsigned i = 0; i < 2; i++) {
        drv_write(&d, DRV_STATUS, 1, 3);
        drv_write(&d, DRV_FEATURES_SELECT, 4, 1);
        drv_write(&d, DRV_FEATURES, 4, i ? 0x80000001 : 0);
        drv_write(&d, DRV_STATUS, 1, 15);
        CHECK_EQ(drv_read(&d, DRV_STATUS, 1), 3); /* no DRIVER_OK without FEATURES_OK */
        CHECK(drv_reset(&d));
    }
    drv_negotiate(&d, 0);
    drv_write(&d, DRV_FEATURES_SELECT, 4, 0);
    drv_write(&d, DRV_FEATURES, 4, 0xffffffff); /* too late */
    CHECK_EQ(drv_read(&d, DRV_FEATURES, 4), 0);
    CHECK_EQ(drv_read(&d, DRV_QUEUE_SIZE, 2), 64);
    drv_write(&d, DRV_QUEUE_SIZE, 2, 65);
    CHECK_EQ(drv_read(&d, DRV_QUEUE_SIZE, 2), 64);
    drv_write(&d, DRV_QUEUE_VECTOR, 2, 2);
    CHECK_EQ(drv_read(&d, DRV_QUEUE_VECTOR, 2), 0xffff);
    drv_write(&d, DRV_QUEUE_SELECT, 2, 1);
    CHECK_EQ(drv_read(&d, DRV_QUEUE_SIZE, 2), 0);
    CHECK(drv_reset(&d));
    /* Without bus mastering nothing moves; with it, it does. */
    rig_cfg_write(r, d.devfn, 4, 2, 2);
    drv_start(&d, 0, 1, 16);
    uint64_t buf = rig_alloc(r, 64, 16);
    uint16_t id;
    uint32_t len;
    drv_add(&d, 0, &(struct drv_buf){buf, 64, true}, 1);
    drv_kick(&d, 0);
    usleep(50000);
    CHECK(!drv_take(&d, 0, &id, &len));
    rig_cfg_write(r, d.devfn, 4, 2, 6);
    CHECK(drv_wait(&d, 0, &id, &len) && len == 64);
    /* The rings stay where they were at DRIVER_OK. */
    drv_write(&d, DRV_QUEUE_SELECT, 2, 0);
    drv_write(&d, DRV_QUEUE_DESC, 8, ~0ull);
    drv_write(&d, DRV_QUEUE_DRIVER, 8, 0);
    drv_write(&d, DRV_QUEUE_SIZE, 2, 1);
    drv_write(&d, DRV_QUEUE_ENABLE, 2, 0);
    CHECK_EQ(drv_do(&d, 0, &(struct drv_buf){buf, 64, true}, 1), 64);
    /* The platform's reset, from a running device. */
    pci_host_reset(r->pci);
    CHECK(pci_host_assign(r->pci, &err) == 0);
    CHECK_EQ(drv_read(&d, DRV_STATUS, 1), 0);
    vrng_destroy(rng);
}

int main(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(modes); i++) {
        struct rig r;
        rig_init(&r);
        r.use_ioeventfds = i % 2;
        printf("%s\n", modes[i].name);
        test_rng(&r, &modes[i]);
        test_console(&r, &modes[i]);
        test_disk(&r, &modes[i], i % 2 ? BLOCK_ENGINE_THREADS : BLOCK_ENGINE_AUTO);
        test_window(&r);
        test_negotiation(&r);
        rig_free(&r);
    }
    return 0;
}
