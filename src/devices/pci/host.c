// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The host bridge of a q35 board (Intel 82G33 north bridge, the MCH): both ways into configuration space, and the reset control
 * register that sits among the ports of the first (ICH9 data sheet, 13.7.5).
 */
#include <string.h>

#include "base/util.h"
#include "devices/pci/internal.h"

#define PORT_CONFIG    0xcf8
#define CONFIG_PORTS   8
#define OFF_RESET      1 /* port 0xcf9 */
#define OFF_DATA       4
#define ADDRESS_ENABLE 0x80000000u
#define RESET_CPU      0x04 /* a rising edge resets */
#define RESET_BITS     0x0e

#define MCH_PCIEXBAR 0x60 /* 8 bytes: base of ECAM, code of its size, enable */
#define MCH_PAM0     0x90
#define MCH_SMRAM    0x9d

#define PCIEXBAR_ENABLE 1u
#define PCIEXBAR_SIZE   0x6u /* 256, 128, 64 buses */
#define PAM_OPEN        0x33 /* reads and writes go to RAM */
#define SMRAM_LOCKED    0x12 /* there is no SMRAM, and none can be opened */

/* ---- configuration by address ---- */

/* A port takes what is for its secondary bus, and there is nothing behind that. Until it has a number, nothing reaches it. */
static struct pci_dev *device_at(const struct pci_host *h, unsigned bus, unsigned devfn)
{
    const struct pci_bus *b = bus ? h->root.next : &h->root;
    while (b && b->bridge && (b->bridge->config[PCI_SECONDARY] != bus || b->bridge->config[PCI_SUBORDINATE] < bus))
        b = b->next;
    return b ? b->devs[devfn] : NULL;
}

static uint64_t ecam_read(void *dev, uint64_t off, unsigned size)
{
    struct pci_dev *d = device_at(dev, (unsigned)(off >> 20), off >> 12 & 0xff);
    return d ? pci_dev_config_read(d, off & 0xfff, size) : ~0ull;
}

static void ecam_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
    struct pci_dev *d = device_at(dev, (unsigned)(off >> 20), off >> 12 & 0xff);
    if (d)
        pci_dev_config_write(d, off & 0xfff, size, (uint32_t)val);
}

static const struct io_ops ecam_io = {.read = ecam_read, .write = ecam_write, .max_size = 4};

static struct pci_dev *addressed(const struct pci_host *h)
{
    return h->address & ADDRESS_ENABLE ? device_at(h, h->address >> 16 & 0xff, h->address >> 8 & 0xff) : NULL;
}

static uint64_t ports_read(void *dev, uint64_t off, unsigned size)
{
    struct pci_host *h = dev;
    if (off >= OFF_DATA) {
        struct pci_dev *d = addressed(h);
        return d ? pci_dev_config_read(d, (h->address & 0xfc) + (unsigned)(off - OFF_DATA), size) : ~0ull;
    }
    if (off == 0 && size == 4)
        return h->address;
    if (off == OFF_RESET && size == 1)
        return h->reset_control;
    return ~0ull;
}

static void ports_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
    struct pci_host *h = dev;
    if (off >= OFF_DATA) {
        struct pci_dev *d = addressed(h);
        if (d)
            pci_dev_config_write(d, (h->address & 0xfc) + (unsigned)(off - OFF_DATA), size, (uint32_t)val);
    } else if (off == 0 && size == 4) {
        h->address = (uint32_t)val & (ADDRESS_ENABLE | 0xfffffc);
    } else if (off == OFF_RESET && size == 1) {
        bool rising = (val & RESET_CPU) && !(h->reset_control & RESET_CPU);
        h->reset_control = val & RESET_BITS;
        if (rising)
            h->bus->ops->event(h->bus->board, BOARD_RESET, 0);
    }
}

static const struct io_ops ports_io = {.read = ports_read, .write = ports_write, .max_size = 4};

/* ---- the bridge ---- */

static const struct field pci_host_fields[] = {
    FIELD(FIELD_U32, struct pci_host, address),
    FIELD(FIELD_U8, struct pci_host, reset_control),
    FIELD_ARRAY(FIELD_BYTES, struct pci_host, bridge.config),
    {0},
};

static const struct device_desc pci_host_desc = {.name = "pci-host", .fields = pci_host_fields};

/* Puts the ECAM where PCIEXBAR says. One that would lie over something else is not there: RAM answers before the bus is asked. */
static void update_ecam(struct pci_host *h)
{
    const uint8_t *c = h->bridge.config + MCH_PCIEXBAR;
    uint32_t low = pci_get32(c), code = (low & PCIEXBAR_SIZE) >> 1;
    uint64_t size = 256 * MIB >> code, base = (((uint64_t)pci_get32(c + 4) << 32) | low) & ~(size - 1);
    bool wanted = (low & PCIEXBAR_ENABLE) && code < 3;
    if (h->ecam_mapped && (!wanted || base != h->ecam_at)) {
        bus_unmap(h->bus, BUS_MMIO, h->ecam_at);
        h->ecam_mapped = false;
    }
    if (wanted && !h->ecam_mapped && bus_map(h->bus, BUS_MMIO, base, size, &ecam_io, h, "pci-ecam", NULL) == 0) {
        h->ecam_mapped = true;
        h->ecam_at = base;
    }
}

static void bridge_written(struct pci_dev *d, unsigned off, unsigned size)
{
    struct pci_host *h = d->host;
    if (off < MCH_PCIEXBAR + 8 && off + size > MCH_PCIEXBAR)
        update_ecam(h);
    if (h->cfg.pam && off < MCH_PAM0 + PCI_PAM_REGS && off + size > MCH_PAM0)
        h->cfg.pam(h->cfg.opaque, d->config + MCH_PAM0);
}

static const struct pci_ops bridge_ops = {.desc = &pci_host_desc, .config_written = bridge_written};

/* The bridge's own registers: as after reset for a firmware to set up, else as one left them. */
static void init_bridge(struct pci_host *h)
{
    uint8_t *c = h->bridge.config, *w = h->bridge.wmask;
    c[MCH_SMRAM] = SMRAM_LOCKED;
    if (h->cfg.pam) {
        pci_set32(w + MCH_PCIEXBAR, 0xf0000000 | PCIEXBAR_SIZE | PCIEXBAR_ENABLE | 0x0c000000);
        pci_set32(w + MCH_PCIEXBAR + 4, 0xf);
        w[MCH_PAM0] = PAM_OPEN & 0xf0;
        memset(w + MCH_PAM0 + 1, PAM_OPEN, PCI_PAM_REGS - 1);
        return;
    }
    uint32_t code = h->cfg.buses == 256 ? 0 : h->cfg.buses == 128 ? 1 : 2;
    pci_set32(c + MCH_PCIEXBAR, (uint32_t)h->cfg.ecam_base | code << 1 | PCIEXBAR_ENABLE);
    pci_set32(c + MCH_PCIEXBAR + 4, (uint32_t)(h->cfg.ecam_base >> 32));
    c[MCH_PAM0] = PAM_OPEN & 0xf0;
    memset(c + MCH_PAM0 + 1, PAM_OPEN, PCI_PAM_REGS - 1);
}

int pci_host_create(struct bus *b, const struct pci_host_config *cfg, struct pci_host **out, struct error *err)
{
    /* The subsystem is how SeaBIOS knows that fw_cfg is there. */
    static const struct pci_id id = {
        .vendor = 0x8086, .device = 0x29c0, .subsystem_vendor = 0x1af4, .subsystem = 0x1100, .class_code = 0x060000};
    if ((cfg->buses != 64 && cfg->buses != 128 && cfg->buses != 256) || cfg->ecam_base % (cfg->buses * MIB))
        return error_set(
            err, 0, "PCI: an ECAM of %u buses at 0x%llx is not possible; give 64, 128 or 256 buses at a multiple of their size",
            cfg->buses, (unsigned long long)cfg->ecam_base);
    struct pci_host *h = calloc(1, sizeof *h);
    if (!h)
        return error_set(err, 0, "PCI: out of memory; close other programs");
    h->bus = b;
    h->cfg = *cfg;
    pci_dev_init(&h->bridge, pci_host_desc.name, &bridge_ops, &id);
    init_bridge(h);
    if (pci_dev_add(h, &h->bridge, 0, err) < 0)
        goto fail;
    if (!cfg->pam && bus_map(b, BUS_MMIO, cfg->ecam_base, cfg->buses * MIB, &ecam_io, h, "pci-ecam", err) < 0)
        goto fail;
    h->ecam_mapped = !cfg->pam;
    h->ecam_at = cfg->ecam_base;
    if (bus_map(b, BUS_PORT, PORT_CONFIG, CONFIG_PORTS, &ports_io, h, "pci-config", err) < 0)
        goto fail;
    h->ports_mapped = true;
    *out = h;
    return 0;
fail:
    pci_host_destroy(h);
    return -1;
}

void pci_host_destroy(struct pci_host *h)
{
    if (!h)
        return;
    if (h->ports_mapped)
        bus_unmap(h->bus, BUS_PORT, PORT_CONFIG);
    if (h->ecam_mapped)
        bus_unmap(h->bus, BUS_MMIO, h->ecam_at);
    free(h);
}

struct bus *pci_host_bus(struct pci_host *h)
{
    return h->bus;
}

void pci_host_reserve(struct pci_host *h, unsigned slot)
{
    h->reserved |= BIT(slot);
}

void pci_host_reset(struct pci_host *h)
{
    struct pci_iter it = {.bus = &h->root};
    for (struct pci_dev *d = pci_iter_next(&it); d; d = pci_iter_next(&it)) {
        if (d->ops->reset)
            d->ops->reset(d);
        pthread_mutex_lock(&h->bus->lock);
        pci_dev_reset(d);
        pthread_mutex_unlock(&h->bus->lock);
    }
    pthread_mutex_lock(&h->bus->lock);
    bridge_written(&h->bridge, 0, PCI_CONFIG_BYTES);
    pthread_mutex_unlock(&h->bus->lock);
    h->address = 0;
    h->reset_control = 0;
}
