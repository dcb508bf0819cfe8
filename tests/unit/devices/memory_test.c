// SPDX-License-Identifier: GPL-2.0-or-later
/* Devices that give memory away or share files: the balloon and 9P, with every kind of ring. */
#include <string.h>
#include <sys/stat.h>

#include "base/util.h"
#include "devices/virtio/v9p.h"
#include "devices/virtio/vballoon.h"
#include "modes.h"

/* ---- balloon ---- */

static uint64_t resident(const struct rig *r)
{
    struct stat st;
    CHECK(fstat(r->mem.fd, &st) == 0);
    return (uint64_t)st.st_blocks * 512;
}

static void write_pages(struct rig *r, uint64_t gpa, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        memset(rig_at(r, gpa + i * PAGE_SIZE), 0xaa, PAGE_SIZE);
}

static void inflate(struct drv *d, uint64_t buf, uint64_t pages, unsigned n)
{
    uint32_t pfn[256];
    write_pages(d->rig, pages, n);
    uint64_t before = resident(d->rig);
    for (unsigned i = 0; i < n; i++) /* every second backwards, as allocators give them */
        pfn[i] = (uint32_t)(pages / PAGE_SIZE) + (i % 2 ? n - 1 - i / 2 : i / 2);
    memcpy(rig_at(d->rig, buf), pfn, 4 * n);
    CHECK_EQ(drv_do(d, 0, &(struct drv_buf){buf, 4 * n, false}, 1), 0);
    CHECK_EQ(before - resident(d->rig), n * PAGE_SIZE);
    CHECK_EQ(*(uint8_t *)rig_at(d->rig, pages + 5), 0);
    CHECK_EQ(drv_do(d, 1, &(struct drv_buf){buf, 4 * n, false}, 1), 0);
}

/* Frames that are no memory, pieces of frame numbers, no buffer at all: the device goes on. */
static void inflate_nonsense(struct drv *d, uint64_t buf)
{
    uint32_t pfn[] = {0xffffffff, 0x00080000, (uint32_t)((RIG_LOW - 1) / PAGE_SIZE), (uint32_t)(RIG_LOW / PAGE_SIZE), 0xfffffffe};
    memcpy(rig_at(d->rig, buf), pfn, sizeof pfn);
    CHECK_EQ(drv_do(d, 0, &(struct drv_buf){buf, sizeof pfn - 1, false}, 1), 0);
    CHECK_EQ(drv_do(d, 0, &(struct drv_buf){buf, 3, false}, 1), 0);
    CHECK_EQ(drv_do(d, 0, &(struct drv_buf){buf, 64, true}, 1), 0);
    CHECK_EQ(drv_read(d, DRV_STATUS, 1) & 64, 0);
}

static void test_stats(struct drv *d, struct vballoon *b, uint64_t buf)
{
    uint8_t entries[30] = {VBALLOON_FREE, 0, 0x39, 0x30, 0, 0, 0, 0, 0, 0, 0x77, 0x77, 1, 0, 0, 0, 0, 0, 0, 0, VBALLOON_TOTAL, 0, 7};
    uint64_t stats[VBALLOON_STATS];
    uint16_t id;
    uint32_t len;
    memcpy(rig_at(d->rig, buf), entries, sizeof entries);
    CHECK(!vballoon_stats(b, stats));
    drv_add(d, 2, &(struct drv_buf){buf, sizeof entries, false}, 1);
    drv_kick(d, 2);
    CHECK(drv_wait(d, 2, &id, &len)); /* the question was there before the buffer */
    CHECK(vballoon_stats(b, stats));
    CHECK(stats[VBALLOON_FREE] == 12345 && stats[VBALLOON_TOTAL] == 7 && stats[VBALLOON_CACHES] == UINT64_MAX);
    drv_add(d, 2, &(struct drv_buf){buf, sizeof entries, false}, 1);
    drv_kick(d, 2);
    CHECK(drv_wait(d, 2, &id, &len));
}

static void test_balloon(struct rig *r, const struct mode *m)
{
    struct vballoon *b;
    struct drv d;
    ERROR_SCOPED(err);
    CHECK(vballoon_create(r->pci, &(struct vballoon_config){.slot = 3, .deflate_on_oom = true, .reporting = true, .inflated = 8192}, &b, &err) == 0);
    CHECK(pci_host_assign(r->pci, &err) == 0);
    drv_find(&d, r, PCI_DEVFN(3, 0), m->msix, 0);
    CHECK_EQ(rig_read(r, BUS_MMIO, d.device, 4), 2);
    drv_start(&d, m->features | 0x36, 4, m->size);
    uint64_t buf = rig_alloc(r, 4096, 16), pages = rig_alloc(r, 200 * PAGE_SIZE, PAGE_SIZE);
    inflate(&d, buf, pages, 200);
    inflate_nonsense(&d, buf);
    /* Reporting: the buffers are the pages, whole ones only. */
    write_pages(r, pages, 64);
    uint64_t before = resident(r);
    struct drv_buf report[] = {{pages, 32 * PAGE_SIZE, true}, {pages + 40 * PAGE_SIZE + 1, 2 * PAGE_SIZE, true}};
    CHECK_EQ(drv_do(&d, 3, report, 2), 0);
    CHECK_EQ(before - resident(r), 33 * PAGE_SIZE);
    CHECK_EQ(vballoon_reported(b), 34 * PAGE_SIZE);
    CHECK_EQ(*(uint8_t *)rig_at(r, pages + 40 * PAGE_SIZE), 0xaa);
    test_stats(&d, b, buf);
    /* The host's wish is told, and stays over a reset. */
    unsigned seen = m->msix ? rig_msis(r, 0) : 0;
    vballoon_set(b, 10 * PAGE_SIZE);
    CHECK(!m->msix || rig_wait_msi(r, 0, seen));
    CHECK(drv_reset(&d));
    CHECK_EQ(rig_read(r, BUS_MMIO, d.device, 4), 10);
    rig_write(r, BUS_MMIO, d.device + 4, 4, 9);
    CHECK_EQ(vballoon_inflated(b), 9 * PAGE_SIZE);
    /* Pages whose contents matter are not taken. */
    drv_negotiate(&d, m->features | 0x34);
    rig_write(r, BUS_MMIO, d.device + 12, 4, 0xaaaaaaaa);
    for (unsigned q = 0; q < 3; q++)
        drv_setup_queue(&d, q, m->size);
    drv_ok(&d);
    write_pages(r, pages, 8);
    before = resident(r);
    CHECK_EQ(drv_do(&d, 2, &(struct drv_buf){pages, 8 * PAGE_SIZE, true}, 1), 0); /* without statistics, reporting is the third */
    CHECK_EQ(resident(r), before);
    vballoon_destroy(b);
}

/* ---- 9P ---- */

static void test_9p(struct rig *r, const struct mode *m)
{
    static const uint8_t version[] = {21, 0, 0, 0, 100, 0xff, 0xff, 0, 0, 2, 0, 8, 0, '9', 'P', '2', '0', '0', '0', '.', 'L'};
    struct share *s;
    struct v9p *v;
    struct drv d;
    ERROR_SCOPED(err);
    CHECK(share_open(&(struct share_config){"/tmp", SHARE_SQUASH, true}, &s, &err) == 0);
    CHECK(v9p_create(r->pci, &(struct v9p_config){.slot = 4, .share = s, .tag = ""}, &v, &err) < 0);
    error_clear(&err);
    CHECK(v9p_create(r->pci, &(struct v9p_config){.slot = 4, .share = s, .tag = "home"}, &v, &err) == 0);
    CHECK(pci_host_assign(r->pci, &err) == 0);
    drv_find(&d, r, PCI_DEVFN(4, 0), m->msix, 0);
    CHECK_EQ(rig_read(r, BUS_MMIO, d.device, 2), 4);
    CHECK_EQ(rig_read(r, BUS_MMIO, d.device + 2, 4), 0x656d6f68);
    drv_start(&d, m->features, 1, MIN(m->size, 128));
    uint64_t buf = rig_alloc(r, 4096, 16);
    for (unsigned i = 0; i < 50; i++) {
        memcpy(rig_at(r, buf), version, sizeof version);
        struct drv_buf bufs[] = {{buf, 6, false}, {buf + 6, sizeof version - 6, false}, {buf + 100, 4, true}, {buf + 104, 60, true}};
        CHECK_EQ(drv_do(&d, 0, bufs, 4), sizeof version);
        CHECK_EQ(*(uint8_t *)rig_at(r, buf + 104), 101);
        CHECK_EQ(drv_do(&d, 0, bufs, 2), 0); /* no room for an answer */
        CHECK_EQ(drv_do(&d, 0, bufs + 2, 2), 0);
    }
    v9p_destroy(v);
    share_close(s);
}

int main(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(modes); i++) {
        struct rig r;
        rig_init(&r);
        test_balloon(&r, &modes[i]);
        test_9p(&r, &modes[i]);
        rig_free(&r);
    }
    return 0;
}
