// SPDX-License-Identifier: GPL-2.0-or-later
/* Root ports: numbering, windows, interrupts and resets as a firmware and an operating system use them, and as nobody should. */
#include <string.h>

#include "base/util.h"
#include "devices/virtio/vrng.h"
#include "driver.h"
#include "rig.h"

#define COMMAND   0x04
#define BAR0      0x10
#define NUMBERS   0x18 /* primary, secondary, subordinate */
#define MEM       0x20
#define PREF      0x24
#define PREF_HIGH 0x28
#define IO        0x1c
#define CONTROL   0x3e

struct toy {
    struct pci_dev pci;
    unsigned resets;
};

static uint64_t toy_read(void *opaque, uint64_t off, unsigned size)
{
    (void)opaque, (void)size;
    return 0x1000 + off;
}

static void toy_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
    (void)opaque, (void)off, (void)size, (void)val;
}

static void toy_bus_reset(struct pci_dev *d)
{
    container_of(d, struct toy, pci)->resets++;
}

static const struct io_ops toy_io = {.read = toy_read, .write = toy_write};
static const struct device_desc toy_desc = {.name = "toy"};
static const struct pci_ops toy_ops = {.desc = &toy_desc, .bus_reset = toy_bus_reset};

/* BAR 0: 16 KiB, 64-bit; BAR 2: 256 bytes, 32-bit; BAR 3: 32 ports. */
static void toy_init(struct toy *t)
{
    static const struct pci_id id = {.vendor = 0x1234, .device = 0x5678, .class_code = 0xff0000};
    t->resets = 0;
    pci_dev_init(&t->pci, "toy", &toy_ops, &id);
    pci_dev_pin(&t->pci);
    pci_dev_bar(&t->pci, 0, PCI_BAR_MEM64_PREF, 16 * KIB, &toy_io, t);
    pci_dev_bar(&t->pci, 2, PCI_BAR_MEM32, 256, &toy_io, t);
    pci_dev_bar(&t->pci, 3, PCI_BAR_IO, 32, &toy_io, t);
    pci_dev_msi(&t->pci);
    pci_dev_express(&t->pci);
}

/* Configuration space of any bus; `at` is bus << 8 | devfn, as the ECAM has it. */
static uint32_t get(struct rig *r, unsigned at, unsigned off, unsigned size)
{
    return rig_cfg_read(r, at, off, size);
}

static void set(struct rig *r, unsigned at, unsigned off, unsigned size, uint32_t val)
{
    rig_cfg_write(r, at, off, size, val);
}

static bool answers(struct rig *r, uint64_t addr)
{
    return rig_read(r, BUS_MMIO, addr + 4, 4) == 0x1004;
}

#define PORT1  PCI_DEVFN(2, 0)
#define PORT2  PCI_DEVFN(2, 1)
#define BEHIND 0x500 /* the device behind port 1, with the bus number 5 */

static void header(struct rig *r)
{
    CHECK_EQ(get(r, PORT1, 0, 4), 0x000c1b36);
    CHECK_EQ(get(r, PORT1, 8, 4), 0x06040000);
    CHECK_EQ(get(r, PORT1, 0x0e, 1), 0x81); /* of several functions */
    CHECK_EQ(get(r, PORT2, 0x0e, 1), 0x01);
    CHECK_EQ(get(r, PORT1, 0x2c, 4), 0); /* the upper half of the prefetchable limit */
    unsigned e = rig_cap(r, PORT1, 0x10, 0);
    CHECK(e && rig_cap(r, PORT1, 0x05, 0));
    CHECK_EQ(get(r, PORT1, e + 2, 2), 0x142); /* root port, slot, version 2 */
    CHECK_EQ(get(r, PORT1, e + 0x14, 4) >> 19, 7);
    CHECK_EQ(get(r, PORT1, e + 0x1a, 2) & 0x40, 0x40); /* taken */
    CHECK_EQ(get(r, PORT2, e + 0x1a, 2) & 0x40, 0);
    CHECK_EQ(get(r, PORT1, e + 0x12, 2), 0x2011); /* its link is up */
    CHECK_EQ(get(r, PORT2, e + 0x12, 2), 0x0011);
}

/* Nothing reaches the secondary bus before it has a number; then only what is for it. */
static void numbers(struct rig *r)
{
    for (unsigned bus = 1; bus < 256; bus++)
        CHECK_EQ(get(r, bus << 8, 0, 4), 0xffffffff);
    set(r, PORT1, NUMBERS, 4, 0xff050500);
    CHECK_EQ(get(r, PORT1, NUMBERS, 4), 0x00050500); /* there is no latency timer */
    CHECK_EQ(get(r, BEHIND, 0, 4), 0x56781234);
    CHECK_EQ(get(r, BEHIND + 1, 0, 4), 0xffffffff);
    CHECK_EQ(get(r, BEHIND + 8, 0, 4), 0xffffffff); /* slot 1 */
    unsigned e = rig_cap(r, BEHIND, 0x10, 0);
    CHECK_EQ(get(r, BEHIND, e + 2, 2), 0x02); /* an endpoint, no integrated one */
    rig_write(r, BUS_PORT, 0xcf8, 4, 0x80000000u | BEHIND << 8);
    CHECK_EQ(rig_read(r, BUS_PORT, 0xcfc, 4), 0x56781234);
    set(r, PORT1, NUMBERS, 4, 0x00040500); /* above its own subordinate */
    CHECK_EQ(get(r, BEHIND, 0, 4), 0xffffffff);
    set(r, PORT1, NUMBERS, 4, 0x00ff0500);
    CHECK_EQ(get(r, BEHIND, 0, 4), 0x56781234);
    CHECK_EQ(get(r, 0x600, 0, 4), 0xffffffff); /* it would be behind a bridge there, which is not */
    set(r, PORT2, NUMBERS, 4, 0x00050500);     /* two of one number: the first has it */
    CHECK_EQ(get(r, BEHIND, 0, 4), 0x56781234);
    set(r, PORT2, NUMBERS, 4, 0);
    set(r, PORT1, NUMBERS, 4, 0);
    CHECK_EQ(get(r, 0, 0, 4), 0x29c08086); /* bus 0 stays the host bridge's */
    set(r, PORT1, NUMBERS, 4, 0x00050500);
}

/* A BAR answers where its own decoder, the port's decoder and one of the port's windows let it. */
static void windows(struct rig *r)
{
    uint32_t at = (uint32_t)RIG_MMIO32 + 4 * MIB;
    set(r, BEHIND, BAR0, 4, at);
    set(r, BEHIND, COMMAND, 2, 3);
    CHECK(!answers(r, at));
    set(r, PORT1, MEM, 4, at >> 16 | (at & 0xffff0000));
    CHECK(!answers(r, at)); /* the port's decoder is off */
    set(r, PORT1, COMMAND, 2, 3);
    CHECK(answers(r, at));
    set(r, PORT1, MEM, 4, 0x0000fff0); /* closed */
    CHECK(!answers(r, at));
    set(r, PORT1, PREF, 4, at >> 16 | (at & 0xffff0000));
    CHECK(answers(r, at));
    CHECK_EQ(get(r, PORT1, PREF, 4) & 0x000f000f, 0x00010001);
    set(r, PORT1, PREF_HIGH, 4, 1); /* the base is above the limit now */
    CHECK(!answers(r, at));
    set(r, PORT1, PREF, 4, 0);
    set(r, PORT1, PREF_HIGH, 4, RIG_MMIO64 >> 32);
    set(r, PORT1, PREF_HIGH + 4, 4, RIG_MMIO64 >> 32);
    set(r, BEHIND, BAR0, 4, 0);
    set(r, BEHIND, BAR0 + 4, 4, RIG_MMIO64 >> 32);
    CHECK(answers(r, RIG_MMIO64));
    set(r, BEHIND, BAR0, 4, MIB); /* behind the window's end */
    CHECK(!answers(r, RIG_MMIO64 + MIB));
    /* A window as wide as the world lets nothing out of the host's. */
    set(r, PORT1, MEM, 4, 0xfff00000);
    static const uint32_t nowhere[] = {0, MIB, (uint32_t)RIG_ECAM, (uint32_t)RIG_MMIO32 - 16 * KIB,
                                       (uint32_t)(RIG_MMIO32 + 64 * MIB)};
    set(r, BEHIND, BAR0 + 4, 4, 0);
    for (unsigned i = 0; i < ARRAY_SIZE(nowhere); i++) {
        set(r, BEHIND, BAR0, 4, nowhere[i]);
        CHECK(!answers(r, nowhere[i]));
    }
    set(r, BEHIND, BAR0, 4, at);
    CHECK(answers(r, at));
    /* Ports. */
    set(r, BEHIND, BAR0 + 12, 4, RIG_IO + 0x40);
    CHECK_EQ(rig_read(r, BUS_PORT, RIG_IO + 0x44, 4), 0xffffffff);
    set(r, PORT1, IO, 2, 0xc0c0);
    CHECK_EQ(rig_read(r, BUS_PORT, RIG_IO + 0x44, 4), 0x1004);
    set(r, PORT1, IO, 2, 0xb0f0);
    CHECK_EQ(rig_read(r, BUS_PORT, RIG_IO + 0x44, 4), 0xffffffff);
    set(r, PORT1, COMMAND, 2, 0);
    CHECK(!answers(r, at));
}

static void interrupts(struct rig *r, struct toy *t)
{
    unsigned gsi = pci_intx_gsi(2, 1);
    pci_intx_set(&t->pci, true);
    CHECK(rig_gsi(r, gsi));
    set(r, PORT1, COMMAND, 2, 0x400); /* is for the port's own */
    CHECK(rig_gsi(r, gsi));
    set(r, BEHIND, COMMAND, 2, 0x400);
    CHECK(!rig_gsi(r, gsi));
    pci_intx_set(&t->pci, false);
    unsigned msi = rig_cap(r, BEHIND, 0x05, 0);
    set(r, BEHIND, msi + 4, 4, 0xfee00000);
    set(r, BEHIND, msi + 12, 2, 9);
    set(r, BEHIND, msi + 2, 2, 1);
    set(r, BEHIND, COMMAND, 2, 4);
    unsigned seen = rig_msis(r, 9);
    pci_msi_notify(&t->pci);
    CHECK_EQ(rig_msis(r, 9), seen + 1);
}

static void resets(struct rig *r, struct toy *t)
{
    set(r, BEHIND, 0x3c, 1, 11);
    set(r, PORT1, CONTROL, 2, 0xffff);
    CHECK_EQ(get(r, PORT1, CONTROL, 2), 0x43);
    CHECK_EQ(t->resets, 1);
    CHECK_EQ(get(r, BEHIND, 0x3c, 1), 0);
    CHECK_EQ(get(r, BEHIND, COMMAND, 2), 0);
    set(r, PORT1, CONTROL, 2, 0x40);
    CHECK_EQ(t->resets, 1); /* an edge, not a level */
    set(r, PORT1, CONTROL, 2, 0);
    set(r, PORT1, CONTROL, 1, 0x40);
    CHECK_EQ(t->resets, 2);
    set(r, PORT1, CONTROL, 2, 0);
    unsigned e = rig_cap(r, PORT1, 0x10, 0);
    set(r, PORT1, e + 0x1a, 2, 0xffff); /* presence is no bit to clear */
    CHECK_EQ(get(r, PORT1, e + 0x1a, 2) & 0x40, 0x40);
    pci_host_reset(r->pci);
    CHECK_EQ(get(r, PORT1, NUMBERS, 4), 0);
    CHECK_EQ(get(r, PORT1, MEM, 4), 0x0000fff0);
    CHECK_EQ(get(r, PORT1, e + 0x1a, 2) & 0x40, 0x40);
}

/* What a firmware does for a guest without one. */
static void assigning(struct rig *r, struct toy *t, struct toy *second)
{
    ERROR_SCOPED(err);
    pci_host_reset(r->pci);
    CHECK(pci_host_assign(r->pci, &err) == 0);
    CHECK_EQ(get(r, PORT1, NUMBERS, 4), 0x00010100);
    CHECK_EQ(get(r, PORT2, NUMBERS, 4), 0x00020200);
    CHECK_EQ(get(r, 0x100, 0, 4), 0x56781234);
    CHECK_EQ(get(r, 0x100, 0x3c, 1), pci_intx_gsi(2, 1));
    for (unsigned i = 0; i < 6; i++) {
        CHECK(t->pci.bars[i].mapped == (t->pci.bars[i].size != 0));
        CHECK(second->pci.bars[i].mapped == (second->pci.bars[i].size != 0));
    }
    /* An empty slot has room for what comes: the windows are open. */
    CHECK(get(r, PORT2, MEM + 2, 2) >= get(r, PORT2, MEM, 2));
    CHECK(get(r, PORT2, PREF + 2, 2) >= get(r, PORT2, PREF, 2));
    CHECK(get(r, PORT2, IO + 1, 1) < get(r, PORT2, IO, 1));
}

/* Refused, and the error holds the word. */
static void refuse_device(struct rig *r, struct toy *t, int place, const char *word)
{
    ERROR_SCOPED(err);
    CHECK(pci_dev_add(r->pci, &t->pci, place, &err) < 0);
    CHECK(strstr(error_text(&err), word));
}

static void refuse_port(struct rig *r, unsigned bus, const char *word)
{
    struct rootport *p;
    ERROR_SCOPED(err);
    CHECK(rootport_create(r->pci, &(struct rootport_config){.slot = 4, .bus = bus}, &p, &err) < 0);
    CHECK(strstr(error_text(&err), word));
}

static void refusals(struct rig *r)
{
    struct rootport *p;
    struct toy t;
    ERROR_SCOPED(err);
    toy_init(&t);
    refuse_device(r, &t, PCI_PLACE(1, 0, 0), "01:00.0");
    refuse_device(r, &t, PCI_PLACE(1, 3, 0), "slot 0 only");
    refuse_device(r, &t, PCI_PLACE(9, 0, 0), "PCI bus 9");
    refuse_device(r, &t, 1 << 20, "no PCI slot");
    pci_dev_remove(&t.pci);
    refuse_port(r, 2, "already");
    refuse_port(r, 0, "does not exist");
    refuse_port(r, 256, "does not exist");
    CHECK(rootport_create(r->pci, &(struct rootport_config){.slot = PCI_PLACE(2, 0, 0), .bus = 3}, &p, &err) < 0);
}

/* Hot plug: what the guest is told, and when a device counts as given back. */
static unsigned releases;

static void count_release(void *opaque)
{
    (void)opaque;
    releases++;
}

#define STATUS(e) ((e) + 0x1a)
#define SLOT(e)   ((e) + 0x18)
#define BUTTON    0x001
#define CHANGED   0x108 /* presence, link */
#define SLOT_BITS 0x1329

static void coming(struct rig *r, struct rootport *p, struct toy *t, unsigned port, unsigned e)
{
    ERROR_SCOPED(err);
    CHECK(rootport_hotplug(p) && rootport_vacant(p));
    CHECK(rootport_press(p) < 0); /* there is nothing to ask for */
    CHECK(pci_dev_add(r->pci, &t->pci, PCI_PLACE(4, 0, 0), &err) == 0);
    unsigned seen = rig_msis(r, 11);
    rootport_changed(p);
    CHECK_EQ(rig_msis(r, 11), seen + 1);
    CHECK_EQ(get(r, port, STATUS(e), 2), CHANGED | 0x40);
    set(r, port, STATUS(e), 2, 0x100);
    CHECK_EQ(get(r, port, STATUS(e), 2), 0x48);
    set(r, port, STATUS(e), 2, 0xffff);
    CHECK_EQ(get(r, port, STATUS(e), 2), 0x40);
    CHECK_EQ(get(r, port, e + 0x12, 2), 0x2011);
    CHECK_EQ(get(r, 0x400, 0, 4), 0x56781234);
    CHECK(!rootport_vacant(p));
}

static void going(struct rig *r, struct rootport *p, struct toy *t, unsigned port, unsigned e)
{
    set(r, port, SLOT(e), 2, SLOT_BITS & ~0x200u); /* power indicator on, all interrupts */
    set(r, port, SLOT(e), 2, SLOT_BITS);           /* off, without being asked: the device stays */
    CHECK(releases == 0 && !rootport_released(p));
    set(r, port, SLOT(e), 2, SLOT_BITS & ~0x200u);
    unsigned seen = rig_msis(r, 11);
    CHECK(rootport_press(p) == 0);
    CHECK_EQ(rig_msis(r, 11), seen + 1);
    CHECK_EQ(get(r, port, STATUS(e), 2), BUTTON | 0x40);
    set(r, port, STATUS(e), 2, BUTTON);
    CHECK(rootport_press(p) == 0);                 /* nobody has begun: it may be pressed again */
    set(r, port, SLOT(e), 2, SLOT_BITS & ~0x100u); /* blinks */
    CHECK(rootport_press(p) < 0);
    CHECK(releases == 0 && !rootport_released(p));
    set(r, port, SLOT(e), 2, SLOT_BITS);
    CHECK(releases == 1 && rootport_released(p) && !rootport_released(p));
    pci_dev_remove(&t->pci);
    rootport_changed(p);
    CHECK_EQ(get(r, port, STATUS(e), 2) & 0x148, CHANGED);
    CHECK_EQ(get(r, port, e + 0x12, 2), 0x0011);
    CHECK_EQ(get(r, 0x400, 0, 4), 0xffffffff);
    set(r, port, STATUS(e), 2, 0xffff);
}

static void hotplug(struct rig *r)
{
    unsigned port = PCI_DEVFN(5, 0);
    struct rootport *p;
    struct toy t;
    ERROR_SCOPED(err);
    releases = 0;
    CHECK(rootport_create(r->pci, &(struct rootport_config){.slot = 5, .bus = 4, .hotplug = true, .released = count_release}, &p,
                          &err) == 0);
    unsigned e = rig_cap(r, port, 0x10, 0), msi = rig_cap(r, port, 0x05, 0);
    CHECK_EQ(get(r, port, e + 0x14, 4) & 0x7f, 0x51); /* button, indicator, hot plug; no power controller, no surprise */
    set(r, port, SLOT(e), 2, 0xffff);
    CHECK_EQ(get(r, port, SLOT(e), 2), SLOT_BITS);
    set(r, port, NUMBERS, 4, 0x00040400);
    set(r, port, msi + 4, 4, 0xfee00000);
    set(r, port, msi + 12, 2, 11);
    set(r, port, msi + 2, 2, 1);
    set(r, port, COMMAND, 2, 6);
    for (unsigned round = 0; round < 2; round++) {
        releases = 0;
        toy_init(&t);
        coming(r, p, &t, port, e);
        going(r, p, &t, port, e);
    }
    /* A guest that does not drive the slot lets go of nothing, whatever the indicator is. */
    set(r, port, SLOT(e), 2, 0x0300);
    toy_init(&t);
    CHECK(pci_dev_add(r->pci, &t.pci, PCI_PLACE(4, 0, 0), &err) == 0);
    CHECK_EQ(get(r, port, SLOT(e), 2) & 0x300, 0x100); /* on: so it is after power-up */
    set(r, port, SLOT(e), 2, 0x0300);
    CHECK(rootport_press(p) == 0);
    set(r, port, STATUS(e), 2, 0xffff);
    set(r, port, SLOT(e), 2, 0x0300);
    CHECK(!rootport_released(p));
    pci_dev_remove(&t.pci);
    pci_host_reset(r->pci);
    set(r, port, NUMBERS, 4, 0x00040400);
    set(r, port, COMMAND, 2, 6);
    set(r, port, SLOT(e), 2, SLOT_BITS);
    /* By the pin, until the event is cleared; and a reset forgets what was asked. */
    set(r, port, msi + 2, 2, 0);
    toy_init(&t);
    CHECK(pci_dev_add(r->pci, &t.pci, PCI_PLACE(4, 0, 0), &err) == 0);
    rootport_changed(p);
    CHECK(rig_gsi(r, pci_intx_gsi(5, 1)));
    set(r, port, STATUS(e), 2, CHANGED);
    CHECK(!rig_gsi(r, pci_intx_gsi(5, 1)));
    CHECK(rootport_press(p) == 0);
    pci_host_reset(r->pci);
    CHECK(!rig_gsi(r, pci_intx_gsi(5, 1)));
    CHECK_EQ(get(r, port, STATUS(e), 2), 0x40);
    CHECK_EQ(get(r, port, SLOT(e), 2), 0x100);
    set(r, port, SLOT(e), 2, SLOT_BITS);
    CHECK(!rootport_released(p));
    pci_dev_remove(&t.pci);
    rootport_destroy(p);
}

/* A virtio device behind a port: used, reset by the bus while a request is under way, and used again. */
static void virtio(struct rig *r)
{
    struct vrng *rng;
    struct drv *d = calloc(1, sizeof *d);
    ERROR_SCOPED(err);
    CHECK(vrng_create(r->pci, &(struct vrng_config){PCI_PLACE(2, 0, 0)}, &rng, &err) == 0);
    for (unsigned round = 0; round < 3; round++) {
        CHECK(pci_host_assign(r->pci, &err) == 0);
        CHECK_EQ(get(r, 0x200, 0, 4), 0x10441af4);
        drv_find(d, r, 0x200, true, 8);
        drv_start(d, DRV_EVENT, 1, 8);
        struct drv_buf buf = {rig_alloc(r, 4096, 16), 4096, true};
        CHECK_EQ(drv_do(d, 0, &buf, 1), 4096);
        drv_add(d, 0, &buf, 1);
        drv_force_kick(d, 0);
        set(r, PORT2, CONTROL, 2, 0x40);
        set(r, PORT2, CONTROL, 2, 0);
        CHECK_EQ(get(r, 0x200, COMMAND, 2), 0);
        CHECK(pci_host_assign(r->pci, &err) == 0);
        CHECK(drv_reset(d));
    }
    free(d);
    vrng_destroy(rng);
}

/* Any value in any register of port and device; then the polite way works. */
static void any_register(struct rig *r, unsigned rounds)
{
    struct rnd rnd = {now_ns() | 1};
    printf("seed %llu\n", (unsigned long long)rnd.state);
    for (unsigned i = 0; i < rounds; i++) {
        static const unsigned devices[] = {PORT1, PORT2, BEHIND, 0x100, 0x200};
        unsigned at = rnd_below(&rnd, 4) ? devices[rnd_below(&rnd, ARRAY_SIZE(devices))] : rnd_below(&rnd, 65536);
        unsigned size = 1u << rnd_below(&rnd, 3), off = rnd_below(&rnd, rnd_below(&rnd, 8) ? 0x80 : 4094);
        uint32_t val = rnd_below(&rnd, 3) ? (uint32_t)rnd64(&rnd) : rnd_below(&rnd, 2) ? 0x00020100u : 0xe040e000u;
        if (rnd_below(&rnd, 3))
            set(r, at, off, size, val);
        else
            get(r, at, off, size);
        rig_read(r, BUS_MMIO, RIG_MMIO32 + (rnd64(&rnd) & 0x3ffffff), 4);
    }
}

int main(void)
{
    struct rig r;
    struct toy a, b;
    struct rootport *one, *two;
    ERROR_SCOPED(err);
    rig_init(&r);
    CHECK(rootport_create(r.pci, &(struct rootport_config){.slot = PCI_PLACE(0, 2, 1), .bus = 2}, &two, &err) == 0);
    CHECK(rootport_create(r.pci, &(struct rootport_config){.slot = 2, .bus = 1, .number = 7}, &one, &err) == 0);
    toy_init(&a);
    toy_init(&b);
    CHECK(pci_dev_add(r.pci, &a.pci, PCI_PLACE(1, 0, 0), &err) == 0);
    header(&r);
    numbers(&r);
    windows(&r);
    interrupts(&r, &a);
    resets(&r, &a);
    CHECK(pci_dev_add(r.pci, &b.pci, PCI_PLACE(1, 0, 1), &err) == 0);
    assigning(&r, &a, &b);
    refusals(&r);
    hotplug(&r);
    virtio(&r);
    any_register(&r, 20000);
    assigning(&r, &a, &b);
    virtio(&r);
    pci_dev_remove(&b.pci);
    pci_dev_remove(&a.pci);
    rootport_destroy(one);
    rootport_destroy(two);
    rig_free(&r);
    return 0;
}
