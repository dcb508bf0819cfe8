// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A PCI Express root port (PCI Express base 4.0, 7.5): a bridge on bus 0, and behind it a link with one device.
 *
 * The bridge's header says which bus number and which addresses lead to the link (PCI-to-PCI bridge 1.2, chapter 3); config.c and
 * host.c read it there. What is behind the port reaches memory whatever the port's own bus master bit says, because SeaBIOS drives
 * disks behind ports without setting it. There is no error reporting: nothing can go wrong on a link that does not exist.
 *
 * Hot plug (6.7) is native: an attention button, a power indicator, and no power controller. A device that comes brings the link
 * up, which the guest is told of; one that is to go is asked for by the button, and has gone for the guest when that switches the
 * indicator off.
 */
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "devices/pci/internal.h"

#define BRIDGE_HEADER 0x01
#define WINDOW_64BIT  0x1                         /* low bits of the prefetchable window's registers */
#define CONTROL_BITS  (0x0003 | PCI_BRIDGE_RESET) /* parity, SERR# */

#define ERRORS_SECONDARY 0xf900 /* secondary status: written ones clear */
#define ERRORS_DEVICE    0x000f

#define LINK_REPORTS    BIT(20) /* link capabilities: tells whether the link is up */
#define LINK_UP         0x2000  /* link status */
#define LINK_CONTROL    0x00c8  /* common clock, extended synch, completion boundary */
#define SLOT_NUMBER_AT  19
#define SLOT_NO_COMMAND BIT(18)                    /* slot capabilities: no command needs waiting for */
#define SLOT_HOTPLUG    (BIT(0) | BIT(4) | BIT(6)) /* slot capabilities: attention button, power indicator, hot plug */
#define SLOT_BUTTON     0x0001                     /* slot control: interrupts; slot status: what has happened */
#define SLOT_PRESENCE   0x0008
#define SLOT_LINK       0x0100 /* in slot status */
#define SLOT_LINK_ON    0x1000 /* its enable in slot control */
#define SLOT_INTERRUPTS 0x0020
#define SLOT_INDICATOR  0x0300
#define INDICATOR_ON    0x0100
#define INDICATOR_BLINK 0x0200
#define INDICATOR_OFF   0x0300
#define SLOT_PRESENT    0x0040 /* slot status */
#define ROOT_CONTROL    0x000f

struct rootport {
    struct pci_dev pci; /* first */
    struct pci_bus bus;
    uint16_t control;   /* bridge control, as it was before the last write */
    uint16_t indicator; /* as the guest set it last */
    bool asked;         /* the button was pressed */
    bool released;      /* and the guest has let go */
    bool interrupt;     /* an event is told now */
    void (*on_release)(void *opaque);
    void *opaque;
};

static const struct field rootport_fields[] = {
    FIELD_ARRAY(FIELD_BYTES, struct rootport, pci.config),
    FIELD(FIELD_BOOL, struct rootport, asked),
    FIELD(FIELD_BOOL, struct rootport, interrupt),
    FIELD(FIELD_U16, struct rootport, indicator),
    {0},
};
static const struct device_desc rootport_desc = {.name = "pcie-root-port", .fields = rootport_fields};

/* ---- windows ---- */

static struct pci_window window(uint64_t base, uint64_t last)
{
    return last < base ? (struct pci_window){0} : (struct pci_window){base, last - base + 1};
}

struct pci_window pci_bridge_io(const struct pci_dev *bridge)
{
    const uint8_t *c = bridge->config;
    return window((c[PCI_IO_BASE] & 0xf0u) << 8, (c[PCI_IO_LIMIT] & 0xf0u) << 8 | 0xfff);
}

struct pci_window pci_bridge_mem(const struct pci_dev *bridge)
{
    const uint8_t *c = bridge->config;
    return window((pci_get16(c + PCI_MEM_BASE) & 0xfff0ull) << 16, (pci_get16(c + PCI_MEM_LIMIT) & 0xfff0ull) << 16 | 0xfffff);
}

struct pci_window pci_bridge_pref(const struct pci_dev *bridge)
{
    const uint8_t *c = bridge->config;
    return window((uint64_t)pci_get32(c + PCI_PREF_BASE_UPPER) << 32 | (pci_get16(c + PCI_PREF_BASE) & 0xfff0ull) << 16,
                  (uint64_t)pci_get32(c + PCI_PREF_LIMIT_UPPER) << 32 | (pci_get16(c + PCI_PREF_LIMIT) & 0xfff0ull) << 16 |
                      0xfffff);
}

/* ---- configuration ---- */

/* The secondary bus is reset: every device behind it is as after power-up, except that requests in flight may still end. */
static void reset_bus(struct rootport *p)
{
    for (unsigned i = 0; i < ARRAY_SIZE(p->bus.devs); i++) {
        struct pci_dev *d = p->bus.devs[i];
        if (!d)
            continue;
        pci_dev_reset(d);
        if (d->ops->bus_reset)
            d->ops->bus_reset(d);
    }
}

/* ---- hot plug ---- */

bool rootport_hotplug(const struct rootport *p)
{
    return pci_get32(p->pci.config + p->pci.express + PCI_EXP_SLTCAP) & BIT(6);
}

bool rootport_vacant(const struct rootport *p)
{
    return rootport_hotplug(p) && !p->bus.devs[0];
}

static uint16_t slot_control(const struct rootport *p)
{
    return pci_get16(p->pci.config + p->pci.express + PCI_EXP_SLTCTL);
}

/* The interrupt of an event that is enabled: the pin while it stands, a message when it begins. */
static void update_interrupt(struct rootport *p)
{
    uint16_t status = pci_get16(p->pci.config + p->pci.express + PCI_EXP_SLTSTA), control = slot_control(p);
    uint16_t events = status & ((control & (SLOT_BUTTON | SLOT_PRESENCE)) | (control & SLOT_LINK_ON ? SLOT_LINK : 0));
    bool now = events && (control & SLOT_INTERRUPTS);
    if (now && !p->interrupt)
        pci_msi_notify(&p->pci);
    p->interrupt = now;
    pci_intx_set(&p->pci, now);
}

static void raise_events(struct rootport *p, uint16_t events)
{
    uint8_t *status = p->pci.config + p->pci.express + PCI_EXP_SLTSTA;
    pci_set16(status, pci_get16(status) | events);
    p->interrupt = false; /* each is a message of its own */
    update_interrupt(p);
}

void rootport_changed(struct rootport *p)
{
    if (rootport_hotplug(p))
        raise_events(p, SLOT_PRESENCE | SLOT_LINK);
}

int rootport_press(struct rootport *p)
{
    if (!rootport_hotplug(p) || !p->bus.devs[0] || (p->asked && (slot_control(p) & SLOT_INDICATOR) != INDICATOR_ON))
        return -1;
    p->asked = true;
    raise_events(p, SLOT_BUTTON);
    return 0;
}

bool rootport_released(struct rootport *p)
{
    bool released = p->released;
    p->released = false;
    return released;
}

/* Switching the indicator off is what counts: one that was off when the button was pressed says nothing. */
static void take_slot_control(struct rootport *p)
{
    uint16_t before = p->indicator, now = slot_control(p) & SLOT_INDICATOR;
    p->indicator = now;
    if (p->asked && p->bus.devs[0] && now == INDICATOR_OFF && before != INDICATOR_OFF) {
        p->asked = false;
        p->released = true;
        if (p->on_release)
            p->on_release(p->opaque);
    }
    update_interrupt(p);
}

static void rootport_written(struct pci_dev *d, unsigned off, unsigned size)
{
    struct rootport *p = container_of(d, struct rootport, pci);
    uint16_t control = pci_get16(d->config + PCI_BRIDGE_CONTROL), before = p->control;
    p->control = control;
    if (off < PCI_CAP_LIST && off + size > PCI_COMMAND)
        pci_update_bars(d->host);
    if ((control & PCI_BRIDGE_RESET) && !(before & PCI_BRIDGE_RESET))
        reset_bus(p);
    if (off < d->express + PCI_EXP_RTCTL && off + size > d->express + PCI_EXP_SLTCTL)
        take_slot_control(p);
}

static void rootport_reset(struct pci_dev *d)
{
    struct rootport *p = container_of(d, struct rootport, pci);
    p->control = 0;
    p->asked = p->released = p->interrupt = false;
    p->indicator = pci_get16(d->reset_config + d->express + PCI_EXP_SLTCTL) & SLOT_INDICATOR;
}

static const struct pci_ops rootport_ops = {.desc = &rootport_desc, .config_written = rootport_written, .reset = rootport_reset};

/* The slot is taken or empty: a fact, after a reset too. The indicator is the guest's, once it has asked for interrupts. */
static void slot_changed(struct pci_bus *b)
{
    struct pci_dev *d = b->bridge;
    bool present = b->devs[0] != NULL;
    for (unsigned i = 0; i < 2; i++) {
        uint8_t *c = (i ? d->reset_config : d->config) + d->express;
        pci_set16(c + PCI_EXP_LNKSTA, PCI_EXP_LINK | (present ? LINK_UP : 0));
        pci_set16(c + PCI_EXP_SLTSTA, (pci_get16(c + PCI_EXP_SLTSTA) & ~SLOT_PRESENT) | (present ? SLOT_PRESENT : 0));
    }
    struct rootport *p = container_of(d, struct rootport, pci);
    pci_set16(d->reset_config + d->express + PCI_EXP_SLTCTL, present ? INDICATOR_ON : INDICATOR_OFF);
    if (slot_control(p) & SLOT_INTERRUPTS)
        return;
    p->indicator = present ? INDICATOR_ON : INDICATOR_OFF;
    pci_set16(d->config + d->express + PCI_EXP_SLTCTL, (slot_control(p) & ~SLOT_INDICATOR) | p->indicator);
}

/* ---- life ---- */

static void init_header(struct pci_dev *d)
{
    uint8_t *c = d->config, *w = d->wmask;
    c[PCI_HEADER_TYPE] = BRIDGE_HEADER;
    w[PCI_COMMAND] |= PCI_COMMAND_IO | PCI_COMMAND_MEM;
    memset(w + PCI_PRIMARY, 0xff, 3);
    /* Closed windows: the base is above the limit. */
    c[PCI_IO_BASE] = 0xf0;
    w[PCI_IO_BASE] = w[PCI_IO_LIMIT] = 0xf0;
    pci_set16(c + PCI_MEM_BASE, 0xfff0);
    pci_set16(w + PCI_MEM_BASE, 0xfff0);
    pci_set16(w + PCI_MEM_LIMIT, 0xfff0);
    pci_set16(c + PCI_PREF_BASE, 0xfff0 | WINDOW_64BIT);
    pci_set16(c + PCI_PREF_LIMIT, WINDOW_64BIT);
    pci_set16(w + PCI_PREF_BASE, 0xfff0);
    pci_set16(w + PCI_PREF_LIMIT, 0xfff0);
    memset(w + PCI_PREF_BASE_UPPER, 0xff, 8);
    pci_set16(w + PCI_BRIDGE_CONTROL, CONTROL_BITS);
    pci_set16(d->w1cmask + PCI_SECONDARY_STATUS, ERRORS_SECONDARY);
}

static void init_express(struct pci_dev *d, unsigned number, bool hotplug)
{
    pci_dev_express(d);
    uint8_t *c = d->config + d->express, *w = d->wmask + d->express;
    pci_set16(c + PCI_EXP_CAPS, PCI_EXP_VERSION | PCI_EXP_ROOT_PORT | PCI_EXP_SLOT);
    pci_set16(d->w1cmask + d->express + PCI_EXP_DEVSTA, ERRORS_DEVICE);
    pci_set32(c + PCI_EXP_LNKCAP, PCI_EXP_LINK | LINK_REPORTS | (number & 0xff) << 24);
    pci_set16(w + PCI_EXP_LNKCTL, LINK_CONTROL);
    pci_set32(c + PCI_EXP_SLTCAP, (hotplug ? SLOT_HOTPLUG : 0) | SLOT_NO_COMMAND | number << SLOT_NUMBER_AT);
    pci_set16(c + PCI_EXP_SLTCTL, INDICATOR_OFF);
    if (hotplug) {
        pci_set16(w + PCI_EXP_SLTCTL, SLOT_BUTTON | SLOT_PRESENCE | SLOT_INTERRUPTS | SLOT_INDICATOR | SLOT_LINK_ON);
        pci_set16(d->w1cmask + d->express + PCI_EXP_SLTSTA, SLOT_BUTTON | SLOT_PRESENCE | SLOT_LINK);
    }
    pci_set16(w + PCI_EXP_RTCTL, ROOT_CONTROL);
}

static int check_config(struct pci_host *h, const struct rootport_config *cfg, struct error *err)
{
    bool exists = cfg->bus >= 1 && cfg->bus <= PCI_BUS_MAX;
    if (!exists || pci_bus_find(h, cfg->bus))
        return error_set(err, 0, "root port: PCI bus %u %s; give each its own number from 1 to %d", cfg->bus,
                         exists ? "has a root port already" : "does not exist", PCI_BUS_MAX);
    if (cfg->slot >= PCI_SLOTS * 8)
        return error_set(err, 0, "root port of PCI bus %u: behind another port; give it a place on bus 0", cfg->bus);
    return 0;
}

int rootport_create(struct pci_host *h, const struct rootport_config *cfg, struct rootport **out, struct error *err)
{
    static const struct pci_id id = {.vendor = 0x1b36, .device = 0x000c, .class_code = 0x060400};
    if (check_config(h, cfg, err) < 0)
        return -1;
    struct rootport *p = calloc(1, sizeof *p);
    if (!p)
        return error_set(err, 0, "device 'pcie-root-port': out of memory; close other programs");
    struct pci_dev *d = &p->pci;
    pci_dev_init(d, rootport_desc.name, &rootport_ops, &id);
    memset(d->config + PCI_SUBVENDOR, 0, 4); /* a bridge's header has other registers there */
    init_header(d);
    pci_dev_pin(d);
    init_express(d, cfg->number & 0x1fff, cfg->hotplug);
    p->on_release = cfg->released;
    p->opaque = cfg->opaque;
    pci_dev_msi(d);
    p->bus = (struct pci_bus){.bridge = d, .number = cfg->bus, .changed = slot_changed};
    if (pci_dev_add(h, d, cfg->slot, err) < 0) {
        free(p);
        return -1;
    }
    slot_changed(&p->bus);
    struct pci_bus *last = &h->root;
    while (last->next && last->next->number < cfg->bus)
        last = last->next;
    p->bus.next = last->next;
    last->next = &p->bus;
    *out = p;
    return 0;
}

void rootport_destroy(struct rootport *p)
{
    if (!p)
        return;
    struct pci_bus *before = &p->pci.host->root;
    while (before->next != &p->bus)
        before = before->next;
    before->next = p->bus.next;
    pci_dev_remove(&p->pci);
    free(p);
}
