// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * MSI-X (PCI 3.0, 6.8.2): a table of messages and an array of pending bits in a BAR of their own.
 *
 * A vector that is masked, by itself or with its function, sets its pending bit; unmasking sends it. Messages go to the board by a
 * call, not through an irqfd: the sender holds the device lock for the mask bits anyway, and the call saves softkvm a hop to the
 * thread that watches the eventfds.
 */
#include <string.h>

#include "base/util.h"
#include "devices/pci/internal.h"

#define MSIX_CONTROL 2 /* in the capability */
#define MSIX_TABLE   4
#define MSIX_PBA     8
#define MSIX_CAP_LEN 12

#define MSIX_ENABLE   0x8000
#define MSIX_FUNCMASK 0x4000

#define PENDING_WORDS(n) (((n) + 63) / 64)

#define ENTRY_BYTES    16u
#define ENTRY_MASKED   1u
#define MSIX_BAR_MIN   4096u
#define MSIX_PBA_ALIGN 2048u

static uint16_t control(const struct pci_dev *d)
{
    return d->msix.cap ? pci_get16(d->config + d->msix.cap + MSIX_CONTROL) : 0;
}

bool pci_msix_enabled(const struct pci_dev *d)
{
    return control(d) & MSIX_ENABLE;
}

static bool open_for(const struct pci_dev *d, unsigned vector)
{
    return (control(d) & (MSIX_ENABLE | MSIX_FUNCMASK)) == MSIX_ENABLE && !(d->msix.table[vector].control & ENTRY_MASKED);
}

static void deliver(struct pci_dev *d, unsigned vector)
{
    const struct pci_msix_entry *e = &d->msix.table[vector];
    struct bus *bus = d->host->bus;
    d->msix.pending[vector / 64] &= ~BIT64(vector % 64);
    bus->ops->send_msi(bus->board, e->addr, e->data);
}

static void deliver_pending(struct pci_dev *d, unsigned vector)
{
    if ((d->msix.pending[vector / 64] & BIT64(vector % 64)) && open_for(d, vector))
        deliver(d, vector);
}

void pci_msix_notify(struct pci_dev *d, unsigned vector)
{
    if (!pci_msix_enabled(d) || vector >= d->msix.vectors)
        return;
    if (open_for(d, vector))
        deliver(d, vector);
    else
        d->msix.pending[vector / 64] |= BIT64(vector % 64);
}

void pci_msix_written(struct pci_dev *d)
{
    for (unsigned i = 0; i < d->msix.vectors; i++)
        deliver_pending(d, i);
}

/* Both structures are little-endian in memory as they are on the bus, so a register access is a copy. */
static uint64_t msix_read(void *opaque, uint64_t off, unsigned size)
{
    const struct pci_msix *m = &((struct pci_dev *)opaque)->msix;
    uint64_t table = m->vectors * ENTRY_BYTES, pba = PENDING_WORDS(m->vectors) * 8, v = 0;
    if (off + size <= table)
        memcpy(&v, (const uint8_t *)m->table + off, size);
    else if (off >= m->pba && off - m->pba + size <= pba)
        memcpy(&v, (const uint8_t *)m->pending + (off - m->pba), size);
    return v;
}

/* Only aligned dwords and qwords are defined (6.8.2); others are dropped. */
static void msix_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
    struct pci_dev *d = opaque;
    struct pci_msix *m = &d->msix;
    if (size < 4 || off % size || off + size > m->vectors * ENTRY_BYTES)
        return;
    unsigned vector = (unsigned)(off / ENTRY_BYTES);
    memcpy((uint8_t *)m->table + off, &val, size);
    m->table[vector].control &= ENTRY_MASKED;
    deliver_pending(d, vector);
}

static const struct io_ops msix_io = {.read = msix_read, .write = msix_write};

int pci_dev_msix(struct pci_dev *d, unsigned bar, unsigned vectors, struct error *err)
{
    struct pci_msix *m = &d->msix;
    uint64_t size = MSIX_BAR_MIN;
    unsigned pba = ALIGN_UP(vectors * ENTRY_BYTES, MSIX_PBA_ALIGN);
    while (size < pba + PENDING_WORDS(vectors) * 8)
        size *= 2;
    unsigned cap = pci_dev_cap(d, PCI_CAP_MSIX, MSIX_CAP_LEN);
    m->table = calloc(vectors, sizeof *m->table);
    m->pending = calloc(PENDING_WORDS(vectors), sizeof *m->pending);
    if (!cap || !m->table || !m->pending) {
        pci_msix_free(d);
        return error_set(err, 0, "device '%s': no room for %u interrupt vectors; close other programs", d->name, vectors);
    }
    pci_set16(d->config + cap + MSIX_CONTROL, (uint16_t)(vectors - 1));
    pci_set16(d->wmask + cap + MSIX_CONTROL, MSIX_ENABLE | MSIX_FUNCMASK);
    pci_set32(d->config + cap + MSIX_TABLE, bar);
    pci_set32(d->config + cap + MSIX_PBA, pba | bar);
    m->cap = cap;
    m->vectors = vectors;
    m->pba = pba;
    pci_msix_reset(d);
    pci_dev_bar(d, bar, PCI_BAR_MEM32, size, &msix_io, d);
    return 0;
}

void pci_msix_reset(struct pci_dev *d)
{
    struct pci_msix *m = &d->msix;
    for (unsigned i = 0; i < m->vectors; i++) {
        m->table[i] = (struct pci_msix_entry){.control = ENTRY_MASKED};
        m->pending[i / 64] = 0;
    }
}

void pci_msix_free(struct pci_dev *d)
{
    free(d->msix.table);
    free(d->msix.pending);
    d->msix = (struct pci_msix){0};
}
