// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The ISA bridge of the ICH9 (data sheet, chapter 13; its memory-mapped configuration registers in chapter 10). The board wires the
 * legacy devices; what is left is where the ACPI registers are, to which of the PICs' lines the PIRQs go besides the IOAPIC, and a
 * page of registers that say how the pins of the ICH9's own devices are wired.
 *
 * Without a firmware its registers read as one left them, so that a guest finds the ports of the ACPI block reserved.
 */
#include <string.h>

#include "base/util.h"
#include "devices/pci/internal.h"

#define LPC_SLOT      31
#define LPC_PMBASE    0x40 /* port of the ACPI registers, bit 0 set */
#define LPC_ACPI_CNTL 0x44
#define LPC_PIRQ_A    0x60 /* to D; 0x68 to 0x6b: E to H */
#define LPC_PIRQ_E    0x68
#define LPC_GEN_PMCON 0xa0
#define LPC_RCBA      0xf0

#define ACPI_CNTL_ENABLE 0x80
#define ACPI_CNTL_SCI    0x07 /* the SCI's line; the board has it at GSI 9 whatever it says */
#define PIRQ_UNROUTED    0x80
#define PIRQ_MASK        0x8f
#define RCBA_ENABLE      1u

#define RCBA_SIZE   0x4000u
#define RCBA_IR_LOW 0x3140u /* D31IR, D30IR, … D25IR: 16 bits each, with gaps as the data sheet has them */
#define RCBA_IR_END 0x3152u
#define IR_DEFAULT  0x3210u /* pin A to PIRQA, …: pci_intx_gsi() */

struct lpc {
    struct pci_dev pci;
    struct lpc_config cfg;
    bool rcba_mapped;
    uint64_t rcba_at;
    uint16_t pm_at; /* what pm_moved() was last told */
};

static const struct field lpc_fields[] = {FIELD_ARRAY(FIELD_BYTES, struct lpc, pci.config), {0}};
static const struct device_desc lpc_desc = {.name = "ich9-lpc", .fields = lpc_fields};

/* ---- the memory-mapped registers: interrupt routes, which are as they are; everything else reads as zero ---- */

static uint64_t rcba_read(void *dev, uint64_t off, unsigned size)
{
    uint64_t v = 0;
    (void)dev;
    for (unsigned i = 0; i < size; i++) {
        uint64_t at = off + i;
        uint64_t byte = at >= RCBA_IR_LOW && at < RCBA_IR_END ? IR_DEFAULT >> (8 * (at & 1)) & 0xff : 0;
        v |= byte << (8 * i);
    }
    return v;
}

static void rcba_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
    (void)dev, (void)off, (void)size, (void)val;
}

static const struct io_ops rcba_io = {.read = rcba_read, .write = rcba_write};

static void update_rcba(struct lpc *l)
{
    struct bus *bus = l->pci.host->bus;
    uint32_t reg = pci_get32(l->pci.config + LPC_RCBA);
    uint64_t base = reg & ~(RCBA_SIZE - 1);
    bool wanted = reg & RCBA_ENABLE;
    if (l->rcba_mapped && (!wanted || base != l->rcba_at)) {
        bus_unmap(bus, BUS_MMIO, l->rcba_at);
        l->rcba_mapped = false;
    }
    if (wanted && !l->rcba_mapped && bus_map(bus, BUS_MMIO, base, RCBA_SIZE, &rcba_io, l, "ich9-rcba", NULL) == 0) {
        l->rcba_mapped = true;
        l->rcba_at = base;
    }
}

/* ---- configuration ---- */

static void update_pm(struct lpc *l)
{
    const uint8_t *c = l->pci.config;
    uint16_t port = c[LPC_ACPI_CNTL] & ACPI_CNTL_ENABLE ? (uint16_t)(pci_get16(c + LPC_PMBASE) & 0xff80) : 0;
    if (!l->cfg.pm_moved || port == l->pm_at)
        return;
    l->pm_at = port;
    l->cfg.pm_moved(l->cfg.opaque, port);
}

static unsigned pirq_reg(unsigned pirq)
{
    return pirq < 4 ? LPC_PIRQ_A + pirq : LPC_PIRQ_E + pirq - 4;
}

static void update_routes(struct lpc *l)
{
    for (unsigned i = 0; i < PCI_INTX_GSIS; i++) {
        uint8_t reg = l->pci.config[pirq_reg(i)];
        pci_host_route(l->pci.host, i, reg & PIRQ_UNROUTED ? 0 : reg & 15);
    }
}

static void lpc_written(struct pci_dev *d, unsigned off, unsigned size)
{
    struct lpc *l = container_of(d, struct lpc, pci);
    (void)off, (void)size;
    update_pm(l);
    update_routes(l);
    update_rcba(l);
}

static void lpc_reset(struct pci_dev *d)
{
    struct lpc *l = container_of(d, struct lpc, pci);
    pthread_mutex_lock(&d->host->bus->lock);
    memcpy(d->config, d->reset_config, sizeof d->config);
    lpc_written(&l->pci, 0, PCI_CONFIG_BYTES);
    pthread_mutex_unlock(&d->host->bus->lock);
}

static const struct pci_ops lpc_ops = {.desc = &lpc_desc, .config_written = lpc_written, .reset = lpc_reset};

int lpc_create(struct pci_host *h, const struct lpc_config *cfg, struct lpc **out, struct error *err)
{
    static const struct pci_id id = {.vendor = 0x8086, .device = 0x2918, .class_code = 0x060100, .revision = 2};
    struct lpc *l = calloc(1, sizeof *l);
    if (!l)
        return error_set(err, 0, "device 'ich9-lpc': out of memory; close other programs");
    l->cfg = *cfg;
    pci_dev_init(&l->pci, lpc_desc.name, &lpc_ops, &id);
    uint8_t *c = l->pci.config, *w = l->pci.wmask;
    /* Always on (13.1.3). OVMF looks for devices behind a bridge only where it decodes ports and memory. */
    pci_set16(c + PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MEM | PCI_COMMAND_MASTER);
    pci_set16(w + PCI_COMMAND, PCI_COMMAND_PARITY | PCI_COMMAND_SERR);
    pci_set32(c + LPC_PMBASE, 1);
    if (cfg->pm_moved) {
        pci_set16(w + LPC_PMBASE, 0xff80);
        w[LPC_ACPI_CNTL] = ACPI_CNTL_ENABLE | ACPI_CNTL_SCI;
        pci_set32(w + LPC_RCBA, ~(RCBA_SIZE - 1) | RCBA_ENABLE);
        w[LPC_GEN_PMCON] = 0x10; /* SMI_LOCK; nothing raises SMIs */
    } else {
        pci_set32(c + LPC_PMBASE, cfg->pmbase | 1u);
        c[LPC_ACPI_CNTL] = ACPI_CNTL_ENABLE;
    }
    for (unsigned i = 0; i < PCI_INTX_GSIS; i++) {
        c[pirq_reg(i)] = PIRQ_UNROUTED;
        w[pirq_reg(i)] = PIRQ_MASK;
    }
    if (pci_dev_add(h, &l->pci, LPC_SLOT, err) < 0) {
        free(l);
        return -1;
    }
    *out = l;
    return 0;
}

void lpc_destroy(struct lpc *l)
{
    if (!l)
        return;
    if (l->rcba_mapped)
        bus_unmap(l->pci.host->bus, BUS_MMIO, l->rcba_at);
    pci_dev_remove(&l->pci);
    free(l);
}
