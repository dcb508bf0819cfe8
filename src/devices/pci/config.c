// SPDX-License-Identifier: GPL-2.0-or-later
/* A device's configuration space: header, BARs, capability list, and its interrupt pin. */
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
    unsigned at = pci_dev_cap(d, PCI_CAP_EXPRESS, 0x3c);
    if (!at)
        return;
    pci_set16(d->config + at + 2, 2 | 9 << 4);     /* version 2, root complex integrated endpoint */
    pci_set32(d->config + at + 4, BIT(15));        /* device capabilities: role-based error reporting, 128-byte payload */
    pci_set16(d->config + at + 8, 0x2810);         /* device control: its defaults */
    pci_set16(d->wmask + at + 8, 0x7fff);          /* without function level reset */
    pci_set32(d->config + at + 0x24, BIT(4));      /* device capabilities 2: completion timeout may be disabled */
    pci_set16(d->wmask + at + 0x28, BIT(4) | 0xf); /* device control 2 */
}

void pci_dev_pin(struct pci_dev *d)
{
    d->config[PCI_INT_PIN] = 1;
    d->wmask[PCI_INT_LINE] = 0xff;
}

void pci_dev_multi(struct pci_dev *d)
{
    d->config[PCI_HEADER_TYPE] |= 0x80;
}

int pci_dev_add_function(struct pci_host *h, struct pci_dev *d, unsigned slot, unsigned function, struct error *err)
{
    unsigned devfn = PCI_DEVFN(slot, function);
    if (h->devs[devfn])
        return error_set(err, 0, "device '%s': PCI address %02x.%x is that of '%s' already; give another", d->name, slot, function,
                         h->devs[devfn]->name);
    d->host = h;
    d->devfn = devfn;
    memcpy(d->reset_config, d->config, sizeof d->config);
    h->devs[devfn] = d;
    return 0;
}

int pci_dev_add(struct pci_host *h, struct pci_dev *d, int slot, struct error *err)
{
    if (slot == PCI_SLOT_AUTO) {
        for (slot = 1; slot < PCI_SLOTS && h->devs[PCI_DEVFN(slot, 0)]; slot++)
            ;
        if (slot == PCI_SLOTS)
            return error_set(err, 0, "device '%s': all %d slots of PCI bus 0 are taken; attach fewer devices", d->name, PCI_SLOTS);
    }
    if (slot < 0 || slot >= PCI_SLOTS)
        return error_set(err, 0, "device '%s': there is no PCI slot %d; give one from 1 to %d", d->name, slot, PCI_SLOTS - 1);
    if (h->devs[PCI_DEVFN(slot, 0)])
        return error_set(err, 0, "device '%s': PCI slot %d holds '%s' already; give another", d->name, slot,
                         h->devs[PCI_DEVFN(slot, 0)]->name);
    return pci_dev_add_function(h, d, (unsigned)slot, 0, err);
}

void pci_dev_remove(struct pci_dev *d)
{
    struct pci_host *h = d->host;
    if (h) {
        pci_dev_reset(d);
        h->devs[d->devfn] = NULL;
        d->host = NULL;
    }
    pci_msix_free(d);
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

/* Where the guest wants this BAR; false when it is not decoded, or lies where no BAR may be. */
static bool bar_wanted(const struct pci_dev *d, unsigned bar, uint64_t *addr)
{
    const struct pci_host_config *cfg = &d->host->cfg;
    const struct pci_bar *b = &d->bars[bar];
    const uint8_t *reg = d->config + PCI_BAR0 + 4 * bar;
    uint16_t command = pci_get16(d->config + PCI_COMMAND);
    *addr = pci_get32(reg) & ~(b->size - 1);
    switch (b->kind) {
    case PCI_BAR_IO:
        return (command & PCI_COMMAND_IO) && in_window(&cfg->io, *addr, b->size);
    case PCI_BAR_MEM32:
        return (command & PCI_COMMAND_MEM) && in_window(&cfg->mmio32, *addr, b->size);
    case PCI_BAR_MEM64_PREF:
        *addr |= (uint64_t)pci_get32(reg + 4) << 32;
        return (command & PCI_COMMAND_MEM) && (in_window(&cfg->mmio32, *addr, b->size) || in_window(&cfg->mmio64, *addr, b->size));
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
        for (unsigned fn = 0; fn < ARRAY_SIZE(h->devs); fn++) {
            for (unsigned i = 0; h->devs[fn] && i < ARRAY_SIZE(h->devs[fn]->bars); i++)
                update_bar(h->devs[fn], i, map);
        }
    }
}

/* ---- the pin ---- */

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
    unsigned gsi = pci_intx_gsi(PCI_SLOT(d->devfn), pin), *count = &h->intx_count[gsi - PCI_INTX_GSI_BASE];
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
        d->config[off + i] = (d->config[off + i] & (uint8_t)~mask) | (byte & mask);
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
