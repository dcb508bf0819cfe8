// SPDX-License-Identifier: GPL-2.0-or-later
/* A device's configuration space: header, BARs, capability list, and its interrupt pin. */
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "devices/pci/internal.h"

/* ---- building a device ---- */

void pci_dev_init(struct pci_dev *d, const char *name, const struct pci_ops *ops, const struct pci_id *id)
{
    *d = (struct pci_dev){.ops = ops, .name = name, .free_cap = PCI_HEADER_BYTES};
    uint8_t *c = d->config, *w = d->wmask;
    pci_set16(c + PCI_VENDOR, id->vendor);
    pci_set16(c + PCI_DEVICE, id->device);
    pci_set16(c + PCI_SUBVENDOR, id->subsystem_vendor);
    pci_set16(c + PCI_SUBSYSTEM, id->subsystem);
    pci_set32(c + PCI_REVISION, id->class_code << 8 | id->revision);
    pci_set16(w + PCI_COMMAND, PCI_COMMAND_MASTER | PCI_COMMAND_PARITY | PCI_COMMAND_SERR | PCI_COMMAND_INTX_OFF);
    w[PCI_CACHE_LINE] = 0xff;
}

void pci_dev_bar(struct pci_dev *d, unsigned bar, enum pci_bar_kind kind, uint64_t size, const struct io_ops *ops, void *opaque)
{
    uint8_t *reg = d->config + PCI_BAR0 + 4 * bar, *mask = d->wmask + PCI_BAR0 + 4 * bar;
    d->bars[bar] = (struct pci_bar){.kind = kind, .size = size, .ops = ops, .opaque = opaque};
    pci_set32(mask, (uint32_t) ~(size - 1));
    switch (kind) {
    case PCI_BAR_IO:
        pci_set32(reg, 0x1);
        d->wmask[PCI_COMMAND] |= PCI_COMMAND_IO;
        break;
    case PCI_BAR_MEM64_PREF:
        pci_set32(reg, 0xc);
        pci_set32(mask + 4, (uint32_t)(~(size - 1) >> 32));
        d->bars[bar + 1].kind = PCI_BAR_UPPER;
        d->wmask[PCI_COMMAND] |= PCI_COMMAND_MEM;
        break;
    case PCI_BAR_MEM32:
        d->wmask[PCI_COMMAND] |= PCI_COMMAND_MEM;
        break;
    case PCI_BAR_NONE:
    case PCI_BAR_UPPER:
        break;
    }
}

unsigned pci_dev_cap(struct pci_dev *d, uint8_t id, unsigned len)
{
    unsigned at = ALIGN_UP(d->free_cap, 4u);
    if (at + len > PCI_CONFIG_BYTES)
        return 0;
    d->config[at] = id;
    d->config[d->last_cap ? d->last_cap + 1 : PCI_CAP_LIST] = (uint8_t)at;
    d->config[PCI_STATUS] |= PCI_STATUS_CAPS;
    d->last_cap = at;
    d->free_cap = at + len;
    return at;
}

/* PCI Express base 4.0, 7.5.3. An integrated endpoint has no link, so the link registers are zero. */
void pci_dev_express(struct pci_dev *d)
{
    unsigned at = d->express = pci_dev_cap(d, PCI_CAP_EXPRESS, PCI_EXP_BYTES);
    if (!at)
        return;
    pci_set16(d->config + at + PCI_EXP_CAPS, PCI_EXP_VERSION | PCI_EXP_INTEGRATED);
    pci_set32(d->config + at + PCI_EXP_DEVCAP, BIT(15)); /* role-based error reporting, 128-byte payload */
    pci_set16(d->config + at + PCI_EXP_DEVCTL, 0x2810);  /* its defaults */
    pci_set16(d->wmask + at + PCI_EXP_DEVCTL, 0x7fff);   /* without function level reset */
    pci_set32(d->config + at + PCI_EXP_DEVCAP2, BIT(4)); /* completion timeout may be disabled */
    pci_set16(d->wmask + at + PCI_EXP_DEVCTL2, BIT(4) | 0xf);
}

/* Behind a port, a device is an endpoint at the end of a link. */
static void join_link(struct pci_dev *d)
{
    uint8_t *c = d->config + d->express;
    if (!d->express)
        return;
    pci_set16(c + PCI_EXP_CAPS, PCI_EXP_VERSION | PCI_EXP_ENDPOINT);
    pci_set32(c + PCI_EXP_LNKCAP, PCI_EXP_LINK);
    pci_set16(c + PCI_EXP_LNKSTA, PCI_EXP_LINK);
}

void pci_dev_pin(struct pci_dev *d)
{
    d->config[PCI_INT_PIN] = 1;
    d->wmask[PCI_INT_LINE] = 0xff;
}

/* ---- places ---- */

struct pci_bus *pci_bus_find(struct pci_host *h, unsigned number)
{
    struct pci_bus *b = &h->root;
    while (b && b->number != number)
        b = b->next;
    return b;
}

struct pci_dev *pci_iter_next(struct pci_iter *it)
{
    for (; it->bus; it->bus = it->bus->next, it->devfn = 0) {
        while (it->devfn < ARRAY_SIZE(it->bus->devs)) {
            struct pci_dev *d = it->bus->devs[it->devfn++];
            if (d)
                return d;
        }
    }
    return NULL;
}

/* Function 0 says whether the slot has others; it may come before or after them. */
static void tell_functions(struct pci_bus *b, unsigned slot)
{
    struct pci_dev *first = b->devs[PCI_DEVFN(slot, 0)];
    bool others = false;
    for (unsigned f = 1; f < 8; f++)
        others |= b->devs[PCI_DEVFN(slot, f)] != NULL;
    if (!first)
        return;
    uint8_t type = (first->config[PCI_HEADER_TYPE] & 0x7f) | (others ? 0x80 : 0);
    first->config[PCI_HEADER_TYPE] = first->reset_config[PCI_HEADER_TYPE] = type;
}

static int put(struct pci_host *h, struct pci_bus *b, struct pci_dev *d, unsigned devfn, struct error *err)
{
    if (b->devs[devfn])
        return error_set(err, 0, "device '%s': PCI address %02x:%02x.%x is that of '%s' already; give another", d->name, b->number,
                         PCI_SLOT(devfn), PCI_FUNC(devfn), b->devs[devfn]->name);
    if (b->bridge)
        join_link(d);
    d->host = h;
    d->bus = b;
    d->devfn = devfn;
    memcpy(d->reset_config, d->config, sizeof d->config);
    b->devs[devfn] = d;
    tell_functions(b, PCI_SLOT(devfn));
    if (b->changed)
        b->changed(b);
    return 0;
}

int pci_dev_add(struct pci_host *h, struct pci_dev *d, int place, struct error *err)
{
    if (place == PCI_SLOT_AUTO) {
        for (place = 1; place < PCI_SLOTS && (h->root.devs[PCI_DEVFN(place, 0)] || (h->reserved & BIT(place))); place++)
            ;
        if (place == PCI_SLOTS)
            return error_set(err, 0, "device '%s': all %d slots of PCI bus 0 are taken; attach fewer devices", d->name, PCI_SLOTS);
    }
    if (place < 0 || place > PCI_PLACE(PCI_BUS_MAX, PCI_SLOTS - 1, 7))
        return error_set(err, 0, "device '%s': there is no PCI slot %d; give one from 1 to %d", d->name, place, PCI_SLOTS - 1);
    unsigned number = (unsigned)place >> 8, slot = (unsigned)place & (PCI_SLOTS - 1), function = (unsigned)place >> 5 & 7;
    struct pci_bus *b = pci_bus_find(h, number);
    if (!b)
        return error_set(err, 0, "device '%s': there is no PCI bus %u; add a root port with that number", d->name, number);
    if (b->bridge && slot != 0)
        return error_set(err, 0, "device '%s': PCI bus %u has no slot %u; behind a root port there is slot 0 only", d->name, number,
                         slot);
    return put(h, b, d, PCI_DEVFN(slot, function), err);
}

void pci_dev_remove(struct pci_dev *d)
{
    struct pci_bus *b = d->bus;
    if (b) {
        pci_dev_reset(d);
        b->devs[d->devfn] = NULL;
        d->host = NULL;
        d->bus = NULL;
        tell_functions(b, PCI_SLOT(d->devfn));
        if (b->changed)
            b->changed(b);
    }
    pci_msix_free(d);
}

void pci_dev_path(const struct pci_dev *d, const char *name, char path[PCI_PATH_MAX])
{
    const struct pci_dev *bridge = d->bus->bridge;
    size_t len = (size_t)snprintf(path, PCI_PATH_MAX, "/pci@i0cf8");
    for (unsigned i = bridge ? 0 : 1; i < 2; i++) {
        const struct pci_dev *at = i ? d : bridge;
        len += (size_t)snprintf(path + len, PCI_PATH_MAX - len, "/%s@%x", i ? name : "pci-bridge", PCI_SLOT(at->devfn));
        if (PCI_FUNC(at->devfn) && len < PCI_PATH_MAX)
            len += (size_t)snprintf(path + len, PCI_PATH_MAX - len, ",%x", PCI_FUNC(at->devfn));
    }
}

void pci_dev_reset(struct pci_dev *d)
{
    memcpy(d->config, d->reset_config, sizeof d->config);
    d->intx = false;
    pci_msix_reset(d);
    pci_update_intx(d);
    pci_update_bars(d->host);
}

/* ---- BARs ---- */

static bool in_window(const struct pci_window *w, uint64_t addr, uint64_t size)
{
    return size <= w->size && addr >= w->base && addr - w->base <= w->size - size;
}

/* Does the port that a device is behind let it through? `bridge` is NULL on bus 0. */
static bool passes_memory(const struct pci_dev *bridge, uint64_t addr, uint64_t size)
{
    if (!bridge)
        return true;
    struct pci_window mem = pci_bridge_mem(bridge), pref = pci_bridge_pref(bridge);
    return (pci_get16(bridge->config + PCI_COMMAND) & PCI_COMMAND_MEM) &&
           (in_window(&mem, addr, size) || in_window(&pref, addr, size));
}

static bool passes_ports(const struct pci_dev *bridge, uint64_t addr, uint64_t size)
{
    if (!bridge)
        return true;
    struct pci_window io = pci_bridge_io(bridge);
    return (pci_get16(bridge->config + PCI_COMMAND) & PCI_COMMAND_IO) && in_window(&io, addr, size);
}

/* Where the guest wants this BAR; false when it is not decoded, or lies where no BAR may be. */
static bool bar_wanted(const struct pci_dev *d, unsigned bar, uint64_t *addr)
{
    const struct pci_host_config *cfg = &d->host->cfg;
    const struct pci_bar *b = &d->bars[bar];
    const struct pci_dev *bridge = d->bus->bridge;
    const uint8_t *reg = d->config + PCI_BAR0 + 4 * bar;
    uint16_t command = pci_get16(d->config + PCI_COMMAND);
    *addr = pci_get32(reg) & ~(b->size - 1);
    switch (b->kind) {
    case PCI_BAR_IO:
        return (command & PCI_COMMAND_IO) && in_window(&cfg->io, *addr, b->size) &&
               passes_ports(bridge, *addr, b->size);
    case PCI_BAR_MEM32:
        return (command & PCI_COMMAND_MEM) && in_window(&cfg->mmio32, *addr, b->size) &&
               passes_memory(bridge, *addr, b->size);
    case PCI_BAR_MEM64_PREF:
        *addr |= (uint64_t)pci_get32(reg + 4) << 32;
        return (command & PCI_COMMAND_MEM) &&
               (in_window(&cfg->mmio32, *addr, b->size) || in_window(&cfg->mmio64, *addr, b->size)) &&
               passes_memory(bridge, *addr, b->size);
    case PCI_BAR_NONE:
    case PCI_BAR_UPPER:
        break;
    }
    return false;
}

static enum bus_space bar_space(const struct pci_bar *b)
{
    return b->kind == PCI_BAR_IO ? BUS_PORT : BUS_MMIO;
}

static void update_bar(struct pci_dev *d, unsigned i, bool map)
{
    struct pci_bar *b = &d->bars[i];
    struct bus *bus = d->host->bus;
    uint64_t addr;
    if (!b->size)
        return;
    bool wanted = bar_wanted(d, i, &addr);
    if (!map && b->mapped && (!wanted || addr != b->addr)) {
        bus_unmap(bus, bar_space(b), b->addr);
        b->mapped = false;
    } else if (map && !b->mapped && wanted && bus_map(bus, bar_space(b), addr, b->size, b->ops, b->opaque, d->name, NULL) == 0) {
        b->mapped = true;
        b->addr = addr;
    } else {
        return;
    }
    if (d->ops->bar_changed)
        d->ops->bar_changed(d, i);
}

void pci_update_bars(struct pci_host *h)
{
    for (int map = 0; map <= 1; map++) {
        struct pci_iter it = {.bus = &h->root};
        for (struct pci_dev *d = pci_iter_next(&it); d; d = pci_iter_next(&it))
            for (unsigned i = 0; i < ARRAY_SIZE(d->bars); i++)
                update_bar(d, i, map);
    }
}

/* ---- the pin ---- */

/* A port passes the four pins of its bus on as its own, turned by the slot, which is 0 (PCI Express base 4.0, 2.2.8.1). */
unsigned pci_dev_gsi(const struct pci_dev *d)
{
    const struct pci_dev *at = d->bus->bridge ? d->bus->bridge : d;
    return pci_intx_gsi(PCI_SLOT(at->devfn), d->config[PCI_INT_PIN]);
}

void pci_update_intx(struct pci_dev *d)
{
    struct pci_host *h = d->host;
    unsigned pin = d->config[PCI_INT_PIN];
    bool out = d->intx && pin && !(pci_get16(d->config + PCI_COMMAND) & PCI_COMMAND_INTX_OFF) && !pci_msix_enabled(d) &&
               !pci_msi_enabled(d);
    d->config[PCI_STATUS] = (uint8_t)((d->config[PCI_STATUS] & ~PCI_STATUS_INTX) | (d->intx ? PCI_STATUS_INTX : 0));
    if (out == d->intx_out)
        return;
    d->intx_out = out;
    unsigned gsi = pci_dev_gsi(d), *count = &h->intx_count[gsi - PCI_INTX_GSI_BASE];
    *count += out ? 1 : -1;
    if (*count == (out ? 1 : 0)) {
        h->bus->ops->set_gsi(h->bus->board, gsi, out);
        pci_update_isa(h);
    }
}

void pci_update_isa(struct pci_host *h)
{
    bool level[ARRAY_SIZE(h->isa_level)] = {false};
    for (unsigned i = 0; i < PCI_INTX_GSIS; i++)
        level[h->isa_route[i]] |= h->isa_route[i] && h->intx_count[i];
    for (unsigned irq = 1; irq < ARRAY_SIZE(level); irq++) {
        if (level[irq] == h->isa_level[irq])
            continue;
        h->isa_level[irq] = level[irq];
        h->bus->ops->set_gsi(h->bus->board, irq, level[irq]);
    }
}

void pci_host_route(struct pci_host *h, unsigned pirq, unsigned isa_irq)
{
    h->isa_route[pirq] = (uint8_t)(isa_irq & 15);
    pci_update_isa(h);
}

void pci_intx_set(struct pci_dev *d, bool level)
{
    d->intx = level;
    pci_update_intx(d);
}

bool pci_dev_dma(const struct pci_dev *d)
{
    return d->config[PCI_COMMAND] & PCI_COMMAND_MASTER;
}

/* ---- access ---- */

uint32_t pci_dev_config_read(struct pci_dev *d, unsigned off, unsigned size)
{
    uint32_t v = 0;
    if (d->ops->config_read)
        d->ops->config_read(d, off, size);
    for (unsigned i = 0; i < size; i++)
        v |= (off + i < PCI_CONFIG_BYTES ? (uint32_t)d->config[off + i] : 0) << (8 * i);
    return v;
}

static bool touches(unsigned off, unsigned size, unsigned reg, unsigned len)
{
    return off < reg + len && reg < off + size;
}

void pci_dev_config_write(struct pci_dev *d, unsigned off, unsigned size, uint32_t val)
{
    for (unsigned i = 0; i < size && off + i < PCI_CONFIG_BYTES; i++) {
        uint8_t mask = d->wmask[off + i], byte = (uint8_t)(val >> (8 * i));
        d->config[off + i] = (d->config[off + i] & (uint8_t) ~(mask | (byte & d->w1cmask[off + i]))) | (byte & mask);
    }
    if (touches(off, size, PCI_COMMAND, 2) || touches(off, size, PCI_BAR0, 24))
        pci_update_bars(d->host);
    if (d->msix.cap && touches(off, size, d->msix.cap, 4))
        pci_msix_written(d);
    if (touches(off, size, PCI_COMMAND, 2) || (d->msix.cap && touches(off, size, d->msix.cap, 4)) ||
        (d->msi && touches(off, size, d->msi, 4)))
        pci_update_intx(d);
    if (d->ops->config_written)
        d->ops->config_written(d, off, size);
}
