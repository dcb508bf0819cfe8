// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * virtio over PCI (virtio 1.2, 4.1), without the legacy interface.
 *
 * BAR 0 holds the four structures, a page each, so that a host may one day map or trap them apart; BAR 2 holds MSI-X. Handlers run
 * under the device lock.
 */
#include <string.h>

#include "base/util.h"
#include "devices/virtio/virtio.h"

#define VIRTIO_VENDOR      0x1af4
#define VIRTIO_DEVICE_BASE 0x1040
#define VIRTIO_SUBSYSTEM   0x1100

#define BAR_VIRTIO 0
#define BAR_MSIX   2

#define AREA_BYTES  0x1000
#define AREA_COMMON 0x0000
#define AREA_ISR    0x1000
#define AREA_DEVICE 0x2000
#define AREA_NOTIFY 0x3000
#define BAR_BYTES   0x4000

#define CAP_VENDOR 0x09
enum { CAP_COMMON = 1, CAP_NOTIFY, CAP_ISR, CAP_DEVICE, CAP_PCI };

/* In a virtio capability (4.1.4). */
#define CAP_TYPE   3
#define CAP_BAR    4
#define CAP_OFFSET 8
#define CAP_LENGTH 12
#define CAP_BYTES  16
#define CAP_EXTRA  16 /* the notification multiplier, or the data of the access window */

/* The common configuration (4.1.4.3), as it lies in the BAR. */
struct common {
    uint32_t offered_select, offered, features_select, features;
    uint16_t config_vector, num_queues;
    uint8_t status, generation;
    uint16_t queue_select;
    uint16_t size, vector, enable, notify_off;
    uint64_t desc, driver, device;
    uint16_t notify_data, reset;
    uint32_t pad;
};

_Static_assert(sizeof(struct common) == 64, "the common configuration is 64 bytes");

/* ---- the four areas ---- */

static struct vq_config *selected(struct virtio_dev *v)
{
    return v->queue_select < v->nqueues ? &v->qcfg[v->queue_select] : NULL;
}

static uint32_t word(uint64_t bits, uint32_t select)
{
    return select < 2 ? (uint32_t)(bits >> (32 * select)) : 0;
}

/* Reading builds the whole structure and copies the part that is asked for. */
static uint64_t common_read(struct virtio_dev *v, unsigned off, unsigned size)
{
    static const struct vq_config none = {.vector = VIRTIO_NO_VECTOR};
    const struct vq_config *q = selected(v) ? selected(v) : &none;
    struct common c = {
        .offered_select = v->offered_select,
        .offered = word(v->offered, v->offered_select),
        .features_select = v->features_select,
        .features = word(v->features, v->features_select),
        .config_vector = v->config_vector,
        .num_queues = (uint16_t)v->nqueues,
        .status = v->status,
        .generation = v->generation,
        .queue_select = v->queue_select,
        .size = q->size,
        .vector = q->vector,
        .enable = q->enabled,
        .notify_off = v->queue_select,
        .desc = q->desc,
        .driver = q->driver,
        .device = q->device,
    };
    uint64_t val = 0;
    if (off + size <= sizeof c)
        memcpy(&val, (const uint8_t *)&c + off, size);
    return val;
}

static uint16_t checked_vector(const struct virtio_dev *v, uint64_t val)
{
    return val < v->pci.msix.vectors ? (uint16_t)val : VIRTIO_NO_VECTOR;
}

/* A 64-bit register may be written in halves (4.1.3.1). */
static void write_address(uint64_t *reg, unsigned at, unsigned size, uint64_t val)
{
    if (size >= 4)
        memcpy((uint8_t *)reg + at, &val, size);
}

/* The selected queue's registers: fixed once it is enabled, which it stays until a reset. */
static void queue_write(struct virtio_dev *v, unsigned off, unsigned size, uint64_t val)
{
    struct vq_config *q = selected(v);
    if (!q)
        return;
    if (off == offsetof(struct common, vector) && size == 2) {
        q->vector = checked_vector(v, val);
        return;
    }
    if (q->enabled || v->io != VIRTIO_IO_STOPPED)
        return;
    if (off == offsetof(struct common, size) && size == 2)
        q->size = val <= v->cls->queue_size ? (uint16_t)val : q->size;
    else if (off == offsetof(struct common, enable) && size == 2)
        q->enabled = val == 1;
    else if (off >= offsetof(struct common, desc) && off + size <= offsetof(struct common, driver))
        write_address(&q->desc, off - offsetof(struct common, desc), size, val);
    else if (off >= offsetof(struct common, driver) && off + size <= offsetof(struct common, device))
        write_address(&q->driver, off - offsetof(struct common, driver), size, val);
    else if (off >= offsetof(struct common, device) && off + size <= offsetof(struct common, notify_data))
        write_address(&q->device, off - offsetof(struct common, device), size, val);
}

static void write_features(struct virtio_dev *v, uint32_t val)
{
    unsigned shift = 32 * v->features_select;
    if (v->features_select < 2 && !(v->status & VIRTIO_S_FEATURES_OK))
        v->features = (v->features & ~(0xffffffffull << shift)) | (uint64_t)val << shift;
}

/* Only whole registers are written; while the device resets, none is. */
static void common_write(struct virtio_dev *v, unsigned off, unsigned size, uint64_t val)
{
    if (v->io == VIRTIO_IO_STOPPING)
        return;
    switch (off) {
    case offsetof(struct common, offered_select):
        v->offered_select = size == 4 ? (uint32_t)val : v->offered_select;
        break;
    case offsetof(struct common, features_select):
        v->features_select = size == 4 ? (uint32_t)val : v->features_select;
        break;
    case offsetof(struct common, features):
        if (size == 4)
            write_features(v, (uint32_t)val);
        break;
    case offsetof(struct common, config_vector):
        v->config_vector = size == 2 ? checked_vector(v, val) : v->config_vector;
        break;
    case offsetof(struct common, status):
        if (size == 1)
            virtio_set_status(v, (uint8_t)val);
        break;
    case offsetof(struct common, queue_select):
        v->queue_select = size == 2 ? (uint16_t)val : v->queue_select;
        break;
    default:
        queue_write(v, off, size, val);
        break;
    }
}

/* Reading clears it and lowers the pin (4.1.4.5). */
static uint64_t isr_read(struct virtio_dev *v)
{
    uint8_t isr = v->isr;
    v->isr = 0;
    pci_intx_set(&v->pci, false);
    return isr;
}

static uint64_t device_read(struct virtio_dev *v, unsigned off, unsigned size)
{
    uint64_t val = 0;
    for (unsigned i = 0; i < size && off + i < v->cls->config_len; i++)
        val |= (uint64_t)v->config[off + i] << (8 * i);
    return val;
}

static void device_write(struct virtio_dev *v, unsigned off, unsigned size, uint64_t val)
{
    for (unsigned i = 0; i < size && off + i < v->cls->config_len; i++) {
        uint8_t mask = v->cls->config_wmask[off + i], byte = (uint8_t)(val >> (8 * i));
        v->config[off + i] = (v->config[off + i] & (uint8_t)~mask) | (byte & mask);
    }
    if (v->cls->config_written && off < v->cls->config_len)
        v->cls->config_written(v, off, size);
}

static uint64_t bar_read(void *opaque, uint64_t at, unsigned size)
{
    struct virtio_dev *v = opaque;
    unsigned off = at % AREA_BYTES;
    switch (at - off) {
    case AREA_COMMON:
        return common_read(v, off, size);
    case AREA_ISR:
        return off == 0 ? isr_read(v) : 0;
    case AREA_DEVICE:
        return device_read(v, off, size);
    }
    return 0;
}

static void bar_write(void *opaque, uint64_t at, unsigned size, uint64_t val)
{
    struct virtio_dev *v = opaque;
    unsigned off = at % AREA_BYTES;
    switch (at - off) {
    case AREA_COMMON:
        common_write(v, off, size, val);
        break;
    case AREA_DEVICE:
        device_write(v, off, size, val);
        break;
    case AREA_NOTIFY:
        virtio_kick(v, off / VIRTIO_NOTIFY_STRIDE);
        break;
    }
}

static const struct io_ops bar_io = {.read = bar_read, .write = bar_write};

/* ---- the configuration access window (4.1.4.9): a BAR register through configuration space ---- */

/* The BAR and the place in it that the window points at; NULL when that is nonsense. */
static const struct pci_bar *window_target(const struct virtio_dev *v, uint32_t *off, uint32_t *len)
{
    const uint8_t *cap = v->pci.config + v->window_cap;
    unsigned bar = cap[CAP_BAR];
    *off = pci_get32(cap + CAP_OFFSET);
    *len = pci_get32(cap + CAP_LENGTH);
    if (bar >= ARRAY_SIZE(v->pci.bars) || !v->pci.bars[bar].ops)
        return NULL;
    const struct pci_bar *b = &v->pci.bars[bar];
    bool ok = (*len == 1 || *len == 2 || *len == 4) && *off % *len == 0 && *off < b->size && *len <= b->size - *off;
    return ok ? b : NULL;
}

static bool in_window_data(const struct virtio_dev *v, unsigned off, unsigned size)
{
    unsigned data = v->window_cap + CAP_EXTRA;
    return off < data + 4 && data < off + size;
}

static void config_read(struct pci_dev *d, unsigned off, unsigned size)
{
    struct virtio_dev *v = container_of(d, struct virtio_dev, pci);
    uint32_t at, len;
    if (!in_window_data(v, off, size))
        return;
    const struct pci_bar *b = window_target(v, &at, &len);
    if (b)
        pci_set32(d->config + v->window_cap + CAP_EXTRA, (uint32_t)b->ops->read(b->opaque, at, len));
}

static void config_written(struct pci_dev *d, unsigned off, unsigned size)
{
    struct virtio_dev *v = container_of(d, struct virtio_dev, pci);
    uint32_t at, len;
    virtio_set_dma(v, pci_dev_dma(d));
    if (!in_window_data(v, off, size))
        return;
    const struct pci_bar *b = window_target(v, &at, &len);
    if (b) {
        uint64_t val = pci_get32(d->config + v->window_cap + CAP_EXTRA);
        b->ops->write(b->opaque, at, len, len < 4 ? val & ((1ull << 8 * len) - 1) : val);
    }
}

/* ---- life ---- */

static void bar_changed(struct pci_dev *d, unsigned bar)
{
    if (bar == BAR_VIRTIO)
        virtio_ioeventfds(container_of(d, struct virtio_dev, pci), d->bars[bar].mapped ? d->bars[bar].addr + AREA_NOTIFY : 0);
}

static void transport_reset(struct pci_dev *d)
{
    virtio_reset_wait(container_of(d, struct virtio_dev, pci));
}

static void transport_bus_reset(struct pci_dev *d)
{
    struct virtio_dev *v = container_of(d, struct virtio_dev, pci);
    virtio_set_dma(v, false);
    virtio_set_status(v, 0);
}

static const struct pci_ops transport_ops = {
    .desc = &virtio_desc,
    .config_read = config_read,
    .config_written = config_written,
    .bar_changed = bar_changed,
    .reset = transport_reset,
    .bus_reset = transport_bus_reset,
};

static unsigned add_cap(struct virtio_dev *v, uint8_t type, uint32_t off, uint32_t len, unsigned bytes)
{
    unsigned at = pci_dev_cap(&v->pci, CAP_VENDOR, bytes);
    uint8_t *c = v->pci.config + at;
    c[2] = (uint8_t)bytes;
    c[CAP_TYPE] = type;
    c[CAP_BAR] = BAR_VIRTIO;
    pci_set32(c + CAP_OFFSET, off);
    pci_set32(c + CAP_LENGTH, len);
    return at;
}

int virtio_pci_init(struct virtio_dev *v, struct error *err)
{
    const struct virtio_class *cls = v->cls;
    struct pci_id id = {
        .vendor = VIRTIO_VENDOR,
        .device = VIRTIO_DEVICE_BASE + cls->type,
        .subsystem_vendor = VIRTIO_VENDOR,
        .subsystem = VIRTIO_SUBSYSTEM,
        .class_code = cls->pci_class,
        .revision = 1,
    };
    struct pci_dev *d = &v->pci;
    pci_dev_init(d, cls->name, &transport_ops, &id);
    pci_dev_pin(d);
    pci_dev_bar(d, BAR_VIRTIO, PCI_BAR_MEM64_PREF, BAR_BYTES, &bar_io, v);
    if (pci_dev_msix(d, BAR_MSIX, v->nqueues + 1, err) < 0)
        return -1;
    add_cap(v, CAP_COMMON, AREA_COMMON, sizeof(struct common), CAP_BYTES);
    add_cap(v, CAP_ISR, AREA_ISR, 1, CAP_BYTES);
    if (cls->config_len)
        add_cap(v, CAP_DEVICE, AREA_DEVICE, cls->config_len, CAP_BYTES);
    unsigned notify = add_cap(v, CAP_NOTIFY, AREA_NOTIFY, VIRTIO_NOTIFY_STRIDE * v->nqueues, CAP_BYTES + 4);
    pci_set32(d->config + notify + CAP_EXTRA, VIRTIO_NOTIFY_STRIDE);
    v->window_cap = add_cap(v, CAP_PCI, 0, 0, CAP_BYTES + 4);
    d->wmask[v->window_cap + CAP_BAR] = 0xff;
    memset(d->wmask + v->window_cap + CAP_OFFSET, 0xff, CAP_BYTES + 4 - CAP_OFFSET);
    pci_dev_express(d);
    return 0;
}
