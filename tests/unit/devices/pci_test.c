// SPDX-License-Identifier: GPL-2.0-or-later
/* PCI: configuration space by both ways, BARs, MSI-X, INTx, with a device of one BAR of each kind. */
#include <string.h>

#include "base/util.h"
#include "rig.h"

#define COMMAND 0x04
#define BAR0    0x10

struct toy {
    struct pci_dev pci;
    unsigned reads;
};

static uint64_t toy_read(void *opaque, uint64_t off, unsigned size)
{
    struct toy *t = opaque;
    (void)size;
    t->reads++;
    return 0x1000 + off;
}

static void toy_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
    (void)opaque, (void)off, (void)size, (void)val;
}

static const struct io_ops toy_io = {.read = toy_read, .write = toy_write};
static const struct device_desc toy_desc = {.name = "toy"};
static const struct pci_ops toy_ops = {.desc = &toy_desc};

/* BAR 0: 16 KiB, 64-bit; BAR 2: MSI-X with 70 vectors; BAR 3: 256 bytes, 32-bit; BAR 4: 32 ports. */
static void toy_add(struct toy *t, struct rig *r, int slot)
{
    static const struct pci_id id = {.vendor = 0x1234, .device = 0x5678, .class_code = 0xff0000};
    ERROR_SCOPED(err);
    t->reads = 0;
    pci_dev_init(&t->pci, "toy", &toy_ops, &id);
    pci_dev_pin(&t->pci);
    pci_dev_bar(&t->pci, 0, PCI_BAR_MEM64_PREF, 16 * KIB, &toy_io, t);
    CHECK(pci_dev_msix(&t->pci, 2, 70, &err) == 0);
    pci_dev_bar(&t->pci, 3, PCI_BAR_MEM32, 256, &toy_io, t);
    pci_dev_bar(&t->pci, 4, PCI_BAR_IO, 32, &toy_io, t);
    pci_dev_express(&t->pci);
    CHECK(pci_dev_add(r->pci, &t->pci, slot, &err) == 0);
}

static uint32_t type1_read(struct rig *r, unsigned devfn, unsigned off, unsigned size)
{
    rig_write(r, BUS_PORT, 0xcf8, 4, 0x80000000u | devfn << 8 | (off & 0xfc));
    return (uint32_t)rig_read(r, BUS_PORT, (uint16_t)(0xcfc + (off & 3)), size);
}

static void config_space(struct rig *r, struct toy *t)
{
    unsigned fn = t->pci.devfn;
    CHECK_EQ(rig_cfg_read(r, 0, 0, 4), 0x29c08086);
    CHECK_EQ(rig_cfg_read(r, 0, 0x60, 4), RIG_ECAM | 1);
    CHECK_EQ(rig_cfg_read(r, PCI_DEVFN(30, 0), 0, 4), 0xffffffff);
    CHECK_EQ(rig_read(r, BUS_MMIO, RIG_ECAM + (1 << 20), 4), 0xffffffff); /* bus 1 */
    for (unsigned off = 0; off < 256; off += 4) {
        CHECK_EQ(rig_cfg_read(r, fn, off, 4), type1_read(r, fn, off, 4));
        CHECK_EQ(type1_read(r, fn, off + 1, 1), rig_cfg_read(r, fn, off, 4) >> 8 & 0xff);
        CHECK_EQ(type1_read(r, fn, off + 2, 2), rig_cfg_read(r, fn, off, 4) >> 16);
    }
    CHECK_EQ(rig_cfg_read(r, fn, 0x100, 4), 0);
    rig_write(r, BUS_PORT, 0xcf8, 4, fn << 8); /* enable bit off */
    CHECK_EQ(rig_read(r, BUS_PORT, 0xcfc, 4), 0xffffffff);
    rig_cfg_write(r, fn, 0, 4, 0);
    rig_cfg_write(r, fn, 0x34, 1, 0);
    CHECK_EQ(rig_cfg_read(r, fn, 0, 4), 0x56781234);
    unsigned express = rig_cap(r, fn, 0x10, 0), msix = rig_cap(r, fn, 0x11, 0);
    CHECK(express && msix);
    CHECK_EQ(rig_cfg_read(r, fn, express + 2, 2), 0x92);
    CHECK_EQ(rig_cfg_read(r, fn, msix + 2, 2), 69);
    CHECK_EQ(rig_cfg_read(r, fn, 0x3d, 1), 1);
    rig_cfg_write(r, fn, 0x3c, 1, 11);
    CHECK_EQ(rig_cfg_read(r, fn, 0x3c, 1), 11);
}

static void sizing(struct rig *r, struct toy *t)
{
    static const struct {
        unsigned bar;
        uint32_t mask, low;
    } expected[] = {{0, 0xffffc000, 0xc}, {1, 0xffffffff, 0}, {3, 0xffffff00, 0}, {4, 0xffffffe0, 1}, {5, 0, 0}};
    for (unsigned i = 0; i < ARRAY_SIZE(expected); i++) {
        unsigned off = BAR0 + 4 * expected[i].bar;
        uint32_t before = rig_cfg_read(r, t->pci.devfn, off, 4);
        rig_cfg_write(r, t->pci.devfn, off, 4, 0xffffffff);
        CHECK_EQ(rig_cfg_read(r, t->pci.devfn, off, 4), expected[i].mask | expected[i].low);
        rig_cfg_write(r, t->pci.devfn, off, 4, before);
        CHECK_EQ(rig_cfg_read(r, t->pci.devfn, off, 4), before);
    }
}

static void set_bar64(struct rig *r, struct toy *t, uint64_t addr)
{
    rig_cfg_write(r, t->pci.devfn, BAR0, 4, (uint32_t)addr);
    rig_cfg_write(r, t->pci.devfn, BAR0 + 4, 4, (uint32_t)(addr >> 32));
}

static bool answers(struct rig *r, uint64_t addr)
{
    return rig_read(r, BUS_MMIO, addr + 4, 4) == 0x1004;
}

static void moving(struct rig *r, struct toy *a, struct toy *b)
{
    unsigned fn = a->pci.devfn;
    set_bar64(r, a, RIG_MMIO32);
    CHECK(!answers(r, RIG_MMIO32)); /* not decoded yet */
    rig_cfg_write(r, fn, COMMAND, 2, 2);
    CHECK(answers(r, RIG_MMIO32));
    set_bar64(r, a, RIG_MMIO64 + MIB);
    CHECK(!answers(r, RIG_MMIO32) && answers(r, RIG_MMIO64 + MIB));
    rig_cfg_write(r, fn, COMMAND, 2, 0);
    CHECK(!answers(r, RIG_MMIO64 + MIB));
    rig_cfg_write(r, fn, COMMAND, 2, 3);
    CHECK(answers(r, RIG_MMIO64 + MIB));
    rig_cfg_write(r, fn, BAR0 + 16, 4, RIG_IO + 0x40);
    CHECK_EQ(rig_read(r, BUS_PORT, RIG_IO + 0x44, 4), 0x1004);
    /* Where no BAR may be: RAM, the ECAM, above every window, across a window's end. The guest sees what was there before. */
    static const uint64_t nowhere[] = {
        0, MIB, 4 * GIB, RIG_ECAM, RIG_MMIO32 - 16 * KIB, RIG_MMIO32 + 64 * MIB, ~0ull << 14, RIG_MMIO64 + GIB};
    memcpy(rig_at(r, MIB), "ram", 4);
    for (unsigned i = 0; i < ARRAY_SIZE(nowhere); i++) {
        set_bar64(r, a, nowhere[i]);
        CHECK(!a->pci.bars[0].mapped);
        CHECK(!answers(r, nowhere[i]));
    }
    CHECK(memcmp(rig_at(r, MIB), "ram", 4) == 0);
    CHECK_EQ(rig_cfg_read(r, 0, 0, 4), 0x29c08086);
    /* Over each other: the second stays dark until the first goes. */
    set_bar64(r, a, RIG_MMIO32);
    set_bar64(r, b, RIG_MMIO32);
    rig_cfg_write(r, b->pci.devfn, COMMAND, 2, 2);
    CHECK(a->pci.bars[0].mapped && !b->pci.bars[0].mapped);
    a->reads = b->reads = 0;
    CHECK(answers(r, RIG_MMIO32) && a->reads == 1 && b->reads == 0);
    rig_cfg_write(r, fn, COMMAND, 2, 0);
    CHECK(answers(r, RIG_MMIO32) && b->reads == 1);
    rig_cfg_write(r, fn, COMMAND, 2, 2);
    CHECK(!a->pci.bars[0].mapped);
    set_bar64(r, b, RIG_MMIO32 + MIB);
    CHECK(a->pci.bars[0].mapped && b->pci.bars[0].mapped);
}

static void intx(struct rig *r, struct toy *a, struct toy *b)
{
    /* Slots 3 and 11 share GSI 19. */
    unsigned gsi = pci_intx_gsi(3, 1);
    CHECK_EQ(gsi, 19);
    pci_intx_set(&a->pci, true);
    CHECK(rig_gsi(r, gsi));
    CHECK_EQ(rig_cfg_read(r, a->pci.devfn, 6, 2) & 8, 8);
    pci_intx_set(&b->pci, true);
    pci_intx_set(&a->pci, false);
    CHECK(rig_gsi(r, gsi));
    rig_cfg_write(r, b->pci.devfn, COMMAND, 2, 0x400);
    CHECK(!rig_gsi(r, gsi));
    CHECK_EQ(rig_cfg_read(r, b->pci.devfn, 6, 2) & 8, 8);
    rig_cfg_write(r, b->pci.devfn, COMMAND, 2, 0);
    CHECK(rig_gsi(r, gsi));
    pci_intx_set(&b->pci, false);
    CHECK(!rig_gsi(r, gsi));
}

static void msix(struct rig *r, struct toy *t)
{
    unsigned fn = t->pci.devfn, cap = rig_cap(r, fn, 0x11, 0);
    uint64_t bar = RIG_MMIO32 + 2 * MIB;
    uint32_t pba = rig_cfg_read(r, fn, cap + 8, 4) & ~7u;
    rig_cfg_write(r, fn, BAR0 + 8, 4, (uint32_t)bar);
    rig_cfg_write(r, fn, COMMAND, 2, 6);
    CHECK_EQ(rig_read(r, BUS_MMIO, bar + 69 * 16 + 12, 4), 1); /* masked after reset */
    CHECK_EQ(rig_read(r, BUS_MMIO, bar + 70 * 16 + 12, 4), 0); /* behind the table */
    rig_write(r, BUS_MMIO, bar + 65 * 16, 8, 0xfee00000);
    rig_write(r, BUS_MMIO, bar + 65 * 16 + 8, 8, 0xffffffff00000007ull);
    CHECK_EQ(rig_read(r, BUS_MMIO, bar + 65 * 16 + 12, 4), 1);
    pci_msix_notify(&t->pci, 65);
    CHECK_EQ(rig_msis(r, 7), 0);
    CHECK_EQ(rig_read(r, BUS_MMIO, bar + pba + 8, 8), 0); /* off: not even pending */
    rig_cfg_write(r, fn, cap + 2, 2, 0x8000);
    pci_msix_notify(&t->pci, 65);
    CHECK_EQ(rig_read(r, BUS_MMIO, bar + pba + 8, 8), 2);
    rig_write(r, BUS_MMIO, bar + pba + 8, 8, 0); /* read-only */
    rig_write(r, BUS_MMIO, bar + 65 * 16 + 12, 4, 0);
    CHECK_EQ(rig_msis(r, 7), 1);
    CHECK_EQ(rig_read(r, BUS_MMIO, bar + pba + 8, 8), 0);
    rig_cfg_write(r, fn, cap + 2, 2, 0xc000);
    pci_msix_notify(&t->pci, 65);
    pci_msix_notify(&t->pci, 65);
    CHECK_EQ(rig_msis(r, 7), 1);
    rig_cfg_write(r, fn, cap + 2, 2, 0x8000);
    CHECK_EQ(rig_msis(r, 7), 2);
    pci_msix_notify(&t->pci, 65);
    CHECK_EQ(rig_msis(r, 7), 3);
    pci_msix_notify(&t->pci, 70);
    pci_msix_notify(&t->pci, 0xffff);
    rig_write(r, BUS_MMIO, bar + 65 * 16 + 8, 2, 9); /* a 16-bit write is none */
    pci_msix_notify(&t->pci, 65);
    CHECK_EQ(rig_msis(r, 7), 4);
    /* With MSI-X the pin rests. */
    pci_intx_set(&t->pci, true);
    CHECK(!rig_gsi(r, pci_intx_gsi(PCI_SLOT(fn), 1)));
    rig_cfg_write(r, fn, cap + 2, 2, 0);
    CHECK(rig_gsi(r, pci_intx_gsi(PCI_SLOT(fn), 1)));
    pci_intx_set(&t->pci, false);
}

static void assigning(struct rig *r, struct toy *a, struct toy *b)
{
    ERROR_SCOPED(err);
    pci_host_reset(r->pci);
    CHECK(!a->pci.bars[0].mapped);
    CHECK_EQ(rig_cfg_read(r, a->pci.devfn, COMMAND, 2), 0);
    CHECK_EQ(rig_cfg_read(r, a->pci.devfn, BAR0, 4), 0xc);
    CHECK(pci_host_assign(r->pci, &err) == 0);
    for (unsigned i = 0; i < 6; i++) {
        CHECK(a->pci.bars[i].mapped == (a->pci.bars[i].size != 0));
        CHECK(b->pci.bars[i].mapped == (b->pci.bars[i].size != 0));
    }
    CHECK(a->pci.bars[0].addr < 4 * GIB);
    CHECK_EQ(rig_cfg_read(r, a->pci.devfn, 0x3c, 1), 19);
}

int main(void)
{
    struct rig r;
    struct toy a, b;
    struct lpc *lpc;
    ERROR_SCOPED(err);
    rig_init(&r);
    toy_add(&a, &r, 3);
    toy_add(&b, &r, 11);
    CHECK(pci_dev_add(r.pci, &b.pci, 3, &err) < 0 && strstr(error_text(&err), "00:03.0"));
    CHECK(lpc_create(r.pci, &(struct lpc_config){.pmbase = 0x600}, &lpc, NULL) == 0);
    CHECK_EQ(rig_cfg_read(&r, PCI_DEVFN(31, 0), 0, 4), 0x29188086);
    CHECK_EQ(rig_cfg_read(&r, PCI_DEVFN(31, 0), 0x40, 4), 0x601);
    config_space(&r, &a);
    sizing(&r, &a);
    moving(&r, &a, &b);
    intx(&r, &a, &b);
    msix(&r, &a);
    assigning(&r, &a, &b);
    lpc_destroy(lpc);
    pci_dev_remove(&a.pci);
    pci_dev_remove(&b.pci);
    rig_free(&r);
    return 0;
}
