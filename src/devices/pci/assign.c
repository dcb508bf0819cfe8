// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The work of a firmware, for guests that are started without one: bus numbers, windows, addresses, interrupt lines.
 *
 * Each port gets the next bus number, a memory window and a prefetchable one with room for what is behind it and, at the least, for
 * what may be plugged in later, and ports only where a device has some. A window is cut off the host's; the BARs behind the port
 * are cut off the window.
 */
#include <string.h>

#include "base/util.h"
#include "devices/pci/internal.h"

#define WINDOW_MIN   (2 * MIB) /* bytes of memory that an empty slot has room for */
#define WINDOW_ALIGN MIB
#define IO_ALIGN     0x1000u

struct windows {
    struct pci_window io, mmio32, mmio64;
    struct pci_window pref; /* a port's prefetchable one */
};

/* Cuts `size` bytes at a multiple of `align` off the front of what is left of a window. */
static bool take(struct pci_window *w, uint64_t size, uint64_t align, uint64_t *addr)
{
    uint64_t at = ALIGN_UP(w->base, align), skipped = at - w->base;
    if (at < w->base || w->size < skipped || w->size - skipped < size)
        return false;
    *addr = at;
    w->base = at + size;
    w->size -= skipped + size;
    return true;
}

static bool place_bar(struct pci_dev *d, unsigned i, struct windows *w)
{
    const struct pci_bar *b = &d->bars[i];
    uint64_t addr = 0;
    switch (b->kind) {
    case PCI_BAR_NONE:
    case PCI_BAR_UPPER:
        return true;
    case PCI_BAR_IO:
        if (!take(&w->io, b->size, b->size, &addr))
            return false;
        break;
    case PCI_BAR_MEM32:
        if (!take(&w->mmio32, b->size, b->size, &addr))
            return false;
        break;
    case PCI_BAR_MEM64_PREF:
        if (!take(&w->pref, b->size, b->size, &addr) && !take(&w->mmio32, b->size, b->size, &addr) &&
            !take(&w->mmio64, b->size, b->size, &addr))
            return false;
        pci_dev_config_write(d, PCI_BAR0 + 4 * (i + 1), 4, (uint32_t)(addr >> 32));
        break;
    }
    pci_dev_config_write(d, PCI_BAR0 + 4 * i, 4, (uint32_t)addr);
    return true;
}

static int place_device(struct pci_dev *d, struct windows *w, struct error *err)
{
    uint16_t command = pci_get16(d->config + PCI_COMMAND);
    pci_dev_config_write(d, PCI_COMMAND, 2, command & ~(PCI_COMMAND_IO | PCI_COMMAND_MEM));
    for (unsigned i = 0; i < ARRAY_SIZE(d->bars); i++) {
        if (!place_bar(d, i, w))
            return error_set(err, 0, "device '%s': BAR %u (0x%llx bytes) does not fit the PCI windows; attach fewer devices",
                             d->name, i, (unsigned long long)d->bars[i].size);
    }
    if (d->config[PCI_INT_PIN])
        pci_dev_config_write(d, PCI_INT_LINE, 1, pci_dev_gsi(d));
    pci_dev_config_write(d, PCI_COMMAND, 2, command | PCI_COMMAND_IO | PCI_COMMAND_MEM);
    return 0;
}

static int place_devices(struct pci_bus *b, struct windows *w, struct error *err)
{
    struct pci_iter it = {.bus = b};
    for (struct pci_dev *d = pci_iter_next(&it); d && it.bus == b; d = pci_iter_next(&it))
        if (place_device(d, w, err) < 0)
            return -1;
    return 0;
}

/* Room for BARs of these kinds behind a port, in any order: naturally aligned blocks waste less than they hold. */
static uint64_t room(const struct pci_bus *b, enum pci_bar_kind kind, uint64_t *largest)
{
    struct pci_iter it = {.bus = (struct pci_bus *)b};
    uint64_t sum = 0;
    *largest = 0;
    for (const struct pci_dev *d = pci_iter_next(&it); d && it.bus == b; d = pci_iter_next(&it)) {
        for (unsigned i = 0; i < ARRAY_SIZE(d->bars); i++) {
            if (d->bars[i].kind != kind)
                continue;
            sum += d->bars[i].size;
            *largest = MAX(*largest, d->bars[i].size);
        }
    }
    return 2 * sum;
}

static bool place_memory(struct pci_bus *b, struct windows *host, struct windows *own)
{
    struct pci_dev *d = b->bridge;
    uint64_t largest, at, size = ALIGN_UP(MAX(room(b, PCI_BAR_MEM32, &largest), WINDOW_MIN), WINDOW_ALIGN);
    if (!take(&host->mmio32, size, MAX(largest, WINDOW_ALIGN), &at))
        return false;
    pci_dev_config_write(d, PCI_MEM_BASE, 2, (uint32_t)(at >> 16));
    pci_dev_config_write(d, PCI_MEM_LIMIT, 2, (uint32_t)((at + size - 1) >> 16));
    own->mmio32 = (struct pci_window){at, size};
    size = ALIGN_UP(MAX(room(b, PCI_BAR_MEM64_PREF, &largest), WINDOW_MIN), WINDOW_ALIGN);
    if (!take(&host->mmio32, size, MAX(largest, WINDOW_ALIGN), &at) && !take(&host->mmio64, size, MAX(largest, WINDOW_ALIGN), &at))
        return false;
    pci_dev_config_write(d, PCI_PREF_BASE, 2, (uint32_t)(at >> 16 & 0xffff));
    pci_dev_config_write(d, PCI_PREF_LIMIT, 2, (uint32_t)((at + size - 1) >> 16 & 0xffff));
    pci_dev_config_write(d, PCI_PREF_BASE_UPPER, 4, (uint32_t)(at >> 32));
    pci_dev_config_write(d, PCI_PREF_LIMIT_UPPER, 4, (uint32_t)((at + size - 1) >> 32));
    own->pref = (struct pci_window){at, size};
    return true;
}

static bool place_ports(struct pci_bus *b, struct windows *host, struct windows *own)
{
    uint64_t largest, at, size = ALIGN_UP(room(b, PCI_BAR_IO, &largest), IO_ALIGN);
    if (!size)
        return true;
    if (!take(&host->io, size, IO_ALIGN, &at))
        return false;
    pci_dev_config_write(b->bridge, PCI_IO_BASE, 1, (uint32_t)(at >> 8));
    pci_dev_config_write(b->bridge, PCI_IO_LIMIT, 1, (uint32_t)((at + size - 1) >> 8));
    own->io = (struct pci_window){at, size};
    return true;
}

/* `number` is the next bus's. The port's own windows are cut first, so that its decoders are on when the BARs behind it are. */
static int place_bus(struct pci_bus *b, unsigned number, struct windows *host, struct error *err)
{
    struct windows own = {0};
    pci_dev_config_write(b->bridge, PCI_SECONDARY, 1, number);
    pci_dev_config_write(b->bridge, PCI_SUBORDINATE, 1, number);
    if (!place_memory(b, host, &own) || !place_ports(b, host, &own))
        return error_set(err, 0, "PCI bus %u: its windows do not fit the host bridge's; use fewer root ports", b->number);
    return place_devices(b, &own, err);
}

static int place_all(struct pci_host *h, struct error *err)
{
    struct windows w = {.io = h->cfg.io, .mmio32 = h->cfg.mmio32, .mmio64 = h->cfg.mmio64};
    unsigned number = 1;
    if (place_devices(&h->root, &w, err) < 0)
        return -1;
    for (struct pci_bus *b = h->root.next; b; b = b->next)
        if (place_bus(b, number++, &w, err) < 0)
            return -1;
    return 0;
}

int pci_host_assign(struct pci_host *h, struct error *err)
{
    pthread_mutex_lock(&h->bus->lock);
    int ret = place_all(h, err);
    pthread_mutex_unlock(&h->bus->lock);
    return ret;
}
